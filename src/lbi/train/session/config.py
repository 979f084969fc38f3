"""Configuration of a training run: one flat record of plain values, with defaults per data set.

The defaults were chosen on a validation split of the training set (docs/results.md says how).
A configuration file is TOML with these names as keys; flags of the command override it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Gt, Interval

from lbi import records
from lbi.errors import Problems, Rule, UsageError
from lbi.network.fixedpoint import LAVA_FORMATS
from lbi.network.graph import READOUTS
from lbi.records import OneOf, Place, Rules, Takes
from lbi.train.layers.model import ALWAYS_WRITTEN, COMMON, GRID, ModelConfig, PopulationConfig
from lbi.train.layers.surrogate import SURROGATES
from lbi.train.layers.wiring import Wiring
from lbi.train.neurons import NEURONS
from lbi.train.optim.choices import OPTIMIZERS
from lbi.train.optim.masks import DISTRIBUTIONS
from lbi.train.optim.regularizers import Regularizer
from lbi.train.session.budget_options import check_budget, under_budget
from lbi.train.session.device import DEVICES
from lbi.train.session.given import WRITTEN_IF_CHOSEN, of_today, parted, read_toml
from lbi.train.session.hidden import check as check_hidden
from lbi.train.session.hidden import wirings
from lbi.train.session.presets import FEW, PRESETS
from lbi.train.session.single_options import check_given, check_neuron

SCHEDULES = ("cosine", "settled", "constant")
PRECISIONS = ("float", "chip")

LONGEST_DELAY = LAVA_FORMATS["delay"].maximum

Count = Annotated[int, Ge(0)]
Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Share = Annotated[float, Interval(gt=0, le=1)]
ShareBelowOne = Annotated[float, Interval(ge=0, lt=1)]
Period = Annotated[int, Ge(1)]
CurrentDecay = Annotated[float, Interval(ge=1 / GRID, le=1), Takes("1/4096 up to 1")]
VoltageDecay = Annotated[float, Interval(ge=1 / GRID, lt=1), Takes("1/4096 up to below 1")]

OPTIONS = Place(
    rules=Rules(
        unknown=Rule("unknown-option", "{allowed}"),
        kind=Rule(
            "option-type", "{allowed}", "write lists as [0.1, 0.02], numbers and true or false without quotes"
        ),
        value=Rule("option", "{allowed}"),
    ),
    whole="options",
)
"""Rules for wrong options."""

CHIP_PRECISION = Rule(
    "option", "float: the chip's integers are trained by compiled kernels", "leave precision at float"
)

PER_LAYER = Rule("option", "uniform or erdos_renyi: these methods keep the number of weights of each layer")
LATER = Rule("option", "a share of the epochs below shrink ({shrink})")
FEEDBACK = Rule("option", "0 without recurrence", "add --recurrent")
SHORTEST = Rule("option", "0 to recurrent_delay ({last})", "set recurrent_delay, with --recurrent")
LARGEST_INTEGER = 2**53
"""Up to here integers and floats are the same numbers."""

PATH = Rule("option", "a name or path without null characters")
DECAYS = Rule("option", "one or more, one per part of a hidden population")
PARTS = Rule("option", "{n}, as many as current decays (one per part of a hidden population)")


@dataclass(frozen=True)
class TrainConfig:
    """All options of a training run; ``PRESETS`` holds the defaults per data set.

    Attributes:
        dataset: a name of ``lbi.datasets`` or a ``.npz`` file.
        data: folder with the data set's files.
        encoding: options of the data set, as in ``lbi.datasets.load``.
        hidden: the hidden populations: neurons (128), convolutions ("16c3", "16c5s2") and sums over squares ("p2"), see
            ``lbi.train.session.hidden``.
        recurrent: whether hidden populations that are no convolutions are recurrent.
        recurrent_delay: the longest of the fixed delays of recurrent synapses in timesteps, beyond the one step that all take; those
            of a population's neurons are ``recurrent_delay_from`` to it, over and over.
        recurrent_delay_from: the shortest of them.
        neuron: model of hidden populations, a row of ``lbi.network.neurons.MODELS`` that spikes.
        current_decay: fraction lost per timestep, a multiple of 1/4096; several values split each hidden population
            into parts.
        voltage_decay: the same for the voltage.
        output_current_decay: current decay of the output.
        output_voltage_decay: voltage decay of the output.
        threshold: in units of ``response_norm``.
        neuron_options: further parameters of that model, each also an option of its own name. atrlif has threshold_step
            (increase of the threshold by a spike, in thresholds), threshold_decay and refractory_decay (fractions of
            this increase and of the refractoriness lost per timestep); lif_refractory has refractory_period (timesteps).
        train_decays: whether decays are trained.
        bias: whether neurons have a bias.
        readout: how outputs become a class, see ``lbi.Readout``.
        surrogate: derivative of the spike, see ``lbi.train.layers.surrogate``.
        slope: its slope.
        precision: "float", or "chip" to compute in the chip's integers for the last epochs.
        chip_from: fraction of the epochs after which the chip's integers are used.
        optimizer: "adabreg", "linbreg" or "adam"; or Adam with masks: "prune" (gradual magnitude pruning), "set", "rigl", "deepr".
        density: fraction of weights to keep (not for adam); with a budget, the most to keep.
        budget: the most that the deployed network may use on ``chip``, NAME=VALUE each (``lbi.costing.budget``).
        chip: chip of the budget: its name or TOML file.
        lr: initial learning rate.
        schedule: "cosine" (to 0), "settled" (constant until the last fraction ``settle`` of the epochs, then a cosine to
            0) or "constant".
        average: weight of a step in the moving average of the parameters, which takes place in the last fraction
            ``settle`` of the epochs and makes up the trained network; 0 for none.
        teacher: ``model.pt`` of a trained network whose scores are learned too (distillation).
        teacher_share: its share of the loss.
        teacher_temperature: divisor of both networks' scores in its part of the loss.
        layer_densities: of prune, set, rigl and deepr: "uniform", "erdos_renyi", for prune "global"; "auto" is "global" for prune
            and "erdos_renyi" for the others.
        prune_from: fraction of the steps after which prune starts; at ``shrink`` it reaches ``density``.
        update_every: steps between two changes of the masks of prune, set and rigl.
        drop: fraction of weights that set and rigl exchange (for rigl, in the first change).
        rewiring_l1: of deepr, by how much weights shrink per step, in learning rates.
        temperature: of deepr, variance of a step's noise on the weights, in twice the learning rate.
        epochs: passes over the training set.
        batch_size: samples per optimizer step.
        gain: factor on the readout's scores in the cross-entropy.
        dropout: fraction of hidden neurons silenced.
        clip: largest norm of the gradient; 0 for no limit.
        delta: see ``AdaBreg`` and ``LinBreg``.
        momentum: see ``LinBreg``.
        weight_decay: see ``AdaBreg`` and ``LinBreg``.
        initial_density: fraction of weights with which a sparse run starts; from there it grows or falls to
            ``density``.
        shrink: fraction of the epochs in which a larger ``initial_density`` falls to ``density``, fast at first.
        settle: fraction of the epochs, at the end, in which the set of weights is fixed at ``density`` or a little
            below; with 0 the density is reached only approximately.
        dead_every: steps between gradients of weights that are 0, before the set of weights is fixed; with more than 1,
            steps between them are faster, and dead weights follow their gradient more slowly. Layers that are small
            or have many living weights get all gradients in every step.
        lamda: initial λ.
        regularizer: of the sparse optimizers, a name of ``lbi.train.Regularizer.choices()``: "L1", "GroupL1" (whole
            neurons, axons or blocks vanish) or "SparseGroupL1" (they and single weights).
        regularizer_options: its fields, such as {"over": "columns"}.
        device: "auto", "cpu" or "cuda"; not part of what a file says of a run.
        seed: seed of weights, order, augmentation and dropout.
        validation: fraction of the training set to hold out.
        patience: epochs without a better validation accuracy after which to stop; 0 for never.
        channel_jitter: standard deviation of a sample's shift over channels.
        time_shift: largest shift of a sample in timesteps.
        rate_low: lowest rate without penalty, in spikes per neuron and timestep.
        rate_high: highest rate without penalty.
        activity: weight of the squared distance to these rates.
        update_share: share of an energy budget, without the readout's updates, that updates of hidden neurons may take; 1 for any.
        price_updates: under an energy budget: how many times the cost of a neuron's update its weights pay for, by a λ that
            is higher the fewer they are; 0 for one λ.

    Raises:
        UsageError: naming every option that is out of range.
    """

    dataset: str = "digits"
    data: str | None = None
    encoding: Mapping[str, Any] = field(default_factory=dict)
    # network
    hidden: tuple[Any, ...] = (128,)
    recurrent: bool = False
    recurrent_delay: Annotated[int, Interval(ge=0, le=LONGEST_DELAY)] = 0
    recurrent_delay_from: Annotated[int, Interval(ge=0, le=LONGEST_DELAY)] = 0
    neuron: str = "cuba_lif"
    current_decay: tuple[CurrentDecay, ...] = (0.5,)
    voltage_decay: tuple[VoltageDecay, ...] = (0.25,)
    output_current_decay: CurrentDecay = 0.5
    output_voltage_decay: VoltageDecay = 0.1
    threshold: Positive = 1.0
    neuron_options: Mapping[str, float] = field(default_factory=dict)
    train_decays: bool = False
    bias: bool = False
    readout: Annotated[str, OneOf(READOUTS)] = "spike_count"
    surrogate: Annotated[str, OneOf(tuple(SURROGATES))] = "fast_sigmoid"
    slope: Positive = 5.0
    # optimization
    precision: Annotated[str, OneOf(PRECISIONS)] = "float"
    chip_from: Annotated[
        float, Interval(ge=0, le=1), Takes("0 to 1: the share of epochs after which integers take over")
    ] = 0.7
    optimizer: Annotated[str, OneOf(tuple(OPTIMIZERS))] = "adabreg"
    density: Share = 0.2
    budget: tuple[str, ...] = ()
    chip: str | None = None
    lr: Positive = 2e-2
    schedule: Annotated[str, OneOf(SCHEDULES)] = "cosine"
    average: ShareBelowOne = 0.0
    teacher: str | None = None
    teacher_share: Annotated[float, Interval(ge=0, le=1)] = 0.5
    teacher_temperature: Positive = 2.0
    layer_densities: Annotated[str, OneOf(("auto", *DISTRIBUTIONS))] = "auto"
    prune_from: ShareBelowOne = 0.1
    update_every: Period = 100
    drop: ShareBelowOne = 0.3
    rewiring_l1: NotNegative = 1e-4
    temperature: NotNegative = 0.0
    epochs: Count = 20
    batch_size: Annotated[int, Ge(1)] = 64
    gain: Positive = 0.5
    dropout: ShareBelowOne = 0.0
    clip: NotNegative = 1.0
    delta: Positive = 1.0
    momentum: ShareBelowOne = 0.9
    weight_decay: NotNegative = 0.0
    initial_density: Share = 0.1
    shrink: Annotated[
        Share,
        Takes("above 0, up to 1: the share of epochs in which a larger initial_density falls to density"),
    ] = 0.6
    settle: Annotated[
        ShareBelowOne, Takes("0 up to below 1: the share of epochs at the end with a fixed set of weights")
    ] = 0.2
    dead_every: Period = 1
    lamda: Positive = 0.1
    regularizer: str = "L1"
    regularizer_options: Mapping[str, Any] = field(default_factory=dict)
    seed: Count = 0
    device: Annotated[str, OneOf(DEVICES)] = "auto"
    # data
    validation: ShareBelowOne = 0.0
    patience: Count = 0
    channel_jitter: NotNegative = 0.0
    time_shift: Count = 0
    # activity: firing rates in spikes per neuron and step
    rate_low: NotNegative = 0.0
    rate_high: NotNegative = 1.0
    activity: NotNegative = 0.0
    update_share: Share = 1.0
    price_updates: NotNegative = 0.0

    def __post_init__(self) -> None:
        n_parts = 1
        for name in ("budget", "hidden", "current_decay", "voltage_decay"):
            if isinstance(getattr(self, name), list | tuple):
                object.__setattr__(self, name, tuple(getattr(self, name)))
                n_parts = max(n_parts, len(getattr(self, name)) if name.endswith("decay") else 1)
        for name in ("current_decay", "voltage_decay"):
            decays = getattr(self, name)
            if isinstance(decays, tuple) and len(decays) == 1:
                object.__setattr__(self, name, decays * n_parts)
        if isinstance(self.neuron_options, Mapping):
            object.__setattr__(self, "neuron_options", {**default_options(), **self.neuron_options})
        problems = Problems()
        check_hidden(self.hidden, problems)
        if records.check(self, OPTIONS, problems):
            for entry in fields(self):  # torch computes with integers of 64 bits
                if isinstance(entry.default, float) and getattr(self, entry.name) > LARGEST_INTEGER:
                    object.__setattr__(self, entry.name, float(getattr(self, entry.name)))
            self._check_neuron(problems)
            try:
                Regularizer.named(self.regularizer, self.lamda, self.regularizer_options)
            except UsageError as error:
                problems.take(error)
            check_budget(self, problems)
            for name in ("dataset", "data", "teacher", "chip"):
                PATH.check(problems, "\0" not in (getattr(self, name) or ""), name, repr(getattr(self, name)))
            n = len(self.current_decay)
            ranked = self.layer_densities != "global" or self.optimizer not in ("set", "rigl", "deepr")
            PER_LAYER.check(problems, ranked, "layer_densities", f"'global' with {self.optimizer}")
            reaches = self.recurrent or self.recurrent_delay == 0
            FEEDBACK.check(problems, reaches, "recurrent_delay", self.recurrent_delay)
            first, last = self.recurrent_delay_from, self.recurrent_delay
            SHORTEST.check(problems, first <= last, "recurrent_delay_from", first, last=last)
            later = self.prune_from < self.shrink or self.optimizer != "prune"
            LATER.check(problems, later, "prune_from", self.prune_from, shrink=self.shrink)
            DECAYS.check(problems, n >= 1, "current_decay", "no value")
            PARTS.check(problems, len(self.voltage_decay) == n, "voltage_decay", self.voltage_decay, n=n)
        problems.raise_as(UsageError)

    def _check_neuron(self, problems: Problems) -> None:
        if not check_neuron(self.neuron, problems):
            return
        table = records.Table(option_hints(), frozenset(), OPTIONS.rules)
        try:
            table.read(self.neuron_options)
        except records.RecordError as faults:
            OPTIONS.note(faults, problems)
        compiled = NEURONS[self.neuron].kernels is not None
        holds = self.precision == "float" or compiled
        CHIP_PRECISION.check(problems, holds, "precision", f"'chip' with {self.neuron!r}")

    def model(self, input_shape: tuple[int, ...], n_classes: int) -> ModelConfig:
        """The network for a data set with the given input and number of classes.

        Args:
            input_shape: shape of one sample at one step.
            n_classes: number of outputs.

        Returns:
            The configuration, of the hidden populations in order and the output.
        """

        def layer(
            name: str,
            n: int,
            neuron: str,
            current: tuple[float, ...],
            voltage: tuple[float, ...],
            wiring: Wiring,
        ) -> PopulationConfig:
            model = NEURONS[neuron]
            if "current_decay" not in model.parameters:
                current = (1.0,) * len(voltage)  # its current has no memory
            threshold = tuple(
                self.threshold * response_norm(*decays) for decays in zip(current, voltage, strict=True)
            )
            own: dict[str, tuple[float, ...]] = {
                "current_decay": current,
                "voltage_decay": voltage,
                "threshold": threshold,
            }
            for key, value in self.neuron_options.items():
                in_thresholds = key in model.levels
                own[key] = tuple(value * level if in_thresholds else value for level in threshold)
            options = {key: value for key, value in own.items() if key in model.parameters}
            shared = {key: options.pop(key, ()) for key in COMMON}
            recurrent = self.recurrent and name != "output" and not wiring.channels
            return PopulationConfig(
                name,
                n,
                recurrent=recurrent,
                recurrent_delay=self.recurrent_delay if recurrent else 0,
                recurrent_delay_from=self.recurrent_delay_from if recurrent else 0,
                bias=self.bias,
                train_decays=self.train_decays,
                neuron=neuron,
                wiring=wiring,
                options=options,
                **shared,
            )

        populations, pool = wirings(self.hidden, input_shape)
        hidden = [
            layer(
                "hidden" if len(populations) == 1 else f"hidden{i}",
                n,
                self.neuron,
                self.current_decay,
                self.voltage_decay,
                wiring,
            )
            for i, (n, wiring) in enumerate(populations, start=1)
        ]
        decays = (self.output_current_decay,), (self.output_voltage_decay,)
        output = layer("output", n_classes, self.output_neuron, *decays, Wiring(pool=pool))
        return ModelConfig(input_shape, (*hidden, output), self.readout, self.surrogate, self.slope)

    @property
    def output_neuron(self) -> str:
        """The output's neuron model: one that spikes if spikes are counted."""
        return "cuba_lif" if self.readout == "spike_count" else "integrator"

    def to_dict(self) -> dict[str, Any]:
        """Plain types only; options of the neuron model stand beside the others, under their own names."""
        plain = {
            key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()
        }
        del plain["device"]  # files are the same wherever a run takes place, and are continued anywhere
        plain["encoding"] = dict(self.encoding)
        plain["regularizer_options"] = dict(self.regularizer_options)
        for name in WRITTEN_IF_CHOSEN:
            if getattr(self, name) == getattr(TrainConfig(), name):
                del plain[name]
        flat: dict[str, Any] = {}
        for key, value in plain.items():
            flat |= self._own_options() if key == "neuron_options" else {key: value}
        return flat

    def _own_options(self) -> dict[str, float]:
        """The options of the hidden neurons' model, and those that files hold for every model."""
        own = ("threshold_step", *ALWAYS_WRITTEN, *NEURONS[self.neuron].parameters)
        return {name: self.neuron_options[name] for name in dict.fromkeys(own) if name in self.neuron_options}


def response_norm(current_decay: float, voltage_decay: float) -> float:
    """√Σ h², with h the voltage's response to one unit of input: its amplitude for input of norm 1.

    Thresholds in this unit allow the same weight initialization for all time constants.

    Args:
        current_decay: fraction lost per step.
        voltage_decay: fraction lost per step.

    Returns:
        The norm, above 0.
    """
    alpha, beta = 1 - current_decay, 1 - voltage_decay
    # The closed form of the sum for h[k] = Σ_i alpha^i·beta^(k−i).
    total = (1 + alpha * beta) / ((1 - alpha * beta) * (1 - alpha**2) * (1 - beta**2))
    return math.sqrt(total)


def make_config(
    dataset: str | None, file: Path | None, options: Mapping[str, Any], saved: Mapping[str, Any] | None = None
) -> TrainConfig:
    """Defaults of the data set and optimizer, then ``saved``, then the file's values, then ``options``.

    Args:
        dataset: name of the data set; None for the one named in the other values.
        file: a TOML file, or None.
        options: field → value.
        saved: field → value of an earlier run.

    Returns:
        The checked options.

    Raises:
        InputError: for a file that cannot be read.
        UsageError: for unknown or wrong values.
    """
    own = read_toml(file) if file else {}
    options, parts = parted(options)
    problems = Problems()
    own = of_today(own, str(file), problems)
    options = of_today(options, "options", problems)
    if saved:  # what a file leaves out is not a preset's
        saved = {**{name: getattr(TrainConfig, name, {}) for name in WRITTEN_IF_CHOSEN}, **saved}
    saved = of_today(saved or {}, "the earlier run", problems)
    asked = {**own, **options}
    given = {**saved, **asked}
    name = given.get("dataset", TrainConfig.dataset) if dataset is None else dataset
    known = {**records.Table.of(TrainConfig, OPTIONS.rules).hints, **option_hints()}
    table = records.Table(known, frozenset(), OPTIONS.rules)
    for values, place in ((own, replace(OPTIONS, where=str(file))), ({**saved, **options}, OPTIONS)):
        try:
            table.read(values)
        except records.RecordError as faults:
            place.note(faults, problems)
    if problems:
        check_given({**own, **options}, problems)
    problems.raise_as(UsageError)
    given = _gathered(given)
    presets = PRESETS.get(str(name), {})
    optimizer = str(given.get("optimizer", TrainConfig.optimizer))
    if optimizer in OPTIMIZERS and OPTIMIZERS[optimizer].masks is not None:
        optimizer = "adam"  # masks over the weights that Adam moves
    chosen = {**presets.get("", {}), **presets.get(optimizer, {})}
    own_options = chosen.get("neuron_options", {})
    chosen |= {**given, "dataset": str(name)}
    if alone := bool(chosen.get("budget")) and "density" not in given:
        chosen["density"] = 1.0  # the budget alone decides, and leaves few weights
    if alone or chosen.get("density", TrainConfig.density) <= FEW:
        chosen = {**chosen, **presets.get(f"{optimizer}, few", {}), **given}
    recurrent = chosen.get("recurrent") or "recurrent_delay" in asked
    if not recurrent:
        chosen["recurrent_delay"] = 0
    if "recurrent_delay" in asked or not chosen.get("recurrent_delay"):  # a preset's goes with its longest
        chosen["recurrent_delay_from"] = (given if recurrent else asked).get("recurrent_delay_from", 0)
    chosen["neuron_options"] = {**own_options, **given.get("neuron_options", {})}
    chosen |= under_budget(asked)
    for whole, part in parts.items():
        chosen[whole] = {**chosen.get(whole, {}), **part}
    return TrainConfig(**chosen)


def default_options() -> dict[str, float]:
    """The options of all neuron models with their defaults.

    Returns:
        Option → default.
    """
    return {name: value for model in NEURONS.values() for name, value in model.record.options.items()}


def option_hints() -> dict[str, Any]:
    """What each option of a neuron model takes.

    Returns:
        Option → annotation.
    """
    hints: dict[str, Any] = {}
    for model in NEURONS.values():
        for name in model.record.options:
            is_period = name in model.record.periods
            hints[name] = Period if is_period else NotNegative if name in model.levels else ShareBelowOne
    return hints


def _gathered(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options with those of the neuron model gathered under ``neuron_options``."""
    names = default_options()
    rest = {name: value for name, value in given.items() if name not in names}
    own = {name: value for name, value in given.items() if name in names}
    return {**rest, "neuron_options": {**rest.get("neuron_options", {}), **own}}
