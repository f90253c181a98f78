"""The machine below a run: processes, signals, XLA's flags, caches and memory."""
