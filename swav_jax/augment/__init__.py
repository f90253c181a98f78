"""What happens to images on the device, in JAX."""
