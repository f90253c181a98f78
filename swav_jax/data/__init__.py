"""Images from disk to batches of crops on the host; TensorFlow lives here only."""
