"""Where images come from, behind one interface."""
