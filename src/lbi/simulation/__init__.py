"""The simulator behind ``lbi.simulate``: memory layout of a network, compiled kernels, and the oracle."""
