"""The HTML report: one self-contained page with the figures, the pictures, and every constant used."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from lbi.costing.checkpoints import check_points
from lbi.costing.costs import price_lists
from lbi.costing.recorded_budget import RecordedUse, recorded_budget
from lbi.costing.report import charts
from lbi.costing.report.figures import (
    comparison,
    core_lines,
    energy,
    headline,
    next_savings,
    projection_lines,
    span,
    static_note,
    times,
    what_bounds,
    where_it_goes,
)
from lbi.costing.report.method import measured_how
from lbi.costing.report.sources import profiles
from lbi.costing.report.terms import TERMS, explanation
from lbi.costing.result import Estimate, constants
from lbi.errors import require
from lbi.network.pattern import density
from lbi.system.atomic import atomic_write

MAX_PICTURES = 12


Uses = tuple[RecordedUse, ...]


def write_report(
    path: str | Path, estimates: list[Estimate], names: list[str], uses: Sequence[Uses] = ()
) -> None:
    """Write the report of one or more estimates to ``path``.

    Needs jinja2 and matplotlib (the ``report`` extra); the page fetches nothing.

    Args:
        path: the page.
        estimates: the estimates.
        names: their names.
        uses: for each, what it uses of the limits that were asked for.
    """
    page = render(estimates, names, uses)
    with atomic_write(path) as new:
        new.write_text(page, encoding="utf-8")


def render(estimates: list[Estimate], names: list[str], uses: Sequence[Uses] = ()) -> str:
    """The report as HTML.

    Args:
        estimates: the estimates, one section each.
        names: their names.
        uses: for each, what it uses of the limits that were asked for; empty without limits.

    Returns:
        The text of a self-contained page.

    Raises:
        MissingPackageError: if jinja2 or matplotlib is not installed.
    """
    require("jinja2", "report")
    require("matplotlib", "report")
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(
        (files("lbi.costing.report") / "report.html.jinja").read_text(encoding="utf-8")
    )
    from lbi._version import __version__

    return template.render(
        version=__version__,
        title=" against ".join(names),
        names=names,
        sections=[
            _section(estimate, name, own)
            for estimate, name, own in zip(estimates, names, uses or [()] * len(names), strict=True)
        ],
        comparison=comparison(estimates) if len(estimates) > 1 else None,
        chips=_chips(estimates),
        terms=TERMS,
        explanation=explanation,
    )


def _section(estimate: Estimate, name: str, uses: Uses) -> dict[str, Any]:
    """Everything the template shows of one estimate."""
    from markupsafe import Markup

    profile = estimate.profile
    lists = price_lists(profile)
    labels = " and ".join(label for label, _ in lists.values())
    over_time = charts.energy_over_time(estimate, tuple(lists)) if estimate.measured and lists else None
    pictures = [
        {
            "name": p.name,
            "shape": f"{p.weights.shape[0]}×{p.weights.shape[1]}",
            "density": f"{density(p):.1%}",
            "image": charts.weight_picture(p),
        }
        for p in estimate.fixed.projections[:MAX_PICTURES]
    ]
    return {
        "name": name,
        "chip": profile.title,
        "basis": estimate.basis,
        "measured": estimate.measured,
        "cards": _cards(estimate),
        "headline": headline(estimate),
        "projections": projection_lines(estimate),
        "where": where_it_goes(estimate),
        "synops": Markup(charts.synops_over_time(estimate)) if estimate.measured else None,
        "energy": Markup(over_time) if over_time else None,
        "energy_title": f"Dynamic energy over time: {'the range between ' * (len(lists) > 1)}{labels}",
        "parts": Markup(charts.energy_parts(estimate)) if lists else None,
        "bars": Markup(charts.projection_bars(estimate)),
        "loads": Markup(charts.core_loads(estimate)) if estimate.sparse.placement.n_cores > 1 else None,
        "load_rows": core_lines(estimate),
        "bounds": what_bounds(estimate),
        "savings": next_savings(estimate),
        "static": static_note(estimate),
        "budget": _limits(recorded_budget(estimate.fixed)),
        "asked": _limits(uses),
        "cores": Markup(charts.core_map(estimate)),
        "n_hidden_chips": max(estimate.sparse.placement.n_chips - charts.MAX_CHIPS, 0),
        "use": _use(estimate),
        "pictures": pictures,
        "n_hidden_pictures": max(len(estimate.fixed.projections) - MAX_PICTURES, 0),
        "how": measured_how(estimate),
        "notes": estimate.notes(),
        "problems": [str(problem) for problem in estimate.dense_problems],
        "scenarios": [{"label": s.label, "note": s.note} for s in profile.scenarios],
    }


def _cards(estimate: Estimate) -> list[dict[str, str]]:
    """The few figures to see first: what sparsity saves, and what it does not."""
    dense, sparse = estimate.dense, estimate.sparse
    lines = {line.key: line for line in headline(estimate)}
    dynamic, updates = lines["energy"], lines["neuron_updates"]
    saved = times(dense.synops_fetched, sparse.synops_fetched)
    return [
        {
            "value": f"{estimate.density:.1%}",
            "label": "of the weights are nonzero",
            "more": f"{estimate.n_nonzero:,} synapses",
        },
        {
            "value": saved,
            "label": "SynOps, dense / sparse",
            "more": f"{lines['synops_fetched'].sparse} per timestep, dense {lines['synops_fetched'].dense}",
        },
        {
            "value": times(dense.placement.synaptic_bits, sparse.placement.synaptic_bits),
            "label": "synaptic memory, dense / sparse",
            "more": lines["synaptic_memory"].sparse,
        },
        {
            "value": lines["cores"].sparse.split(" ")[0],
            "label": "core" + "s" * (sparse.placement.n_cores != 1),
            "more": f"dense: {lines['cores'].dense}",
        },
        {
            "value": dynamic.sparse,
            "label": "dynamic energy per timestep",
            "more": (f"dense {dynamic.dense}" if dense.energy_range else "labelled what-ifs below")
            + "; without static power",
        },
        {
            "value": updates.ratio,
            "label": "neuron updates, dense / sparse",
            "more": f"{updates.sparse} per timestep, dense {updates.dense}",
        },
    ]


def _limits(uses: Uses) -> list[tuple[str, str, str, str, str]]:
    """Resource, limit, use, its share of the limit, and whether it was met."""
    return [
        (
            f"{use.name} ({use.costs})" if use.costs else use.name,
            f"{use.limit_text} {use.unit}".strip(),
            "does not fit the chip" if use.used is None else f"{use.used_text} {use.unit}".strip(),
            f"{use.used / use.limit:.1%}" if use.used is not None and use.limit else "",
            "met" if use.met else "NOT MET",
        )
        for use in uses
    ]


def _use(estimate: Estimate) -> list[tuple[str, str, str, str]]:
    """Resource, fullest core, mean over cores, limit per core."""
    placement = estimate.sparse.placement
    rows = []
    for name, used in placement.use.items():
        limit = placement.limits[name]
        share = "" if limit is None else f" ({used.max() / limit:.0%})"
        rows.append(
            (
                name.replace("_", " "),
                f"{used.max():,}{share}",
                f"{used.mean():,.0f}",
                "not published" if limit is None else f"{limit:,}",
            )
        )
    return rows


def _chips(estimates: list[Estimate]) -> list[dict[str, Any]]:
    """Each chip once, with every constant and the references its sources cite."""
    chips = []
    for profile in profiles(estimates):
        rows = [row | {"text": _value(row)} for row in constants(profile)]
        chips.append(
            {
                "title": profile.title,
                "constants": rows,
                "sources": dict(profile.sources),
                "costs": [{"label": c.label, "basis": c.basis} for _, c in profile.cost_sets()],
                "checkpoints": [
                    c.to_dict() | {"ours": span(c.ours, energy), "measured": energy(c.point.measured.number)}
                    for c in check_points(profile)
                ],
            }
        )
    return chips


def _value(row: dict[str, Any]) -> str:
    value = row["value"]
    if value is None:
        return "—"
    if row["name"].startswith("formats."):
        return f"{value[0]:g} to {value[1]:g}"
    if isinstance(value, tuple):
        return ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in value)
    return f"{value:,.10g}"
