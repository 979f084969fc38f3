"""Exporters, one file per target of lbi-export: each writes a network in the format of a backend or framework."""
