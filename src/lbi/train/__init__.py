"""Sparse training with linearized Bregman iterations: the only part of lbi that imports torch."""

from lbi.train.optimizers import AdaBreg, LinBreg, ProxSGD, param_groups
from lbi.train.regularizers import L1, GroupL1, Regularizer
from lbi.train.sparse_init import sparse_init_

__all__ = ["L1", "AdaBreg", "GroupL1", "LinBreg", "ProxSGD", "Regularizer", "param_groups", "sparse_init_"]
