"""Sparse training with linearized Bregman iterations: the only part of lbi that imports torch."""
