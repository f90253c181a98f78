"""The training step compiled for devices that are not here: what it needs and what it sends."""
