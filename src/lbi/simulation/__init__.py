"""The machinery of ``lbi.simulate``: the memory layout of a network and the compiled kernels over it."""
