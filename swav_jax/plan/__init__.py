"""The compiled step of devices that are not here: what it needs and what it sends."""
