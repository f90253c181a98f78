"""Checkpoints: written in the background, proved intact when read."""
