"""A population over a whole sequence as one differentiable operation, for every neuron model.

On a CPU, models with compiled kernels run all steps in one kernel each way, the products with recurrent weights
included; so do models with kernels for CUDA on a GPU. Every model has ``reference``, the equations of
its float record in plain PyTorch: the definition that the kernels are tested against, and what runs where they do not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lbi.errors import Problems, Rule, UsageError
from lbi.network.fixedpoint import ACTIVATION_SHIFT, DECAY_BITS
from lbi.network.neurons import FloatParameters
from lbi.train import gpu
from lbi.train.layers.event_linear import recurrent_gradient
from lbi.train.layers.living import as_factor, living_of
from lbi.train.layers.numba_bridge import arrays, load_kernels, run
from lbi.train.layers.surrogate import SURROGATES, Spike

INPUT_SHAPE = Rule("input-shape", "floats (n_samples, n_steps, n)")
RECURRENT_SHAPE = Rule("recurrent-shape", "{allowed}, as the synaptic input")
PARAMETER_SHAPE = Rule("parameter-shape", "a number, or ({n},) of the neurons")
DECAY = Rule("decay-range", "fractions lost per step, 0 to 1")
LEVEL = Rule("level-range", "finite numbers, a threshold above 0")
NO_CHIP = Rule(
    "no-chip-kernels",
    "neuron models with compiled kernels",
    "train it in floats: lbi.quantize rounds it afterwards",
)
SURROGATE = Rule("unknown-surrogate", "{allowed}")
SLOPE = Rule("slope", "above 0")


@dataclass(frozen=True)
class Kernels:
    """The compiled kernels of a neuron model: ``lbi/train/neurons/<model>_kernels.py``.

    The module holds ``forward``, ``forward_chip`` (the chip's integers), ``backward`` (without recurrence),
    ``backward_recurrent`` and ``parameter_gradients`` (of decays and bias, per sample), for ``neuron`` (n_parameters, n):
    kept per step for each decay, levels, bias; ``traces`` (n_traces, n_samples, n_steps, n) and ``grads``
    (n_decays + 1, n_samples, n). The last argument of each is the counter of ``lbi.system.claims``.

    ``a`` is the synaptic input, ``grad_s``, ``grad_v`` and ``grad_a`` are gradients of spikes, voltages and
    input, all (n_samples, n_steps, n); ``grad_v`` is empty if voltages have none. ``w_rec_t`` (n, n) are
    recurrent weights by source, (0, 0) without recurrence; backward they are given as
    ``lbi.train.layers.products`` describes. ``delays``, ``slope`` and ``kind`` are those of ``arrivals`` and
    ``surrogate`` in ``lbi.train.neurons.arithmetic``.

    Attributes:
        n_traces: Arrays (n_samples, n_steps, n) that a forward pass writes: spikes, voltages before reset, …
        cuda: Whether there are kernels ``<model>_cuda.py``, which are used for float32 on a GPU once ``lbi.train.gpu``
            allows it.
    """

    n_traces: int
    cuda: bool = False


@dataclass(frozen=True)
class TrainableNeuron:
    """A neuron model in training: a row of ``lbi.train.neurons.NEURONS``.

    Attributes:
        record: Its float record in ``lbi.network.neurons``, which holds the equations.
        kernels: Its compiled kernels; None to train by ``reference``, in floats only.
    """

    record: type[FloatParameters]
    kernels: Kernels | None = None

    @property
    def name(self) -> str:
        """The model's name."""
        return self.record.model

    @property
    def decays(self) -> tuple[str, ...]:
        """Parameters that are fractions lost per step; trained, on the chip's grid."""
        return self.record.decays

    @property
    def levels(self) -> tuple[str, ...]:
        """Parameters in weight units; not trained."""
        return self.record.levels

    @property
    def fixed(self) -> tuple[str, ...]:
        """Levels, and parameters that are whole numbers of timesteps; not trained."""
        return (*self.record.levels, *self.record.periods)

    @property
    def parameters(self) -> tuple[str, ...]:
        """All parameters but the bias, in the order of ``scan``."""
        return (*self.decays, *self.fixed)

    @property
    def spikes(self) -> bool:
        """False for an integrator, which can only be read out; it has no recurrence."""
        return self.record.spikes

    @property
    def n_parameters(self) -> int:
        """Rows of ``neuron``: the parameters and the bias."""
        return len(self.parameters) + 1

    def reference(
        self,
        a: Tensor,
        recurrent: Tensor | None,
        neuron: Sequence[Tensor],
        surrogate: str,
        slope: float,
        delays: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """``scan`` step by step in plain PyTorch, on any device; gradients by autograd.

        Args:
            a: synaptic input, (n_samples, n_steps, n).
            recurrent: (n, n), rows post-synaptic, or None.
            neuron: parameters in the model's order, (n,) each.
            surrogate: name of the surrogate gradient.
            slope: its slope.
            delays: as in ``scan``.

        Returns:
            Spikes and voltages before reset.
        """
        ops = TorchArithmetic(surrogate, slope)
        kept = dict(zip(self.decays, neuron[: len(self.decays)], strict=True))
        levels = dict(zip(self.fixed, neuron[len(self.decays) : -1], strict=True))
        state: dict[str, Any] = {name: torch.zeros_like(a[:, 0]) for name in self.record.state_variables}
        spikes: list[Tensor] = []
        voltages = []
        lags = {1: 1.0} if delays is None else {int(d) + 1: (delays == d).to(a) for d in delays.unique()}
        for t in range(a.shape[1]):
            arriving = a[:, t]
            if recurrent is not None:
                came = [spikes[t - lag] * share for lag, share in lags.items() if lag <= t]
                arriving = arriving + sum(came, torch.zeros_like(arriving)) @ recurrent.T
            state, fired, voltage = self.record.advance(ops, state, arriving, kept, levels, neuron[-1])
            spikes.append(fired)
            voltages.append(voltage)
        return torch.stack(spikes, 1), torch.stack(voltages, 1)


class TorchArithmetic:
    """``lbi.network.neurons.parameters.Arithmetic`` on tensors: spikes have a surrogate derivative."""

    def __init__(self, surrogate: str, slope: float) -> None:
        self.surrogate = surrogate
        self.slope = slope

    def above(self, x: Tensor, threshold: Tensor) -> Tensor:
        """1 where x > threshold, else 0.

        Args:
            x: (n_samples, n).
            threshold: (n,).

        Returns:
            (n_samples, n) of the type of x, with the surrogate derivative.
        """
        return Spike.apply(x, threshold, self.surrogate, self.slope)

    def at_least(self, x: Tensor, threshold: Tensor) -> Tensor:
        """1 where x ≥ threshold, else 0.

        Args:
            x: (n_samples, n).
            threshold: (n,).

        Returns:
            (n_samples, n) of the type of x, with the surrogate derivative.
        """
        return Spike.apply(x, threshold, self.surrogate, self.slope, True)

    def constant(self, x: Tensor) -> Tensor:
        """The same values, through which no gradient passes.

        Args:
            x: any shape.

        Returns:
            A tensor that shares the memory of x.
        """
        return x.detach()

    def never(self, x: Tensor) -> Tensor:
        """0 everywhere.

        Args:
            x: any shape.

        Returns:
            Zeros of the shape and type of x.
        """
        return torch.zeros_like(x)

    def where(self, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """The elements of x where a condition holds, those of y elsewhere (``torch.where``).

        Args:
            condition: bool.
            x: elements where the condition holds.
            y: elements elsewhere.

        Returns:
            A tensor of the shape to which all three broadcast.
        """
        return torch.where(condition, x, y)


def scan(
    model: TrainableNeuron,
    a: Tensor,
    recurrent: Tensor | None,
    neuron: Sequence[Tensor],
    surrogate: str,
    slope: float,
    *,
    chip: bool = False,
    only_living: bool = False,
    delays: Tensor | None = None,
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
            bias is in 1/64 of them, and factors per step are in 1/4096; gradients are those of the float scan. Tensors on
            a GPU are moved to the CPU for it.
        only_living: give recurrent weights that are 0 no gradient (0), where that saves time.
        delays: (n,) int64, steps that the spikes of each neuron take to its targets beyond one; None for none.

    Returns:
        The spikes and the voltages.
    """
    whole = a.dtype in (torch.float32, torch.float64)
    if chip:
        check_chip(model)
    if chip and a.device.type != "cpu":  # integers on a GPU have no kernels of their own
        fed = None if recurrent is None else recurrent.cpu()
        given = [value.cpu() for value in neuron]
        lags = None if delays is None else delays.cpu()
        moved = scan(model, a.cpu(), fed, given, surrogate, slope, chip=True, delays=lags)
        return moved[0].to(a.device), moved[1].to(a.device)
    if model.kernels is not None and (chip or (a.device.type == "cpu" and whole)):
        return FusedScan.apply(model, chip, only_living, surrogate, slope, delays, a, recurrent, *neuron)
    has_cuda = model.kernels is not None and model.kernels.cuda
    if has_cuda and a.is_cuda and a.dtype is torch.float32 and gpu.allowed():
        cuda = import_module("lbi.train.layers.scan_cuda")
        if recurrent is None or a.shape[2] <= cuda.LARGEST:
            return cuda.CudaScan.apply(model, surrogate, slope, delays, a, recurrent, *neuron)
    return model.reference(a, recurrent, neuron, surrogate, slope, delays)


def scan_decays(
    model: TrainableNeuron,
    a: Tensor,
    recurrent: Tensor | None,
    decays: Sequence[Tensor | float],
    levels: Sequence[Tensor | float],
    bias: Tensor | None,
    surrogate: str,
    slope: float,
) -> Tensor:
    """The spikes of ``scan`` for decays (fractions lost per step) and levels, scalars or (n,), with checked arguments.

    Args:
        model: the neuron model.
        a: synaptic input, (n_samples, n_steps, n).
        recurrent: (n, n), rows post-synaptic, or None.
        decays: fractions lost per step.
        levels: levels in weight units.
        bias: (n,) or a number.
        surrogate: name of the surrogate gradient.
        slope: its slope.

    Returns:
        (n_samples, n_steps, n) spikes.
    """
    _check(a, recurrent, surrogate, slope)
    named = dict(zip((*model.decays, *model.levels), (*decays, *levels), strict=True))
    values = {name: torch.as_tensor(value, dtype=a.dtype, device=a.device) for name, value in named.items()}
    values["bias"] = torch.as_tensor(0.0 if bias is None else bias, dtype=a.dtype, device=a.device)
    _check_neuron(model, values, a.shape[2])
    kept = [1 - value if name in model.decays else value for name, value in values.items()]
    neuron = [value.expand(a.shape[2]).contiguous() for value in kept]
    return scan(model, a, recurrent, neuron, surrogate, slope)[0]


class FusedScan(torch.autograd.Function):
    """``scan`` on a CPU: one compiled kernel forward and one backward."""

    @staticmethod
    def forward(
        ctx: Any,
        model: TrainableNeuron,
        chip: bool,
        only_living: bool,
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
            model: the neuron model.
            chip: compute in the chip's integers.
            only_living: see ``scan``.
            surrogate: name of the surrogate gradient.
            slope: its slope.
            delays: as in ``scan``.
            a: synaptic input, (n_samples, n_steps, n).
            recurrent: (n, n), rows post-synaptic, or None.
            *neuron: parameters in the model's order, (n,) each.

        Returns:
            The spikes and the voltages.
        """
        assert model.kernels is not None
        kernels = load_kernels(f"neurons.{model.name}_kernels")
        a = a.contiguous()
        parameters = torch.stack(neuron)
        traces = a.new_empty(model.kernels.n_traces, *a.shape)
        by_source = a.new_empty(0, 0) if recurrent is None else recurrent.T.contiguous()
        lags = a.new_empty(0, dtype=torch.int64) if delays is None else delays
        if chip:
            given = arrays(a, by_source, lags, _in_units(model, parameters), traces)
            run(kernels.forward_chip, a.numel(), *given)
        else:
            run(kernels.forward, a.numel(), *arrays(a, by_source, lags, parameters, traces))
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(recurrent, parameters, traces, lags)
        ctx.options = (model, only_living, SURROGATES.index(surrogate), float(slope))
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
        model, only_living, kind, slope = ctx.options
        if grad_s is None and grad_v is None:
            return (None,) * (8 + model.n_parameters)
        recurrent, parameters, traces, lags = ctx.saved_tensors
        spikes = traces[0]
        kernels = load_kernels(f"neurons.{model.name}_kernels")
        g_s = torch.zeros_like(spikes) if grad_s is None else grad_s.contiguous()
        if lags.numel() and g_s is grad_s:
            g_s = g_s.clone()  # the kernel adds to it
        g_v = spikes.new_empty(0, 0, 0) if grad_v is None else grad_v.contiguous()
        grad_a = torch.empty_like(spikes)
        given = (*arrays(traces, g_s, g_v, parameters), slope, kind)
        living = None if recurrent is None else living_of(recurrent)
        if recurrent is None:
            run(kernels.backward, spikes.numel(), *given, *arrays(grad_a))
        else:
            weights = arrays(*as_factor(recurrent, living), lags)
            run(kernels.backward_recurrent, spikes.numel(), *given, *weights, *arrays(grad_a))
        grad_recurrent = None
        if ctx.needs_input_grad[7]:
            sent = delayed(spikes, lags) if lags.numel() else spikes
            grad_recurrent = recurrent_gradient(sent, grad_a, living if only_living else None)

        def by_sample() -> Tensor:
            parts = spikes.new_empty(len(model.decays) + 1, spikes.shape[0], spikes.shape[2])
            inner = arrays(traces, g_v, grad_a, parameters, parts)
            run(kernels.parameter_gradients, spikes.numel(), *inner)
            return parts

        grads = parameter_gradients(model, ctx.needs_input_grad[8:], by_sample)
        return None, None, None, None, None, None, grad_a, grad_recurrent, *grads


def parameter_gradients(
    model: TrainableNeuron, needed: Sequence[bool], by_sample: Callable[[], Tensor]
) -> list[Tensor | None]:
    """The gradients of a scan's parameters: those of decays and bias are sums over samples, levels have none.

    Args:
        model: the neuron model.
        needed: whether each parameter needs one.
        by_sample: finds those of decays and bias, (n_decays + 1, n_samples, n); called only if one is needed.

    Returns:
        One (n,) gradient per parameter; None where there is none.
    """
    grads: list[Tensor | None] = [None] * model.n_parameters
    trained = [*range(len(model.decays)), model.n_parameters - 1]
    if any(needed[i] for i in trained):
        for i, part in zip(trained, by_sample().sum(1), strict=True):
            grads[i] = part
    return grads


def delayed(spikes: Tensor, delays: Tensor) -> Tensor:
    """The spikes of each neuron so many steps later, and none in the steps before.

    Args:
        spikes: (n_samples, n_steps, n).
        delays: (n,) int64.

    Returns:
        (n_samples, n_steps, n).
    """
    if spikes.is_cpu:
        out = torch.empty_like(spikes)
        run(load_kernels().delay_spikes, spikes.numel(), *arrays(spikes, delays, out))
        return out
    sent = torch.arange(spikes.shape[1], device=spikes.device)[:, None] - delays
    return spikes.gather(1, sent.clamp(min=0).expand_as(spikes)) * (sent >= 0)


def _in_units(model: TrainableNeuron, parameters: Tensor) -> Tensor:
    """Parameters as int64: factors kept per step in 4096ths, levels in mantissa units, bias in state units."""
    n_decays, n_levels = len(model.decays), len(model.levels)
    factors = [1 << DECAY_BITS] * n_decays + [1] * n_levels + [1 << ACTIVATION_SHIFT]
    return (parameters.double() * torch.tensor(factors, device=parameters.device)[:, None]).round().long()


def check_chip(model: TrainableNeuron) -> None:
    """Check that a model has kernels for the chip's integers.

    Args:
        model: the neuron model.

    Raises:
        UsageError: if it has none.
    """
    if model.kernels is None:
        raise UsageError(NO_CHIP.broken("neuron", repr(model.name)))


def _check(a: Tensor, recurrent: Tensor | None, surrogate: str, slope: float) -> None:
    problems = Problems()
    INPUT_SHAPE.check(problems, a.ndim == 3 and a.is_floating_point(), "a", f"{a.dtype} {tuple(a.shape)}")
    if recurrent is not None and a.ndim == 3:
        n, found = a.shape[2], (tuple(recurrent.shape), recurrent.dtype, recurrent.device)
        wanted = ((n, n), a.dtype, a.device)
        RECURRENT_SHAPE.check(problems, found == wanted, "recurrent", _text(found), allowed=_text(wanted))
    SURROGATE.check(
        problems, surrogate in SURROGATES, "surrogate", repr(surrogate), allowed=", ".join(SURROGATES)
    )
    SLOPE.check(problems, slope > 0, "slope", slope)
    problems.raise_as(UsageError)


def _text(kind: tuple[Any, ...]) -> str:
    shape, dtype, device = kind
    return f"{dtype} {shape} on {device}"


def _check_neuron(model: TrainableNeuron, values: dict[str, Tensor], n: int) -> None:
    """Raise UsageError naming every parameter of n neurons that has another size, or is out of range."""
    problems = Problems()
    for name, value in values.items():
        found = f"{tuple(value.shape)}" if value.numel() != 1 else f"{float(value):g}"
        PARAMETER_SHAPE.check(
            problems, value.ndim == 0 or tuple(value.shape) in ((1,), (n,)), name, found, n=n
        )
        if name in model.decays:
            DECAY.check(problems, bool(((value >= 0) & (value <= 1)).all()), name, found)
        elif name in model.levels:
            least = value > 0 if name == "threshold" else value == value
            LEVEL.check(problems, bool((least & torch.isfinite(value)).all()), name, found)
    problems.raise_as(UsageError)
