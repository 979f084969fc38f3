"""Lava's equations in plain Python integers and chip time, as an oracle without code of the simulator.

Every chip step updates every population, from messages that were posted one step or more before. Each message carries
the sample in which its source stood; a population takes in only those of its own sample. Slow on purpose: one
Python int at a time, no numpy arithmetic, no evaluation order, no lag.

Sources: lava-nc 0.10.0 ``proc/sparse/models.py``, ``proc/lif/models.py``, ``proc/atrlif/models.py``,
``utils/weightutils.py``. ``LIFRefractory`` is Lava's floating-point rule on the fixed-point voltage.
"""

from __future__ import annotations

from typing import Any

LIMIT = 1 << 23


def int32(x: int) -> int:
    """The low 32 bits, signed: the width of Lava's channels and states."""
    return (x + (1 << 31)) % (1 << 32) - (1 << 31)


def shrunk(x: int, d: int) -> int:
    """``x · (4096 − d) / 4096``, cut toward zero."""
    magnitude = abs(x) * abs(4096 - d) // 4096
    return magnitude if (x >= 0) == (4096 - d >= 0) else -magnitude


def new_current(u: int, d: int, a: int) -> int:
    """The current after a step: the sum turns over once at 24 bits."""
    total = int32(shrunk(u, d) + int32(a << 6))
    if total > LIMIT:
        return int32(total - 2 * LIMIT)
    if total <= -LIMIT:
        return int32(total + 2 * LIMIT)
    return total


def new_voltage(v: int, d: int, u: int, bias: int) -> int:
    """The voltage after a step: the sum stops at the ends of 24 bits."""
    return min(max(int32(shrunk(v, d) + u + bias), 1 - LIMIT), LIMIT - 1)


class Neuron:
    """One neuron of any model: ``advance`` takes its summed input and says whether it spikes."""

    def __init__(self, parameters: Any, i: int) -> None:
        self.p = parameters
        self.bias = int(parameters.bias_mant[i]) * 2 ** int(parameters.bias_exp)
        self.rest()

    def rest(self) -> None:
        """Forget everything."""
        self.u = self.v = self.quiet = self.r = 0
        self.theta = getattr(self.p, "theta_0", 0) * 64

    def advance(self, a: int) -> int:
        """One chip step."""
        return int(getattr(self, self.p.model)(a))

    def integrator(self, a: int) -> bool:
        """A LIF that cannot reach its threshold."""
        self.u = new_current(self.u, self.p.du + 1, a)
        self.v = new_voltage(self.v, self.p.dv, self.u, self.bias)
        return False

    def cuba_lif(self, a: int) -> bool:
        """``PyLifModelBitAcc``."""
        self.integrator(a)
        spikes = self.v > self.p.vth * 64
        if spikes:
            self.v = 0
        return spikes

    def lif_refractory(self, a: int) -> bool:
        """After a spike the voltage stands still for a number of steps."""
        if self.quiet:
            self.quiet -= 1
            self.u = new_current(self.u, self.p.du + 1, a)
            return False
        spikes = self.cuba_lif(a)
        if spikes:
            self.quiet = self.p.refractory_period
        return spikes

    def atrlif(self, a: int) -> bool:
        """``PyATRLIFModelFixed``; theta holds its baseline, as in Lava."""
        p, base = self.p, self.p.theta_0 * 64
        self.u = new_current(self.u, p.delta_i + 1, a)
        self.v = new_voltage(self.v, p.delta_v, self.u, self.bias)
        self.theta = shrunk(self.theta - base, p.delta_theta) + base
        self.r = shrunk(self.r, p.delta_r)
        spikes = self.v - self.r >= self.theta
        if spikes:
            self.r += 2 * self.theta
            self.theta += p.theta_step * 64
        return spikes


class Synapses:
    """One projection: what the spikes of a step send, by delay."""

    def __init__(self, projection: Any) -> None:
        weights, self.exponent = projection.weights.to_csr(), int(projection.weight_exp)
        self.source, self.target, self.n = projection.source, projection.target, weights.shape[0]
        cut = 8 - int(projection.num_weight_bits) + int(projection.sign_mode.name == "MIXED")
        cut_toward_minus = projection.sign_mode.name != "INHIBITORY"
        data, columns, indptr = (x.tolist() for x in (weights.data, weights.indices, weights.indptr))
        delays = [int(projection.delay)] * len(data) if not hasattr(projection.delay, "tolist") else None
        delays = projection.delay.tolist() if delays is None else delays
        self.leaving: dict[int, list[tuple[int, int, int]]] = {}
        for row in range(self.n):
            for k in range(indptr[row], indptr[row + 1]):
                # truncate_weights, which turns inhibitory weights round before and after
                mantissa = (
                    data[k] >> cut << cut if data[k] > 0 or cut_toward_minus else -(-data[k] >> cut << cut)
                )
                self.leaving.setdefault(columns[k], []).append((delays[k], row, mantissa))

    def messages(self, spiking: list[int]) -> dict[int, list[int]]:
        """Delay → summed and shifted input of every target neuron."""
        sums: dict[int, list[int]] = {}
        for j in spiking:
            for delay, row, mantissa in self.leaving.get(j, ()):
                sums.setdefault(delay, [0] * self.n)[row] += mantissa
        e = self.exponent
        return {d: [x << e if e > 0 else x >> -e for x in part] for d, part in sums.items()}


def run(fixed: Any, spikes: Any) -> dict[tuple[str, str], list[Any]]:
    """(population, "spikes" | "u" | "v") → nested lists (n_samples, n_steps, n), in each population's own time.

    All samples pass one after the other, each followed by as many silent steps as the network is deep.
    """
    n_samples, n_steps = len(spikes), len(spikes[0])
    start = {population.name: int(population.latency) for population in fixed.populations}
    period = n_steps + max(start.values())
    start["input"] = 0
    neurons = {p.name: [Neuron(p.neuron, i) for i in range(p.n)] for p in fixed.populations}
    synapses = [Synapses(projection) for projection in fixed.projections]
    found = {
        (name, variable): [[None] * n_steps for _ in range(n_samples)]
        for name in neurons
        for variable in ("spikes", "u", "v")
    }
    mail: dict[int, list[tuple[str, int, list[int]]]] = {}
    for now in range(n_samples * period):
        inbox = mail.pop(now, [])
        sample, step = divmod(now, period)
        sent = {"input": spikes[sample][step].tolist() if step < n_steps else []}
        for name, members in neurons.items():
            sample, step = divmod(now - start[name], period)
            sums = [0] * len(members)
            for target, origin, message in inbox:
                if target == name and origin == sample:
                    sums = [int32(x + int32(more)) for x, more in zip(sums, message, strict=True)]
            if step == 0:
                for neuron in members:
                    neuron.rest()
            sent[name] = [neuron.advance(a) for neuron, a in zip(members, sums, strict=True)]
            if sample >= 0 and step < n_steps:
                found[name, "spikes"][sample][step] = sent[name]
                found[name, "u"][sample][step] = [neuron.u for neuron in members]
                found[name, "v"][sample][step] = [neuron.v for neuron in members]
        for projection in synapses:
            spiking = [j for j, spike in enumerate(sent[projection.source]) if spike]
            origin = (now - start[projection.source]) // period
            for delay, message in projection.messages(spiking).items():
                mail.setdefault(now + 1 + delay, []).append((projection.target, origin, message))
    return found


def output(fixed: Any, found: dict[tuple[str, str], list[Any]]) -> list[Any]:
    """What a run of the export writes: the readout's spikes, or its voltages."""
    return found[fixed.readout.population, "spikes" if fixed.readout.kind == "spike_count" else "v"]
