"""Estimates: networks counted and priced by hand, counts per core against plain loops and against peers."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.handmade_networks import population, projection, two_layer_network

from lbi import (
    FixedCubaLif,
    FixedNetwork,
    Readout,
)
from lbi.chip.events import CORE_EVENTS, MESSAGES
from lbi.chip.load import load_profile
from lbi.chip.placement import place
from lbi.chip.profile import HardwareProfile, Quantity
from lbi.costing.costs import energy, step_times
from lbi.costing.counts import Batch, Loads, PlacedNetwork, split
from lbi.costing.estimation import estimate
from lbi.errors import FitError, InputError
from lbi.network.graph import INPUT
from lbi.simulation.run import simulate

LOIHI1 = load_profile("loihi1")


@pytest.fixture
def two_layers() -> tuple[FixedNetwork, np.ndarray]:
    return two_layer_network()


def test_counted_by_hand(two_layers):
    """Spikes: a0 at step 0, a1 at step 2; b at its steps 0 and 2. Active where input or a current is left.

    effective: in0 → 1, in2 → 1, in1 → 1, a0 → 1, a1 → 1 = 5; dense: 3 events · 2 + 2 events · 1 = 8
    active: a0 at 0 and 1 (its current decays in 1), a1 at 2, b at 0, 1, 2 = 6 of 3 neurons · 3 steps = 9
    """
    fixed, spikes = two_layers
    result = estimate(fixed, spikes=spikes)
    record = result.to_dict()
    dense, sparse = record["dense"], record["sparse"]
    assert (record["n_samples"], record["n_steps"], record["chip"]) == (1, 3, "loihi1")
    assert sparse["synops_per_step"] == pytest.approx(5 / 3)
    assert dense["synops_per_step"] == pytest.approx(8 / 3)
    for side in (dense, sparse):
        assert side["neuron_updates_per_step"] == pytest.approx(9 / 3)
        assert side["active_updates_per_step"] == pytest.approx(6 / 3)
        assert side["spikes_per_step"] == pytest.approx(4 / 3)
        assert side["input_spikes_per_step"] == pytest.approx(3 / 3)
        assert side["messages_per_step"] == pytest.approx(5 / 3)
        # 3 + 2 axons, each a row of one word: 2 · 8 + 10 = 26 → 64 dense, 1 · 14 + 10 = 24 → 64 indexed
        assert side["synaptic_memory_bits"] == 5 * 64
        assert (side["n_cores"], side["n_chips"]) == (1, 1)
    assert record["ratio"]["synops_per_step"] == pytest.approx(8 / 5)
    assert record["ratio"]["neuron_updates_per_step"] == 1.0


def test_priced_by_hand(two_layers):
    """The counts above with Davies' constants (low) and SANA-FE's (high), in pJ.

    Davies:  synops · 23.6 + 6 · 81 + 3 · 52 + 5 messages within a tile (3 from the input) · 1.7
    SANA-FE: 5 · 33.6 or 8 · 35.5, + 6 · 72.8 + 3 · 51.2 + 4 spikes · 69.3 + 5 messages · 111
    """
    fixed, spikes = two_layers
    record = estimate(fixed, spikes=spikes).to_dict()
    davies = 6 * 81 + 3 * 52 + 5 * 1.7
    sanafe = 6 * 72.8 + 3 * 51.2 + 4 * 69.3 + 5 * 111
    expected = {
        "sparse": {"low": (5 * 23.6 + davies) / 3, "high": (5 * 33.6 + sanafe) / 3},
        "dense": {"low": (8 * 23.6 + davies) / 3, "high": (8 * 35.5 + sanafe) / 3},
    }
    for side, band in expected.items():
        assert record[side]["energy_pj_per_step"] == pytest.approx(band)
    parts = record["sparse"]["energy_parts_pj"]["davies2018"]
    assert parts["neuron updates"] == pytest.approx((6 * 81 + 3 * 52) / 3)


def test_timed_by_hand(two_layers):
    """Chip steps 0 to 4 on one core (a runs one step after the input, b two), Davies: ns of synapses, of neurons.

    0: 2 synops = 7.0; no neuron yet
    1: a0 sends: 3.5; a0 active, a1 not: 8.4 + 5.3 = 13.7
    2: input 1: 3.5; a as before, b active: 22.1
    3: a1 sends: 3.5; a1 active, a0 not, b active: 22.1
    4: b active: 8.4
    Steps 3 and 4 are the first two of the next sample, in which a and b are not busy with it yet:
    0 and 3: synapses 10.5, neurons 22.1                                      low 113 + 22.1, high 465 + 32.6
    1 and 4: synapses 3.5, neurons 13.7 + 8.4 = 22.1                          low 113 + 22.1, high 465 + 25.6
    2:                                                                        low 113 + 22.1, high 465 + 25.6
    """
    fixed, spikes = two_layers
    record = estimate(fixed, spikes=spikes).to_dict()
    time = record["sparse"]["time_by_cost_set"]["davies2018"]
    assert time["low"] == pytest.approx(113 + 22.1)
    assert time["high"] == pytest.approx(465 + (32.6 + 25.6 + 25.6) / 3)
    assert record["sparse"]["slowest_step_ns"]["davies2018"] == pytest.approx({"low": 135.1, "high": 497.6})
    # SANA-FE, a synapse and its message: 4.7 + 16 = 20.7. Step 0: 2 · 20.7 = 41.4; step 3: 20.7 + 9.7 + 6.0 + 30 + 5.1 + 9.7
    # = 81.2; together 122.6, the slowest. Step 1: 20.7 + 9.7 + 6.0 + 30 + 5.1 = 71.5, with b's 9.7 + 30 of step 4: 111.2
    assert record["sparse"]["slowest_step_ns"]["sanafe"]["high"] == pytest.approx(1800 + 41.4 + 81.2)
    band = record["sparse"]["time_ns_per_step"]
    assert band["low"] == time["low"]
    assert band["high"] == record["sparse"]["time_by_cost_set"]["sanafe"]["high"]
    # static energy, listed separately: 104 mW · ns = pJ
    static = record["sparse"]["static_pj_per_step"]["frady2020"]
    assert static == pytest.approx({"low": 104 * band["low"], "high": 104 * band["high"]})


@pytest.mark.parametrize("n_steps", [1, 2, 3, 50])
def test_time_and_static_energy_are_those_of_all_neurons_in_every_step(n_steps):
    """Three silent populations of 320, Davies: 960 · 5.3 ns and the barrier in each step; energy 960 · 52 pJ, 104 mW."""
    silent = np.zeros((320, 320))
    fixed = FixedNetwork(
        (320,),
        tuple(population(name, 320, latency=1 + i) for i, name in enumerate("abc")),
        tuple(projection(*pair, silent) for pair in (("input", "a"), ("a", "b"), ("b", "c"))),
        Readout("c"),
        "loihi1",
    )
    found = estimate(fixed, spikes=np.zeros((2, n_steps, 320), dtype=np.uint8))
    record = found.to_dict()["sparse"]
    assert record["n_cores"] == 1
    low, high = 960 * 5.3 + 113, 960 * 5.3 + 465
    assert record["time_by_cost_set"]["davies2018"] == pytest.approx({"low": low, "high": high})
    assert record["energy_by_cost_set"]["davies2018"]["low"] == pytest.approx(960 * 52)
    assert record["static_pj_per_step"]["frady2020"]["low"] == pytest.approx(104 * low)
    assert record["core_loads"]["updates"]["peak"] == 960
    totals = estimate(fixed, simulate(fixed, np.zeros((2, n_steps, 320), dtype=np.uint8))).sparse
    assert totals.time["davies2018"].high == pytest.approx(high)


def test_the_facts_worked_example():
    """512 → 256, 8 bits, 26 synapses per axon, 25.6 input spikes per step: the figures of the literature table.

    dense 25.6 · 256 = 6553.6 synops, 154.7 nJ; sparse 25.6 · 26 = 665.6, 15.7 nJ (Davies)
    """
    rng = np.random.default_rng(0)
    dense = np.zeros((256, 512))
    for source in range(512):
        dense[rng.choice(256, 26, replace=False), source] = 2
    fixed = FixedNetwork(
        (512,), (population("a", 256),), (projection("input", "a", dense),), Readout("a"), "loihi1"
    )
    spikes = np.zeros((1, 5, 512), dtype=np.uint8)
    for step, n in enumerate((26, 25, 26, 25, 26)):
        spikes[0, step, rng.choice(512, n, replace=False)] = 1
    result = estimate(fixed, spikes=spikes)
    record = result.to_dict()
    assert record["dense"]["synops_per_step"] == pytest.approx(6553.6)
    assert record["sparse"]["synops_per_step"] == pytest.approx(665.6)
    synapses = [
        result.to_dict()[side]["energy_parts_pj"]["davies2018"]["synapses"] for side in ("dense", "sparse")
    ]
    assert synapses == pytest.approx([154_665, 15_708.2], abs=0.5)
    assert (record["dense"]["n_cores"], record["sparse"]["n_cores"]) == (2, 1)
    neurons = record["sparse"]["energy_parts_pj"]["davies2018"]["neuron updates"]
    assert 256 * 52 <= neurons <= 256 * 81


def test_without_input_it_is_the_worst_case_and_says_so(two_layers):
    """Everything spikes in every step: 3 · 2 + 2 · 1 = 8 dense, 5 nonzero; 3 neurons, all active."""
    record = estimate(two_layers[0]).to_dict()
    assert "worst case" in record["basis"]
    assert (record["n_samples"], record["n_steps"], record["measured"]) == (0, 0, False)
    assert (record["dense"]["synops_per_step"], record["sparse"]["synops_per_step"]) == (8, 5)
    assert record["sparse"]["active_updates_per_step"] == 3
    assert any("worst case" in note for note in record["notes"])


def test_loihi_2_has_no_bare_joule(two_layers):
    fixed, spikes = two_layers
    record = estimate(fixed, chip="loihi2", spikes=spikes).to_dict()
    on_loihi1 = estimate(fixed, chip="loihi1", spikes=spikes).to_dict()
    for side in ("dense", "sparse"):
        assert record[side]["energy_pj_per_step"] is None
        proxy = record[side]["scenarios_pj_per_step"]["loihi1_constants"]
        assert proxy == pytest.approx(on_loihi1[side]["energy_by_cost_set"]["davies2018"])
        sweep = record[side]["scenarios_pj_per_step"]["sensitivity"]
        assert sweep["low"] == pytest.approx(4 * record[side]["synops_per_step"])
        assert sweep["high"] == pytest.approx(142 * record[side]["synops_per_step"])
        assert record[side]["time_ns_per_step"] == {"low": 200.0, "high": 200.0}  # the step floor
    assert record["ratio"]["energy_pj_per_step"] is None


def test_every_constant_comes_with_its_source(two_layers):
    for chip in ("loihi1", "loihi2"):
        record = estimate(two_layers[0], chip=chip).to_dict()
        for constant in record["constants"]:
            assert constant["source"].split()[0].rstrip(";") in set(record["sources"]) | {"D18"}
            assert constant["confidence"]
            assert constant["unit"]
        names = {constant["name"] for constant in record["constants"]}
        assert any(name.endswith("energy.synop_indexed") for name in names)
        json.dumps(record, allow_nan=False)


# --- per-core counts against plain loops -----------------------------------------------------------------


def small_chip(compartments: int, per_tile: int = 2, per_chip: int = 1000) -> HardwareProfile:
    def q(value: int) -> Quantity:
        return Quantity(value, "", "test", "assumption")

    return dataclasses.replace(
        LOIHI1,
        limits=dataclasses.replace(
            LOIHI1.limits, compartments_per_core=q(compartments), cores_per_chip=q(per_chip)
        ),
        mesh=dataclasses.replace(LOIHI1.mesh, cores_per_tile=q(per_tile), columns=q(3), rows=q(100)),
    )


def random_run(rng: np.random.Generator, n_samples: int, n_steps: int) -> tuple[FixedNetwork, np.ndarray]:
    """A recurrent network, and spikes for it."""
    n_in, a, b = (int(n) for n in rng.integers(2, 14, 3))

    def dense(rows: int, cols: int, density: float) -> np.ndarray:
        return np.where(rng.random((rows, cols)) < density, 2 * rng.integers(-4, 9, (rows, cols)), 0)

    fixed = FixedNetwork(
        (n_in,),
        (population("a", a, latency=1), population("b", b, latency=2)),
        (
            projection("input", "a", dense(a, n_in, 0.4)),
            projection("a", "a", dense(a, a, 0.2)),
            projection("a", "b", dense(b, a, 0.9)),
        ),
        Readout("b"),
        "loihi1",
    )
    return fixed, (rng.random((n_samples, n_steps, n_in)) < 0.4).astype(np.uint8)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_counts_per_core_and_step_equal_plain_loops(seed):
    rng = np.random.default_rng(seed)
    fixed, spikes = random_run(rng, 3, 5)
    activity = simulate(fixed, spikes, record=("spikes", "active"))
    profile = small_chip(int(rng.integers(1, 6)), int(rng.integers(1, 4)), int(rng.integers(2, 9)))
    latency = {INPUT: 0, "a": 1, "b": 2}
    trains = {INPUT: spikes} | {name: activity.recorded[name, "spikes"] for name in ("a", "b")}
    active = {name: activity.recorded[name, "active"] for name in ("a", "b")}
    for dense in (False, True):
        placement = place(fixed, profile, dense=dense)
        loads = PlacedNetwork(fixed, placement).count(Batch(trains, active, latency))
        core = {name: placement.core_of(name) for name in ("a", "b")}
        shape = (3, 7, placement.n_cores)
        expected = {event: np.zeros(shape, dtype=int) for event in loads.cores}
        traffic = {event: np.zeros(shape[:2], dtype=int) for event in loads.traffic}
        for name in ("a", "b"):
            for sample, step, neuron in np.ndindex(*active[name].shape):
                at = (sample, step + latency[name], core[name][neuron])
                kind = "update_active" if active[name][sample, step, neuron] else "update_inactive"
                expected[kind][at] += 1
                expected["spike"][at] += int(trains[name][sample, step, neuron])
        messages = set()
        for p in fixed.projections:
            weights = p.weights.to_dense()
            stored_dense = placement.formats[p.name] == "dense"
            for sample, step, neuron in zip(*np.nonzero(trains[p.source]), strict=True):
                at = (sample, step + latency[p.source])
                for target in range(placement.n_cores):
                    here = core[p.target] == target
                    fetched = here.sum() if stored_dense else np.count_nonzero(weights[here, neuron])
                    if fetched:
                        expected["synop_dense" if stored_dense else "synop_indexed"][(*at, target)] += fetched
                        messages.add((*at, p.source, neuron, target))
        for sample, step, name, neuron, target in messages:  # one per spike and destination core
            expected["message_in"][sample, step, target] += 1
            if name == INPUT:
                traffic["message_from_input"][sample, step] += 1
                continue
            source = core[name][neuron]
            expected["message_out"][sample, step, source] += 1
            (chip, x, y), (chip2, x2, y2) = placement.positions[[source, target]]
            if chip != chip2:
                traffic["message_off_chip"][sample, step] += 1
            else:
                traffic["hop_ew"][sample, step] += abs(x - x2)
                traffic["hop_ns"][sample, step] += abs(y - y2)
                traffic["message_within_tile"][sample, step] += (x, y) == (x2, y2)
        for event, counts in expected.items():
            assert np.array_equal(loads.cores[event], counts), event
        for event, counts in traffic.items():
            assert np.array_equal(loads.traffic[event], counts), event


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_totals_alone_give_the_same_counts_and_bounds_that_hold(seed):
    """Without spikes per neuron, synops and updates stay exact; time and messages become bounds."""
    rng = np.random.default_rng(seed)
    fixed, spikes = random_run(rng, 3, 5)
    profile = small_chip(int(rng.integers(1, 6)), int(rng.integers(1, 4)), int(rng.integers(2, 9)))
    exact = estimate(fixed, spikes=spikes, chip=profile)
    rough = estimate(fixed, simulate(fixed, spikes), chip=profile)
    for side in ("dense", "sparse"):
        a, b = getattr(exact, side), getattr(rough, side)
        assert (a.synops_fetched, a.synops_effective) == (b.synops_fetched, b.synops_effective)
        assert (a.neuron_updates, a.events["spike"]) == (b.neuron_updates, b.events["spike"])
        assert not b.exact_messages
        for event in MESSAGES:  # cores span tiles and chips here
            assert b.events[event] >= a.events[event], event
        for name in ("davies2018", "sanafe"):
            assert b.time[name].low <= a.time[name].low + 1e-9
            assert b.time[name].high >= a.time[name].high - 1e-9
        for name in ("davies2018", "sanafe"):
            assert b.energy[name].low <= a.energy[name].low + 1e-6
            assert b.energy[name].high >= a.energy[name].high - 1e-6


def test_parts_of_a_run_add_up():
    rng = np.random.default_rng(3)
    fixed, spikes = random_run(rng, 6, 5)
    activity = simulate(fixed, spikes, record=("spikes", "active"))
    whole, again = estimate(fixed, activity, spikes=spikes), estimate(fixed, spikes=spikes)
    assert whole.to_dict() == again.to_dict()
    batch = Batch({INPUT: spikes}, {}, {INPUT: 0})
    pieces = list(split(batch, n_cores=10**6))
    assert len(pieces) == 6
    assert np.array_equal(np.concatenate([piece.spikes[INPUT] for piece in pieces]), spikes)


def test_spikes_of_another_run_are_refused(two_layers):
    fixed, spikes = two_layers
    activity = simulate(fixed, spikes, record=("spikes", "active"))
    with pytest.raises(InputError, match="spikes-shape"):
        estimate(fixed, activity, spikes=spikes[:, :2])


def test_a_dense_network_that_fits_no_core_has_counts_but_no_cores():
    """5000 inputs into one core: sparse, 100 of them reach it; dense, all 5000 > 4096 input axons would."""
    dense = np.zeros((2, 5000))
    dense[0, :100] = 2
    fixed = FixedNetwork(
        (5000,), (population("a", 2),), (projection("input", "a", dense),), Readout("a"), "loihi1"
    )
    spikes = np.ones((1, 2, 5000), dtype=np.uint8)
    record = estimate(fixed, spikes=spikes).to_dict()
    assert record["dense"]["n_cores"] is None
    assert record["dense"]["time_ns_per_step"] is None
    assert record["dense"]["synops_per_step"] == 10_000
    assert (record["sparse"]["n_cores"], record["sparse"]["synops_per_step"]) == (1, 100)
    assert "input-axons-per-core" in record["dense_problems"][0]
    assert record["ratio"]["n_cores"] is None


def test_bounds_are_ordered(two_layers):
    fixed, spikes = two_layers
    placement = place(fixed, LOIHI1)
    activity = simulate(fixed, spikes, record=("spikes", "active"))
    batch = Batch(
        {INPUT: spikes} | {name: activity.recorded[name, "spikes"] for name in ("a", "b")},
        {name: activity.recorded[name, "active"] for name in ("a", "b")},
        {INPUT: 0, "a": 1, "b": 2},
    )
    for costs in LOIHI1.costs:
        low, high = step_times(costs, PlacedNetwork(fixed, placement).count(batch))
        assert np.all(low <= high)
        assert energy(costs, {}) == 0


def test_the_busiest_core_sets_the_time():
    """Two cores, Davies: synapses 10 · 3.5 = 35 and 2 · 3.5 = 7; neurons 8.4 and 10 · 8.4 = 84.

    low: max(max(35, 8.4), max(7, 84)) + 113; high: max(35 + 8.4, 7 + 84) + 465
    """
    counts = {event: np.zeros((1, 1, 2), dtype=np.int64) for event in CORE_EVENTS}
    counts["synop_indexed"][0, 0] = [10, 2]
    counts["update_active"][0, 0] = [1, 10]
    low, high = step_times(LOIHI1.costs[0], Loads(counts, {}))
    assert (low.item(), high.item()) == pytest.approx((84 + 113, 91 + 465))


# --- NeuroBench ------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def torch_twin(fixed: FixedNetwork):
    """A recurrent layer and an output as a torch module of Linear layers, and the class of its neurons."""
    import snntorch
    import torch

    class Neurons(snntorch.SpikingNeuron):
        def __init__(self, record: FixedCubaLif, n: int) -> None:
            super().__init__(init_hidden=False, output=True)
            self.record, self.n, self.state = record, n, None

        def forward(self, a):
            if self.state is None:
                self.state = {name: np.zeros(a.shape, dtype=np.int32) for name in ("u", "v")}
            fired = self.record.step(self.state, a.numpy().astype(np.int32))
            return torch.tensor(fired, dtype=torch.float64), None

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for p in fixed.projections:
                layer = torch.nn.Linear(*p.weights.shape[::-1], bias=False, dtype=torch.float64)
                layer.weight.data = torch.tensor(p.weights.to_dense(), dtype=torch.float64)
                setattr(self, p.name, layer)
            self.a, self.b = (Neurons(p.neuron, p.n) for p in fixed.populations)

        def forward(self, x):
            back, outputs = 0, []
            for t in range(x.shape[1]):
                a, _ = self.a(self.input_a(x[:, t]) + back)
                back = self.a_a(a)
                outputs.append(self.b(self.a_b(a))[0])
            return torch.stack(outputs, dim=1)

    return Net(), Neurons


@pytest.mark.parametrize("seed", range(3))
def test_counts_equal_neurobench(seed):
    """The same network and input as a torch module of Linear layers under NeuroBench 2.3.0's own hooks.

    A recurrent layer sends its spikes in the step in which it emits them, as the chip does.
    """
    pytest.importorskip("neurobench")
    import torch
    from neurobench.metrics.static import ConnectionSparsity
    from neurobench.metrics.workload import ActivationSparsity, SynapticOperations
    from neurobench.models import TorchModel

    rng = np.random.default_rng(seed)
    fixed, spikes = random_run(rng, 4, 6)

    net, neurons = torch_twin(fixed)
    model = TorchModel(net)
    model.add_activation_module(neurons)
    model.register_hooks()
    data = torch.tensor(spikes, dtype=torch.float64)
    with torch.no_grad():
        output = model(data)
    synops = SynapticOperations()(model, output, (data, None))
    record = estimate(fixed, spikes=spikes).to_dict()
    assert np.array_equal(output.numpy(), simulate(fixed, spikes).output_spikes)
    ours = record["neurobench"]
    assert (ours["Effective_ACs"], ours["Effective_MACs"]) == (
        synops["Effective_ACs"],
        synops["Effective_MACs"],
    )
    assert ours["Dense"] == synops["Dense"]
    assert ours["ConnectionSparsity"] == ConnectionSparsity()(model)
    assert ours["ActivationSparsity"] == pytest.approx(
        ActivationSparsity()(model, output, (data, None)), abs=1e-12
    )
    assert record["sparse"]["synops_per_step"] * 6 == pytest.approx(synops["Effective_ACs"])


def test_fit_error_reaches_python_callers(two_layers):
    profile = small_chip(1000)
    no_room = dataclasses.replace(profile.layout, capacity=Quantity(10, "bits", "test", "assumption"))
    with pytest.raises(FitError, match="fan-in-memory"):
        estimate(two_layers[0], chip=dataclasses.replace(profile, memory=(no_room,)))


@pytest.mark.parametrize("chip", ["loihi1", "loihi2"])
@pytest.mark.parametrize(
    "projections", [(), (projection("input", "a", np.zeros((2, 3))),)], ids=["none", "empty"]
)
def test_a_network_without_synapses_still_has_neurons_to_update(chip, projections):
    fixed = FixedNetwork((3,), (population("a", 2),), projections, Readout("a"), chip)
    record = estimate(fixed, spikes=np.ones((1, 4, 3), dtype=np.uint8)).to_dict()
    assert record["sparse"]["synops_per_step"] == 0
    assert record["sparse"]["neuron_updates_per_step"] == 2
    assert record["sparse"]["synaptic_memory_bits"] == 0
    assert record["ratio"]["synops_per_step"] is None
    json.dumps(record, allow_nan=False)
