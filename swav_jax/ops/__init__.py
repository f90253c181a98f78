"""The mathematics that methods share: arrays in, arrays out, no configuration."""
