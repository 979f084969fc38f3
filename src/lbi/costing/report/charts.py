"""The report's charts as inline SVG or PNG text."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from lbi.costing.costs import price_lists
from lbi.costing.report.figures import LOAD_LABELS, count
from lbi.costing.result import Estimate
from lbi.errors import require
from lbi.network.fixed import FixedProjection

DENSE_COLOR, SPARSE_COLOR, INK, FAINT = "#94a3b8", "#0f766e", "#1e293b", "#e2e8f0"
PART_COLORS = ("#0f766e", "#d97706", "#7c3aed", "#be123c")
MAX_CHIPS, MAX_PIXELS, MAX_BARS = 4, 256, 128

_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "lbi",
    "font.family": "sans-serif",
    "font.size": 10,
    "font.sans-serif": ["Helvetica", "Arial", "DejaVu Sans"],
    "axes.edgecolor": "#cbd5e1",
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": FAINT,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


@contextmanager
def _figure(width: float, height: float) -> Iterator[Any]:
    """A matplotlib figure in the report's style, without pyplot's global state."""
    require("matplotlib", "report")
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        yield Figure(figsize=(width, height))


def _svg(figure: Any) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return out.getvalue()[out.getvalue().index("<svg") :]


def synops_over_time(estimate: Estimate) -> str:
    """SynOps fetched per chip timestep, dense and sparse, means over samples.

    Args:
        estimate: the estimate, with its series over time.

    Returns:
        The picture as SVG text.

    Raises:
        MissingPackageError: if matplotlib is not installed.
    """
    with _figure(9.2, 2.8) as figure:
        axes = figure.subplots()
        for side, color, label in _sides(estimate):
            values = side.series.synops
            axes.plot(np.arange(values.size), values, color=color, label=label, linewidth=1.8)
            axes.fill_between(np.arange(values.size), values, color=color, alpha=0.12, linewidth=0)
        _finish(axes, "SynOps fetched per timestep", log=_spread(estimate))
        return _svg(figure)


def energy_over_time(estimate: Estimate, names: tuple[str, ...]) -> str:
    """Dynamic energy per chip timestep in nJ, as the range between cost sets, dense and sparse.

    Args:
        estimate: the estimate, with its series over time.
        names: cost sets whose lowest and highest energy bound the range.

    Returns:
        The picture as SVG text.

    Raises:
        MissingPackageError: if matplotlib is not installed.
    """
    with _figure(9.2, 2.8) as figure:
        axes = figure.subplots()
        for side, color, label in _priced_sides(estimate):
            values = np.array([side.series.energy[name] for name in names]) / 1000
            steps = np.arange(values.shape[1])
            axes.fill_between(
                steps, values.min(axis=0), values.max(axis=0), color=color, alpha=0.3, linewidth=0
            )
            axes.plot(steps, values.min(axis=0), color=color, label=label, linewidth=1.4)
            axes.plot(steps, values.max(axis=0), color=color, linewidth=1.4)
        _finish(axes, "nJ per timestep", log=_spread(estimate))
        return _svg(figure)


def _priced_sides(estimate: Estimate) -> tuple[tuple[Any, str, str], ...]:
    """The sides with their colors and labels; a dense network without a place has no messages in its energy."""
    (dense, color, label), sparse = _sides(estimate)
    return (dense, color, label if dense.fits else f"{label} without messages"), sparse


def _sides(estimate: Estimate) -> tuple[tuple[Any, str, str], ...]:
    return (estimate.dense, DENSE_COLOR, "dense"), (estimate.sparse, SPARSE_COLOR, "sparse")


def _spread(estimate: Estimate) -> bool:
    """True if dense and sparse differ so much that a logarithmic axis is needed."""
    dense, sparse = estimate.dense.series.synops.max(), estimate.sparse.series.synops.max()
    return bool(sparse > 0 and dense / sparse > 20)


def _finish(axes: Any, label: str, *, log: bool) -> None:
    axes.set_xlabel("timestep on the chip (0: first input)")
    axes.set_ylabel(label)
    if log:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.margins(x=0.01)
    axes.figure.legend(loc="outside upper left", ncols=2)


def energy_parts(estimate: Estimate) -> str:
    """Parts of the dynamic energy per cost set, dense and sparse, as stacked bars in nJ.

    Args:
        estimate: the estimate.

    Returns:
        The picture as SVG text.

    Raises:
        MissingPackageError: if matplotlib is not installed.
    """
    rows = [
        (f"{kind}, {label.split(' (')[0]}", side.parts[name])
        for name, (label, _) in price_lists(estimate.profile).items()
        for side, _, kind in _priced_sides(estimate)
    ]
    with _figure(9.2, 0.46 * len(rows) + 1.1) as figure:
        axes = figure.subplots()
        at, left = np.arange(len(rows))[::-1], np.zeros(len(rows))
        for part, color in zip(rows[0][1], PART_COLORS, strict=True):
            values = np.array([parts[part] for _, parts in rows]) / 1000
            axes.barh(at, values, left=left, color=color, label=part, height=0.62)
            left = left + values
        axes.set_yticks(at, [label for label, _ in rows])
        axes.set_xlabel("nJ per timestep")
        axes.grid(axis="y", visible=False)
        figure.legend(loc="outside upper left", ncols=4)
        return _svg(figure)


def projection_bars(estimate: Estimate) -> str:
    """SynOps fetched per timestep and synaptic memory of every projection, dense beside sparse.

    Args:
        estimate: the estimate.

    Returns:
        The picture as SVG text.

    Raises:
        MissingPackageError: if matplotlib is not installed.
    """
    figures = estimate.projections
    with _figure(9.2, 0.55 * len(figures) + 1.2) as figure:
        panels = figure.subplots(1, 2, sharey=True)
        at = np.arange(len(figures))[::-1]
        data = (
            (
                "SynOps fetched per timestep",
                [(p.synops_dense_per_step, p.synops_fetched_per_step) for p in figures],
            ),
            ("synaptic memory, KiB", [(p.dense_bits / 8192, p.bits.bits / 8192) for p in figures]),
        )
        for axes, (title, values) in zip(panels, data, strict=True):
            top = max((dense for dense, _ in values), default=0.0) or 1.0
            for offset, column, color, label in (
                (0.19, 0, DENSE_COLOR, "dense"),
                (-0.19, 1, SPARSE_COLOR, "sparse"),
            ):
                widths = [pair[column] for pair in values]
                axes.barh(at + offset, widths, height=0.34, color=color, label=label)
                for y, width in zip(at + offset, widths, strict=True):
                    axes.text(width + 0.01 * top, y, count(round(width, 2)), va="center", fontsize=8)
            axes.set_xlim(0, 1.18 * top)
            axes.set_title(title, fontsize=10, loc="left")
            axes.grid(axis="y", visible=False)
        panels[0].set_yticks(at, [p.name for p in figures])
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=2)
        return _svg(figure)


def core_loads(estimate: Estimate) -> str:
    """SynOps, updates, messages and memory of every core, from the most to the least, with the mean as a line.

    Args:
        estimate: an estimate that was counted per core.

    Returns:
        SVG text.
    """
    side = estimate.sparse
    panels = [(label, side.loads[name].mean) for name, label in LOAD_LABELS.items()]
    panels.append(("synaptic memory, KiB", side.placement.use["synaptic_bits"] / 8192))
    with _figure(9.2, 2.6) as figure:
        for axes, (title, values) in zip(figure.subplots(1, len(panels)), panels, strict=True):
            order = np.argsort(-values, kind="stable")
            ordered, at = values[order], np.arange(values.size)
            if values.size <= MAX_BARS:
                axes.bar(at, ordered, color=SPARSE_COLOR, width=0.8)
            else:
                axes.fill_between(at, ordered, step="mid", color=SPARSE_COLOR, linewidth=0)
            axes.axhline(values.mean(), color=PART_COLORS[1], linewidth=1.4)
            axes.set_title(title, fontsize=10, loc="left")
            axes.set_xlabel(f"cores; core {order[0]} first" if values.size > 1 else "one core", fontsize=8)
            axes.set_xticks([])
            axes.set_xlim(-0.7, max(values.size - 0.3, 1.3))
            axes.set_ylim(0, 1.18 * float(ordered[0]) or 1.0)
            axes.text(0, ordered[0], count(round(float(ordered[0]), 1)), ha="center", va="bottom", fontsize=8)
            axes.grid(axis="x", visible=False)
        return _svg(figure)


def core_map(estimate: Estimate) -> str:
    """The chips' tiles and cores, each core coloured by its fullest resource; at most MAX_CHIPS chips.

    Args:
        estimate: the estimate, of whose placement the sparse one is drawn.

    Returns:
        The picture as SVG text.

    Raises:
        MissingPackageError: if matplotlib is not installed.
    """
    profile, placement = estimate.profile, estimate.sparse.placement
    columns, rows, per_tile, per_chip = (
        int(q.number)
        for q in (
            profile.mesh.columns,
            profile.mesh.rows,
            profile.mesh.cores_per_tile,
            profile.limits.cores_per_chip,
        )
    )
    side = int(np.ceil(np.sqrt(per_tile)))
    n_chips = min(placement.n_chips, MAX_CHIPS)
    fullest = np.max(list(placement.utilization.values()), axis=0)
    with _figure(min(9.2, 1.2 + 4.6 * n_chips), 2.9) as figure:
        from matplotlib import colormaps
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize
        from matplotlib.patches import Rectangle

        panels = np.atleast_1d(figure.subplots(1, n_chips))
        colors = colormaps["YlGnBu"]
        for chip, axes in enumerate(panels):
            for slot in range(per_chip):
                tile, within = divmod(slot, per_tile)
                row, column = divmod(tile, columns)
                column = column if row % 2 == 0 else columns - 1 - column
                x, y = (
                    column + 0.06 + (within % side) * 0.88 / side,
                    row + 0.06 + (within // side) * 0.88 / side,
                )
                core = chip * per_chip + slot
                used = core < placement.n_cores
                face = colors(0.12 + 0.88 * fullest[core]) if used else "#f8fafc"
                axes.add_patch(
                    Rectangle(
                        (x, y), 0.84 / side, 0.84 / side, facecolor=face, edgecolor="#cbd5e1", linewidth=0.4
                    )
                )
            axes.set_xlim(0, columns)
            axes.set_ylim(0, rows)
            axes.set_aspect("equal")
            axes.set_axis_off()
            axes.set_title(f"chip {chip}", fontsize=9)
        figure.colorbar(
            ScalarMappable(Normalize(0, 100), colors),
            ax=list(panels),
            label="fullest resource, %",
            shrink=0.8,
        )
        return _svg(figure)


def weight_picture(projection: FixedProjection) -> str:
    """A projection's nonzero weights as a picture, targets down, sources right; large matrices are averaged.

    Args:
        projection: the projection, with weights (n_target, n_source).

    Returns:
        A ``data:image/png`` address with the picture in base64, at most MAX_PIXELS averaged squares a side.

    Raises:
        MissingPackageError: if matplotlib is not installed.
    """
    weights = projection.weights.to_csr()
    n_rows, n_cols = weights.shape
    shape = (min(n_rows, MAX_PIXELS), min(n_cols, MAX_PIXELS))
    at = (
        weights.row_of().astype(np.int64) * shape[0] // n_rows,
        weights.indices.astype(np.int64) * shape[1] // n_cols,
    )
    filled = np.bincount(at[0] * shape[1] + at[1], minlength=shape[0] * shape[1]).reshape(shape)
    rows = np.diff(np.arange(shape[0] + 1) * n_rows // shape[0])
    cols = np.diff(np.arange(shape[1] + 1) * n_cols // shape[1])
    density = filled / np.maximum(np.outer(rows, cols), 1)
    require("matplotlib", "report")
    from matplotlib import colormaps
    from matplotlib.image import imsave

    scale = max(1, 224 // max(shape))
    # Square roots keep single synapses of an averaged picture visible.
    pixels = np.kron(np.sqrt(np.clip(density, 0, 1)), np.ones((scale, scale)))
    out = io.BytesIO()
    imsave(out, colormaps["Greens"](0.02 + 0.98 * pixels), format="png")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode("ascii")
