"""One file per target of lbi-export: each turns a network into what a backend or a framework reads."""
