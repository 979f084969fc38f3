"""Script for a supervised child: runs a pickled network on one sample in real Lava processes.

``python lava_real.py JOB.pickle OUT.npz``; JOB holds (FixedNetwork, spikes (n_steps, n_in)), OUT gets each
population's u, v and spikes under "population/variable", (n_steps, n).
"""

from __future__ import annotations

import pickle
import sys

import numpy as np


def main(job: str, out: str) -> None:
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.io.sink import RingBuffer as Sink
    from lava.proc.io.source import RingBuffer as Source
    from lava.proc.lif.process import LIF
    from lava.proc.monitor.process import Monitor
    from lava.proc.sparse.process import DelaySparse, Sparse
    from lava.utils.weightutils import SignMode
    from scipy.sparse import csr_matrix

    with open(job, "rb") as file:
        fixed, spikes = pickle.load(file)
    n_steps = len(spikes)
    source = Source(data=spikes.T.astype(np.int32))
    neurons, monitors, sinks = {}, {}, {}
    for population in fixed.populations:
        neuron, name, n = population.neuron, population.name, population.n
        process = LIF(
            shape=(n,),
            du=neuron.du,
            dv=neuron.dv,
            vth=neuron.vth,
            bias_mant=neuron.bias_mant,
            bias_exp=neuron.bias_exp,
        )
        sink = Sink(shape=(n,), buffer=n_steps)
        process.s_out.connect(sink.a_in)
        neurons[name], sinks[name] = process, sink
        for variable in ("u", "v"):
            monitor = Monitor()
            monitor.probe(getattr(process, variable), n_steps)
            monitors[f"{name}/{variable}"] = monitor
    for projection in fixed.projections:
        weights = projection.weights.to_scipy().astype(np.int32)
        common = {
            "weight_exp": projection.weight_exp,
            "num_weight_bits": projection.num_weight_bits,
            "sign_mode": SignMode(int(projection.sign_mode)),
        }
        if projection.max_delay:
            delays = csr_matrix(weights.shape, dtype=int)
            rows = projection.weights.to_csr().row_of()
            delays[rows, weights.indices] = np.broadcast_to(projection.delay, rows.shape).astype(int)
            synapse = DelaySparse(weights=weights, delays=delays, max_delay=projection.max_delay, **common)
        else:
            synapse = Sparse(weights=weights, **common)
        origin = source if projection.source == "input" else neurons[projection.source]
        origin.s_out.connect(synapse.s_in)
        synapse.a_out.connect(neurons[projection.target].a_in)
    try:
        source.run(condition=RunSteps(num_steps=n_steps), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
        result = {f"{name}/spikes": sink.data.get().T for name, sink in sinks.items()}
        for key, monitor in monitors.items():
            ((values,),) = [tuple(series.values()) for series in monitor.get_data().values()]
            result[key] = values
    finally:
        source.stop()
    np.savez(out, **result)


if __name__ == "__main__":
    main(*sys.argv[1:])
