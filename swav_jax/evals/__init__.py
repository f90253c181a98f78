"""What the features are worth: extraction and the evaluations that start from it."""
