"""Importers of PyTorch frameworks' models, one file per framework."""
