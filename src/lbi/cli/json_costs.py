"""Types of the costs in the JSON object of ``lbi-estimate`` (``lbi.cli.json_records``)."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Interval
from typing_extensions import TypedDict

Number = float
Count = Annotated[int, Ge(0)]
Amount = Annotated[float, Ge(0)]
Share = Annotated[float, Interval(ge=0, le=1)]


class Range(TypedDict):
    """A lower and an upper figure."""

    low: Amount
    """Lower end"""
    high: Amount
    """Upper end"""


class Hops(TypedDict):
    """Messages passed on by the mesh, per timestep."""

    ew: Amount
    """East-west (count)"""
    ns: Amount
    """North-south (count)"""


class CoreUse(TypedDict):
    """The use of one resource of the cores."""

    max: Count
    """Of the fullest core"""
    mean: Amount
    """Mean over cores"""
    total: Count
    """Of all cores"""
    limit: Count | None
    """Of a core; null if none is known"""


class CoreLoad(TypedDict):
    """One load of the cores over the run: the greatest sets the time, not the total."""

    busiest: Count
    """Number of the core with the most"""
    max: Amount
    """Of that core per timestep (count)"""
    mean: Amount
    """Mean over cores per timestep (count)"""
    total: Amount
    """Of all cores per timestep (count)"""
    peak: Count
    """The most of one core in one timestep (count)"""


class TimeBound(TypedDict):
    """What sets the upper bound of the time."""

    core: Count | None
    """The core that is busiest in most timesteps; null if no core works"""
    share_of_steps: Share
    """Timesteps in which it is, of those in which a core works (share, 0 to 1)"""
    resource: str
    """What takes most of the time: a key of ns"""
    core_resource: str | None
    """What takes most of the busiest core's own time; null if no core works"""
    ns: dict[str, Amount]
    """Resource → mean time per timestep on the busiest core (ns); their sum is the upper bound"""


class Saving(TypedDict):
    """A share of the dynamic energy with one cause. Savings overlap."""

    kind: str
    """rare-neurons, busy-sources or stored-zeros"""
    n: Count
    """Neurons, sources or weights that cause it (count)"""
    of: Count
    """Of how many (count)"""
    share: Range
    """Of the dynamic energy, over the cost sets (share, 0 to 1)"""
    text: str
    """The same as a sentence"""


class CheckPoint(TypedDict):
    """A published measurement beside what the chip's constants give for the same counts."""

    name: str
    """Name in the chip's file"""
    label: str
    """The workload"""
    costs: str
    """Cost set that prices the counts"""
    boundary: str
    """What is inside the measurement; may be empty"""
    source: str
    """Key of sources, and the place"""
    confidence: str
    """published, derived, third-party, inferred or assumption"""
    ours_pj: Range
    """From the counts (pJ)"""
    measured_pj: Amount
    """As published (pJ)"""
    inside: bool
    """Whether the measurement lies in our range"""
    verdict: str
    """inside, or by how much it is missed"""


class Costs(TypedDict):
    """The cost of one configuration per timestep."""

    synops_per_step: Amount
    """Synaptic operations per timestep (count): of all synapses (dense), of the nonzero ones (sparse)"""
    neuron_updates_per_step: Amount
    """Neuron updates per timestep (count)"""
    spikes_per_step: Amount
    """Spikes of all populations per timestep (count)"""
    synaptic_memory_bits: Count
    """Synaptic memory of the whole network (bits)"""
    unrolled_memory_bits: Count
    """The same without sharing between the synapses of a convolution on the same cores (bits)"""
    n_cores: Count | None
    """Neuron cores (count); null if it does not fit"""
    energy_pj_per_step: Range | None
    """Dynamic energy per timestep (pJ); null where no cost set of the chip gives energies"""
    time_ns_per_step: Range | None
    """Time per timestep (ns); null where no cost set gives times"""
    synops_fetched_per_step: Amount
    """Synapses read from memory per timestep, explicit zeros included (count)"""
    synops_effective_per_step: Amount
    """Synaptic operations with a nonzero weight per timestep (count)"""
    active_updates_per_step: Amount
    """Updates of neurons with input or state per timestep (count)"""
    inactive_updates_per_step: Amount
    """Updates of neurons with neither per timestep (count)"""
    input_spikes_per_step: Amount
    """Spikes of the input per timestep (count)"""
    messages_per_step: Amount | None
    """Spike messages that arrive at cores per timestep (count); null if it does not fit"""
    messages_exact: bool
    """Whether messages were counted spike by spike, not from mean rates"""
    hops_per_step: Hops | None
    """Steps of messages in the mesh per timestep (count); null if it does not fit"""
    messages_off_chip_per_step: Amount | None
    """Messages that leave their chip per timestep (count); null if it does not fit"""
    energy_with_messages: bool
    """Whether energies include messages and hops; without them, where it does not fit, they are lower bounds"""
    n_chips: Count | None
    """Chips (count); null if it does not fit"""
    per_core: dict[str, CoreUse] | None
    """Resource → its use by the cores (bits or counts, as named); null if it does not fit"""
    energy_by_cost_set: dict[str, Range]
    """Cost set → dynamic energy per timestep (pJ)"""
    energy_parts_pj: dict[str, dict[str, Amount]]
    """Cost set → part of the dynamic energy → its middle value per timestep (pJ)"""
    scenario_parts_pj: dict[str, dict[str, Amount]]
    """Scenario → part of the dynamic energy → its middle value per timestep (pJ)"""
    time_by_cost_set: dict[str, Range]
    """Cost set → time per timestep (ns)"""
    slowest_step_ns: dict[str, Range]
    """Cost set → time of the slowest timestep (ns)"""
    static_pj_per_step: dict[str, Range]
    """Source → static energy per timestep, kept apart from the dynamic one (pJ)"""
    scenarios_pj_per_step: dict[str, Range]
    """Scenario (not a statement on the chip) → dynamic energy per timestep (pJ)"""
    core_loads: dict[str, CoreLoad]
    """synops, updates and messages → their use of the cores; empty if not counted per core"""
    time_bounds: dict[str, TimeBound]
    """Cost set → what sets the time; empty if not counted per core"""
    savings: list[Saving]
    """What could be saved next, the greatest first; empty without spikes per neuron or energies"""
