"""The parts of ``lbi.estimate``: exact counts, cost models, and their results as figures and JSON."""
