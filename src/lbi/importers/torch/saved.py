"""Import of ``.pt`` files: files of lbi-train, and saved states of other frameworks' models.

A state alone does not define how its layers connect. So ``arch`` names a Python file and a function in it that
returns the model; that file is *executed*, unlike any other input of this package.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import is_lazy

from lbi.errors import InputError, Problems, Rule, UsageError
from lbi.importers.torch.copying import PREPARING, UNINITIALIZED, evaluate, prepares, unwrapped
from lbi.network.fixed import FixedNetwork
from lbi.network.graph import Network
from lbi.system.paths import not_a_file
from lbi.train import model_pt, untrusted_torch

STATE_KEYS = ("state_dict", "model_state_dict", "model_state", "model_dict", "model", "net", "weights")
"""Keys under which checkpoints hold the state."""

OLD_STATES = ("mem", "syn", "spk")
"""Buffers of older snnTorch states: a neuron's state, which a run starts without."""

NEW_BUFFERS = ("graded_spikes_factor", "reset_mechanism_val")
"""Buffers that older snnTorch states lack; the model as it is built has them."""

COUNT = "num_batches_tracked"
"""Buffer of BatchNorm that states of older torch lack; it has no effect in evaluation."""

SAME_MODEL = "let --arch build the model that was saved: the names and shapes of both differ here"

ONLY_THE_MODEL = "let it define the model alone; training belongs under if __name__ == '__main__'"

OTHERS = "The file also holds {names}, which are no part of the model that --arch builds."
WEIGHT_NORM = (
    "{names}: read as torch's weight norm, since --arch builds plain weights; if two tensors of another parametrization"
    " were saved (such as a gain per row), let --arch register it"
)
NOT_A_STATE = Rule("no-state", "a state_dict", "torch.save(model.state_dict(), path)")
NO_TENSORS = Rule("no-state", "a state_dict", "{fix}")
ARCH = Rule("arch", "FILE.py:FUNCTION", "name the function of that file that returns the model")
ARCH_FAILS = Rule("arch", "{allowed}", "{fix}")
ARCH_CALL = Rule("arch", "a function without arguments that returns the model", "{fix}")
ARCH_FUNCTION = Rule("arch", "{allowed}")
ARCH_MODEL = Rule("arch", "a torch.nn.Module", "end the function with: return model")
STATE_MISSING = Rule("state-missing", "every parameter of the model", SAME_MODEL)
STATE_UNKNOWN = Rule(
    "state-unknown",
    "the model's parameters only",
    SAME_MODEL
    + "; or, if they are no part of it, save its state alone: torch.save(model.state_dict(), path)",
)
STATE_PREPARED = Rule(
    "state-prepared",
    "a state without observers and fake quantization",
    "if the network is to have the weights from before their rounding, take these out: state = torch.load(PATH);"
    " torch.save({{name: state[name] for name in state if not any(part in name for part in {parts})}}, PATH)",
)
STATES = Rule(
    "state-several",
    "the state of one model",
    "choose one: state = {{name.removeprefix({prefix!r}): value for name, value in state.items() if"
    " name.startswith({prefix!r})}}; torch.save(state, path)",
)
ENTRIES = Rule(
    "state-several",
    "the state of one model",
    "save the entry that is meant alone: torch.save(torch.load(PATH)[{key!r}], NEW)",
)
STATE_TYPE = Rule(
    "state-type",
    "floats, {allowed}",
    "save the weights themselves: integers lack the scale that they were made with",
)
STATE_SHAPE = Rule("state-shape", "{allowed}", SAME_MODEL)
STATE_BATCH = Rule(
    "state-shape",
    "{allowed}",
    "it seems to be the state of neurons, one row per sample, which is no part of a trained model: let --arch register it with"
    " persistent=False, and take it out of the file: state = torch.load(PATH); del state[{name!r}]; torch.save(state, PATH)",
)
INPUT_SHAPE = Rule("input-shape", "--input-shape, such as 1,28,28", "give it")


def load(path: str | Path, arch: str | None = None, input_shape: Sequence[int] | None = None) -> Any:
    """The network in a ``.pt`` file, read with ``weights_only=True`` always.

    Args:
        path: the file.
        arch: ``file.py:function``, a function that returns the torch model of the state (the file is executed);
            None for a file of lbi-train.
        input_shape: shape of one sample at one step; None for that of the first linear layer.

    Returns:
        A Network; for SLAYER models a FixedNetwork.

    Raises:
        InputError: naming what is wrong with the file, the state or the model.
        UsageError: for a bad ``arch``.
    """
    if arch is None:
        return model_pt.load_model(path)
    from lbi.importers.torch.model import from_torch

    state = _state(untrusted_torch.load_plain(path), str(path))
    with redirect_stdout(sys.stderr):  # what the model's file prints; standard output is the command's own
        model = _build(arch)
        notes = _fill(model, state, str(path))
        evaluate(model)
        return _noted(from_torch(model, input_shape or _input_shape(model, arch)), notes)


def _noted(network: Network | FixedNetwork, notes: list[str]) -> Network | FixedNetwork:
    """The network with further notes in its provenance."""
    if not notes:
        return network
    if isinstance(network, FixedNetwork):
        held = network.provenance
        return replace(network, provenance={**held, "notes": [*held.get("notes", []), *notes]})
    held = network.meta
    return replace(network, meta={**held, "notes": [*held.get("notes", []), *notes]})


def _state(content: Any, where: str) -> dict[str, Tensor]:
    """The tensors by name, from the file itself or from the checkpoint's entry."""
    if isinstance(content, dict):
        held = [key for key, value in content.items() if _is_state(key, value)]
        if len(held) > 1:
            found = f"holds several, under {' and '.join(map(repr, held))}"
            raise InputError(ENTRIES.broken(where, found, key=held[-1]))
        named = [key for key in STATE_KEYS if isinstance(content.get(key), Mapping)]
        content = content[(held or named)[0]] if held or named else content
    if not isinstance(content, Mapping):
        raise InputError(NOT_A_STATE.broken(where, f"holds a {type(content).__name__}"))
    state = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not state:
        inner = [key for key, value in content.items() if isinstance(value, Mapping) and value]
        if _is_optimizer(content) or (inner and all(_is_optimizer(content[key]) for key in inner)):
            raise InputError(NOT_A_STATE.broken(where, "holds the state of an optimizer, and no model's"))
        inner = [key for key in inner if not _is_optimizer(content[key])]
        found = "is empty" if not content else "holds no tensors by name"
        if inner:
            found = f"holds them elsewhere, perhaps under {inner[0]!r}"
        fix = (
            f"save that entry alone: torch.save(checkpoint[{inner[0]!r}], path)" if inner else NOT_A_STATE.fix
        )
        raise InputError(NO_TENSORS.broken(where, found, fix=fix))
    return {
        name: value if value.layout is torch.strided else value.to_dense() for name, value in state.items()
    }


def _is_optimizer(content: Mapping[Any, Any]) -> bool:
    """Whether it is what an optimizer's ``state_dict`` returns."""
    return {"state", "param_groups"} <= content.keys()


def _is_state(key: Any, value: Any) -> bool:
    """Whether an entry of a checkpoint is a model's state: named as one, or as a variant of one (``model_ema``)."""
    name = str(key)
    known = any(
        name == wanted or name.startswith(f"{wanted}_") or name.endswith(f"_{wanted}")
        for wanted in STATE_KEYS
    )
    return known and isinstance(value, Mapping) and any(isinstance(part, Tensor) for part in value.values())


def _build(arch: str) -> nn.Module:
    file, _, function = arch.rpartition(":")
    path = Path(file)
    if not (file and function.isidentifier()):
        raise UsageError(ARCH.broken("--arch", repr(arch)))
    if why := not_a_file(path):
        raise UsageError(ARCH.broken("--arch", f"{file!r} {why}"))
    spec = importlib.util.spec_from_file_location(f"lbi_arch_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UsageError(ARCH.broken("--arch", f"{file!r} is no Python file"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    model: Any = None
    with _importable(path.resolve().parent):
        with _failures(file, "a file that can be imported", ONLY_THE_MODEL):
            spec.loader.exec_module(module)
        make = getattr(module, function, None)
        if make is not None:
            _check_call(arch, make)
            with _failures(arch, "a function that returns the model", f"correct {function} in {file}"):
                model = unwrapped(make())
    if make is None:
        own = (name for name, value in vars(module).items() if getattr(value, "__module__", "") == spec.name)
        raise UsageError(
            ARCH_FUNCTION.broken(arch, f"{file} has no {function!r}", allowed=", ".join(own) or "a function")
        )
    if not isinstance(model, nn.Module):
        raise UsageError(ARCH_MODEL.broken(arch, f"returns a {type(model).__name__}"))
    return model


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """As for a script, what lies beside the file can be imported."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        if str(folder) in sys.path:
            sys.path.remove(str(folder))


@contextmanager
def _failures(where: str, allowed: str, fix: str) -> Iterator[None]:
    """Errors of a user's code as errors of its place."""
    try:
        yield
    except (Exception, SystemExit) as error:
        found = f"fails with {type(error).__name__}: {error}"
        raise UsageError(ARCH_FAILS.broken(where, found, allowed=allowed, fix=fix)) from error


def _check_call(arch: str, make: Any) -> None:
    """Whether the object behind ``arch`` can be called without arguments."""
    name = arch.rpartition(":")[2]
    if isinstance(make, nn.Module) or not callable(make):
        fix = f"write it: def build(): return {name}" if isinstance(make, nn.Module) else "write one"
        raise UsageError(ARCH_CALL.broken(arch, f"is a {type(make).__name__}", fix=fix))
    try:
        needed = [p.name for p in inspect.signature(make).parameters.values() if _is_needed(p)]
    except (TypeError, ValueError):  # of a callable without a signature
        return
    if needed:
        fix = f"add one that gives them: def build(): return {name}({', '.join(f'{n}=…' for n in needed)})"
        raise UsageError(ARCH_CALL.broken(arch, f"needs {', '.join(map(repr, needed))}", fix=fix))


def _is_needed(parameter: inspect.Parameter) -> bool:
    variable = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    return parameter.default is parameter.empty and not variable


def _fill(model: nn.Module, state: dict[str, Tensor], where: str) -> list[str]:
    """Load the state directly, or with pruning and weight norm folded into plain weights; notes on what was assumed."""
    wanted = set(model.state_dict())
    state, others = _named_alike(state, wanted, where)
    given = state
    if set(state) != wanted:
        folded = model_pt.fold(state)
        state = folded if set(folded) == wanted else state
    state = _up_to_date(model, state)
    problems = Problems()
    missing, extra = sorted(wanted - set(state)), sorted(set(state) - wanted)
    STATE_MISSING.check(problems, not missing, where, f"lacks {_some(missing)}")
    rule = STATE_PREPARED if any(map(prepares, extra)) else STATE_UNKNOWN
    rule.check(problems, not extra, where, f"has {_some(extra)}", parts=PREPARING)
    buffers = dict(model.named_buffers())
    for name, value in model.state_dict().items():
        lazy = is_lazy(value)
        UNINITIALIZED.check(
            problems, not lazy, f"the model of --arch, {name}", "has no shape yet, in a lazy module"
        )
        if name in state and not lazy:
            shape, allowed = tuple(state[name].shape), tuple(value.shape)
            rows = name in buffers and len(shape) == len(allowed) > 1 and shape[1:] == allowed[1:]
            rule = STATE_BATCH if rows else STATE_SHAPE
            rule.check(problems, shape == allowed, f"{where}, {name}", shape, allowed=allowed, name=name)
            fits = value.is_floating_point() <= (state[name].is_floating_point() or state[name].is_complex())
            found = f"{state[name].dtype}"
            STATE_TYPE.check(problems, fits, f"{where}, {name}", found, allowed=f"as {value.dtype}")
    problems.raise_as(InputError)
    model.load_state_dict(state)
    pairs = [name for name in given if name.endswith(".original1") and name not in state]
    names = [
        name.removesuffix(".original1").replace("parametrizations.", "", 1)
        for name in pairs
        if ".parametrizations." in f".{name}"
    ]
    notes = [OTHERS.format(names=_some(others))] if others else []
    return [*notes, WEIGHT_NORM.format(names=_some(names))] if names else notes


def _named_alike(
    state: dict[str, Tensor], wanted: set[str], where: str
) -> tuple[dict[str, Tensor], list[str]]:
    """The state with the names of the model, and names beside those of the model, which are left out.

    Wrappers of parts (``torch.compile``, ``DataParallel``) have a place within names, in the state or in the model.
    """
    plain, own = ({_unwrapped_name(name): name for name in names} for names in (state, wanted))
    if set(state) == wanted or len(plain) < len(state) or len(own) < len(wanted):
        return _without_wrappers(state, wanted, where)
    renamed = {short: state[name] for short, name in plain.items()}
    found, others = _without_wrappers(renamed, set(own), where)
    return {own.get(name, plain.get(name, name)): value for name, value in found.items()}, others


def _unwrapped_name(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in ("_orig_mod", "module"))


def _without_wrappers(
    state: dict[str, Tensor], wanted: set[str], where: str
) -> tuple[dict[str, Tensor], list[str]]:
    """The state without what wrappers put before its names (``model.``) and EMA's own count, and names that others have beside it.

    Raises InputError if several models of these names are in the file.
    """
    if "n_averaged" in state and "n_averaged" not in wanted:
        state = {name: value for name, value in state.items() if name != "n_averaged"}
    own = state
    while state and not wanted & {*state, *model_pt.fold(state)}:
        first = {name[: name.find(".") + 1] for name in state}
        if len(first) > 1 or "" in first:
            break
        state = {name.partition(".")[2]: value for name, value in state.items()}
    needed = sorted(name for name in wanted if not name.endswith((*NEW_BUFFERS, COUNT)))
    if not needed or wanted & {*state, *model_pt.fold(state)}:
        return state, []
    ends = [name.removesuffix(needed[0]) for name in state if name.endswith(f".{needed[0]}")]
    prefixes = [prefix for prefix in ends if all(prefix + name in state for name in needed)]
    if len(prefixes) > 1:
        found = f"holds several, under {' and '.join(map(repr, prefixes))}"
        raise InputError(STATES.broken(where, found, prefix=prefixes[0]))
    if not prefixes:
        return own, []
    (prefix,) = prefixes
    inside = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    return inside, sorted(name for name in state if not name.startswith(prefix))


def _up_to_date(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """An older state with the buffers of today's BatchNorm and snnTorch neurons."""
    own = model.state_dict()
    found = {name: value for name, value in own.items() if name.endswith(f".{COUNT}")} | state
    for path, module in model.named_modules():
        if type(module).__module__.split(".")[0] != "snntorch":
            continue
        prefix = f"{path}." if path else ""
        for name in OLD_STATES:
            if prefix + name not in own:
                found.pop(prefix + name, None)
        for name in NEW_BUFFERS:
            if prefix + name in own:
                found.setdefault(prefix + name, own[prefix + name])
    return found


def _some(names: list[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _input_shape(model: nn.Module, arch: str) -> tuple[int, ...]:
    first = next((module for module in model.modules() if isinstance(module, (nn.Linear, _ConvNd))), None)
    if isinstance(first, nn.Linear):
        return (first.in_features,)
    raise UsageError(INPUT_SHAPE.broken(arch, "the shape of its input cannot be determined"))
