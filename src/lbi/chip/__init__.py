"""The chip: its profile, and whether a network fits it."""
