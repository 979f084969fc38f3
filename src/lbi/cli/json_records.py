"""The JSON objects that the commands print with ``--json``, as types.

``docs/schema/*.json`` is made from this module (``make schemas``), and tests hold the commands' output to it. The text
under each key is its description in the schema. The commands do not load this module.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Ge, Len
from typing_extensions import NotRequired, TypedDict

from lbi.cli.json_costs import Amount, CheckPoint, Costs, Count, Number, Range, Share
from lbi.cli.json_train import BudgetUse, TrainRecord


class Extremes(TypedDict):
    """The least and the greatest value of an array."""

    min: int
    """Least value"""
    max: int
    """Greatest value"""


class Removed(TypedDict):
    """Neurons that an export left out, since they cannot change the output, by reason."""

    silent: Count
    """No input can make them spike (count)"""
    unreachable: Count
    """No way of synapses leads from them to the output (count)"""
    constant: Count
    """They spike in every timestep, and what they send is in their targets' biases (count)"""


class ExportedPopulation(TypedDict, extra_items=int | bool | Extremes):  # type: ignore[call-arg]
    """One population, with the integer parameters of its neuron model beside these keys."""

    name: str
    """Name"""
    shape: Annotated[list[Count], Len(1)]
    """Neurons, by axis (counts)"""
    model: str
    """Neuron model, such as cuba_lif"""
    latency: Count
    """Chip step at which the population's own step 0 takes place (timesteps)"""
    scale: Amount
    """Chip units per float unit of voltage and weight"""
    n_trained: Count
    """Neurons as trained, before any were left out (count)"""
    removed: Removed
    """Neurons that this export left out, by reason (counts)"""


class MemoryBits(TypedDict):
    """Synaptic memory of a projection in each format."""

    dense: Count
    """Stored dense (bits)"""
    indexed: Count
    """Stored with indices (bits)"""
    shared: Count | None
    """A convolution with its rows or kernels stored once per core (bits); null for others, and where the chip has no rule"""


class ExportedProjection(TypedDict):
    """One projection as the chip stores it."""

    name: str
    """Name"""
    source: str
    """Population, or input, that spikes come from"""
    target: str
    """Population that they go to"""
    shape: Annotated[list[Count], Len(2, 2)]
    """Neurons of target and of source (counts)"""
    nnz: Count
    """Synapses: pairs of neurons with a nonzero weight (count)"""
    n_dense: Count
    """Synapses of the dense layer: all pairs, or a convolution's kernel at every place (count)"""
    n_active: Count
    """Nonzero weights: of kernels their entries, otherwise synapses (count)"""
    n_weights: Count
    """Weights of the dense layer: of kernels their entries, otherwise synapses (count)"""
    density: Share
    """n_active / n_weights (share, 0 to 1)"""
    format: Literal["dense", "indexed", "shared"]
    """How the chip stores the weights"""
    bits: Count
    """Width of a weight (bits)"""
    weight_exp: Annotated[int, Ge(-32)]
    """Exponent: the sum of mantissas is shifted left by it (bits; negative: right)"""
    sign_mode: Literal["mixed", "excitatory", "inhibitory"]
    """Signs that the mantissas may have"""
    max_delay: Count
    """Longest delay (timesteps)"""
    n_rounded_to_zero: Count
    """Weights that quantization made zero (count)"""
    memory_bits: MemoryBits
    """Synaptic memory in either format (bits)"""


class QuantizedParameter(TypedDict):
    """The effect of quantization on one parameter."""

    where: str
    """Population or projection"""
    parameter: str
    """Parameter, by its float name"""
    float: Number | str
    """Value before, in float units; of arrays what they hold"""
    integer: int | str
    """Value after, in chip units; of arrays what they hold"""
    error: Number | None
    """What the integer stands for minus the float, in float units; of arrays the root mean square"""
    n_rounded_to_zero: NotRequired[Count]
    """Weights that quantization made zero (count); of weights only"""


class NirSource(TypedDict):
    """How a .nir MODEL was read."""

    dt: Amount
    """Time step (s)"""
    dt_from: str
    """What decided it, in words"""
    writer: str
    """Framework that wrote the file, or nir"""


class ExportRecord(TypedDict):
    """What ``lbi-export --json`` prints."""

    target: str
    """Target exported to, as in --target"""
    chip: str
    """Chip exported for: loihi1, loihi2 or the name in a .toml"""
    path: str
    """File or folder written, or that would be written with --check"""
    files: list[str]
    """Files written, relative to path; empty with --check"""
    fits: bool
    """Whether the target and the chip can hold the network"""
    violations: list[str]
    """Why not: one line per problem; empty if it fits"""
    notes: list[str]
    """What MODEL leaves open, and what the export lacks or cannot do, such as a backend that cannot run it: one line each"""
    populations: list[ExportedPopulation]
    """Populations; empty if the network has no integers for this chip"""
    projections: list[ExportedProjection]
    """Projections; empty if the network has no integers for this chip"""
    n_cores: Count | None
    """Neuron cores used (count); null if the network does not fit"""
    account: NotRequired[list[QuantizedParameter]]
    """What quantization did to each parameter; only if MODEL was in floats"""
    nir: NotRequired[NirSource]
    """How MODEL was read; only if it is a .nir file"""


class Divergence(TypedDict):
    """The first output in which two backends differ."""

    sample: Count
    """Sample (from 0)"""
    step: Count
    """Timestep within the sample (from 0)"""
    population: str
    """Readout population"""
    neuron: Count
    """Neuron within the population (from 0)"""
    n_different: Annotated[int, Ge(1)]
    """Outputs that differ, in all samples (count)"""


class RunRecord(TypedDict):
    """What ``lbi-run --json`` prints."""

    backend: Literal["lava", "netx", "sim"]
    """What ran the network"""
    n_samples: Annotated[int, Ge(1)]
    """Samples run (count)"""
    n_steps: Count
    """Timesteps per sample (count)"""
    accuracy: Share | None
    """Correct classifications; null without labels (share, 0 to 1)"""
    n_output_spikes: Count
    """Spikes of the readout population, all samples (count); 0 where a membrane is read out"""
    seconds: Amount
    """Wall time of the backend, its start included (s)"""
    verified: bool | None
    """Whether both backends gave the same output, bit for bit; null without --verify"""
    verified_with: str | None
    """The other backend; null without --verify"""
    first_divergence: Divergence | None
    """The first output that differs; null if none does, or without --verify"""
    notes: list[str]
    """What the file leaves open, such as how voltages become a class: one line each"""


class Ratios(TypedDict):
    """One configuration over another, figure by figure; null where undefined."""

    synops_per_step: Amount | None
    """Synaptic operations per timestep (ratio); null where undefined"""
    neuron_updates_per_step: Amount | None
    """Neuron updates per timestep (ratio); null where undefined"""
    spikes_per_step: Amount | None
    """Spikes of all populations per timestep (ratio); null where undefined"""
    synaptic_memory_bits: Amount | None
    """Synaptic memory of the whole network (ratio); null where undefined"""
    n_cores: Amount | None
    """Neuron cores (ratio); null where undefined"""
    energy_pj_per_step: Range | None
    """Dynamic energy per timestep: least and greatest ratio within a cost set (ratio); null where undefined"""
    time_ns_per_step: Range | None
    """Time per timestep: least and greatest ratio of lower or upper bounds within a cost set (ratio); null where undefined"""


class ProjectionCosts(TypedDict):
    """One projection: its size and what it did."""

    name: str
    """Name"""
    shape: Annotated[list[Count], Len(2, 2)]
    """Neurons of target and of source (counts)"""
    nnz: Count
    """Nonzero weights (count)"""
    n_dense: Count
    """Weights of the dense layer: all, or a convolution's kernel at every place (count)"""
    density: Share
    """nnz / n_dense (share, 0 to 1)"""
    format: Literal["dense", "indexed", "shared"]
    """How the chip stores it"""
    bits: Count
    """Synaptic memory as stored (bits)"""
    dense_bits: Count
    """Memory of the dense layer (bits)"""
    indexed_bits: Count
    """Stored with indices (bits)"""
    shared_bits: Count | None
    """A convolution with its rows or kernels stored once per core (bits); null for others, and where the chip has no rule"""
    unrolled_bits: Count
    """bits, or for a shared convolution those of the smaller other format (bits)"""
    host_csr_bytes: Count
    """Stored as CSR arrays on the host (bytes)"""
    host_dense_bytes: Count
    """The dense layer's weights as an array on the host (bytes)"""
    events_per_step: Amount
    """Spikes that reach it per timestep (count)"""
    synops_dense_per_step: Amount
    """Synaptic operations per timestep if every weight of n_dense were stored (count)"""
    synops_fetched_per_step: Amount
    """Synapses read from memory per timestep, as the chip stores them (count); their sum over projections is sparse's"""
    synops_effective_per_step: Amount
    """Synaptic operations per timestep with a nonzero weight (count)"""


class NeuroBench(TypedDict):
    """NeuroBench's metrics under its names."""

    Effective_MACs: Amount
    """Multiply-accumulates per sample (count)"""
    Effective_ACs: Amount
    """Accumulates with a nonzero weight per sample (count)"""
    Dense: Amount
    """Synapses times timesteps per sample (count)"""
    ConnectionSparsity: Share
    """Zero weights (share, 0 to 1)"""
    ActivationSparsity: Share
    """Neurons that do not spike in a timestep (share, 0 to 1)"""


class MemoryUse(TypedDict):
    """Synaptic memory in one layout of the chip."""

    label: str
    """Name for people"""
    dense_bits: Count
    """All projections stored dense (bits)"""
    sparse_bits: Count
    """Each projection in its cheapest format (bits)"""
    unrolled_bits: Count
    """The same without sharing between the synapses of a convolution (bits)"""
    capacity_bits_per_core: Count
    """Synaptic memory of a core (bits)"""


class ScenarioLabel(TypedDict):
    """A hypothetical energy model."""

    label: str
    """Name for people"""
    note: str
    """What is assumed"""


class CostSetLabel(TypedDict):
    """A set of costs per event."""

    label: str
    """Name for people"""
    basis: str
    """Where the figures come from"""
    energy: bool
    """Whether it gives energies"""


class Constant(TypedDict):
    """One number of the chip's description."""

    name: str
    """Place in the chip's .toml"""
    value: float | list[float | str] | None
    """Value, in the unit given: a number, [low, high] for a range, a list of names, or null where nothing is known"""
    unit: str
    """Unit"""
    source: str
    """Keys of sources"""
    confidence: str
    """published, derived, third-party, inferred, assumption or not published"""
    note: str
    """Remark; may be empty"""


class Comparison(TypedDict):
    """One export over another."""

    of: str
    """Name of the first export"""
    to: str
    """Name of another one"""
    ratio: Ratios
    """First over other, each as stored"""


class EstimateRecord(TypedDict):
    """What ``lbi-estimate --json`` prints: the first export's estimate, and with several all of them."""

    name: str
    """Short name of the export: its stem"""
    chip: str
    """Chip estimated for"""
    n_samples: Count
    """Samples run (count); 0 without input"""
    n_steps: Count
    """Timesteps per sample (count); 0 without input"""
    basis: str
    """Basis of the figures, in words: measured on which input, or the worst case"""
    dense: Costs
    """The network with every weight of its layers stored"""
    sparse: Costs
    """The network as it is"""
    ratio: Ratios
    """dense over sparse"""
    measured: bool
    """Whether an input was run"""
    density: Share
    """Nonzero weights / weights of the dense network, all projections (share, 0 to 1)"""
    projections: list[ProjectionCosts]
    """Every projection"""
    neurobench: NeuroBench | None
    """NeuroBench's metrics under its names; null without input"""
    memory_layouts: dict[str, MemoryUse]
    """Memory layout → memory of the network in it; the first is the one used"""
    neuron_state_bits: Count
    """Memory of the neurons' states (bits)"""
    scenario_labels: dict[str, ScenarioLabel]
    """Scenario → what it is"""
    cost_sets: dict[str, CostSetLabel]
    """Cost set → what it is"""
    dense_problems: list[str]
    """Why the dense network does not fit, one line each; empty if it does"""
    budget: dict[str, BudgetUse] | None
    """Resource → limit and use that training certified, as the file records it; null if there is none"""
    limits: dict[str, BudgetUse] | None
    """Resource → limit of --budget and use on the samples that were run, or without any in the worst case; null without --budget"""
    checkpoints: list[CheckPoint]
    """Published measurements of the chip beside its constants"""
    constants: list[Constant]
    """Every number of the chip's description, and of the costs that it takes from another chip"""
    sources: dict[str, str]
    """Key → publication; keys of another chip carry its name (loihi1:D18)"""
    notes: list[str]
    """What to know when reading the figures"""
    exports: NotRequired[list[EstimateRecord]]
    """All exports, the first included; only with several"""
    comparison: NotRequired[list[Comparison]]
    """The first export against each other one; only with several"""


class SweepTrial(TypedDict):
    """One trial of a sweep; figures are null where there are none."""

    trial: str
    """Name of its folder in DIR/trials"""
    status: Literal["done", "failed", "waiting"]
    """Whether it is finished"""
    optimizer: str
    """Optimizer"""
    seed: Count
    """Seed"""
    accuracy_test: Share | None
    """On the test set, of the trained network (share, 0 to 1)"""
    accuracy_validation: Share | None
    """On the samples held out (share, 0 to 1)"""
    accuracy_train: Share | None
    """On the training set (share, 0 to 1)"""
    accuracy_integer: Share | None
    """On the test set, of the chip's integers (share, 0 to 1)"""
    density: Share | None
    """n_active / n_weights (share, 0 to 1)"""
    n_weights: Count | None
    """Weights the network could have (count)"""
    n_active: Count | None
    """Weights that are not zero (count)"""
    n_active_integer: Count | None
    """Weights that are not zero on the chip (count)"""
    firing_rate: Share | None
    """Neurons that spike per timestep, in the last epoch (share, 0 to 1)"""
    synops: Amount | None
    """Synaptic operations on nonzero weights (per inference)"""
    energy_nj_low: Amount | None
    """Dynamic energy, lowest cost set (nJ per inference)"""
    energy_nj_high: Amount | None
    """Dynamic energy, highest cost set (nJ per inference)"""
    energy_source: str | None
    """The cost sets of the energy, and how sure they are; null without energy, and in trials of earlier versions"""
    synaptic_memory_bits: Count | None
    """Synaptic memory on the chip (bits)"""
    n_cores: Count | None
    """Cores; null if the network does not fit the chip (count)"""
    epochs: Count | None
    """Epochs trained (count)"""
    seconds: Amount | None
    """Wall time since the trial was last started (s)"""
    budget: dict[str, BudgetUse] | None
    """Resource → its use beside its limit, as lbi-train prints it; null without --budget"""
    chip: str | None
    """Chip of integers and costs"""
    version: str | None
    """Version of lbi"""
    commit: str | None
    """Commit of the work tree it ran from, with + if changed"""
    error: str
    """Why it failed, or empty"""


class SweepRecord(TypedDict):
    """What ``lbi-sweep --json`` prints."""

    output: str
    """Folder of the sweep"""
    files: list[str]
    """Names of results in it"""
    n_trials: Count
    """Trials (count)"""
    n_reused: Count
    """Trials that were finished before (count)"""
    n_failed: Count
    """Trials that failed (count)"""
    trials: list[SweepTrial]
    """The trials"""


RECORDS: dict[str, Any] = {
    "train": TrainRecord,
    "export": ExportRecord,
    "run": RunRecord,
    "estimate": EstimateRecord,
    "sweep": SweepRecord,
}
"""Command → what it prints."""
