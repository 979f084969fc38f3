"""Bregman optimizers, regularizers, sparse initialization and the density controller."""
