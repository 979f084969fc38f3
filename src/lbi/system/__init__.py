"""What the package needs of the operating system: atomic writes, signals, supervised processes, caches."""
