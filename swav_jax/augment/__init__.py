"""Augmentation of images on the device, in JAX."""
