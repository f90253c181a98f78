"""What watches a run and writes it down: metrics, curves, profiles, the doctor."""
