"""The commands: lbi-train, lbi-export, lbi-run, lbi-estimate, lbi-sweep."""
