"""Placement keeps all limits, loses no synapse and is deterministic; recounted here with plain loops."""

from __future__ import annotations

import dataclasses
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from support import random_kernels

from lbi import CsrMatrix, FixedCubaLif, FixedNetwork, FixedPopulation, FixedProjection, Readout, SignMode
from lbi.chip import memory
from lbi.chip.load import load_profile
from lbi.chip.memory import row_format
from lbi.chip.mesh import arrange, hops, slot_positions
from lbi.chip.placement import place
from lbi.chip.profile import HardwareProfile, Quantity
from lbi.errors import FitError

LOIHI1, LOIHI2 = load_profile("loihi1"), load_profile("loihi2")


def limit(value: int, unit: str) -> Quantity:
    return Quantity(value, unit, "test", "assumption")


def small_chip(
    compartments: int, bits: int, inputs: int, outputs: int, cores: int = 8, base: HardwareProfile = LOIHI1
) -> HardwareProfile:
    """A chip whose cores are small enough to break every limit with small networks."""
    limits = dataclasses.replace(
        base.limits,
        compartments_per_core=limit(compartments, "compartments"),
        input_axons_per_core=limit(inputs, "axons"),
        output_axons_per_core=limit(outputs, "axons"),
        cores_per_chip=limit(cores, "cores"),
    )
    layout = dataclasses.replace(base.layout, capacity=limit(bits, "bits"))
    return dataclasses.replace(base, limits=limits, memory=(layout, *base.memory[1:]))


def csr(dense: np.ndarray) -> CsrMatrix:
    return CsrMatrix.from_dense(np.asarray(dense, dtype=np.int16))


def network(n_in: int, sizes: dict[str, int], projections: dict[tuple[str, str], np.ndarray]) -> FixedNetwork:
    return FixedNetwork(
        (n_in,),
        tuple(
            FixedPopulation(name, (n,), FixedCubaLif(409, 100, 100, np.zeros(n, np.int32)))
            for name, n in sizes.items()
        ),
        tuple(
            FixedProjection(f"{source}_{target}", source, target, csr(dense), SignMode.MIXED)
            for (source, target), dense in projections.items()
        ),
        Readout(list(sizes)[-1]),
        "loihi1",
    )


def random_network(rng: np.random.Generator) -> FixedNetwork:
    sizes = {f"l{i}": int(rng.integers(1, 60)) for i in range(int(rng.integers(1, 5)))}
    n_in = int(rng.integers(1, 50))
    n_of = {"input": n_in, **sizes}
    names = list(n_of)
    pairs = [(names[i], names[i + 1]) for i in range(len(names) - 1)]
    pairs += [(name, name) for name in sizes if rng.random() < 0.5]
    pairs += [("input", name) for name in names[2:] if rng.random() < 0.5]
    density = rng.choice([0.05, 0.3, 1.0])

    def dense(pair: tuple[str, str]) -> np.ndarray:
        mask = rng.random((n_of[pair[1]], n_of[pair[0]])) < density
        return np.where(mask, 2 * rng.integers(1, 100, mask.shape), 0)

    return network(n_in, sizes, {pair: dense(pair) for pair in pairs})


def entries(projection: FixedProjection, placement, profile: HardwareProfile):
    """What is stored and read: the weights, or all places of a shared kernel (tests/chip/test_shared_memory.py)."""
    return memory.entries(projection, placement.formats[projection.name], profile.layout)


def check_by_hand(fixed: FixedNetwork, profile: HardwareProfile, placement) -> None:
    """Every neuron once, every synapse once, and each core's use by counting axon by axon."""
    core_of = {}
    for population in fixed.populations:
        cores = placement.core_of(population.name)
        assert cores.shape == (population.n,)
        core_of |= {(population.name, i): int(core) for i, core in enumerate(cores)}
    assert set(core_of.values()) == set(range(placement.n_cores))

    rows: dict[tuple[int, str, int], int] = defaultdict(int)  # (core, projection, source) → synapses
    targets: dict[tuple[int, str], int] = defaultdict(int)
    for population in fixed.populations:
        for i in range(population.n):
            targets[core_of[population.name, i], population.name] += 1
    n_synapses = 0
    for projection in fixed.projections:
        dense = entries(projection, placement, profile).to_dense()
        for target, source in zip(*np.nonzero(dense), strict=True):
            rows[core_of[projection.target, int(target)], projection.name, int(source)] += 1
            n_synapses += 1
        if placement.formats[projection.name] == "dense":
            for (core, name), n in targets.items():
                for source in range(dense.shape[1]) if name == projection.target else ():
                    rows[core, projection.name, source] = n
        else:
            table = placement.axons[projection.name]
            assert int(table.synapses.sum()) == entries(projection, placement, profile).nnz
            found = {
                (int(placement.core_of_chunk[chunk]), projection.name, int(source)): int(n)
                for source, chunk, n in zip(table.sources, table.chunks, table.synapses, strict=True)
            }
            assert found == {key: n for key, n in rows.items() if key[1] == projection.name}
    assert n_synapses == sum(entries(projection, placement, profile).nnz for projection in fixed.projections)

    check_use(fixed, profile, placement, core_of, rows, targets)


def check_use(fixed, profile, placement, core_of, rows, targets) -> None:
    """Each core's use, from (core, projection, source) → synapses and (core, population) → neurons."""
    by_name = {projection.name: projection for projection in fixed.projections}
    use = {name: np.zeros(placement.n_cores, dtype=np.int64) for name in placement.use}
    for core in core_of.values():
        use["compartments"][core] += 1
    axons = set()
    for (core, name, source), n in rows.items():
        projection = by_name[name]
        layout = row_format(projection, profile.layout)
        if placement.formats[name] == "shared":
            bits = 0
        elif placement.formats[name] == "dense":
            bits = layout.dense_bits(1, n)
        else:
            bits = layout.indexed_bits([n], targets[core, projection.target])
        use["synaptic_bits"][core] += bits
        axons.add((core, projection.source, source))
    for chunk, core in zip(placement.chunks, placement.core_of_chunk, strict=True):
        for projection in fixed.projections:
            if (projection.target, placement.formats[projection.name]) == (chunk.population, "shared"):
                use["synaptic_bits"][core] += memory.shared_bits(projection, chunk.part, profile.layout)
    for core, population, source in axons:  # one per core, through however many projections
        use["input_axons"][core] += 1
        if population != "input":
            use["output_axons"][core_of[population, source]] += 1
    for name in ("compartments", "synaptic_bits", "input_axons", "output_axons"):
        assert use[name].tolist() == placement.use[name].tolist(), name
        most = placement.limits[name]
        assert most is None or use[name].max() <= most, name


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_no_limit_broken_no_synapse_lost(seed):
    rng = np.random.default_rng(seed)
    fixed = random_network(rng)
    profile = small_chip(
        int(rng.integers(3, 40)),
        int(rng.integers(8_000, 30_000)),
        int(rng.integers(60, 200)),
        int(rng.integers(60, 400)),
    )
    for dense in (False, True):
        try:
            placement = place(fixed, profile, dense=dense)
        except (
            FitError
        ):  # a single neuron is too large for such a core; test_every_broken_limit… checks the report
            continue
        check_by_hand(fixed, profile, placement)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_feature_maps_are_placed_by_the_same_rules(seed, kernels):
    """Convolutions of any stride, padding, dilation and groups, on chips that share rows or kernels, dense and sparse."""
    rng = np.random.default_rng(seed)
    fixed, _ = random_kernels.make(seed, 0)
    profile = small_chip(
        int(rng.integers(3, 60)),
        int(rng.integers(4_000, 40_000)),
        int(rng.integers(40, 400)),
        int(rng.integers(100, 800)),
        base=LOIHI2 if kernels else LOIHI1,
    )
    for dense in (False, True):
        network = memory.filled(fixed) if dense else fixed
        try:
            placement = place(network, profile, dense=dense)
        except FitError:
            continue
        check_by_hand(network, profile, placement)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_placement_is_deterministic(seed):
    fixed = random_network(np.random.default_rng(seed))
    first, second = (place(fixed, small_chip(20, 20_000, 500, 4000)) for _ in range(2))
    assert first.chunks == second.chunks
    assert np.array_equal(first.core_of_chunk, second.core_of_chunk)
    assert np.array_equal(first.positions, second.positions)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_core_memory_holds_synapses_state_and_axons(seed):
    """On Loihi 2 they share 192 KB; here a chip with little of it: n · 64 + (in + out axons) · 64 + bits."""
    rng = np.random.default_rng(seed)
    fixed = random_network(rng)
    profile = small_chip(1000, 30_000, 1000, 1000, base=LOIHI2)
    profile = dataclasses.replace(
        profile, limits=dataclasses.replace(profile.limits, core_memory=limit(40_000, "bits"))
    )
    placement = place(fixed, profile)
    use = placement.use
    total = use["synaptic_bits"] + 64 * (use["compartments"] + use["input_axons"] + use["output_axons"])
    assert use["memory_bits"].tolist() == total.tolist()
    assert total.max() <= 40_000


def test_as_few_cores_as_the_compartments_allow():
    """2500 neurons of three populations at 1024 per core, little else: ⌈2500 / 1024⌉ = 3 cores."""
    sizes = {"a": 1100, "b": 1100, "c": 300}
    fixed = network(1, sizes, {("input", name): np.eye(n, 1) * 2 for name, n in sizes.items()})
    assert place(fixed, LOIHI1).n_cores == 3


def test_cores_share_a_population_evenly():
    """1030 neurons need two cores of 1024: 515 on each, not 1024 and 6; a timestep lasts as long as the fullest."""
    fixed = network(1, {"a": 1030}, {("input", "a"): np.eye(1030, 1) * 2})
    assert place(fixed, LOIHI1).use["compartments"].tolist() == [515, 515]


def test_the_dense_network_needs_the_cores_that_its_bits_need():
    """512 → 256 at 8 bits is 1,179,648 bits dense, 112.5 % of a core: two cores; sparse (10 %): one."""
    rng = np.random.default_rng(0)
    fixed = network(512, {"a": 256}, {("input", "a"): np.where(rng.random((256, 512)) < 0.1, 2, 0)})
    assert place(fixed, LOIHI1).n_cores == 1
    assert place(fixed, LOIHI1, dense=True).n_cores == 2


def test_more_cores_than_a_chip_has_take_more_chips():
    fixed = network(1, {"a": 95}, {("input", "a"): np.eye(95, 1) * 2})
    placement = place(fixed, small_chip(10, 10_000, 100, 100, cores=4))
    assert (placement.n_cores, placement.n_chips) == (10, 3)
    assert placement.positions[:, 0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]


def test_more_chips_than_a_system_has_do_not_fit():
    profile = small_chip(1, 10_000, 100, 100, cores=2)
    profile = dataclasses.replace(
        profile, limits=dataclasses.replace(profile.limits, chips_per_system=limit(2, "chips"))
    )
    fixed = network(1, {"a": 5}, {("input", "a"): np.ones((5, 1)) * 2})
    with pytest.raises(FitError, match="5 cores, that is 3 chips; allowed: 2 chips"):
        place(fixed, profile)


@pytest.mark.parametrize(("kinds", "n_cores"), [(1, 1), (32, 1), (33, 2), (64, 2), (65, 3)])
def test_a_core_of_loihi_1_holds_32_neuron_profiles(kinds, n_cores):
    """65 populations of one neuron fit a core but for their decays, of which ``kinds`` differ; thresholds do not count."""
    names = [f"p{i}" for i in range(65)]
    neurons = {
        name: FixedCubaLif(10 + i % kinds, 20, 100 + i, np.zeros(1, np.int32)) for i, name in enumerate(names)
    }
    fixed = FixedNetwork(
        (1,),
        tuple(FixedPopulation(name, (1,), neuron) for name, neuron in neurons.items()),
        tuple(FixedProjection(f"w{name}", "input", name, csr([[2]]), SignMode.MIXED) for name in names),
        Readout("p0"),
        "loihi1",
    )
    placement = place(fixed, LOIHI1)
    held = defaultdict(set)
    for chunk, core in zip(placement.chunks, placement.core_of_chunk, strict=True):
        held[int(core)].add(neurons[chunk.population].du)
    assert max(map(len, held.values())) <= 32
    assert placement.n_cores == n_cores
    assert place(dataclasses.replace(fixed, chip="loihi2"), LOIHI2).n_cores == 1


def test_every_broken_limit_is_reported_with_a_remedy():
    """One neuron needs 200 axons of 64 bits, and each of the 200 inputs' neurons one output axon: two limits."""
    fixed = network(200, {"a": 1, "b": 1}, {("input", "a"): np.full((1, 200), 2), ("a", "b"): [[2]]})
    with pytest.raises(FitError, match="fan-in") as caught:
        place(fixed, small_chip(10, 12_000, 100, 100))
    codes = [problem.code for problem in caught.value.problems]
    assert codes == ["fan-in", "fan-in-memory"]  # 200 > 100 axons; 200 · 64 = 12,800 > 12,000 bits
    assert all("sparsity" in problem.remedy for problem in caught.value.problems)


def test_output_axons_of_one_neuron():
    """A neuron that reaches 30 cores of one neuron each, where a core has 20 output axons."""
    fixed = network(1, {"a": 1, "b": 30}, {("input", "a"): [[2]], ("a", "b"): np.full((30, 1), 2)})
    with pytest.raises(FitError, match="output-axons-per-core"):
        place(fixed, small_chip(1, 10_000, 100, 20))


def test_slots_snake_through_the_tiles():
    """8 × 4 tiles of 4 cores: slot 28 is in tile 7, at the east end; slot 32 in the tile above it."""
    positions = slot_positions(LOIHI1, 129)
    assert positions[[0, 3, 4, 28, 32, 63, 127, 128]].tolist() == [
        [0, 0, 0],
        [0, 0, 0],
        [0, 1, 0],
        [0, 7, 0],
        [0, 7, 1],
        [0, 0, 1],
        [0, 0, 3],
        [1, 0, 0],
    ]


def test_hops_are_manhattan_distances_on_one_chip():
    east_west, north_south = hops(np.array([[0, 0, 0], [0, 3, 2], [1, 3, 2]]))
    assert east_west.tolist() == [[0, 3, 0], [3, 0, 0], [0, 0, 0]]
    assert north_south.tolist() == [[0, 2, 0], [2, 0, 0], [0, 0, 0]]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 40))
def test_arranging_never_lengthens_the_way(seed, n):
    rng = np.random.default_rng(seed)
    traffic = rng.integers(0, 50, (n, n)).astype(float)
    traffic = np.triu(traffic, 1) + np.triu(traffic, 1).T
    positions = slot_positions(LOIHI1, n)
    distance = sum(hops(positions))
    slots = arrange(csr_matrix(traffic), positions)
    assert sorted(slots.tolist()) == list(range(n))
    assert (traffic * distance[np.ix_(slots, slots)]).sum() <= (traffic * distance).sum()
