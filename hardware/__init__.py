"""Chip profiles, one TOML file per chip: limits, number formats, memory layouts and costs, each with its source."""
