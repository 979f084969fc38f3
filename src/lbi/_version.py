"""The version of this package, for those of its modules that report it."""

__version__ = "0.2.0"
