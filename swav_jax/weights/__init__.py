"""Trained weights in and out, and the names that other libraries give them."""
