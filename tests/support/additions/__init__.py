"""One throw-away addition of each kind, each in one file: what a newcomer writes."""
