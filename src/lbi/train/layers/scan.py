"""A population over a whole sequence as one differentiable operation, for every neuron model in ``neurons/``.

On a CPU, one compiled kernel runs all steps in each direction; with recurrence the backward pass needs one matrix
product and one kernel per step. CUBA-LIF has such kernels for CUDA. Each model's ``reference`` is the same in plain
PyTorch: it is the definition, and it runs on all other devices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from lbi.errors import Problems, UsageError
from lbi.network.fixedpoint import ACTIVATION_SHIFT, DECAY_BITS
from lbi.train.layers.event_linear import weight_gradient
from lbi.train.layers.numba_bridge import arrays, load_kernels
from lbi.train.layers.surrogate import SURROGATES


@dataclass(frozen=True)
class NeuronModel:
    """The training side of a neuron model: a row of ``lbi.train.neurons.NEURONS``.

    ``neurons/<name>_kernels.py`` holds ``forward``, ``forward_chip`` (the chip's integers), ``backward`` (without
    recurrence), ``step_backward`` (one step of it, with ``fed_back``, the gradient (n_samples, n) that the step's
    spikes get through the recurrent weights) and ``parameter_gradients`` (of decays and bias, per sample), for
    ``neuron`` (n_parameters, n): kept per step for each decay, levels, bias; ``traces`` (n_traces, n_samples, n_steps,
    n), ``carried`` (n_carried, n_samples, n) and ``grads`` (n_decays + 1, n_samples, n).

    Attributes:
        name: the model's name in ``lbi.network.neurons``.
        decays: fields that are fractions lost per step; trained, on the chip's grid.
        levels: fields in weight units; not trained.
        n_traces: number of arrays (n_samples, n_steps, n) that a forward pass writes, such as spikes and voltages
            before reset.
        n_carried: number of gradients (n_samples, n) that the backward pass carries from step to step.
        reference: ``scan`` in plain PyTorch, gradients by autograd.
        spikes: False for an integrator, which can only be read out; it has no recurrence.
        cuda: True if ``neurons/<name>_cuda.py`` has a ``CudaScan``, which is used for tensors on a GPU.
    """

    name: str
    decays: tuple[str, ...]
    levels: tuple[str, ...]
    n_traces: int
    n_carried: int
    reference: Callable[..., tuple[Tensor, Tensor]]
    spikes: bool = True
    cuda: bool = False

    @property
    def n_parameters(self) -> int:
        """Rows of ``neuron``."""
        return len(self.decays) + len(self.levels) + 1


def scan(
    model: NeuronModel,
    a: Tensor,
    recurrent: Tensor | None,
    neuron: Sequence[Tensor],
    surrogate: str,
    slope: float,
    *,
    chip: bool = False,
) -> tuple[Tensor, Tensor]:
    """Spikes and voltages before reset, each like the synaptic input ``a`` (n_samples, n_steps, n).

    Args:
        model: the neuron model.
        a: synaptic input, (n_samples, n_steps, n).
        neuron: parameters in the model's order, (n,) each.
        recurrent: (n, n), rows post-synaptic, or None; it receives the spikes of the previous step.
        surrogate: name of the surrogate gradient.
        slope: its slope.
        chip: compute in the chip's integers. Input, recurrent weights and levels are then whole mantissa units, the
            bias is in 1/64 of them, and factors per step are in 1/4096; gradients are those of the float scan.
    """
    if chip or (a.device.type == "cpu" and a.dtype in (torch.float32, torch.float64)):
        return FusedScan.apply(model, chip, surrogate, slope, a, recurrent, *neuron)
    if model.cuda and a.is_cuda and a.dtype in (torch.float32, torch.float64):
        fused = import_module(f"lbi.train.neurons.{model.name}_cuda").CudaScan
        return fused.apply(surrogate, slope, a, recurrent, *neuron)
    return model.reference(a, recurrent, *neuron, surrogate, slope)


def scan_decays(
    model: NeuronModel,
    a: Tensor,
    recurrent: Tensor | None,
    decays: Sequence[Tensor | float],
    levels: Sequence[Tensor | float],
    bias: Tensor | None,
    surrogate: str,
    slope: float,
) -> Tensor:
    """The spikes of ``scan`` for decays (fractions lost per step) and levels, scalars or (n,), with checked arguments."""
    _check(a, recurrent, surrogate, slope)
    n = a.shape[2]
    neuron = [
        torch.as_tensor(value, dtype=a.dtype, device=a.device).expand(n).contiguous()
        for value in (*(1 - decay for decay in decays), *levels)
    ]
    neuron.append(a.new_zeros(n) if bias is None else bias)
    return scan(model, a, recurrent, neuron, surrogate, slope)[0]


class FusedScan(torch.autograd.Function):
    """``scan`` on a CPU: one compiled kernel forward and one backward (with recurrence, one per step)."""

    @staticmethod
    def forward(
        ctx: Any,
        model: NeuronModel,
        chip: bool,
        surrogate: str,
        slope: float,
        a: Tensor,
        recurrent: Tensor | None,
        *neuron: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Spikes and voltages before reset; see ``scan`` for the arguments."""
        kernels = load_kernels(a.numel(), f"neurons.{model.name}_kernels")
        a = a.contiguous()
        parameters = torch.stack(neuron)
        traces = a.new_empty(model.n_traces, *a.shape)
        by_source = a.new_empty(0, 0) if recurrent is None else recurrent.T.contiguous()
        if chip:
            kernels.forward_chip(*arrays(a, by_source, _in_units(model, parameters), traces))
        else:
            kernels.forward(*arrays(a, by_source, parameters, traces))
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(recurrent, parameters, traces)
        ctx.options = (model, SURROGATES.index(surrogate), float(slope))
        return traces[0], traces[1]

    @staticmethod
    def backward(ctx: Any, grad_s: Tensor | None, grad_v: Tensor | None) -> tuple[Any, ...]:
        """Gradients of a, recurrent, the factors kept per step, and the bias."""
        model, kind, slope = ctx.options
        if grad_s is None and grad_v is None:
            return (None,) * (6 + model.n_parameters)
        recurrent, parameters, traces = ctx.saved_tensors
        spikes = traces[0]
        kernels = load_kernels(spikes.numel(), f"neurons.{model.name}_kernels")
        g_s = torch.zeros_like(spikes) if grad_s is None else grad_s.contiguous()
        g_v = spikes.new_empty(0, 0, 0) if grad_v is None else grad_v.contiguous()
        grad_a = torch.empty_like(spikes)
        given = arrays(traces, g_s, g_v)
        neuron = (*arrays(parameters), slope, kind)
        if recurrent is None:
            kernels.backward(*given, *neuron, *arrays(grad_a))
        else:
            n_samples, n_steps, n = spikes.shape
            fed_back = spikes.new_zeros(n_samples, n)
            inner = arrays(spikes.new_zeros(model.n_carried, n_samples, n), grad_a)
            given, weights = [*given, *arrays(fed_back)], recurrent.detach()
            for t in range(n_steps - 1, -1, -1):
                kernels.step_backward(*given, *neuron, *inner, t)
                if t:
                    torch.mm(grad_a[:, t], weights, out=fed_back)
        grad_recurrent = _recurrent_gradient(spikes, grad_a) if ctx.needs_input_grad[5] else None
        grads: list[Tensor | None] = [None] * model.n_parameters
        trained = [*range(len(model.decays)), model.n_parameters - 1]
        if any(ctx.needs_input_grad[6 + i] for i in trained):
            parts = spikes.new_empty(len(trained), spikes.shape[0], spikes.shape[2])
            kernels.parameter_gradients(*arrays(traces, g_v, grad_a, parameters, parts))
            for i, part in zip(trained, parts.sum(1), strict=True):
                grads[i] = part
        return None, None, None, None, grad_a, grad_recurrent, *grads


def _in_units(model: NeuronModel, parameters: Tensor) -> Tensor:
    """Parameters as int64: factors kept per step in 4096ths, levels in mantissa units, bias in state units."""
    n_decays, n_levels = len(model.decays), len(model.levels)
    factors = [1 << DECAY_BITS] * n_decays + [1] * n_levels + [1 << ACTIVATION_SHIFT]
    return (parameters.double() * torch.tensor(factors)[:, None]).round().long()


def _recurrent_gradient(spikes: Tensor, grad_a: Tensor) -> Tensor:
    n = spikes.shape[2]
    return weight_gradient(spikes[:, :-1].reshape(-1, n), grad_a[:, 1:].reshape(-1, n))


def _check(a: Tensor, recurrent: Tensor | None, surrogate: str, slope: float) -> None:
    problems = Problems()
    problems.check(
        a.ndim == 3 and a.is_floating_point(),
        "input-shape",
        "a",
        f"{a.dtype} {tuple(a.shape)}",
        "floats (n_samples, n_steps, n)",
    )
    if recurrent is not None and a.ndim == 3:
        n = a.shape[2]
        problems.check(
            tuple(recurrent.shape) == (n, n),
            "recurrent-shape",
            "recurrent",
            f"{tuple(recurrent.shape)}",
            f"{(n, n)}",
        )
    problems.check(
        surrogate in SURROGATES, "unknown-surrogate", "surrogate", repr(surrogate), ", ".join(SURROGATES)
    )
    problems.check(slope > 0, "slope", "slope", f"{slope}", "above 0")
    problems.raise_as(UsageError)
