"""Conversion between float networks and the chip's integers."""
