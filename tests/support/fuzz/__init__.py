"""Generators and readers for fuzzing."""
