"""Lava's fixed-point ProcessModels, stepped in this process without runtime and messages.

Models are built from their Processes as ``lava.magma.compiler.builders.py_builder`` does (arrays take the
declared type, scalars stay as they are), and messages carry int32, the type of Lava's channels.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from lava.magma.core.model.py.type import LavaPyType
from lava.proc.atrlif.models import PyATRLIFModelFixed
from lava.proc.atrlif.process import ATRLIF
from lava.proc.lif.models import PyLifModelBitAcc
from lava.proc.lif.process import LIF
from lava.proc.sparse.models import PyDelaySparseModelBitAcc, PySparseModelBitAcc
from lava.proc.sparse.process import DelaySparse, Sparse
from lava.utils.weightutils import SignMode as LavaSignMode
from scipy.sparse import csr_matrix

from lbi import FixedNetwork, FixedProjection


class Wire:
    """A port: what was sent last, as int32."""

    def __init__(self, n: int | tuple[int, ...]) -> None:
        self.data = np.zeros(n, dtype=np.int32)

    def send(self, data: np.ndarray) -> None:
        self.data = np.zeros(data.shape, dtype=np.int32)
        self.data[:] = data

    def recv(self) -> np.ndarray:
        return self.data


def build(process: Any, model_class: type, ports: dict[str, Any]) -> Any:
    """The process's model with its variables and a Wire per port."""
    model = model_class(process.proc_params)
    for variable in process.vars:
        kind: LavaPyType = getattr(model_class, variable.name)
        value = variable.init
        if issubclass(kind.cls, np.ndarray):
            value = np.zeros(variable.shape, kind.d_type)
            value[:] = variable.init
        setattr(model, variable.name, value)
    for name, n in ports.items():
        model.__dict__[name] = Wire(n)
    return model


def lif(neuron: Any, n: int) -> Any:
    """Lava's bit-accurate LIF with the neuron's parameters."""
    process = LIF(
        shape=(n,),
        du=neuron.du,
        dv=neuron.dv,
        vth=neuron.vth,
        bias_mant=neuron.bias_mant,
        bias_exp=neuron.bias_exp,
    )
    return build(process, PyLifModelBitAcc, {"a_in": n, "s_out": n})


def integrator(neuron: Any, n: int) -> Any:
    """Lava's LIF with the threshold that no voltage exceeds."""
    process = LIF(
        shape=(n,),
        du=neuron.du,
        dv=neuron.dv,
        vth=1 << 17,
        bias_mant=neuron.bias_mant,
        bias_exp=neuron.bias_exp,
    )
    return build(process, PyLifModelBitAcc, {"a_in": n, "s_out": n})


def atrlif(neuron: Any, n: int) -> Any:
    """Lava's bit-accurate ATRLIF: it takes the decays as fractions."""
    process = ATRLIF(
        shape=(n,),
        delta_i=neuron.delta_i / 4096,
        delta_v=neuron.delta_v / 4096,
        delta_theta=neuron.delta_theta / 4096,
        delta_r=neuron.delta_r / 4096,
        theta=neuron.theta_0,
        theta_0=neuron.theta_0,
        theta_step=neuron.theta_step,
        bias_mant=neuron.bias_mant,
        bias_exp=neuron.bias_exp,
    )
    return build(process, PyATRLIFModelFixed, {"a_in": n, "s_out": n})


def synapse(projection: FixedProjection) -> Any:
    """Lava's Sparse or DelaySparse with the projection's mantissas."""
    weights = projection.weights.to_scipy().astype(np.int32)
    n_out, n_in = weights.shape
    common = {
        "weights": weights,
        "weight_exp": projection.weight_exp,
        "num_weight_bits": projection.num_weight_bits,
        "sign_mode": LavaSignMode(int(projection.sign_mode)),
    }
    ports = {"s_in": n_in, "a_out": n_out}
    if projection.max_delay == 0:
        return build(Sparse(**common), PySparseModelBitAcc, ports)
    delays = csr_matrix(
        (np.broadcast_to(projection.delay, weights.data.shape).astype(int), weights.indices, weights.indptr),
        shape=weights.shape,
        copy=True,
    )
    delays.eliminate_zeros()
    process = DelaySparse(**common, delays=delays, max_delay=projection.max_delay)
    model = build(process, PyDelaySparseModelBitAcc, ports)
    # Lava computes this constant matrix again in every step; once is enough.
    once = cache(lambda: PyDelaySparseModelBitAcc.get_delay_wgts_mat(model.weights, model.delays, n_delays))
    n_delays = projection.max_delay
    model.__dict__["get_delay_wgts_mat"] = lambda *_: once()
    return model


NEURONS = {
    "cuba_lif": (lif, {"u": lambda m: m.u, "v": lambda m: m.v}),
    "integrator": (integrator, {"u": lambda m: m.u, "v": lambda m: m.v}),
    "atrlif": (
        atrlif,
        {"u": lambda m: m.i, "v": lambda m: m.v, "theta": lambda m: m.theta - m.theta_0, "r": lambda m: m.r},
    ),
}
"""Our model name → builder of Lava's model, and our state variables out of Lava's model."""


def run(fixed: FixedNetwork, spikes: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
    """Every population's spikes and states of one sample ``spikes`` (n_steps, n_in), in raw chip time."""
    assert all(population.latency == 0 for population in fixed.populations)
    neurons = {p.name: NEURONS[p.neuron.model][0](p.neuron, p.n) for p in fixed.populations}
    synapses = [(projection, synapse(projection)) for projection in fixed.projections]
    record: dict[tuple[str, str], list[np.ndarray]] = {}
    for now in spikes:
        sent = {"input": now.astype(np.int32)}
        arriving = {p.name: np.zeros(p.n, dtype=np.int32) for p in fixed.populations}
        for projection, model in synapses:  # what Sparse sends at the start of its step
            waiting = model.a_buff[:, 0] if model.a_buff.ndim == 2 else model.a_buff
            arriving[projection.target] += waiting.astype(np.int32)
        for population in fixed.populations:
            model = neurons[population.name]
            model.a_in.send(arriving[population.name])
            model.run_spk()
            sent[population.name] = model.s_out.data
            record.setdefault((population.name, "spikes"), []).append(model.s_out.data.copy())
            for variable, value in NEURONS[population.neuron.model][1].items():
                record.setdefault((population.name, variable), []).append(value(model).copy())
        for projection, model in synapses:
            model.s_in.send(sent[projection.source])
            model.run_spk()
    return {key: np.array(values) for key, values in record.items()}
