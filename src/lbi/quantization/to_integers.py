"""Conversion of a float network to a chip's integers, with one scale for everything in a neuron's sum.

The scale s of a population relates mantissas to float units: threshold · s becomes ``vth``, and every
projection into it becomes ``round(w · s / 2^weight_exp)`` on the chip's weight grid, so synaptic input,
bias and threshold stay in proportion. A search over s minimizes the loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lbi.chip.load import load_profile
from lbi.chip.profile import HardwareProfile
from lbi.errors import InputError, Problems, Rule, UsageError
from lbi.network.csr import CsrMatrix
from lbi.network.fixed import FixedNetwork, FixedPopulation, FixedProjection, SignMode, num_weight_bits
from lbi.network.fixedpoint import ACTIVATION_SHIFT, STATE_LIMIT, IntFormat, NumberFormats
from lbi.network.graph import INPUT, Network, Population, Projection

N_SCALES = 192
"""Number of candidate scales per octave and population."""

LEAST_THRESHOLD = 64
"""Threshold mantissa below which its rounding, up to 1 in 128, is considered too coarse to fit a large bias."""

CURRENT_HEADROOM = 16
"""With free exponents, number of thresholds that must fit into the current's range before it wraps."""

INTEGRATED_SHARE = 1 / 8
INTEGRATED_STEPS = 256
"""An integrator's voltage stays in range if this fraction of its strongest neuron's inputs, all of one sign, spikes in
each of this number of steps. More input may saturate it, of which the simulator warns."""

FAR_OFF = 2.0  # factor between a decay and the chip's from which a note says so
BLOCK = 1 << 14
"""Weights whose errors are computed at a time."""

SMALLEST, LARGEST = 1e-30, 1e30
"""Range of magnitudes in which products, squares and quotients of the search stay in the range of float64."""

NO_NETWORK = Rule(
    "argument",
    "a Network",
    "give the float network: lbi.load reads files, lbi.importers.from_torch torch models; a FixedNetwork has been quantized",
)
FLOAT_RANGE = Rule(
    "float-range",
    f"magnitudes of {SMALLEST:g} to {LARGEST:g}",
    "multiply the weights into the population, its bias and its threshold by one number",
)
SCALE = Rule(
    "scale",
    f"a number of {SMALLEST:g} to {LARGEST:g}",
    "leave the scale out of the network's meta: quantize then finds one",
)
THRESHOLD_TOO_SMALL = Rule(
    "threshold-rounds-to-zero",
    "a threshold of at least half a mantissa at the scale that its inputs leave",
    "train with a larger threshold, or clip the weights{bias} into it to less than {most:.3g}",
)
SCALE_TOO_LARGE = Rule(
    "scale-too-large",
    "up to {most:.6g}, where {what} fits",
    "leave the scale out of the network's meta: quantize then finds one",
)
FEEDBACK_TOO_FAST = Rule(
    "feedback-too-fast", "a delay of at least {least}", "train with that delay on the projection"
)
DELAY_RANGE = Rule("delay-range", "{formats}", "shorten the delay or the paths that meet here")
DELAY_LEAST = Rule(
    "delay-range", "{formats} on {chip}", "train with a delay of at least {formats.minimum} on the projection"
)
THRESHOLD_LEAST = Rule(
    "threshold-range",
    "{formats} on {chip}",
    "train with a larger threshold, or with smaller weights and biases into the population",
)


def quantize(
    network: Network,
    chip: str | Path | HardwareProfile = "loihi2",
    *,
    exponents: Literal["zero", "free"] = "zero",
) -> FixedNetwork:
    """The integer network for ``chip`` that approximates ``network``.

    Exact zeros stay absent; weights that round to zero are dropped and counted in each projection's
    ``n_rounded_to_zero``. Delays are added where paths of different length meet, so that skip
    connections keep their timing.

    Args:
        network: the float network.
        chip: name, TOML file or profile of the chip.
        exponents: "zero" sets every ``weight_exp`` to 0, as netx requires (on a chip without 0 to the nearest); "free" chooses one per projection, which
            is more accurate for a projection whose weights are much smaller than those of others.

    Returns:
        The network in integers.

    Raises:
        InputError: naming every parameter that the chip cannot hold, every threshold that rounds to 0, and every
            magnitude outside 1e-30 to 1e30.
    """
    problems = Problems()
    NO_NETWORK.check(problems, isinstance(network, Network), "network", f"a {type(network).__name__}")
    problems.raise_as(UsageError)
    profile = chip if isinstance(chip, HardwareProfile) else load_profile(chip)
    _check_magnitudes(network, problems)
    named = _named_scales(network, problems)
    problems.raise_as(InputError)  # values out of range would overflow below
    latencies = _latencies(network)
    populations, projections = [], []
    for population in network.populations:
        into = [projection for projection in network.projections if projection.target == population.name]
        # A network trained in integers states its scales, so that rounding changes nothing.
        if population.name in named:
            scale = named[population.name]
            _check_scale(population, into, scale, profile, problems)
        else:
            scale = _best_scale(population, into, profile, free=exponents == "free")
        _check_threshold(population, into, scale, profile, problems)
        latency = latencies[population.name]
        populations.append(_population(population, scale, latency, profile, problems))
    scales = {population.name: population.scale for population in populations}
    for projection in network.projections:
        fixed, kept = _projection(projection, scales[projection.target], profile)
        delay = _chip_delay(network, projection, latencies, profile, problems)
        projections.append(replace(fixed, delay=delay[kept] if isinstance(delay, np.ndarray) else delay))
    problems.raise_as(InputError)
    return FixedNetwork(
        input_shape=network.input_shape,
        populations=tuple(populations),
        projections=tuple(projections),
        readout=network.readout,
        chip=profile.name,
        provenance=_provenance(network, populations, projections),
    )


def _provenance(
    network: Network, populations: list[FixedPopulation], projections: list[FixedProjection]
) -> dict[str, Any]:
    """The network's ``meta``, with a note for every decay and every projection that is another one on the chip."""
    given = network.meta.get("notes")
    notes = list(given) if isinstance(given, list | tuple) else []
    for before, after in zip(network.populations, populations, strict=True):
        found = after.neuron.to_float(after.scale)
        for state in ("current", "voltage"):
            wanted, decay = (float(getattr(n, f"{state}_decay", 0.0)) for n in (before.neuron, found))
            if state == "current" and decay and wanted == 0:
                notes.append(
                    f"population {before.name!r}: the current, which never decays, loses 1/{round(1 / decay)} a step on the chip"
                )
            elif wanted and not wanted / FAR_OFF <= decay <= wanted * FAR_OFF:
                text = f"the {state} decay, {wanted:.3g} per step, is {decay:.3g} on the chip"
                notes.append(f"population {before.name!r}: {text}")
    for projection, fixed in zip(network.projections, projections, strict=True):
        n, lost = projection.weights.n_parameters, fixed.n_rounded_to_zero
        if 2 * lost > n:
            notes.append(f"projection {fixed.name!r}: {lost} of {n} weights are rounded to zero on the chip")
    return {**network.meta, **({"notes": notes} if notes else {})}


def _population(
    population: Population, scale: float, latency: int, profile: HardwareProfile, problems: Problems
) -> FixedPopulation:
    """The population in integers."""
    where = f"population {population.name!r}"
    neuron = population.neuron.to_fixed(scale, population.n, profile.formats, where, problems)
    return FixedPopulation(population.name, population.shape, neuron, scale, latency)


def _check_magnitudes(network: Network, problems: Problems) -> None:
    """Note thresholds, biases and largest weights that are too large or small for the search."""
    for population in network.populations:
        where, neuron = f"population {population.name!r}", population.neuron
        bias = 0.0 if neuron.bias is None else float(np.abs(neuron.bias).max(initial=0.0))
        FLOAT_RANGE.check(problems, bias <= LARGEST, where, f"a bias of {bias:g}")
        for level in neuron.levels:
            value = abs(float(getattr(neuron, level)))
            FLOAT_RANGE.check(
                problems, value == 0 or SMALLEST <= value <= LARGEST, where, f"{level} {value:g}"
            )
    for projection in network.projections:
        peak = float(np.abs(projection.weights.data).max(initial=0.0))
        FLOAT_RANGE.check(
            problems,
            projection.weights.nnz == 0 or SMALLEST <= peak <= LARGEST,
            f"projection {projection.name!r}",
            f"a largest weight of {peak:g}",
        )


def _named_scales(network: Network, problems: Problems) -> dict[str, float]:
    """Population → scale, as stated in ``network.meta``."""
    named = network.meta.get("scales", {})
    if not SCALE.check(problems, isinstance(named, Mapping), "meta, scales", f"{type(named).__name__}"):
        return {}
    scales = {}
    for population in network.populations:
        value = named.get(population.name)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and SCALE.check(
            problems,
            number and SMALLEST <= value <= LARGEST,
            f"population {population.name!r}, meta, scales",
            repr(value),
        ):
            scales[population.name] = float(value)
    return scales


def _check_scale(
    population: Population, into: list[Projection], scale: float, profile: HardwareProfile, problems: Problems
) -> None:
    """Note a stated scale at which the threshold or a weight would be clipped."""
    where, threshold = f"population {population.name!r}, meta, scales", population.neuron.threshold
    most = np.inf if threshold is None else (profile.formats.threshold.maximum + 0.5) / threshold
    SCALE_TOO_LARGE.check(problems, scale < most, where, f"{scale:g}", most=most, what="the threshold")
    for projection in into:
        if projection.weights.nnz:
            peak, limit = _largest(projection, profile)
            half = max(1, weight_grid(sign_mode_of(projection.weights.data), profile.formats).step // 2)
            most = (limit + half) * 2.0**profile.formats.weight_exponent.maximum / peak
            what = f"projection {projection.name!r}"
            SCALE_TOO_LARGE.check(problems, scale < most, where, f"{scale:g}", most=most, what=what)


def _check_threshold(
    population: Population, into: list[Projection], scale: float, profile: HardwareProfile, problems: Problems
) -> None:
    """Note a threshold that rounds to 0, so that the neuron would fire at any input above 0, or below the chip's least."""
    threshold = population.neuron.threshold
    if threshold is None:
        return
    if round(threshold * scale) > 0:
        allowed, found = profile.formats.threshold, round(threshold * scale)
        where, what = f"population {population.name!r}", f"threshold {threshold:g} is {found} on the chip"
        fits = found >= allowed.minimum
        THRESHOLD_LEAST.check(problems, fits, where, what, formats=allowed, chip=profile.name)
        return
    data = np.concatenate([np.zeros(0), *(np.abs(projection.weights.data) for projection in into)])
    inputs = f"weights of {data.min():g} to {data.max():g}" if data.size else "no weights"
    bias = population.neuron.bias
    if bias is not None and np.any(bias):
        inputs += f" and biases up to {np.abs(bias).max():g}"
    limits = [_largest(projection, profile)[1] for projection in into if projection.weights.nnz]
    largest = max(limits, default=profile.formats.weight_excitatory.maximum)
    THRESHOLD_TOO_SMALL.check(
        problems,
        False,
        f"population {population.name!r}",
        f"threshold {threshold:g} beside {inputs} is {threshold * scale:.2g} on the chip, which rounds to 0",
        bias="" if bias is None else " and biases",
        most=2 * largest * threshold,
    )


def _latencies(network: Network) -> dict[str, int]:
    """Chip steps from the input to each population: the length of the longest forward path of undelayed projections."""
    latencies = {INPUT: 0}
    for population in network.populations:
        before = [
            latencies[projection.source] + int(np.any(network.lag(projection) == 0))
            for projection in network.projections
            if projection.target == population.name and network.is_forward(projection)
        ]
        latencies[population.name] = max([1, *before])
    return latencies


def _chip_delay(
    network: Network,
    projection: Projection,
    latencies: dict[str, int],
    profile: HardwareProfile,
    problems: Problems,
) -> int | NDArray[np.uint8]:
    """The delay that gives a projection its trained lag between populations with these latencies."""
    delay = network.lag(projection) + latencies[projection.target] - latencies[projection.source] - 1
    allowed = profile.formats.delay
    shortest, longest = int(np.min(delay, initial=0)), int(np.max(delay, initial=0))
    where = f"projection {projection.name!r}"
    least = latencies[projection.source] - latencies[projection.target]
    FEEDBACK_TOO_FAST.check(
        problems,
        shortest >= 0,
        where,
        f"feeds back from {projection.source!r} to {projection.target!r} {-shortest} steps faster than"
        " spikes travel on the chip, where every projection takes a step",
        least=least,
    )
    DELAY_RANGE.check(
        problems, longest <= allowed.maximum, where, f"a delay of {longest} chip steps", formats=allowed
    )
    least = int(np.min(delay, initial=max(longest, allowed.minimum)))
    found = f"a delay of {least} chip steps"
    long_enough = shortest < 0 or least >= allowed.minimum
    DELAY_LEAST.check(problems, long_enough, where, found, formats=allowed, chip=profile.name)
    if delay.ndim == 0:
        return max(0, min(int(delay), allowed.maximum))
    return np.clip(delay, 0, allowed.maximum).astype(np.uint8)


def sign_mode_of(weights: NDArray[np.float64]) -> SignMode:
    """The sign mode: excitatory or inhibitory if all weights have one sign, otherwise mixed.

    Args:
        weights: weights of a projection.

    Returns:
        EXCITATORY (also without weights), INHIBITORY or MIXED.
    """
    if weights.size and weights.min() < 0 < weights.max():
        return SignMode.MIXED
    return SignMode.INHIBITORY if weights.size and weights.max() < 0 else SignMode.EXCITATORY


def weight_grid(sign_mode: SignMode, formats: NumberFormats) -> IntFormat:
    """The mantissas to which weights are rounded: the chip's, without one whose negative it lacks.

    So w and −w round alike, and netx keeps every matrix that it can hold: it has no −256.

    Args:
        sign_mode: signs of the projection's weights.
        formats: the chip's number formats.

    Returns:
        A part of the chip's grid.
    """
    return sign_mode.chip_format(formats).symmetric


def _largest(projection: Projection, profile: HardwareProfile) -> tuple[float, int]:
    """The magnitude of the largest weight, and the largest mantissa for it."""
    data = projection.weights.data
    grid = weight_grid(sign_mode_of(data), profile.formats)
    return float(np.abs(data).max()), max(grid.maximum, -grid.minimum)


def _exponent(peak: float, limit: int, scale: float, profile: HardwareProfile) -> int:
    """The smallest exponent ≥ ``_first`` at which the largest weight ``peak`` fits the mantissa ``limit`` at this scale."""
    exponent = _first(profile)
    while round(peak * scale / 2**exponent) > limit and exponent < profile.formats.weight_exponent.maximum:
        exponent += 1
    return exponent


def _first(profile: HardwareProfile) -> int:
    """The chip's weight exponent nearest to 0."""
    allowed = profile.formats.weight_exponent
    return min(max(0, allowed.minimum), allowed.maximum)


def _best_scale(
    population: Population, into: list[Projection], profile: HardwareProfile, *, free: bool
) -> float:
    """The scale with the smallest loss (``_losses``) among candidates below the largest possible one.

    At the largest scale the largest weight has its largest mantissa at exponent 0, or ``vth`` or the largest bias has
    its largest value. Free exponents allow larger scales, as long as the current keeps headroom.
    """
    threshold = population.neuron.threshold
    stored = [projection for projection in into if projection.weights.nnz]
    limits = [_limit(projection, profile) for projection in stored]
    if threshold is None:
        highest = _integrator_limit(population, stored)
    else:
        highest = profile.formats.threshold.maximum / threshold
    limit = _bias_limit(population, profile)
    if threshold is None or threshold * limit >= LEAST_THRESHOLD:
        highest = min(highest, limit)  # otherwise no scale suits both, and the bias is refused
    top = min([highest, *limits])
    if not np.isfinite(top):
        return 1.0  # an integrator without input
    octaves = 1
    if free and stored:
        own = [limit for limit, projection in zip(limits, stored, strict=True) if not _is_reset(projection)]
        wanted = min(max(own or limits), highest / CURRENT_HEADROOM)
        while top * 2 <= wanted and octaves <= profile.formats.weight_exponent.maximum:
            top, octaves = top * 2, octaves + 1
    candidates = top * 2.0 ** -np.linspace(0.0, octaves, N_SCALES * octaves, endpoint=False)
    losses = _losses(population, stored, candidates, profile)
    return float(candidates[int(np.argmin(losses))])


def _limit(projection: Projection, profile: HardwareProfile) -> float:
    """The scale at which the projection's largest weight has the largest mantissa at the first exponent, 0 on most chips.

    Weights that take a threshold from the neuron's own current are as large as the threshold, and all of one size: they
    take the exponent that they need, and leave the other weights their bits.
    """
    peak, limit = _largest(projection, profile)
    exponent = profile.formats.weight_exponent.maximum if _is_reset(projection) else _first(profile)
    return limit / peak * 2.0**exponent


def _is_reset(projection: Projection) -> bool:
    """True if each neuron of a population has one weight, to itself, below 0."""
    weights = projection.weights
    if projection.source != projection.target or not isinstance(weights, CsrMatrix):
        return False
    return bool(np.array_equal(weights.row_of(), weights.indices)) and bool(weights.data.max(initial=-1) < 0)


def _integrator_limit(population: Population, into: list[Projection]) -> float:
    """The scale at which the input described by ``INTEGRATED_SHARE`` drives a voltage to the end of its range."""
    neuron = replace(population.neuron, bias=None)
    state = {name: np.zeros(1) for name in neuron.state_variables}
    for _ in range(INTEGRATED_STEPS):
        neuron.step(state, np.ones(1))
    fan_in = np.zeros(population.n)
    for projection in into:
        fan_in += projection.weights.sum_rows(np.abs(projection.weights.data))
    peak = INTEGRATED_SHARE * float(fan_in.max(initial=0.0)) * abs(float(state["v"][0]))
    return (STATE_LIMIT >> ACTIVATION_SHIFT) / peak if peak else np.inf


def _bias_limit(population: Population, profile: HardwareProfile) -> float:
    """The scale at which the largest bias has the largest mantissa and exponent; infinite without bias."""
    bias = population.neuron.bias
    peak = 0.0 if bias is None else float(np.abs(bias).max(initial=0.0))
    formats = profile.formats
    largest = formats.bias_mantissa.maximum << formats.bias_exponent.maximum
    return largest / (peak * (1 << ACTIVATION_SHIFT)) if peak else np.inf


def _losses(
    population: Population, into: list[Projection], scales: NDArray[np.float64], profile: HardwareProfile
) -> NDArray[np.float64]:
    """The loss of each scale: the sum of the projections' mean squared weight errors over their mean squares, plus that of the threshold."""
    losses, threshold = np.zeros(scales.size), population.neuron.threshold
    if threshold is not None:
        losses += [(round(threshold * scale) / (threshold * scale) - 1.0) ** 2 for scale in scales]
    for projection in into:
        data = projection.weights.data
        grid = weight_grid(sign_mode_of(data), profile.formats)
        peak, limit = _largest(projection, profile)
        mean_square, errors = np.mean(data**2), np.empty(data.size)
        for k, scale in enumerate(scales):
            exponent = _exponent(peak, limit, scale, profile)
            _write_squared_errors(data, scale, exponent, grid, errors)
            losses[k] += float(np.mean(errors) / mean_square)
    return losses


def _write_squared_errors(
    data: NDArray[Any], scale: float, exponent: int, grid: IntFormat, errors: NDArray[np.float64]
) -> None:
    """Write ``(grid.round(data · scale / 2^exponent) · 2^exponent / scale − data)²``, in blocks that stay in the cache."""
    for begin in range(0, data.size, BLOCK):
        part, error = data[begin : begin + BLOCK], errors[begin : begin + BLOCK]
        np.multiply(part, scale / 2**exponent, out=error)
        error /= grid.step
        np.rint(error, out=error)
        error *= grid.step
        np.clip(error, grid.minimum, grid.maximum, out=error)
        error *= 2.0**exponent / scale
        error -= part
        error *= error


def _mantissas(
    projection: Projection, scale: float, exponent: int, profile: HardwareProfile
) -> NDArray[np.int64]:
    data = projection.weights.data
    return weight_grid(sign_mode_of(data), profile.formats).round(data * (scale / 2**exponent))


def _projection(
    projection: Projection, scale: float, profile: HardwareProfile
) -> tuple[FixedProjection, NDArray[np.intp]]:
    """The projection in integers, without its delay, and the indices of the kept synapses."""
    stored = projection.weights.nnz > 0
    exponent = _exponent(*_largest(projection, profile), scale, profile) if stored else _first(profile)
    mantissas = _mantissas(projection, scale, exponent, profile)
    weights, kept = projection.weights.with_data(mantissas.astype(np.int16))
    mode = sign_mode_of(projection.weights.data)
    error = mantissas * (2.0**exponent / scale) - projection.weights.data
    fixed = FixedProjection(
        name=projection.name,
        source=projection.source,
        target=projection.target,
        weights=weights,
        sign_mode=mode,
        weight_exp=exponent,
        num_weight_bits=num_weight_bits(weights.data, mode),
        n_rounded_to_zero=projection.weights.n_parameters - weights.n_parameters,
        rms_error=float(np.sqrt(np.mean(error**2))) if error.size else 0.0,
        pattern=projection.pattern,
    )
    return fixed, kept
