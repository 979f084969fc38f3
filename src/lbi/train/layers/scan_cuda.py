"""``scan`` on CUDA: one Triton kernel forward and one backward for all steps, with or without recurrence.

A kernel's program takes all steps of a sample, or of a few: without recurrence of a block of neurons, with recurrence of all of them, so
that no other program's spikes are needed. Forward it adds up the recurrent weights of the neurons that spiked; backward it
multiplies by all of them, for as many steps at once as every spike takes to arrive. The sizes were the fastest of those that were tried
on an H200, for 256 neurons.
"""

from __future__ import annotations

from contextlib import nullcontext
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

_BLOCK = 256
"""Neurons that a program computes at a time."""

_GROUP = 16
"""Rows of recurrent weights that are read at a time, of the neurons that spiked."""

_STEPS = 16
"""Most steps for which a program that feeds gradients back multiplies by the recurrent weights at once."""

_SAMPLES, _CHUNK = (4, 2), (64, 32)
"""Its samples, which share what is read of the weights, and the rows read at a time: step by step, and for several steps."""

_found: Any = WeakTensorKeyDictionary()
"""Version of a tensor of delays → the shortest of them."""


class CudaScan(torch.autograd.Function):
    """``lbi.train.layers.scan.scan`` of a model with kernels ``lbi/train/neurons/<model>_cuda.py``.

    The module holds ``N_STATES``, and for ``neuron`` (n_parameters, n) as in ``lbi.train.layers.scan.Kernels``: ``forward``
    writes all traces (n_samples, n_steps, n) from the input a; ``backward`` writes ``grad_a``; ``parameter_gradients`` writes
    the gradients of decays and bias, (n_decays + 1, n_samples, n). Between two steps, states and their gradients are in
    memory, (n_samples, n) each. ``w_by_source`` and ``recurrent_weights`` (n, n) are by source and by target,
    ``with_v`` says whether voltages have a gradient; ``lbi.train.neurons.arithmetic_cuda`` describes the
    other arguments.
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
        _forward(model, a, recurrent, delays, (parameters, *traces))
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(recurrent, delays, parameters, traces)
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
        recurrent, delays, parameters, traces = ctx.saved_tensors
        spikes = traces[0]
        n = spikes.shape[2]
        g_s = torch.zeros_like(spikes) if grad_s is None else grad_s.contiguous()
        g_v = g_s if grad_v is None else grad_v.contiguous()
        grad_a = torch.empty_like(spikes)
        with_v = grad_v is not None
        given = (parameters, *traces)
        _backward(model, (g_s, g_v), recurrent, delays, given, grad_a, slope, kind=kind, with_v=with_v)
        grad_recurrent = None
        if ctx.needs_input_grad[5]:
            sent = spikes if delays is None else delayed(spikes, delays)
            grad_recurrent = grad_a[:, 1:].reshape(-1, n).T @ sent[:, :-1].reshape(-1, n)
        find = partial(_parameter_gradients, model, g_v, grad_a, parameters, traces, with_v)
        grads = parameter_gradients(model, ctx.needs_input_grad[6:], find)
        return None, None, None, None, grad_a, grad_recurrent, *grads


def _kernels(model: Any) -> Any:
    return import_module(f"lbi.train.neurons.{model.name}_cuda")


def _forward(
    model: Any, a: Tensor, recurrent: Tensor | None, delays: Tensor | None, given: tuple[Tensor, ...]
) -> None:
    """All traces; a program for each sample, which adds up the weights of the neurons that spiked."""
    n_samples, n_steps, n = a.shape
    kernels, block, n_blocks = _kernels(model), *_blocks(n)
    by_source = a if recurrent is None else recurrent.T.contiguous()
    found = a if recurrent is None else a.new_empty(n_samples, n, dtype=torch.int32)
    lags = a if delays is None else delays
    states = a.new_zeros(kernels.N_STATES, n_samples, n)
    with _on(a):
        kernels.forward[(n_samples, n_blocks if recurrent is None else 1)](
            a,
            by_source,
            lags,
            found,
            *given,
            *states,
            n_steps,
            n,
            recurrent=recurrent is not None,
            lagging=delays is not None,
            blocks=1 if recurrent is None else n_blocks,
            block=block,
            group=_GROUP,
            wide=triton.next_power_of_2(n),
            num_warps=2,
        )


def _backward(
    model: Any,
    grads: tuple[Tensor, Tensor],
    recurrent: Tensor | None,
    delays: Tensor | None,
    given: tuple[Tensor, ...],
    grad_a: Tensor,
    slope: float,
    **constants: Any,
) -> None:
    """The gradient of the input; with recurrence, a program for several samples, which multiplies by the weights.

    ``fed`` (n_samples, n_steps, n) is the gradient of the spikes that arrive in a step, whenever they were sent.
    """
    n_samples, n_steps, n = grad_a.shape
    kernels, block, n_blocks = _kernels(model), *_blocks(n)
    weights = grad_a if recurrent is None else recurrent.contiguous()
    lags = grad_a if delays is None else delays
    states = grad_a.new_zeros(kernels.N_STATES, n_samples, n)
    steps = 1 if delays is None else min(_STEPS, _power_of_2(_shortest(delays) + 1))
    samples = 1 if recurrent is None else _SAMPLES[steps > 1]
    with _on(grad_a):
        kernels.backward[(triton.cdiv(n_samples, samples), n_blocks if recurrent is None else 1)](
            *grads,
            weights,
            grad_a if recurrent is None else torch.empty_like(grad_a),
            lags,
            *given,
            *states,
            grad_a,
            slope,
            n_samples,
            n_steps,
            n,
            **constants,
            recurrent=recurrent is not None,
            lagging=delays is not None,
            blocks=1 if recurrent is None else n_blocks,
            samples=samples,
            steps=steps,
            block=block,
            chunk=_CHUNK[steps > 1],
            num_warps=4 if recurrent is None else 8,
            num_stages=2,
        )


def _shortest(delays: Tensor) -> int:
    """The shortest delay; kept, since reading it waits for the GPU."""
    found = _found.get(delays)
    if found is None or found[0] != delays._version:
        found = _found[delays] = (delays._version, int(delays.min()))
    return found[1]


def _power_of_2(most: int) -> int:
    """The largest power of 2 that is not above ``most``."""
    return 1 << (most.bit_length() - 1)


def _blocks(n: int) -> tuple[int, int]:
    """Neurons of a block, and the number of blocks."""
    block = min(_BLOCK, max(16, triton.next_power_of_2(n)))
    return block, triton.cdiv(n, block)


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


def _on(like: Tensor) -> Any:
    return torch.cuda.device(like.device) if like.is_cuda else nullcontext()
