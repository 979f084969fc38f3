"""Trials of a sweep: the product of lists of options, each trial a command line of ``lbi-train``."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import click

from lbi.errors import LbiError, Problem, Problems, Rule, UsageError

NOT_SWEPT = {
    "chip",
    "output",
    "metrics",
    "tensorboard",
    "resume",
    "as_json",
    "quiet",
    "debug",
    "version",
    "help",
}
"""Options of ``lbi-train`` that a sweep sets itself or does not need."""

EMPTY = Rule("sweep-option", "one value or more, separated by commas")
TRIAL_OPTION = Rule("sweep-option", "values that lbi-train takes")


@dataclass(frozen=True)
class Trial:
    """One training run of a sweep.

    Attributes:
        name: name of its folder, from the options in which trials differ and its configuration.
        arguments: options of ``lbi-train``, without outputs.
        varied: option → value, for the options of which the sweep has more than one value.
        config: its full configuration, in plain values.
    """

    name: str
    arguments: tuple[str, ...]
    varied: Mapping[str, str]
    config: Mapping[str, Any]


def swept_options() -> list[click.Option]:
    """The options of ``lbi-train``, with texts as values."""
    from lbi.cli.train import main

    options = []
    for parameter in main.params:
        if isinstance(parameter, click.Option) and parameter.name not in NOT_SWEPT:
            flags = [*parameter.opts, *parameter.secondary_opts]
            kind: dict[str, Any]
            if parameter.is_flag:
                declared, kind = ["/".join(flags)], {"default": None}
            else:
                declared, kind = (
                    flags,
                    {"type": str, "multiple": parameter.multiple, "metavar": parameter.metavar},
                )
            options.append(click.Option([*declared, str(parameter.name)], help=parameter.help, **kind))
    return options


def parted(text: str, *, within: str = ",") -> list[str]:
    """The values of a list: separated by ``;`` if there is one, else by ``within`` outside brackets and quotes.

    Args:
        text: such as "0.1,0.05", "256;128,128" or "[1,2],[3]".
        within: the separator if there is no ``;``; "" for none.

    Returns:
        The values, without surrounding spaces.
    """
    separator, depth, quoted, parts = ";" if ";" in text else within, 0, False, [""]
    for character in text:
        quoted ^= character == '"'
        depth += (character in "[{") - (character in "]}") if not quoted else 0
        if character == separator and depth <= 0 and not quoted:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def plan(given: Mapping[str, Any]) -> list[Trial]:
    """Every combination of the given values; combinations with equal configurations become one trial.

    Args:
        given: option of ``lbi-train``, as its parameter is named → text, None, bool, or several NAME=VALUES.

    Returns:
        The trials, the seed varying slowest so that a partial sweep is balanced.

    Raises:
        UsageError: naming every option that does not exist or has a wrong value.
    """
    refused: dict[str, Problem] = {}
    axes = [_good_values(axis, refused) for axis in _axes(given)]
    axes = sorted((axis for axis in axes if axis.values), key=lambda axis: axis.name != "seed")
    trials: dict[str, Trial] = {}
    several = {axis.name for axis in axes if len(axis.values) > 1}
    for chosen in itertools.product(*(axis.values for axis in axes)):
        pairs = [(axis.name, axis.how, value) for axis, value in zip(axes, chosen, strict=True)]
        try:
            trial = _trial(pairs, several)
        except LbiError as error:
            refused |= {str(problem): problem for problem in error.problems}
            continue
        except click.ClickException as error:
            problem = TRIAL_OPTION.broken(" ".join(_arguments(pairs)), error.format_message())
            refused[error.format_message()] = problem
            continue
        trials.setdefault(trial.name.rpartition("-")[2], trial)
    Problems(refused.values()).raise_as(UsageError)
    return list(trials.values())


class _Axis(NamedTuple):
    """One option of a sweep: its name, how it is written, and its values."""

    name: str
    how: str
    values: list[str]


def _axes(given: Mapping[str, Any]) -> Iterator[_Axis]:
    """The given options."""
    for option in swept_options():
        name, flag, value = str(option.name), option.opts[0], given.get(str(option.name))
        if option.is_flag and value is not None:
            yield _Axis(name, flag if value else option.secondary_opts[0], [""])
        elif option.multiple:
            for text in value or ():
                part, _, values = text.partition("=")
                yield _Axis(part.strip(), f"{flag} {part.strip()}=", parted(values))
        elif value is not None:
            yield _Axis(name, flag, parted(value, within="" if name == "hidden" else ","))
    if given.get("budget"):
        yield _Axis("chip", "--chip", [str(given["chip"])])


def _good_values(axis: _Axis, refused: dict[str, Problem]) -> _Axis:
    """The option with the values that lbi-train's parser takes; the others are noted."""
    from lbi.cli.train import main

    kinds = {option.opts[0]: option for option in main.params if not option.multiple}
    kind, good = kinds.get(axis.how), []
    for value in axis.values:
        fault = None
        if not value and len(axis.values) > 1:
            fault = EMPTY.broken(axis.name, "an empty value")
        elif value and kind is not None:
            try:
                kind.type.convert(value, kind, None)
            except click.BadParameter as error:
                fault = TRIAL_OPTION.broken(f"{axis.how} {value}", error.format_message())
        if fault is None:
            good.append(value)
        else:
            refused[str(fault)] = fault
    return axis._replace(values=good)


def configured(arguments: Sequence[str]) -> tuple[Any, dict[str, Any]]:
    """The configuration of a command line of ``lbi-train``, and what it begins from.

    Args:
        arguments: options of ``lbi-train``.

    Returns:
        A TrainConfig, and arguments of ``lbi.train.session.run.prepare``.
    """
    from lbi.cli.train import configure

    return configure(parameters(arguments))


def parameters(arguments: Sequence[str]) -> dict[str, Any]:
    """The parameters of a command line of ``lbi-train``.

    Args:
        arguments: options of ``lbi-train``.

    Returns:
        Name → value.
    """
    from lbi.cli.train import main

    return dict(main.make_context("lbi-train", list(arguments)).params)


def _trial(pairs: list[tuple[str, str, str]], several: set[str]) -> Trial:
    from lbi.train.optim.choices import OPTIMIZERS
    from lbi.train.session.given import REMOVED

    arguments = _arguments(pairs)
    config, begin = configured(arguments)
    choice, varied = OPTIMIZERS[config.optimizer], {n: value for n, _, value in pairs if n in several}
    plain = {key: value for key, value in config.to_dict().items() if key != "data"}
    if choice.dense:  # a dense network has no density: one trial for all of them
        plain.pop("density")
        if "density" in varied:
            varied["density"] = "1"
    begins = {key: str(value.path) for key, value in begin.items()}
    named = {**REMOVED, **plain}  # trials of earlier versions keep their names
    if named["average"] == 0:
        del named["average"]
    key = hashlib.sha256(json.dumps([named, begins], sort_keys=True).encode()).hexdigest()[:12]
    label = re.sub(r"[^\w.+=-]+", "_", "_".join(varied.values()))[:60].strip("_")
    return Trial(f"{label or 'trial'}-{key}", tuple(arguments), varied, plain)


def _arguments(pairs: list[tuple[str, str, str]]) -> list[str]:
    arguments: list[str] = []
    for _, how, value in pairs:
        flag, _, name = how.partition(" ")
        arguments += [flag, name + value] if name or value else [flag]
    return arguments


def absolute(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options with absolute paths, since trials run in folders and on machines of their own.

    Args:
        given: as for ``plan``.

    Returns:
        The same with ``data``, ``config`` and ``start`` resolved.
    """
    paths = ("data", "config", "start")
    return {
        name: ";".join(str(Path(part).resolve()) for part in parted(value))
        if name in paths and value
        else value
        for name, value in given.items()
    }
