"""The events in which a chip's activity is counted and priced: one vocabulary for profiles, counts and costs.

Profiles price events by name under ``[costs.*.energy]`` (pJ) and ``[costs.*.time]`` (ns); docs/hardware.md
defines each event for people who write a profile.
"""

from __future__ import annotations

from dataclasses import dataclass

SYNAPSES, NEURONS, MESH, TIMESTEP = "synapses of a core", "neurons of a core", "mesh", "timestep"
"""Where an event is counted; events of the timestep are not counted: they occur once in each."""


@dataclass(frozen=True)
class Event:
    """One kind of event.

    Attributes:
        name: key in profiles and in counts.
        place: where it is counted.
        part: share of the energy it belongs to in reports; empty if it costs no energy of its own.
        timed: True if it costs time.
        message: True if its count is only bounded for a run that recorded no spikes per neuron.
        essential: True if a profile that prices events must give a value for it.
    """

    name: str
    place: str
    part: str = ""
    timed: bool = False
    message: bool = False
    essential: bool = False


EVENTS = (
    Event("synop_dense", SYNAPSES, "synapses", timed=True, essential=True),
    Event("synop_indexed", SYNAPSES, "synapses", timed=True, essential=True),
    Event("update_active", NEURONS, "neuron updates", timed=True, essential=True),
    Event("update_inactive", NEURONS, "neuron updates", timed=True, essential=True),
    Event("spike", NEURONS, "spikes and messages", timed=True),
    Event("message_out", NEURONS, "spikes and messages", timed=True, message=True),
    Event("message_in", SYNAPSES, "spikes and messages", timed=True, message=True),
    Event("message_within_tile", MESH, "spikes and messages", message=True),
    Event("hop_ew", MESH, "hops", message=True),
    Event("hop_ns", MESH, "hops", message=True),
    Event("message_off_chip", MESH, message=True),
    Event("message_from_input", MESH, message=True),
    Event("barrier_low", TIMESTEP, timed=True),
    Event("barrier_high", TIMESTEP, timed=True),
    Event("step_floor", TIMESTEP, timed=True),
)

ENERGY = tuple(event.name for event in EVENTS if event.part)
"""Events that cost energy, in pJ."""

TIME = tuple(event.name for event in EVENTS if event.timed)
"""Events that cost time, in ns; the barrier and the floor are per timestep."""

ESSENTIAL = tuple(event.name for event in EVENTS if event.essential)
"""Events that a profile must price."""

SYNAPSE_EVENTS = tuple(event.name for event in EVENTS if event.place == SYNAPSES)
NEURON_EVENTS = tuple(event.name for event in EVENTS if event.place == NEURONS)
CORE_EVENTS = SYNAPSE_EVENTS + NEURON_EVENTS
"""Events counted per core."""

TRAFFIC_EVENTS = tuple(event.name for event in EVENTS if event.place == MESH)
"""Events counted between cores."""

MESSAGES = tuple(event.name for event in EVENTS if event.message)
"""Events that are only bounded for a run that recorded no spikes per neuron."""

PARTS = {
    part: tuple(event.name for event in EVENTS if event.part == part)
    for part in dict.fromkeys(event.part for event in EVENTS if event.part)
}
"""Part of the energy, for reports → its events."""
