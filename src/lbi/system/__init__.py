"""Operating-system services: atomic writes, signals, supervised processes, compilation cache, TOML."""
