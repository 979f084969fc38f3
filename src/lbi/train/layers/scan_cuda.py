"""``scan`` on CUDA: Triton kernels for all steps, with or without recurrence.

Without recurrence, a program takes all steps of a sample and a block of neurons. With recurrence it takes all neurons of a sample, or of
a few, so that no other program's spikes are needed: forward it adds up the weights of the neurons that spiked, backward
it multiplies by all of them. Where every spike takes several steps to arrive, so many steps are one launch; between two launches,
torch multiplies the spikes that arrive in the next one, or the gradients, by the weights, for all samples and steps at once, on the
GPU's matrix units: of TensorFloat-32 numbers, which have 11 significant bits, two for each weight forward, one backward.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import torch
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.weak import WeakTensorKeyDictionary

from lbi.train.layers.scan import delayed, parameter_gradients
from lbi.train.layers.surrogate import SURROGATES

LARGEST = 4096
"""Most neurons of a population whose spikes arrive in the next step: a program holds the states of all of them."""

_BLOCK = 256
"""Most neurons that a program computes at a time, but for those whose spikes arrive in the next step."""

_GROUP, _CHUNK = 16, 64
"""Rows of recurrent weights that are read at a time where spikes arrive in the next step: forward, of neurons that spiked; backward."""

_FED = 4
"""Samples of a program that feeds gradients back step by step, which share what is read of the weights."""

_STEPS, _TILE, _WARPS = 32, 128, 2
"""Where spikes take several steps to arrive: most steps of a launch, and neurons and warps of its programs."""

_STAGES = 4
"""Steps that are on the way from memory while a program computes."""

_TF32 = -(1 << 13)
"""Mask of the bits of a float32 that TensorFloat-32 keeps."""

_found: Any = WeakTensorKeyDictionary()
"""Version of a tensor of delays → the shortest of them."""


class CudaScan(torch.autograd.Function):
    """``lbi.train.layers.scan.scan`` of a model with kernels ``lbi/train/neurons/<model>_cuda.py``.

    The module holds ``N_STATES``, and for ``neuron`` (n_parameters, n) as in ``lbi.train.layers.scan.Kernels``: ``forward``
    writes all traces (n_samples, n_steps, n) from the input a; ``backward`` writes ``grad_a``; ``parameter_gradients`` writes
    the gradients of decays and bias, (n_decays + 1, n_samples, n). ``w_by_source`` and ``recurrent_weights`` (n, n) are by
    source and by target; ``with_v`` says whether voltages have a gradient.

    A launch computes the steps from ``begin`` to ``end``, backward counted from the last; states and their gradients are in
    registers, between two launches in ``states`` (N_STATES, n_samples, n). Loads of ``stages`` steps are under way meanwhile.
    ``stepwise``: spikes arrive in the next step, and every ``span`` steps (each) a program looks at the recurrent weights,
    forward by way of ``found``, the neurons that spiked. ``blockwise``: ``came`` holds the recurrent input of a launch, and spikes
    are written to ``sent`` (n_steps, n_samples, n) where they arrive; backward ``fed`` and ``grad_by_step`` are of this shape.
    ``lbi.train.neurons.arithmetic_cuda`` describes the other arguments.
    """

    @staticmethod
    def forward(
        ctx: Any,
        model: Any,
        surrogate: str,
        slope: float,
        delays: Tensor | None,
        a: Tensor,
        recurrent: Tensor | None,
        *neuron: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Spikes and voltages before reset.

        Args:
            ctx: autograd's context.
            model: the neuron model, a ``TrainableNeuron``.
            surrogate: name of the surrogate gradient.
            slope: its slope.
            delays: as in ``scan``.
            a: synaptic input, (n_samples, n_steps, n).
            recurrent: (n, n), rows post-synaptic, or None.
            *neuron: parameters in the model's order, (n,) each.

        Returns:
            The spikes and the voltages.
        """
        a, parameters = a.contiguous(), torch.stack(neuron)
        traces = a.new_empty(model.kernels.n_traces, *a.shape)
        sent = _forward(model, a, recurrent, delays, (parameters, *traces))
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(recurrent, delays, parameters, traces, sent)
        ctx.options = (model, SURROGATES.index(surrogate), float(slope))
        return traces[0], traces[1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_s: Tensor | None, grad_v: Tensor | None) -> tuple[Any, ...]:
        """Gradients of a, recurrent, the factors kept per step, and the bias.

        Args:
            ctx: autograd's context.
            grad_s: gradient of the spikes.
            grad_v: gradient of the voltages.

        Returns:
            One gradient per argument of ``forward``; None for those without.
        """
        model, kind, slope = ctx.options
        if grad_s is None and grad_v is None:
            return (None,) * (6 + model.n_parameters)
        recurrent, delays, parameters, traces, sent = ctx.saved_tensors
        spikes = traces[0]
        n = spikes.shape[2]
        g_s = torch.zeros_like(spikes) if grad_s is None else grad_s.contiguous()
        g_v = g_s if grad_v is None else grad_v.contiguous()
        grad_a = torch.empty_like(spikes)
        with_v = grad_v is not None
        given = (parameters, *traces)
        by_step = _backward(
            model, (g_s, g_v), recurrent, delays, given, grad_a, slope, kind=kind, with_v=with_v
        )
        grad_recurrent = None
        if ctx.needs_input_grad[5]:
            if by_step is None:
                before = spikes if delays is None else delayed(spikes, delays)
                grad_recurrent = grad_a[:, 1:].reshape(-1, n).T @ before[:, :-1].reshape(-1, n)
            else:
                with _tf32():
                    grad_recurrent = by_step.flatten(0, 1).T @ sent.flatten(0, 1)
        find = partial(_parameter_gradients, model, g_v, grad_a, parameters, traces, with_v)
        grads = parameter_gradients(model, ctx.needs_input_grad[6:], find)
        return None, None, None, None, grad_a, grad_recurrent, *grads


def _kernels(model: Any) -> Any:
    return import_module(f"lbi.train.neurons.{model.name}_cuda")


@dataclass(frozen=True)
class _Plan:
    """How steps are shared out over launches and programs.

    Attributes:
        grid: programs of a launch, over samples and neurons.
        steps: steps of a launch.
        span: steps between two looks at the recurrent weights.
        constants: what the kernels are compiled for.
    """

    grid: tuple[int, int]
    steps: int
    span: int
    constants: dict[str, Any]

    @property
    def blockwise(self) -> bool:
        """Whether spikes take so long to arrive that a launch needs none of its own."""
        return bool(self.constants["blockwise"])

    def launches(self, n_steps: int) -> Iterator[tuple[int, int]]:
        """The first step of each launch, and the one after its last."""
        for begin in range(0, n_steps, self.steps):
            yield begin, min(begin + self.steps, n_steps)


def _plan(like: Tensor, recurrent: Tensor | None, delays: Tensor | None, sharing: int, warps: int) -> _Plan:
    """The plan for arrays like ``like``; step by step, with so many samples and warps in a program."""
    n_samples, n_steps, n = like.shape
    at_once = 1 if delays is None else min(_STEPS, _shortest(delays) + 1)
    stepwise, blockwise = recurrent is not None and at_once == 1, recurrent is not None and at_once > 1
    most = LARGEST if stepwise else _TILE if blockwise else _BLOCK
    block = min(most, max(16, triton.next_power_of_2(n)))
    samples = sharing if stepwise else 1
    constants = {
        "stepwise": stepwise,
        "blockwise": blockwise,
        "lagging": delays is not None,
        "samples": samples,
        "block": block,
        "width": min(block, _BLOCK),
        "stages": 1 if stepwise else _STAGES,
        "num_warps": max(warps, min(16, block // 256)) if stepwise else max(1, _WARPS * block // _TILE),
    }
    grid = (triton.cdiv(n_samples, samples), triton.cdiv(n, block))
    length = at_once if blockwise else max(1, n_steps)
    return _Plan(grid, length, 1 if stepwise else length, constants)


def _forward(
    model: Any, a: Tensor, recurrent: Tensor | None, delays: Tensor | None, given: tuple[Tensor, ...]
) -> Tensor | None:
    """All traces; block by block also the spikes that arrive in each step, (n_steps, n_samples, n).

    ``came`` (steps, n_samples, 2 n) is the recurrent input of a launch's steps, in two parts that are added.
    """
    n_samples, n_steps, n = a.shape
    plan, kernels = _plan(a, recurrent, delays, 1, 2), _kernels(model)
    weights = a if recurrent is None else recurrent.T.contiguous()
    sent, came, states, found, wide = a, a, a, a, triton.next_power_of_2(n)
    if plan.blockwise:
        sent, came = a.new_zeros(n_steps, n_samples, n), a.new_empty(plan.steps, n_samples, 2 * n)
        weights, states = _split(weights), a.new_empty(kernels.N_STATES, n_samples, n)
    elif recurrent is not None:
        found = a.new_empty(n_samples, wide, dtype=torch.int32)
    tensors = (a, sent, came, weights, a if delays is None else delays, found, given[0], states, *given[1:])
    with _on(a), _tf32():
        for begin, end in plan.launches(n_steps):
            if begin:  # before, no spike has arrived
                torch.mm(sent[begin:end].flatten(0, 1), weights, out=came[: end - begin].flatten(0, 1))
            elif plan.blockwise:
                came.zero_()
            numbers = (begin, end, n_samples, n_steps, n, plan.span)
            kernels.forward[plan.grid](*tensors, *numbers, chunk=_GROUP, wide=wide, **plan.constants)
    return sent if plan.blockwise else None


def _backward(
    model: Any,
    grads: tuple[Tensor, Tensor],
    recurrent: Tensor | None,
    delays: Tensor | None,
    given: tuple[Tensor, ...],
    grad_a: Tensor,
    slope: float,
    **constants: Any,
) -> Tensor | None:
    """The gradient of the input; block by block also by step, (n_steps, n_samples, n).

    ``fed`` is the gradient of the spikes that arrive in a step, whenever they were sent: block by block
    (n_steps, n_samples, n), otherwise like ``grad_a``.
    """
    n_samples, n_steps, n = grad_a.shape
    plan, kernels = _plan(grad_a, recurrent, delays, _FED, 8), _kernels(model)
    weights = grad_a if recurrent is None else recurrent.contiguous()
    fed, states, by_step = grad_a, grad_a, grad_a
    if plan.blockwise:
        fed, by_step = (grad_a.new_empty(n_steps, n_samples, n) for _ in range(2))
        states = grad_a.new_empty(kernels.N_STATES, n_samples, n)
    elif recurrent is not None:
        fed = torch.empty_like(grad_a)
    lags = grad_a if delays is None else delays
    tensors = (*grads, weights, fed, lags, given[0], states, *given[1:], grad_a, by_step)
    with _on(grad_a), _tf32():
        for begin, end in plan.launches(n_steps):
            numbers = (slope, begin, end, n_samples, n_steps, n, plan.span)
            kernels.backward[plan.grid](*tensors, *numbers, **constants, chunk=_CHUNK, **plan.constants)
            if end < n_steps:
                done = slice(n_steps - end, n_steps - begin)
                torch.mm(by_step[done].flatten(0, 1), weights, out=fed[done].flatten(0, 1))
    return by_step if plan.blockwise else None


def _split(weights: Tensor) -> Tensor:
    """Weights (n, n) as two TensorFloat-32 numbers each, side by side, which together keep 22 bits or more: (n, 2 n)."""
    bits = weights.float().view(torch.int32) + (-_TF32 >> 1) & _TF32
    coarse = bits.view(torch.float32).to(weights.dtype)
    return torch.cat((coarse, weights - coarse), 1)


def _shortest(delays: Tensor) -> int:
    """The shortest delay; kept, since reading it waits for the GPU."""
    found = _found.get(delays)
    if found is None or found[0] != delays._version:
        found = _found[delays] = (delays._version, int(delays.min()))
    return found[1]


def _parameter_gradients(
    model: Any, grad_v: Tensor, grad_a: Tensor, parameters: Tensor, traces: Tensor, with_v: bool
) -> Tensor:
    n_samples, n_steps, n = grad_a.shape
    block = min(128, triton.next_power_of_2(n))
    parts = grad_a.new_empty(len(model.decays) + 1, n_samples, n)
    with _on(grad_a):
        _kernels(model).parameter_gradients[(n_samples, triton.cdiv(n, block))](
            grad_v,
            grad_a,
            parameters,
            *traces,
            parts,
            n_samples,
            n_steps,
            n,
            with_v=with_v,
            block=block,
        )
    return parts


@contextmanager
def _tf32() -> Iterator[None]:
    """Let torch's products of float32 be of TensorFloat-32 numbers, as far as they are on a GPU."""
    options = torch.backends.cuda.matmul
    before = options.fp32_precision
    options.fp32_precision = "tf32"
    try:
        yield
    finally:
        options.fp32_precision = before


def _on(like: Tensor) -> Any:
    return torch.cuda.device(like.device) if like.is_cuda else nullcontext()
