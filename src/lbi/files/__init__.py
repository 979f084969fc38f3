"""File formats of networks and spikes: writers, readers, and guards against untrusted files."""
