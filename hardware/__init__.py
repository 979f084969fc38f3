"""One TOML file per chip: limits, number formats, memory formats, costs, each number with its source."""
