"""Lava-DL's netx format (``.net``): reader, layers, weights."""
