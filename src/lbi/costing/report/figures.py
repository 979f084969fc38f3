"""Text lines with an estimate's figures, shared by the terminal and the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from lbi.chip.partition import Chunk
from lbi.costing.costs import price_lists
from lbi.costing.ranges import Range, hull, ratio
from lbi.costing.recorded_budget import recorded_budget
from lbi.costing.result import CostBreakdown, Estimate

Write = Callable[[float], str]
"""Function that formats a number with its unit."""


@dataclass(frozen=True)
class Line:
    """One line of the headline table.

    Attributes:
        key: stable name, unique in a table; labels are for people and may change.
        label: what is shown.
        dense: figure with every weight stored, as text.
        sparse: figure of the network as it is, as text.
        ratio: dense / sparse, as text; empty where undefined.
        hypothetical: True for a labelled what-if, which is not a figure of the chip.
    """

    key: str
    label: str
    dense: str
    sparse: str
    ratio: str
    hypothetical: bool = False


def count(value: float) -> str:
    """A count as text: without decimals if it is whole or large, otherwise with two, or two digits if it is small.

    Args:
        value: the count, or a mean of counts.

    Returns:
        The text, with commas between thousands.
    """
    if float(value).is_integer() or round(value, 2) >= 1000:
        return f"{value:,.0f}"
    return f"{value:,.2f}" if value >= 0.01 else f"{value:.2g}"


def energy(pj: float) -> str:
    """Energy as text in the fitting unit from pJ to J.

    Args:
        pj: energy in pJ.

    Returns:
        Up to three digits and the unit, such as "40.2 nJ".
    """
    return _scaled(pj, ("pJ", "nJ", "µJ", "mJ", "J"))


def duration(ns: float) -> str:
    """Time as text in the fitting unit from ns to s.

    Args:
        ns: time in ns.

    Returns:
        Up to three digits and the unit, such as "5.13 µs".
    """
    return _scaled(ns, ("ns", "µs", "ms", "s"))


def bits(value: float) -> str:
    """Bits as text, with the same in KiB, MiB or GiB.

    Args:
        value: number of bits.

    Returns:
        The text, such as "16,384 (2.0 KiB)".
    """
    size, units = value / 8192, ["KiB", "MiB", "GiB"]
    while round(size, 1) >= 1024 and len(units) > 1:
        size, _ = size / 1024, units.pop(0)
    return f"{value:,.0f} ({size:,.1f} {units[0]})"


def _scaled(value: float, units: tuple[str, ...]) -> str:
    step = 0
    while float(f"{abs(value):.3g}") >= 1000 and step < len(units) - 1:
        value, step = value / 1000, step + 1
    return f"{value:.3g} {units[step]}" if float(f"{value:.3g}") < 1000 else f"{value:,.0f} {units[step]}"


def span(value: Range | None, write: Write, absent: str = "not published") -> str:
    """A range as text.

    Args:
        value: the range; None if there is none.
        write: formats one end with its unit.
        absent: text for None.

    Returns:
        ``low – high``; one figure where both ends read the same; ``absent`` for None.
    """
    if value is None:
        return absent
    low, high = write(value.low), write(value.high)
    return low if low == high else f"{low} – {high}"


def times(a: float | None, b: float | None) -> str:
    """``a / b`` as "4.80 ×".

    Args:
        a: the figure to be divided; None if unknown.
        b: the figure to divide by; None if unknown.

    Returns:
        The text; empty if either is unknown or ``b`` is 0.
    """
    return "" if not b or a is None else f"{_ratio(a / b)} ×"


def range_times(a: Mapping[str, Range], b: Mapping[str, Range]) -> str:
    """Ratio of two figures within each cost set, from the least to the greatest.

    Args:
        a: cost set → figure to be divided.
        b: cost set → figure to divide by, in the same unit.

    Returns:
        The ratio or its range with "×"; empty if there is none.
    """
    found = ratio(a, b)
    if found is None:
        return ""
    low, high = _ratio(found.low), _ratio(found.high)
    return f"{low} ×" if low == high else f"{low} – {high} ×"


def _ratio(value: float) -> str:
    if round(value, 2) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value >= 0.01 or not value else f"{value:.2g}"


def headline(estimate: Estimate) -> list[Line]:
    """Dense beside sparse, per timestep of a sample.

    Args:
        estimate: the estimate.

    Returns:
        The lines of activity, of memory and of cost, in this order.
    """
    return [*_activity_lines(estimate), *_memory_lines(estimate), *_cost_lines(estimate)]


NO_PLACE = "does not fit"
"""Figure of a network that has no place on the chip."""


def _both(
    estimate: Estimate, key: str, label: str, value: Callable[[CostBreakdown], float], write: Write = count
) -> Line:
    a, b = value(estimate.dense), value(estimate.sparse)
    return Line(key, label, write(a), write(b), times(a, b))


def _if_placed(estimate: Estimate, key: str, label: str, value: Callable[[CostBreakdown], float]) -> Line:
    """A figure that depends on cores; dense may have none."""
    if estimate.dense.fits:
        return _both(estimate, key, label, value)
    return Line(key, label, NO_PLACE, count(value(estimate.sparse)), "")


def _activity_lines(estimate: Estimate) -> list[Line]:
    messages = "messages (spike × destination core)"
    if not estimate.sparse.exact_messages:
        messages += ", at most"
    return [
        _both(estimate, "synops_fetched", "SynOps fetched", lambda side: side.synops_fetched),
        _both(
            estimate,
            "synops_effective",
            "SynOps effective (nonzero weights)",
            lambda side: side.synops_effective,
        ),
        _both(estimate, "neuron_updates", "neuron updates", lambda side: side.neuron_updates),
        _both(estimate, "active_updates", "  of them active", lambda side: side.events["update_active"]),
        _both(estimate, "spikes", "spikes", lambda side: side.events["spike"]),
        _both(estimate, "input_spikes", "input spikes", lambda side: side.input_spikes),
        _if_placed(estimate, "messages", messages, lambda side: side.events["message_in"]),
    ]


def _memory_lines(estimate: Estimate) -> list[Line]:
    """Memory, axons and cores; layouts after the chip's first are labelled what-ifs."""
    csr = sum(p.csr_bytes for p in estimate.projections)
    full = sum(p.dense_bytes for p in estimate.projections)
    per_neuron = estimate.profile.limits.state_per_neuron.number

    def state(side: CostBreakdown) -> float:
        return float(sum(chunk.n for chunk in side.placement.chunks) * per_neuron)

    lines = [
        _both(
            estimate,
            "synaptic_memory",
            "synaptic memory, chip bits",
            lambda side: float(side.placement.synaptic_bits),
            bits,
        )
    ]
    if estimate.shares_convolutions:
        label = "  with convolutions unrolled"
        lines.append(_both(estimate, "unrolled", label, lambda side: float(side.unrolled_bits), bits))
    for name, layout in list(estimate.memory_layouts().items())[1:]:
        a, b = layout["dense_bits"], layout["sparse_bits"]
        label = f"  what-if: {layout['label']}"
        lines.append(Line(f"layout.{name}", label, bits(a), bits(b), times(a, b), hypothetical=True))
    lines.append(_both(estimate, "neuron_state", "neuron state, chip bits", state, bits))
    for resource in ("input_axons", "output_axons"):
        lines.append(_resource(estimate, resource))
    label = "host memory, dense int8 / CSR int8+int32"
    lines.append(Line("host_memory", label, f"{full:,} B", f"{csr:,} B", times(full, csr)))
    return [*lines, _cores(estimate)]


def _resource(estimate: Estimate, name: str) -> Line:
    label = name.replace("_", " ")
    return _if_placed(estimate, name, label, lambda side: float(side.placement.use[name].sum()))


def _cores(estimate: Estimate) -> Line:
    dense, sparse = estimate.dense, estimate.sparse
    text = [
        f"{side.placement.n_cores} on {side.placement.n_chips} chip{'s' * (side.placement.n_chips > 1)}"
        if side.fits
        else NO_PLACE
        for side in (dense, sparse)
    ]
    ratio = times(dense.placement.n_cores, sparse.placement.n_cores) if dense.fits else ""
    return Line("cores", "cores", text[0], text[1], ratio)


def _cost_lines(estimate: Estimate) -> list[Line]:
    """Energy, time and static energy; scenarios are labelled what-ifs."""
    dense, sparse = estimate.dense, estimate.sparse
    lines = [_energy_line(estimate, "energy", "dynamic energy", dense.energy, sparse.energy)]
    for scenario in estimate.profile.scenarios:
        key, label = f"scenario.{scenario.name}", f"  what-if: {scenario.label}"
        a, b = ({scenario.name: side.scenarios[scenario.name]} for side in (dense, sparse))
        # An energy per synaptic operation holds all other costs, messages too.
        lumped = scenario.costs is None
        line = _range_line(key, label, a, b) if lumped else _energy_line(estimate, key, label, a, b)
        lines.append(replace(line, hypothetical=True))
    lines.append(_range_line("time", "time per step, bounds", dense.time, sparse.time, duration, NO_PLACE))
    for entry in estimate.profile.static:
        if entry.name in dense.static or entry.name in sparse.static:
            label = f"static energy: {entry.label}, {entry.power}"
            over, under = (side.static_by_cost_set.get(entry.name, {}) for side in (dense, sparse))
            lines.append(_range_line(f"static.{entry.name}", label, over, under, absent=NO_PLACE))
    return lines


def _range_line(
    key: str,
    label: str,
    a: Mapping[str, Range],
    b: Mapping[str, Range],
    write: Write = energy,
    absent: str = "not published",
) -> Line:
    """A line of ranges over cost sets."""
    return Line(key, label, span(hull(a), write, absent), span(hull(b), write, absent), range_times(a, b))


def _energy_line(
    estimate: Estimate, key: str, label: str, a: Mapping[str, Range], b: Mapping[str, Range]
) -> Line:
    """A line of dynamic energies; dense without a place lacks its messages, and is a lower bound."""
    found = _range_line(key, label, a, b)
    if estimate.dense.fits or not a:
        return found
    return replace(found, dense=f"≥ {found.dense}", ratio=found.ratio and f"≥ {found.ratio}")


def projection_lines(estimate: Estimate) -> list[tuple[str, ...]]:
    """The table of projections, one row of texts each.

    Args:
        estimate: the estimate.

    Returns:
        Per projection: name, shape, nonzero weights, density, format, bits, bits dense, then SynOps fetched,
        nonzero and dense.
    """
    return [
        (
            p.name,
            f"{p.shape[0]}×{p.shape[1]}",
            f"{p.nnz:,}",
            f"{p.density:.4f}",
            p.bits.chosen,
            f"{p.bits.bits:,}",
            f"{p.dense_bits:,}",
            count(p.synops_fetched_per_step),
            count(p.synops_effective_per_step),
            count(p.synops_dense_per_step),
        )
        for p in estimate.projections
    ]


def where_it_goes(estimate: Estimate) -> list[str]:
    """Shares of the sparse network's dynamic energy, one line per price list: where the remaining cost is.

    Args:
        estimate: the estimate.

    Returns:
        One sentence per price list, with the share of each part in %; without those whose total is 0.
    """
    lines = []
    for name, (label, _) in price_lists(estimate.profile).items():
        parts = estimate.sparse.parts[name]
        total = sum(parts.values())
        if total:
            shares = ", ".join(f"{part} {value / total:.0%}" for part, value in parts.items())
            lines.append(f"Where the sparse network's energy goes ({label}): {shares}")
    return lines


LOAD_LABELS = {"synops": "SynOps", "updates": "neuron updates", "messages": "messages in and out"}
"""Load of a core → its name for people."""


def core_lines(estimate: Estimate) -> list[tuple[str, ...]]:
    """Loads of the sparse network's cores.

    Args:
        estimate: the estimate.

    Returns:
        Per load: name, per timestep on the busiest core, its number, mean over cores, total, the most in one timestep, limit.
        Empty if the run was not counted per core.
    """
    side = estimate.sparse
    if not side.loads:
        return []
    lines = [
        (
            label,
            count(float(side.loads[name].mean.max())),
            f"{side.loads[name].busiest}",
            count(float(side.loads[name].mean.mean())),
            count(float(side.loads[name].mean.sum())),
            f"{side.loads[name].peak.max():,}",
            "",
        )
        for name, label in LOAD_LABELS.items()
    ]
    used, limit = side.placement.use["synaptic_bits"], side.placement.limits["synaptic_bits"]
    share = "not published" if limit is None else f"{limit:,} ({used.max() / limit:.0%} used)"
    memory = (f"{used.max():,}", f"{used.argmax()}", f"{used.mean():,.0f}", f"{used.sum():,}", "", share)
    return [*lines, ("synaptic memory, bits", *memory)]


def what_bounds(estimate: Estimate) -> list[str]:
    """What sets the time per timestep, one sentence per cost set.

    Args:
        estimate: the estimate.

    Returns:
        The sentences; none if the run was not counted per core.
    """
    side, lines = estimate.sparse, []
    for costs in estimate.profile.costs:
        bound = side.bounds.get(costs.name)
        if bound is None:
            continue
        parts = ", ".join(
            f"{name} {duration(ns)}" for name, ns in sorted(bound.ns.items(), key=lambda part: -part[1]) if ns
        )
        text = f"Time ({costs.label}): set by the {bound.resource}: {parts}"
        if bound.core is not None:
            held = sorted({chunk.population for chunk in _chunks(estimate, bound.core)})
            text += f". Core {bound.core} ({', '.join(held)}) is the busiest in {bound.share:.0%} of the timesteps"
            text += f", mostly with {bound.core_resource}"
        lines.append(text)
    return lines


def _chunks(estimate: Estimate, core: int) -> list[Chunk]:
    placement = estimate.sparse.placement
    return [c for c, at in zip(placement.chunks, placement.core_of_chunk, strict=True) if at == core]


def next_savings(estimate: Estimate) -> list[str]:
    """What could be saved next in the sparse network, the greatest first.

    Args:
        estimate: the estimate.

    Returns:
        One sentence each.
    """
    return [f"Next saving: {saving.text}" for saving in estimate.sparse.savings]


def budget_note(estimate: Estimate) -> str:
    """The budget that the network was trained to, with the use certified then.

    Args:
        estimate: the estimate.

    Returns:
        A sentence; empty if its file records none.
    """
    uses = recorded_budget(estimate.fixed)
    if not uses:
        return ""
    return f"Trained to a budget (use on the training samples): {'; '.join(use.sourced for use in uses)}"


def static_note(estimate: Estimate) -> str:
    """Static power that is not in the dynamic energy, with the boundary of each measurement.

    Args:
        estimate: the estimate.

    Returns:
        A sentence; empty if the chip's file names none.
    """
    entries = [f"{entry.power} ({entry.label})" for entry in estimate.profile.static]
    return f"Static power, not included above: {'; '.join(entries)}" if entries else ""


def comparison(estimates: list[Estimate]) -> list[tuple[str, ...]]:
    """The table of several exports, one row of texts per figure.

    Args:
        estimates: the exports' estimates, of which the first is compared with the others.

    Returns:
        Per figure: its label, each export's value in its cheaper formats, then the ratio of the first to each
        other.
    """
    sides = [estimate.sparse for estimate in estimates]

    def row(label: str, values: list[float], write: Write = count) -> tuple[str, ...]:
        return (label, *map(write, values), *(times(values[0], value) for value in values[1:]))

    def range_row(label: str, values: list[Mapping[str, Range]], write: Write) -> tuple[str, ...]:
        ratios = (range_times(values[0], value) for value in values[1:])
        return (label, *(span(hull(value), write) for value in values), *ratios)

    unrolled = (
        " (convolutions unrolled)" if any(estimate.shares_convolutions for estimate in estimates) else ""
    )
    rows = [
        row(f"nonzero synapses{unrolled}", [float(estimate.n_nonzero) for estimate in estimates]),
        row("SynOps fetched", [side.synops_fetched for side in sides]),
        row("neuron updates", [side.neuron_updates for side in sides]),
        row("spikes", [side.events["spike"] for side in sides]),
        row("synaptic memory, chip bits", [float(side.placement.synaptic_bits) for side in sides], bits),
        row("cores", [float(side.placement.n_cores) for side in sides]),
        range_row("dynamic energy", [side.energy for side in sides], energy),
    ]
    for scenario in estimates[0].profile.scenarios:
        if all(scenario.name in side.scenarios for side in sides):
            name = scenario.name
            values: list[Mapping[str, Range]] = [{name: side.scenarios[name]} for side in sides]
            rows.append(range_row(f"  what-if: {scenario.label}", values, energy))
    rows.append(range_row("time per step, bounds", [side.time for side in sides], duration))
    return rows
