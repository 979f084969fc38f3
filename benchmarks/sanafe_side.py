"""The SANA-FE half of benchmarks/estimate.py: a separate program for a Python that has ``sanafe`` (GPL).

Reads a JSON job from stdin, runs the placed network in SANA-FE with its own Loihi profile, and writes counts
and energies as JSON to the file named in the job. It imports nothing of lbi, and lbi imports nothing of it.
"""

import json
import sys

import sanafe


def build(job):
    """The network, mapped to cores as in the job; input neurons are on a separate core."""
    arch = sanafe.load_loihi()
    tiles = arch.tiles
    net = sanafe.Network()
    groups = {}
    n_steps = job["n_steps"]
    for name, group in job["groups"].items():
        is_input = name == "input"
        made = net.create_neuron_group(
            name,
            group["n"],
            model_attributes={} if is_input else group["attributes"],
            soma_hw_name="loihi_inputs[0]" if is_input else "loihi_lif",
            default_synapse_hw_name=job["synapse"],
            default_dendrite_hw_name="loihi_dendrites",
            log_spikes=True,
        )
        for i in range(group["n"]):
            neuron = made.neurons[i]
            if is_input:
                neuron.set_attributes(
                    soma_hw_name=f"loihi_inputs[{i}]",
                    model_attributes={"spikes": group["spikes"][i][:n_steps]},
                )
            x, y, slot = group["cores"][i]
            neuron.map_to_core(tiles[x * 4 + y].cores[slot])
        groups[name] = made
    for source, target, pairs, weights in job["connections"]:
        groups[source].connect_neurons_sparse(groups[target], {"weight": weights}, [tuple(p) for p in pairs])
    chip = sanafe.SpikingChip(arch)
    chip.load(net)
    return chip


def main():
    """Run the job on stdin."""
    job = json.load(sys.stdin)
    chip = build(job)
    found = chip.sim(job["n_steps"], timing_model="simple", perf_trace=True, spike_trace=True)
    perf = found["perf_trace"]
    record = {
        "energy_j": found["energy"],
        "sim_time_s": found["sim_time"],
        "columns": sorted(perf),
        "totals": {name: sum(values) for name, values in perf.items() if isinstance(values[0], (int, float))},
        "spikes": [
            [[address.group_name, address.neuron_offset] for address in step] for step in found["spike_trace"]
        ],
    }
    with open(job["out"], "w", encoding="utf-8") as file:
        json.dump(record, file)


main()
