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

LARGEST = 4096
"""Most neurons of a population whose spikes arrive in the next step: a program holds the states of all of them."""

_BLOCK = 256
"""Most neurons that a program computes at a time, but for those whose spikes arrive in the next step."""

_GROUP = 16
"""Rows of recurrent weights that are read at a time, of the neurons that spiked."""

_STEPS, _TILE = 16, (4, 128)
"""Most steps for which spikes and gradients are multiplied by the recurrent weights at once; samples and neurons of such a program."""

_FED, _CHUNK = 4, (64, 32)
"""Samples of a program that feeds gradients back step by step, and the rows of the weights read at a time: step by step, and for several steps."""

_PRECISION = "tf32x3"
"""Of products for several steps: three TensorFloat-32 products, which keep 22 bits of each weight."""

_STAGES, _AHEAD = 4, 2048
"""Steps, and numbers per array, that are on the way from memory while a program computes."""

_found: Any = WeakTensorKeyDictionary()
"""Version of a tensor of delays → the shortest of them."""


class CudaScan(torch.autograd.Function):
    """``lbi.train.layers.scan.scan`` of a model with kernels ``lbi/train/neurons/<model>_cuda.py``.

    The module holds for ``neuron`` (n_parameters, n) as in ``lbi.train.layers.scan.Kernels``: ``forward``
    writes all traces (n_samples, n_steps, n) from the input a; ``backward`` writes ``grad_a``; ``parameter_gradients`` writes
    the gradients of decays and bias, (n_decays + 1, n_samples, n). States and their gradients stay in registers; loads of the
    next steps (``stages``) are under way meanwhile. ``w_by_source`` and ``recurrent_weights`` (n, n) are by source and by
    target, ``with_v`` says whether voltages have a gradient, and ``span`` is the number of steps between two looks at the
    recurrent weights; ``lbi.train.neurons.arithmetic_cuda`` describes the other arguments.
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
        _backward(model, (g_s, g_v), recurrent, delays, given, grad_a, slope, kind=kind, with_v=with_v)
        grad_recurrent = None
        if ctx.needs_input_grad[5]:
            if sent is None:
                before = spikes if delays is None else delayed(spikes, delays)
                grad_recurrent = grad_a[:, 1:].reshape(-1, n).T @ before[:, :-1].reshape(-1, n)
            else:
                grad_recurrent = grad_a.reshape(-1, n).T @ sent.reshape(-1, n)
        find = partial(_parameter_gradients, model, g_v, grad_a, parameters, traces, with_v)
        grads = parameter_gradients(model, ctx.needs_input_grad[6:], find)
        return None, None, None, None, grad_a, grad_recurrent, *grads


def _kernels(model: Any) -> Any:
    return import_module(f"lbi.train.neurons.{model.name}_cuda")


def _forward(
    model: Any, a: Tensor, recurrent: Tensor | None, delays: Tensor | None, given: tuple[Tensor, ...]
) -> Tensor | None:
    """All traces; where every spike takes several steps to arrive, also the spikes that arrive in each step.

    ``came`` (n_samples, steps, n) is the recurrent input of the steps that are computed at once.
    """
    n_samples, n_steps, n = a.shape
    fed, kernels, steps = recurrent is not None, _kernels(model), _steps(delays)
    samples, block = _TILE if steps > 1 else (1, _BLOCK)
    block = _block(n, LARGEST if fed and steps == 1 else block)
    wide = triton.next_power_of_2(n)
    sent = torch.zeros_like(a) if steps > 1 else a
    given = (
        a,
        sent,
        a.new_empty(n_samples, steps, n) if steps > 1 else a,
        a if recurrent is None else recurrent.T.contiguous(),
        a if delays is None else delays,
        a.new_empty(n_samples, wide, dtype=torch.int32) if fed and steps == 1 else a,
        given[0],
        a.new_empty(kernels.N_STATES, n_samples, n) if steps > 1 else a,
        *given[1:],
    )
    with _on(a):
        for begin, end in _launches(n_steps, steps):
            kernels.forward[(triton.cdiv(n_samples, samples), triton.cdiv(n, block))](
                *given,
                begin,
                end,
                n_samples,
                n_steps,
                n,
                steps if fed else n_steps,
                recurrent=fed,
                lagging=delays is not None,
                samples=samples,
                steps=steps,
                block=block,
                width=min(block, _BLOCK),
                chunk=_CHUNK[1] if steps > 1 else _GROUP,
                wide=wide,
                stages=_stages(samples * block) if steps > 1 or not fed else 1,
                precision=_PRECISION,
                num_warps=_warps(samples * block, 128 if steps == 1 else 64),
            )
    return sent if steps > 1 else None


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
    """The gradient of the input.

    ``fed`` (n_samples, n_steps, n) is the gradient of the spikes that arrive in a step, whenever they were sent.
    """
    n_samples, n_steps, n = grad_a.shape
    fed, kernels, steps = recurrent is not None, _kernels(model), _steps(delays)
    samples, block = _TILE if steps > 1 else (_FED if fed else 1, _BLOCK)
    block = _block(n, LARGEST if fed and steps == 1 else block)
    given = (
        *grads,
        grad_a if recurrent is None else recurrent.contiguous(),
        torch.empty_like(grad_a) if fed else grad_a,
        grad_a if delays is None else delays,
        given[0],
        grad_a.new_empty(kernels.N_STATES, n_samples, n) if steps > 1 else grad_a,
        *given[1:],
        grad_a,
    )
    with _on(grad_a):
        for begin, end in _launches(n_steps, steps):
            kernels.backward[(triton.cdiv(n_samples, samples), triton.cdiv(n, block))](
                *given,
                slope,
                begin,
                end,
                n_samples,
                n_steps,
                n,
                steps if fed else n_steps,
                **constants,
                recurrent=fed,
                lagging=delays is not None,
                samples=samples,
                steps=steps,
                block=block,
                width=min(block, _BLOCK),
                chunk=_CHUNK[steps > 1],
                stages=_stages(samples * block) if steps > 1 or not fed else 1,
                precision=_PRECISION if steps > 1 else "ieee",
                num_warps=_warps(samples * block, 64) if steps > 1 or not fed else 8,
            )


def _launches(n_steps: int, steps: int) -> list[tuple[int, int]]:
    """The first step, and the one after the last, of each launch: of ``steps`` steps, or of all if that is one."""
    length = n_steps if steps == 1 else steps
    return [(begin, min(begin + length, n_steps)) for begin in range(0, n_steps, length)]


def _warps(numbers: int, per_warp: int) -> int:
    """Warps of a program, for so many neurons of all its samples."""
    return max(1, min(8, numbers // per_warp))


def _stages(numbers: int) -> int:
    """Steps on the way from memory, for so many numbers of each array in a step."""
    return max(1, min(_STAGES, _AHEAD // numbers))


def _steps(delays: Tensor | None) -> int:
    """Most steps, a power of 2, of which none sends spikes that arrive in another of them."""
    return 1 if delays is None else _power_of_2(min(_STEPS, _shortest(delays) + 1))


def _shortest(delays: Tensor) -> int:
    """The shortest delay; kept, since reading it waits for the GPU."""
    found = _found.get(delays)
    if found is None or found[0] != delays._version:
        found = _found[delays] = (delays._version, int(delays.min()))
    return found[1]


def _power_of_2(most: int) -> int:
    """The largest power of 2 that is not above ``most``."""
    return 1 << (most.bit_length() - 1)


def _block(n: int, most: int) -> int:
    """Neurons of a program: a power of 2, which holds all n if ``most`` allows it."""
    return min(most, max(16, triton.next_power_of_2(n)))


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
