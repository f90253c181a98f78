"""Pages that open from disk: the report of a run, and several runs beside each other."""
