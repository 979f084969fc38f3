"""The four commands: lbi-train, lbi-export, lbi-run, lbi-estimate."""
