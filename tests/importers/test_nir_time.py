"""Time steps and writers' conventions of NIR files are known, asked for or named, never guessed."""

from __future__ import annotations

import json
import warnings
from math import exp

import numpy as np
import pytest
from support import peers
from support.command import call
from support.networks import random_network, random_spikes

from lbi.cli.export import main as lbi_export
from lbi.errors import InputError, UsageError
from lbi.importers import load_nir
from lbi.importers.nir_time import NirWarning
from lbi.simulation import oracle

nir = pytest.importorskip("nir")
pytestmark = pytest.mark.filterwarnings("ignore::lbi.importers.nir_time.NirWarning")


def graph_of(neuron, n_in=8, seed=0):
    """One layer of 4 neurons behind random weights; behind neurons of several τ, one more of the first's kind."""
    rng = np.random.default_rng(seed)
    layers = [nir.Linear(rng.normal(0.1, 0.5, (4, n_in))), neuron]
    if isinstance(neuron, nir.LIF) and np.ptp(neuron.tau):
        layers += [nir.Linear(rng.normal(0.1, 0.5, (4, 4))), lif(neuron.tau[0], neuron.r[0])]
    return nir.NIRGraph.from_list(*layers)


def lif(tau, r, **other):
    tau = np.broadcast_to(np.asarray(tau, float), (4,)).copy()
    r = np.broadcast_to(np.asarray(r, float), (4,)).copy()
    values = {"v_leak": np.zeros(4), "v_threshold": np.ones(4), **other}
    return nir.LIF(tau=tau, r=r, **values)


def write(path, neuron):
    nir.write(path, graph_of(neuron))
    return path


TAUS = np.array([2e-3, 5e-3, 5e-3, 8e-3])


@pytest.mark.parametrize("dt", [1e-4, 2.5e-4, 1e-3])
def test_several_time_constants_that_agree_decide_the_step(dt, tmp_path):
    path = write(tmp_path / "net.nir", lif(TAUS, TAUS / dt))
    network = load_nir(path)
    assert network.meta["nir"]["dt"] == pytest.approx(dt)
    assert network.meta["nir"]["dt_from"] == "R = τ/dt for τ from 0.002 to 0.008"
    decays = {round(population.neuron.voltage_decay, 9) for population in network.populations}
    assert decays == {round(decay, 9) for decay in dt / TAUS}


@pytest.mark.parametrize(
    ("tau", "r"), [(0.02, 2.0), (0.02, 1.0), (TAUS, 1.0), (TAUS, 7.0), (1e-4, 1.0), (20.0, 20.0)]
)
def test_what_decides_nothing_is_asked_for(tau, r, tmp_path):
    path = write(tmp_path / "net.nir", lif(tau, r))
    with pytest.raises(
        InputError, match=r"no-time-step: .*fix: give dt in seconds \(--dt\), or the framework"
    ):
        load_nir(path)
    done = call(lbi_export, path, "--target", "csr")
    assert (done.code, len(done.errors)) == (3, 1)
    network = load_nir(path, dt=1e-4, writer="norse")
    assert network.meta["nir"] == {
        "dt": 1e-4,
        "dt_from": "given",
        "writer": "norse",
        "notes": network.meta["nir"]["notes"],
    }


def test_a_given_step_is_the_step_and_is_told_in_text_and_json(tmp_path, rng):
    """One τ of 20 ms at 1 ms: by hand, v ← 0.95 v + 0.05 · R · input, for R = 2."""
    path = write(tmp_path / "net.nir", lif(0.02, 2.0))
    network = load_nir(path, dt=1e-3)
    assert network.populations[0].neuron.voltage_decay == pytest.approx(0.05)
    spikes = random_spikes(rng, 2, 40, 8)
    weight, v = np.asarray(nir.read(path).nodes["linear"].weight), np.zeros((2, 4))
    expected = np.zeros((2, 40, 4))
    for t in range(40):
        v = 0.95 * v + 0.05 * 2.0 * (spikes[:, t] @ weight.T)
        expected[:, t] = v > 1
        v = np.where(v > 1, 0.0, v)
    assert np.array_equal(oracle.simulate(network, spikes).output_spikes, expected)
    done = call(lbi_export, path, "--target", "csr", "--dt", "0.001", "-o", tmp_path / "a.csr", "--json")
    assert done.json["nir"] == {"dt": 0.001, "dt_from": "given", "writer": "nir"}
    done = call(lbi_export, path, "--target", "csr", "--dt", "0.001", "-o", tmp_path / "b.csr")
    assert f"{path} read with a time step of 0.001 s (given)" in done.out
    for wrong in ("0", "-1", "nan", "inf"):
        assert call(lbi_export, path, "--target", "csr", "--dt", wrong).code == 2
    with pytest.raises(UsageError, match="unknown-writer: writer: 'torch'; allowed: nir, snntorch"):
        load_nir(path, writer="torch")


@pytest.mark.parametrize(
    ("neuron", "writer", "named"),
    [
        (lif(TAUS, TAUS / 1e-4), None, "subtraction.*one step late.*graded_spikes_factor"),
        (lif(2e-3, 20.0), None, "the file looks like snntorch's"),
        (lif(10.0, 1.0), "sinabs", "norm_input.*several spikes a step.*subtraction.*min_v_mem"),
        (lif(1e-5, 1.0), "norse", "v_reset"),
    ],
)
def test_what_the_format_loses_is_named(neuron, writer, named, tmp_path):
    path = write(tmp_path / "net.nir", neuron)
    with pytest.warns(NirWarning, match=named):
        network = load_nir(path, writer=writer)
    options = [] if writer is None else ["--writer", writer]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as PYTHONWARNINGS=ignore: the command prints it all the same
        done = call(lbi_export, path, "--target", "csr", *options, "--json")
    assert done.code == 0
    assert any("NIR does not hold" in line for line in done.errors)
    assert done.json["notes"][: len(network.meta["nir"]["notes"])] == network.meta["nir"]["notes"]


def test_a_file_that_looks_like_sinabs_s_says_how_it_would_read_it(tmp_path):
    path = write(tmp_path / "net.nir", lif(10.0, 1.0))
    with pytest.warns(NirWarning, match="looks like sinabs's.*or say --writer sinabs"):
        load_nir(path, dt=1.0)


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
@pytest.mark.parametrize("decay_input", [True, False])
def test_spikingjelly(decay_input, rng, tmp_path):
    """As its exporter writes it: τ in steps · 0.0001 s, R of 1 or τ; equal to its own neurons, at the threshold too."""
    torch = pytest.importorskip("torch")
    neuron = peers.package("spikingjelly.activation_based.neuron")
    tau = 4.0
    path = tmp_path / "net.nir"
    weight = rng.integers(-2, 3, (4, 8)) / 2.0  # sums meet the threshold exactly
    node = lif(tau * 1e-4, 1.0 if decay_input else tau)
    nir.write(path, nir.NIRGraph.from_list(nir.Linear(weight), node))
    network = load_nir(path, writer="spikingjelly")
    assert network.meta["nir"]["dt"] == 1e-4
    assert network.meta["nir"]["notes"] == []
    theirs = neuron.LIFNode(tau=tau, decay_input=decay_input, v_threshold=1.0, v_reset=0.0)
    spikes = random_spikes(rng, 3, 60, 8, rate=0.5)
    with torch.no_grad():
        out = [theirs(torch.from_numpy(spikes[:, t] @ weight.T).float()).numpy() for t in range(60)]
    assert np.stack(out, 1).mean() > 0.02
    assert np.array_equal(oracle.simulate(network, spikes).output_spikes, np.stack(out, 1))


def test_spikingjellys_neurons_without_a_leak(tmp_path):
    node = nir.IF(r=np.full(4, 1e4), v_threshold=np.ones(4), v_reset=np.zeros(4))
    network = load_nir(write(tmp_path / "net.nir", node))
    assert network.meta["nir"]["dt"] == 1e-4


def test_norses_integrate_and_fire_takes_its_input_in_full(rng, tmp_path):
    torch = pytest.importorskip("torch")
    iaf = peers.package("norse.torch.module.iaf")
    path = write(tmp_path / "net.nir", nir.IF(r=np.ones(4), v_threshold=np.ones(4), v_reset=np.zeros(4)))
    with pytest.warns(NirWarning, match="norse"):
        network = load_nir(path, writer="norse")
    weight = np.asarray(nir.read(path).nodes["linear"].weight)
    spikes, state, out = random_spikes(rng, 2, 40, 8), None, []
    with torch.no_grad():
        for t in range(40):
            z, state = iaf.IAFCell()(torch.from_numpy(spikes[:, t] @ weight.T), state)
            out.append(z.numpy())
    assert np.array_equal(oracle.simulate(network, spikes).output_spikes, np.stack(out, 1))


def rockpool(tau, dt):
    return tau / dt * np.exp(-dt / np.asarray(tau))


def test_rockpools_neurons_are_refused_with_what_its_files_lose(tmp_path):
    path = write(tmp_path / "net.nir", lif(TAUS, rockpool(TAUS, 1e-3)))
    for writer in (None, "rockpool"):
        with pytest.raises(
            InputError, match=r"(?s)rockpool-neuron: .*node 'lif'.*subtracts.*several.*bias.*recurrent"
        ):
            load_nir(path, writer=writer)
    with pytest.warns(NirWarning, match="looks like rockpool's.*subtraction"):
        network = load_nir(path, dt=1e-3)
    assert network.meta["nir"]["writer"] == "nir"


@pytest.mark.parametrize("spikes", [True, False])
@pytest.mark.parametrize("writer", [None, "nir"])
def test_one_time_constant_of_the_membrane_is_nobodys_mark(spikes, writer, tmp_path):
    """Any R is (τ/dt)·exp(−dt/τ) of some dt, and a τ of the current says nothing about it."""
    ones = np.ones(4)
    values = {"tau_syn": 0.01 * ones, "tau_mem": 0.02 * ones, "r": ones, "v_leak": 0 * ones, "w_in": ones}
    node = nir.CubaLIF(v_threshold=ones, **values) if spikes else nir.CubaLI(**values)
    path = write(tmp_path / "net.nir", node)
    with pytest.raises(InputError, match="no-time-step"):
        load_nir(path, writer=writer)
    network = load_nir(path, dt=1e-3, writer=writer)
    assert not [note for note in network.meta["nir"]["notes"] if "rockpool" in note]


def test_rockpools_synapse_is_read_as_it_runs(rng, tmp_path):
    """By hand: I ← (I + input) · exp(−dt/τ), which is what its ExpSynTorch does."""
    tau, dt = 5e-3, 1e-3
    node = nir.LI(tau=np.full(4, tau), r=np.full(4, rockpool(tau, dt)), v_leak=np.zeros(4))
    path = write(tmp_path / "net.nir", node)
    with pytest.warns(NirWarning, match="rockpool"):
        network = load_nir(path, writer="rockpool")
    assert network.meta["nir"]["dt"] == pytest.approx(dt)
    weight = np.asarray(nir.read(path).nodes["linear"].weight)
    spikes, current, expected = random_spikes(rng, 2, 30, 8), np.zeros((2, 4)), []
    for t in range(30):
        current = (current + spikes[:, t] @ weight.T) * exp(-dt / tau)
        expected.append(current)
    np.testing.assert_allclose(oracle.simulate(network, spikes).output, np.stack(expected, 1), rtol=1e-9)


def trained(rng, shape=(2, 2, 2), current_decay=1.0):
    """A network with names and an input shape that readers stumble over, and biases where currents forget."""
    from dataclasses import replace

    import lbi

    network = random_network(rng, (8, 6, 4), density=0.6)
    old = [population.name for population in network.populations]
    names = dict(zip(old, ("h.1-a", "output"), strict=True))
    populations = tuple(
        replace(
            p,
            name=names[p.name],
            neuron=lbi.CubaLif(
                current_decay,
                0.125,
                0.3 if current_decay == 1 else 0.1,
                rng.normal(0, 0.05, p.n) if current_decay == 1 else None,
            ),
        )
        for p in network.populations
    )
    projections = tuple(
        replace(p, source=names.get(p.source, p.source), target=names[p.target]) for p in network.projections
    )
    return lbi.Network(shape, populations, projections, lbi.Readout("output"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("current_decay", [1.0, 0.25])
@pytest.mark.parametrize("reader", ["snntorch", "norse"])
def test_ours_run_in_others_on_batches_and_on_single_samples(reader, current_decay, rng, tmp_path):
    torch = pytest.importorskip("torch")
    from lbi.exporters import nir as exporter

    network = trained(rng, current_decay=current_decay)
    dt = {"snntorch": 1e-4, "norse": 1e-3}[reader]
    nir.write(tmp_path / "net.nir", exporter.graph(network, dt))
    spikes = random_spikes(rng, 3, 40, 8)
    expected = oracle.simulate(network, spikes).output_spikes
    assert expected.mean() > 0.01
    again = load_nir(tmp_path / "net.nir")
    assert [p.name for p in again.populations] == ["h.1-a", "output"]
    assert np.array_equal(oracle.simulate(again, spikes).output_spikes, expected)

    def run(samples):
        graph = nir.read(tmp_path / "net.nir")
        assert set(graph.nodes) >= {"input", "output", "output_", "h_1_a"}
        assert isinstance(graph.nodes["output"], nir.Output)
        model = (
            peers.package("snntorch.import_nir").import_from_nir(graph)
            if reader == "snntorch"
            else peers.package("norse.torch").from_nir(graph)
        )
        state, out = None, []
        with torch.no_grad():
            for t in range(40):
                got, state = model(samples[..., t, :, :, :], state)
                out.append(got[0] if isinstance(got, tuple) else got)
        return torch.stack(out, -2).numpy()

    samples = torch.from_numpy(spikes).float().reshape(3, 40, 2, 2, 2)
    assert np.array_equal(run(samples), expected)
    if reader == "norse" or current_decay < 1:  # snnTorch's Leaky takes batches alone
        assert np.array_equal(run(samples[0]), expected[0].reshape(run(samples[0]).shape))


def test_export_takes_the_step_to_write(rng, tmp_path):
    import lbi
    from lbi.quantization.to_integers import quantize

    lbi.save(quantize(trained(rng)), tmp_path / "net.h5")
    done = call(
        lbi_export,
        tmp_path / "net.h5",
        "--target",
        "nir",
        "--dt",
        "0.001",
        "-o",
        tmp_path / "a.nir",
        "--json",
    )
    assert done.code == 0, done.errors
    assert "time step 0.001 s" in done.json["notes"][0]
    assert load_nir(tmp_path / "a.nir").meta["nir"] == {
        "dt": 1e-3,
        "dt_from": "file",
        "writer": "nir",
        "notes": [],
    }
    done = call(lbi_export, tmp_path / "net.h5", "--target", "nir", "--dt", "-1", "-o", tmp_path / "b.nir")
    assert (done.code, done.errors) == (
        2,
        ["error: time-step: --dt: -1.0; allowed: seconds above 0; fix: give --dt in seconds, such as 0.001"],
    )


def test_scales_that_a_file_states_are_checked(rng, tmp_path):
    from dataclasses import replace

    from lbi.exporters import nir as exporter

    network = trained(rng)
    whole = tuple(
        replace(p, weights=replace(p.weights, data=np.rint(p.weights.data * 50) / 50 + 1 / 50))
        for p in network.projections
    )
    network = replace(network, projections=whole)
    for scales, fits in (({"output": 50.0}, True), ({"output": 37.3}, False)):
        nir.write(tmp_path / "net.nir", exporter.graph(replace(network, meta={"scales": scales})))
        if fits:
            assert load_nir(tmp_path / "net.nir").meta["scales"] == scales
        else:
            with pytest.warns(NirWarning, match="scales in its metadata do not fit its weights"):
                assert "scales" not in load_nir(tmp_path / "net.nir").meta
    for scales in ({"output": -1.0}, {"output": "2"}, [1.0], {"output": True}):
        graph = exporter.graph(network)
        entry = json.loads(graph.metadata["lbi"])
        graph.metadata["lbi"] = json.dumps({**entry, "meta": {"scales": scales}})
        nir.write(tmp_path / "net.nir", graph)
        with pytest.raises(InputError, match=r"nir-scales: .*metadata, scales: .*h\.1-a, output"):
            load_nir(tmp_path / "net.nir")
