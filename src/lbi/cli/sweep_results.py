"""Results of a sweep: a row per trial as CSV, means over seeds as Markdown, and plots with the Pareto front."""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lbi.cli.sweep_plan import Trial
from lbi.costing.recorded_budget import exceeded, read_uses
from lbi.errors import Problem
from lbi.system.atomic import atomic_write

FIGURES = (
    "accuracy_test",
    "accuracy_validation",
    "accuracy_train",
    "accuracy_integer",
    "density",
    "n_weights",
    "n_active",
    "n_active_integer",
    "firing_rate",
    "synops",
    "energy_nj_low",
    "energy_nj_high",
    "synaptic_memory_bits",
    "n_cores",
    "epochs",
    "seconds",
)
"""Columns of a trial: shares from 0 to 1, counts, SynOps and nJ per inference, seconds."""

PLOTS = (
    ("density", "density (active weights / weights)"),
    ("synops", "SynOps per inference"),
    ("energy_nj_high", "dynamic energy per inference, upper bound (nJ)"),
)


def row_of(trial: Trial, result: Mapping[str, Any] | None) -> dict[str, Any]:
    """The row of a trial.

    Args:
        trial: the trial.
        result: its result, or None before it has one.

    Returns:
        Column → value; figures are None where there are none.
    """
    status = "waiting" if result is None else "failed" if "error" in result else "done"
    flat: dict[str, Any] = dict(result or {})
    flat |= {f"accuracy_{part}": value for part, value in flat.pop("accuracy", {}).items()}
    flat |= {f"energy_nj_{end}": value for end, value in (flat.pop("energy_nj", None) or {}).items()}
    return {
        "trial": trial.name,
        "status": status,
        "optimizer": trial.config["optimizer"],
        "seed": trial.config["seed"],
        "varied": dict(trial.varied),
        **{name: flat.get(name) for name in FIGURES},
        "budget": {use.name: use.to_dict() for use in read_uses(flat.get("budget"))} or None,
        "energy_source": flat.get("energy_source"),
        "chip": flat.get("chip"),
        "version": flat.get("version"),
        "commit": flat.get("commit"),
        "config": dict(trial.config),
        "error": "; ".join(flat.get("error", ())),
    }


def missed(rows: Iterable[Mapping[str, Any]]) -> list[Problem]:
    """The limits that trained networks exceed.

    Args:
        rows: of trials.

    Returns:
        A problem per trial and limit, the limit exceeded most first.
    """
    from lbi.cli.train import NOT_MET

    return [
        NOT_MET.broken(f"{row['trial']}, --budget {use.name}", use.amounts)
        for row in rows
        for use in exceeded(read_uses(row["budget"]))
    ]


def groups(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Means over seeds of finished trials that differ in nothing else.

    Args:
        rows: of trials.

    Returns:
        A row per group: its options, number of seeds, means, ``accuracy_spread`` (standard deviation of the test
        accuracy, n − 1; None for one seed), and ``n_met`` (trials that met their budget; None without one), in the
        trials' order.
    """
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["status"] == "done":
            options = {name: value for name, value in row["config"].items() if name != "seed"}
            found.setdefault(json.dumps(options, sort_keys=True), []).append(row)
    made = []
    for members in found.values():
        first, accuracies = members[0], [member["accuracy_test"] for member in members]
        means = {
            name: statistics.fmean(values) if len(values) == len(members) else None
            for name in FIGURES
            for values in [[member[name] for member in members if member[name] is not None]]
        }
        named = {name: value for name, value in first["varied"].items() if name != "seed"}
        spread = statistics.stdev(accuracies) if len(members) > 1 else None
        made.append(
            {
                "optimizer": first["optimizer"],
                "options": named,
                "n_seeds": len(members),
                **means,
                "accuracy_spread": spread,
                "n_met": sum(not missed([member]) for member in members) if first["budget"] else None,
            }
        )
    return made


def pareto(rows: Sequence[Mapping[str, Any]], cost: str) -> set[int]:
    """The rows that no other beats in test accuracy and cost together.

    Args:
        rows: with ``accuracy_test`` and ``cost``; rows without either are left out.
        cost: a column of which less is better.

    Returns:
        Their indices.
    """
    points = [
        (i, row["accuracy_test"], row[cost])
        for i, row in enumerate(rows)
        if row["accuracy_test"] is not None and row[cost] is not None
    ]
    return {
        i
        for i, accuracy, price in points
        if not any(a >= accuracy and p <= price and (a > accuracy or p < price) for _, a, p in points)
    }


def write_tables(folder: Path, rows: Sequence[Mapping[str, Any]], command: str) -> list[str]:
    """Write ``results.csv`` and ``results.md``.

    Args:
        folder: the sweep's.
        rows: of all trials.
        command: the command line, for the heading.

    Returns:
        Names of the files.
    """
    text = io.StringIO()
    names = [name for name in (rows[0] if rows else {}) if name != "varied"]
    writer = csv.DictWriter(text, names, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for row in rows:
        budget = json.dumps(row["budget"]) if row["budget"] else None
        writer.writerow({**row, "budget": budget, "config": json.dumps(row["config"], sort_keys=True)})
    files = {"results.csv": text.getvalue(), "results.md": markdown(groups(rows), rows, command)}
    for name, content in files.items():
        with atomic_write(folder / name) as new:
            new.write_text(content, encoding="utf-8")
    return list(files)


def markdown(table: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], command: str) -> str:
    """The table of means in Markdown, with the trials that failed or missed their budget below it.

    Args:
        table: from ``groups``.
        rows: of all trials.
        command: the command line.

    Returns:
        The text; a star marks the rows on the Pareto front of accuracy against SynOps.
    """
    options = list(dict.fromkeys(name for row in table for name in row["options"] if name != "optimizer"))
    budgets = any(row["n_met"] is not None for row in table)
    front, done = pareto(table, "synops"), sum(row["status"] == "done" for row in rows)
    head = ["optimizer", *options, "seeds", "test accuracy: float", "integer", "density", "active weights"]
    head += ["firing rate", "SynOps", "energy (nJ)", *(["budget"] if budgets else []), "Pareto"]
    lines = [
        f"    {command}",
        "",
        f"{done} of {len(rows)} trials finished. SynOps and energy are per inference.",
        *energy_lines(rows),
        "",
    ]
    lines += [_line(head), _line(["---"] * len(head))]
    for i, row in enumerate(table):
        spread = "" if row["accuracy_spread"] is None else f" ± {row['accuracy_spread']:.2%}"
        low, high = row["energy_nj_low"], row["energy_nj_high"]
        cells = [row["optimizer"], *(row["options"].get(name, "") for name in options), row["n_seeds"]]
        cells += [
            f"{row['accuracy_test']:.2%}{spread}",
            f"{row['accuracy_integer']:.2%}",
            f"{row['density']:.4f}",
        ]
        cells += [f"{row['n_active']:,.0f}", f"{row['firing_rate']:.2%}", f"{row['synops']:,.0f}"]
        cells.append("" if low is None else f"{low:,.0f} – {high:,.0f}")
        if budgets:
            cells.append(
                "met" if row["n_met"] == row["n_seeds"] else f"NOT MET, {row['n_met']} of {row['n_seeds']}"
            )
        cells.append("★" if i in front else "")
        lines.append(_line(cells))
    failed = [row for row in rows if row["status"] == "failed"]
    lines += ["", "Failed:", ""] if failed else []
    lines += [f"- {row['trial']}: {row['error']}" for row in failed]
    over = missed(rows)
    lines += ["", "Budget not met:", ""] if over else []
    lines += [f"- {problem.where}: {problem.found}" for problem in over]
    return "\n".join(lines) + "\n"


def energy_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Where the energies of finished trials come from, a line for each source.

    Args:
        rows: of trials.

    Returns:
        The lines; trials without energy are of a chip whose energy per event is not published.
    """
    done = [row for row in rows if row["status"] == "done"]
    found = {(row["chip"], row["energy_nj_high"] is not None, row["energy_source"]): None for row in done}
    lines = []
    for chip, has_energy, source in found:
        if not has_energy:
            lines.append(f"Energy on {chip}: none, as no energy per event is published.")
        elif source:
            lines.append(
                f"Energy on {chip}: dynamic, a range over {source}; lbi-estimate --sources lists all."
            )
        else:
            lines.append(
                f"Energy on {chip}: of an earlier version, which noted no source; without the trials' result.json, the same "
                "command computes it again."
            )
    return lines


def _line(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def write_plots(folder: Path, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Write a plot per cost, of means over seeds, if matplotlib is installed.

    Args:
        folder: the sweep's.
        rows: of all trials.

    Returns:
        Names of the files.
    """
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        return []
    table, made = groups(rows), []
    for cost, label in PLOTS:
        shown = [row for row in table if row[cost] is not None]
        if not shown:
            continue
        figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
        for optimizer in dict.fromkeys(row["optimizer"] for row in shown):
            mine = sorted((row for row in shown if row["optimizer"] == optimizer), key=lambda row: row[cost])
            accuracies = [100 * row["accuracy_test"] for row in mine]
            spreads = [100 * (row["accuracy_spread"] or 0) for row in mine]
            axes.errorbar(
                [row[cost] for row in mine],
                accuracies,
                spreads,
                marker="o",
                ls="",
                capsize=3,
                label=optimizer,
            )
        front = sorted((shown[i][cost], 100 * shown[i]["accuracy_test"]) for i in pareto(shown, cost))
        axes.plot(*zip(*front, strict=True), color="black", lw=1, ls="--", label="Pareto front")
        sources = dict.fromkeys(row["energy_source"] for row in rows if row["energy_source"])
        below = "\n".join(["", *map(str, sources)]) if cost == "energy_nj_high" else ""
        axes.set(xscale="log", xlabel=label + below, ylabel="test accuracy (%)")
        axes.grid(alpha=0.3)
        axes.legend()
        name = f"accuracy_{cost.removesuffix('_nj_high')}.png"
        with atomic_write(folder / name) as new:
            figure.savefig(new, format="png", dpi=120, metadata={"Software": None})
        pyplot.close(figure)
        made.append(name)
    return made
