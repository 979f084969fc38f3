"""Random networks beside their compacted selves: the simulator, and exports in real Lava.

    python tests/compaction_sweep.py --seed 1 --count 10000         the simulator
    python tests/compaction_sweep.py --seed 1 --count 50 --lava     both networks in Lava

Networks are those of ``oracle_sweep.py``, thinned-out ones, and one in four of convolutions. The simulator must give the same spikes
and voltages of every neuron that stays, and the same output; Lava the same output. Prints what was run, what was removed
and each difference; exit code 1 if there is any.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from oracle_sweep import PER_CHILD, lava_outputs
from support import random_chip, random_kernels

from lbi import CsrMatrix, simulate
from lbi.network.convolution_weights import ConvolutionWeights
from lbi.quantization.compaction import REASONS, Compaction, compaction
from lbi.simulation.run import SaturationWarning


def make(seed: int, number: int, models=random_chip.MODELS):
    """A random network and its input; two of three lose most of their synapses, and one in four has convolutions."""
    rng = np.random.default_rng([seed, number, 1])
    if number % 4 == 3:
        fixed, spikes = random_kernels.make(seed, number)
        return with_fewer_channels(fixed, rng), spikes
    fixed, spikes = random_chip.make(seed, number, models)
    if number % 5 == 4:
        fixed = replace(fixed, populations=tuple(driven(p, rng) for p in fixed.populations))
    if number % 3:
        fixed = replace(fixed, projections=tuple(thinned(p, rng) for p in fixed.projections))
    return fixed, spikes


def with_fewer_channels(fixed, rng):
    """The network with channels that get nothing, lead nowhere, or fire in every step by their biases."""
    populations = []
    for population in fixed.populations:
        neuron = population.neuron
        if len(population.shape) == 3 and rng.random() < 0.4:
            chosen = np.repeat(rng.random(population.shape[0]) < 0.4, population.n // population.shape[0])
            bias = np.where(chosen, 4000, neuron.bias_mant)
            neuron = replace(neuron, bias_mant=bias.astype(np.int32), bias_exp=6)
        if rng.random() < 0.5:  # takes constants
            neuron = replace(neuron, du=4095)
        populations.append(replace(population, neuron=neuron))
    projections = []
    for projection in fixed.projections:
        weights, delay = projection.weights, projection.delay
        if isinstance(weights, ConvolutionWeights):
            n_out, n_in = weights.kernel.shape[0], weights.input_shape[0]
            outs, ins = (rng.random(n) < rng.choice([0.4, 0.7, 1.0]) for n in (n_out, n_in))
            weights = weights.restricted(outs, ins)
            weight_exp, delay = max(0, projection.weight_exp), delay if rng.random() < 0.5 else 0
            projection = replace(projection, weight_exp=weight_exp)
        elif projection.source.startswith("maps"):
            shape = fixed.population(projection.source).shape
            reached = np.repeat(rng.random(shape[0]) < 0.6, weights.shape[1] // shape[0])
            weights = weights.with_data(weights.data * reached[weights.indices])[0]
        projections.append(replace(projection, weights=weights, delay=delay))
    return replace(fixed, populations=tuple(populations), projections=tuple(projections))


def driven(population, rng):
    """The population with current decay 1 and biases of which half fire a neuron in every step."""
    neuron = population.neuron
    memoryless = {"delta_i": 4095} if neuron.model == "atrlif" else {"du": 4095}
    if neuron.model == "cuba_lif":
        memoryless["vth"] = int(rng.choice([0, 20, 60]))
    bias = np.where(rng.random(population.n) < 0.5, 64 * 70, 0) >> 6
    return replace(population, neuron=replace(neuron, **memoryless, bias_mant=bias, bias_exp=6))


def thinned(projection, rng):
    """The projection with a random part of its synapses."""
    weights, delay = projection.weights, projection.delay
    data = np.where(rng.random(weights.nnz) < rng.choice([0.2, 0.5]), weights.data, 0)
    thin, kept = weights.with_data(data)
    delays = delay[kept] if np.ndim(delay) else delay
    return replace(
        projection, weights=CsrMatrix(thin.data, thin.indices, thin.indptr, thin.shape), delay=delays
    )


def differing(fixed, result: Compaction, spikes) -> int:
    """Numbers in which the compacted network differs, over outputs, and spikes and voltages of what stays."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SaturationWarning)
        before = simulate(fixed, spikes, record=("spikes", "v"), n_threads=1)
        after = simulate(result.network, spikes, record=("spikes", "v"), n_threads=1)
    different = int(np.count_nonzero(before.output != after.output))
    for population in fixed.populations:
        name, stays = population.name, result.reasons[population.name] == 0
        if result.network.population(name).n == np.count_nonzero(stays) and alive(result.network, name):
            for kind in ("spikes", "v"):
                expected = before.recorded[name, kind][:, :, stays]
                different += int(np.count_nonzero(expected != after.recorded[name, kind]))
        never = before.recorded[name, "spikes"][:, :, result.reasons[name] == 1 + REASONS.index("silent")]
        always = before.recorded[name, "spikes"][:, :, result.reasons[name] == 1 + REASONS.index("constant")]
        different += int(np.count_nonzero(never)) + int(np.count_nonzero(always == 0))
    return different


def alive(network, name: str) -> bool:
    """False for a population that stays for its name only: a neuron or a channel without synapses."""
    if name == network.readout.population:
        return True
    return any(p.weights.nnz for p in network.projections if p.source == name)


def main() -> int:
    parser = argparse.ArgumentParser(description="Random networks beside their compacted selves.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="number of the first network (default 0)")
    parser.add_argument("--lava", action="store_true", help="run both networks in Lava")
    options = parser.parse_args()
    models = random_chip.IN_LAVA if options.lava else random_chip.MODELS
    removed, n_neurons, n_smaller, n_wrong, n_telling = dict.fromkeys(REASONS, 0), 0, 0, 0, 0
    numbers = range(options.first, options.first + options.count)
    for begin in range(0, len(numbers), PER_CHILD):
        cases = {n: make(options.seed, n, models) for n in numbers[begin : begin + PER_CHILD]}
        results = {n: compaction(fixed) for n, (fixed, _) in cases.items()}
        outputs: tuple = ({}, {})
        if options.lava:
            pairs = cases, {n: (results[n].network, spikes) for n, (_, spikes) in cases.items()}
            for found, networks in zip(outputs, pairs, strict=True):
                with tempfile.TemporaryDirectory() as folder:
                    found.update(lava_outputs(networks, Path(folder)))
        for number, (fixed, spikes) in cases.items():
            result = results[number]
            different = differing(fixed, result, spikes)
            if options.lava:
                different += int(np.count_nonzero(outputs[0][number] != outputs[1][number]))
                n_telling += np.unique(outputs[0][number]).size > 1
            for population in fixed.populations:
                for reason, n in result.removed(population.name).items():
                    removed[reason] += n
            n_neurons += fixed.n_neurons
            n_smaller += result.n_removed > 0
            n_wrong += different > 0
            if different:
                print(f"network {number} of seed {options.seed}: {different} values differ")
    print(
        f"{options.count} networks of seed {options.seed}{' in Lava' if options.lava else ''}: {n_wrong} differ;"
        f" {n_smaller} lost neurons, {sum(removed.values())} of {n_neurons}: "
        + ", ".join(f"{n} {reason}" for reason, n in removed.items())
        + (f"; {n_telling} outputs are not constant" if options.lava else "")
    )
    return 1 if n_wrong else 0


if __name__ == "__main__":
    sys.exit(main())
