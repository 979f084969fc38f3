"""The report's terms, each explained once for readers who do not know the chip."""

from __future__ import annotations

TERMS = {
    "timestep": "All neurons advance together, one timestep at a time; a sample takes as many as its input has, and a few more for the depth of the network, in which the next sample can begin. Figures per timestep are means over those of the input.",
    "spike": "A one-bit event that a neuron sends when its voltage passes its threshold.",
    "SynOps": "Synaptic operations: stored weights that are read and added because a spike arrived. Fetched are all that are read; effective are those that are not zero.",
    "dense": "The same network as trained, with every weight of its layers stored, zeros too.",
    "sparse": "The network as it is exported: zeros absent where that takes less memory, neurons that cannot change the output removed.",
    "density": "Nonzero weights as a share of all weights of the layer as it was trained. Where neurons were removed, the shape is that of the neurons left; a picture's caption gives the share among these.",
    "neuron update": "The work on one neuron in one timestep: decay, sum, comparison with the threshold. It happens whether or not a spike arrived; active updates are those of neurons with a voltage or current.",
    "message": "A spike on its way to one core: a spike whose targets lie on three cores is three messages.",
    "axon": "An entry of a core's routing tables. An output axon says to which core a neuron's spikes go, an input axon which weights an arriving spike reads.",
    "synaptic memory": "The bits that weights and their target numbers take in the cores' memory.",
    "neuron state": "The bits of voltage, current and other values that a neuron keeps between timesteps.",
    "core": "A part of the chip with its own memory and neurons; a tile is a group of cores at one place of the on-chip mesh.",
    "hop": "One step of a message from tile to tile.",
    "barrier": "The exchange by which all cores agree that a timestep is over.",
    "dynamic energy": "The energy of the events that are counted. It leaves out static power.",
    "static energy": "Power that is drawn whether or not anything is computed, times the time per timestep. What it includes depends on where it was measured.",
    "cost set": "Energy and time of each kind of event from one source. Several sets give a range from the lowest to the highest figure.",
    "what-if": "A figure computed with numbers that were not published for this chip. It is no figure of the chip.",
}
"""Term → what it means."""

OF_LINE = {
    "synops_fetched": "SynOps",
    "synops_effective": "SynOps",
    "neuron_updates": "neuron update",
    "active_updates": "neuron update",
    "spikes": "spike",
    "input_spikes": "spike",
    "messages": "message",
    "synaptic_memory": "synaptic memory",
    "neuron_state": "neuron state",
    "input_axons": "axon",
    "output_axons": "axon",
    "cores": "core",
    "energy": "dynamic energy",
    "static": "static energy",
    "scenario": "what-if",
    "layout": "what-if",
}
"""Key of a line of the headline table, up to its first dot → its term."""


def explanation(key: str) -> str:
    """The explanation of a line of the headline table.

    Args:
        key: ``Line.key``.

    Returns:
        A text; empty for lines that need none.
    """
    term = OF_LINE.get(key.split(".")[0])
    return TERMS[term] if term else ""
