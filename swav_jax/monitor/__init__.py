"""What monitors a run and records it: metrics, curves, profiles, the doctor."""
