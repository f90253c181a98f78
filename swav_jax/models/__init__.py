"""The networks, in Flax Linen; module names mirror PyTorch's."""
