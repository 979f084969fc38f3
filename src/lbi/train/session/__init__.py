"""A training run: configuration, loop, checkpoints, metrics."""
