"""An estimate's figures as words and numbers for people: the same lines on a terminal and in the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lbi.costing.as_dict import memory_layouts
from lbi.costing.bill import Band, Bill, price_lists

if TYPE_CHECKING:
    from lbi.costing.estimation import Estimate


@dataclass(frozen=True)
class Line:
    """One line of the headline table. hypothetical: a labelled what-if, not a figure of the chip."""

    label: str
    dense: str
    sparse: str
    ratio: str
    hypothetical: bool = False


def count(value: float) -> str:
    """A count: whole if it is whole or large, else two decimals."""
    return f"{value:,.0f}" if value >= 1000 or float(value).is_integer() else f"{value:,.2f}"


def energy(pj: float) -> str:
    """Energy in the unit that fits, pJ to J."""
    return _scaled(pj, ("pJ", "nJ", "µJ", "mJ", "J"))


def duration(ns: float) -> str:
    """A time in the unit that fits: ns, µs, ms, s."""
    return _scaled(ns, ("ns", "µs", "ms", "s"))


def bits(value: float) -> str:
    """Bits, and the same in the unit of bytes that fits."""
    size, units = value / 8192, ["KiB", "MiB", "GiB"]
    while size >= 1024 and len(units) > 1:
        size, _ = size / 1024, units.pop(0)
    return f"{value:,.0f} ({size:,.1f} {units[0]})"


def _scaled(value: float, units: tuple[str, ...]) -> str:
    step = 0
    while abs(value) >= 1000 and step < len(units) - 1:
        value, step = value / 1000, step + 1
    return f"{value:.3g} {units[step]}" if value < 1000 else f"{value:,.0f} {units[step]}"


def band(value: Band | None, write: Callable[[float], str]) -> str:
    """``low – high``, one figure where they agree, "not published" without."""
    if value is None:
        return "not published"
    low, high = write(value.low), write(value.high)
    return low if low == high else f"{low} – {high}"


def times(a: float | None, b: float | None) -> str:
    """``a / b`` as "4.80 ×"."""
    return "" if not b or a is None else f"{_ratio(a / b)} ×"


def band_times(a: Band | None, b: Band | None) -> str:
    """Like with like: low over low, high over high."""
    if a is None or b is None or not b.low or not b.high:
        return ""
    low, high = sorted((a.low / b.low, a.high / b.high))
    return f"{_ratio(low)} ×" if _ratio(low) == _ratio(high) else f"{_ratio(low)} – {_ratio(high)} ×"


def _ratio(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def headline(estimate: Estimate) -> list[Line]:
    """Dense beside sparse, per timestep of a sample."""
    dense, sparse = estimate.dense, estimate.sparse

    def both(label: str, value: Callable[[Bill], float], write: Callable[[float], str] = count) -> Line:
        a, b = value(dense), value(sparse)
        return Line(label, write(a), write(b), times(a, b))

    def bands(
        label: str, a: Band | None, b: Band | None, write: Callable[[float], str], **kind: bool
    ) -> Line:
        return Line(label, band(a, write), band(b, write), band_times(a, b), **kind)

    lines = [
        both("SynOps fetched", lambda bill: bill.synops_fetched),
        both("SynOps effective (nonzero weights)", lambda bill: bill.synops_effective),
        both("neuron updates", lambda bill: bill.neuron_updates),
        both("  of them active", lambda bill: bill.events["update_active"]),
        both("spikes", lambda bill: bill.events["spike"]),
        both("input spikes", lambda bill: bill.input_spikes),
        both(
            "messages (spike × destination core)"
            if sparse.exact_messages
            else "messages (spike × destination core), at most",
            lambda bill: bill.events["message_in"],
        ),
        both("synaptic memory, chip bits", lambda bill: float(bill.placement.synaptic_bits), bits),
        *_other_layouts(estimate),
        both("neuron state, chip bits", lambda bill: _state_bits(estimate), bits),
        both("input axons", lambda bill: float(bill.placement.use["input_axons"].sum())),
        both("output axons", lambda bill: float(bill.placement.use["output_axons"].sum())),
        _host(estimate),
    ]
    cores = [
        f"{bill.placement.n_cores} on {bill.placement.n_chips} chip{'s' * (bill.placement.n_chips > 1)}"
        if bill.fits
        else "does not fit"
        for bill in (dense, sparse)
    ]
    ratio = times(dense.placement.n_cores, sparse.placement.n_cores) if dense.fits else ""
    lines.append(Line("cores", cores[0], cores[1], ratio))
    lines.append(bands("dynamic energy", dense.energy_band, sparse.energy_band, energy))
    for scenario in estimate.profile.scenarios:
        a, b = dense.scenarios[scenario.name], sparse.scenarios[scenario.name]
        lines.append(bands(f"  what-if: {scenario.label}", a, b, energy, hypothetical=True))
    lines.append(_time_line(dense, sparse))
    for entry in estimate.profile.static:
        if entry.name in dense.static or entry.name in sparse.static:
            label = f"static energy: {entry.label}, {entry.power}"
            pair = dense.static.get(entry.name), sparse.static.get(entry.name)
            text = [band(value, energy) if value else "does not fit" for value in pair]
            lines.append(Line(label, text[0], text[1], band_times(*pair)))
    return lines


def _host(estimate: Estimate) -> Line:
    csr = sum(p.csr_bytes for p in estimate.projections)
    full = sum(p.dense_bytes for p in estimate.projections)
    return Line("host memory, dense int8 / CSR int8+int32", f"{full:,} B", f"{csr:,} B", times(full, csr))


def _state_bits(estimate: Estimate) -> float:
    return estimate.fixed.n_neurons * estimate.profile.limits.state_per_neuron.number


def _other_layouts(estimate: Estimate) -> list[Line]:
    """Synaptic memory under the chip's other layouts, which are labelled what-ifs."""
    layouts = list(memory_layouts(estimate).values())[1:]
    return [
        Line(
            f"  what-if: {layout['label']}",
            bits(layout["dense_bits"]),
            bits(layout["sparse_bits"]),
            times(layout["dense_bits"], layout["sparse_bits"]),
            hypothetical=True,
        )
        for layout in layouts
    ]


def _time_line(dense: Bill, sparse: Bill) -> Line:
    a, b = dense.time_band, sparse.time_band
    text = [band(value, duration) if value else "does not fit" for value in (a, b)]
    return Line("time per step, bounds", text[0], text[1], band_times(a, b))


def projection_lines(estimate: Estimate) -> list[tuple[str, ...]]:
    """Per projection: name, shape, nonzero, density, format, bits, bits dense, SynOps sparse, SynOps dense."""
    return [
        (
            p.name,
            f"{p.shape[0]}×{p.shape[1]}",
            f"{p.nnz:,}",
            f"{p.density:.4f}",
            p.bits.chosen,
            f"{p.bits.bits:,}",
            f"{p.bits.dense:,}",
            count(p.synops_effective_per_step),
            count(p.synops_dense_per_step),
        )
        for p in estimate.projections
    ]


def where_it_goes(estimate: Estimate) -> list[str]:
    """Shares of the sparse network's dynamic energy, one line per price list: where the remaining cost is."""
    lines = []
    for name, (label, _) in price_lists(estimate.profile).items():
        parts = estimate.sparse.parts[name]
        total = sum(parts.values())
        if total:
            shares = ", ".join(f"{part} {value / total:.0%}" for part, value in parts.items())
            lines.append(f"Where the sparse network's energy goes ({label}): {shares}")
    return lines


def comparison(estimates: list[Estimate]) -> list[tuple[str, ...]]:
    """Label, each export's figure in its cheaper formats, then the first over each other."""
    bills = [estimate.sparse for estimate in estimates]

    def row(label: str, values: list[float], write: Callable[[float], str] = count) -> tuple[str, ...]:
        return (label, *map(write, values), *(times(values[0], value) for value in values[1:]))

    def band_row(label: str, values: list[Band | None], write: Callable[[float], str]) -> tuple[str, ...]:
        return (
            label,
            *(band(value, write) for value in values),
            *(band_times(values[0], v) for v in values[1:]),
        )

    rows = [
        row("nonzero weights", [float(sum(p.nnz for p in e.projections)) for e in estimates]),
        row("SynOps fetched", [bill.synops_fetched for bill in bills]),
        row("neuron updates", [bill.neuron_updates for bill in bills]),
        row("spikes", [bill.events["spike"] for bill in bills]),
        row("synaptic memory, chip bits", [float(bill.placement.synaptic_bits) for bill in bills], bits),
        row("cores", [float(bill.placement.n_cores) for bill in bills]),
        band_row("dynamic energy", [bill.energy_band for bill in bills], energy),
    ]
    for scenario in estimates[0].profile.scenarios:
        if all(scenario.name in bill.scenarios for bill in bills):
            values: list[Band | None] = [bill.scenarios[scenario.name] for bill in bills]
            rows.append(band_row(f"  what-if: {scenario.label}", values, energy))
    rows.append(band_row("time per step, bounds", [bill.time_band for bill in bills], duration))
    return rows
