"""Sparse training with linearized Bregman iterations: beside ``lbi.importers.torch`` the only part of lbi that imports torch."""

from lbi.system.threads import bound_spinning

bound_spinning()  # before torch is loaded: its OpenMP runtime reads the setting only then

from lbi.train.layers.model import ModelConfig, PopulationConfig, SpikingNetwork
from lbi.train.model_pt import load_model, network_of, save_model
from lbi.train.neurons import atrlif, cuba_lif
from lbi.train.optim.density import DensityController, DensityRecord
from lbi.train.optim.optimizers import AdaBreg, LinBreg, ProxSGD, param_groups
from lbi.train.optim.regularizers import L1, GroupL1, Regularizer
from lbi.train.optim.sparse_group import SparseGroupL1
from lbi.train.optim.sparse_init import sparse_init_

__all__ = [
    "L1",
    "AdaBreg",
    "DensityController",
    "DensityRecord",
    "GroupL1",
    "LinBreg",
    "ModelConfig",
    "PopulationConfig",
    "ProxSGD",
    "Regularizer",
    "SparseGroupL1",
    "SpikingNetwork",
    "atrlif",
    "cuba_lif",
    "load_model",
    "network_of",
    "param_groups",
    "save_model",
    "sparse_init_",
]
