"""How networks and spikes are kept on disk: writers, readers and guards against untrusted files."""
