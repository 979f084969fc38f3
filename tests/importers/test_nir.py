"""NIR import and export: correct decays from all writers, our files in all readers, and nothing dropped."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from support import cases, peers
from support.command import call
from support.networks import random_network, random_spikes

import lbi
from lbi.cli.export import main as lbi_export
from lbi.errors import InputError, UsageError
from lbi.importers import from_torch, load_nir
from lbi.quantization.to_floats import dequantize
from lbi.simulation import oracle

nir = pytest.importorskip("nir")
pytestmark = pytest.mark.filterwarnings("ignore")  # nir's and the peers' own

REFUSED = {"adaptive": "neuron-model", "integrator": "no-spikes"}
"""Cases that NIR cannot hold → code of the refusal."""


def to_file(network, path):
    from lbi.exporters import nir as exporter

    nir.write(path, exporter.graph(network))
    return path


@pytest.mark.parametrize("name", sorted(set(cases.CASES) - set(REFUSED)))
def test_round_trip_keeps_every_spike(name, tmp_path):
    """Integers → floats → NIR → floats: delays, biases, recurrence, skips and empty projections included."""
    fixed, spikes = cases.make(name)
    network = dequantize(fixed)
    again = load_nir(to_file(network, tmp_path / "net.nir"))
    expected = oracle.simulate(network, spikes).output
    assert np.unique(expected).size > 1
    # Voltages are sums of products with τ and 1/τ: a few units of the last place off.
    found, voltages = oracle.simulate(again, spikes).output, network.readout.of_membrane
    assert np.abs(found.astype(float) - expected).max() <= (1e-9 * np.abs(expected).max() if voltages else 0)
    assert again.n_active == network.n_active
    assert [p.name for p in again.populations] == [p.name for p in network.populations]
    assert again.readout == network.readout
    assert {(p.source, p.target) for p in again.projections} == {
        (p.source, p.target) for p in network.projections
    }


def test_a_population_without_input_gets_no_places_for_weights(tmp_path):
    """NIR has no node without an input: ``always_on`` gets zeros from it, which are none of the network's."""
    snn = peers.package("snntorch")
    neuron = {"reset_mechanism": "zero", "reset_delay": False, "init_hidden": True}
    torch.manual_seed(0)
    parts = [
        (peers.linear(a, b, 3.0, bias=True), snn.Synaptic(0.5, 0.9, **neuron)) for a, b in ((64, 12), (12, 8))
    ]
    network = from_torch(torch.nn.Sequential(*parts[0], *parts[1]), 64)
    again = load_nir(to_file(network, tmp_path / "net.nir"))
    assert network.populations[0].name == "always_on"
    assert [p.name for p in again.projections] == [p.name for p in network.projections]
    assert again.n_weights == network.n_weights == 64 * 12 + 12 + 12 * 8 + 8
    for ours, read in zip(network.projections, again.projections, strict=True):
        off = np.abs(read.weights.to_dense() - ours.weights.to_dense())
        assert off.max() <= 4 * np.finfo(float).eps * np.abs(ours.weights.data).max()  # · τ · 1/τ
    spikes = (np.random.default_rng(0).random((3, 50, 64)) < 0.2).astype(np.uint8)
    expected = oracle.simulate(network, spikes).output_spikes
    assert 0.02 < expected.mean() < 0.9
    assert np.abs(oracle.simulate(again, spikes).output_spikes - expected).sum() == 0


def test_zeros_that_someone_filled_in_are_read(tmp_path):
    """Metadata does not hide weights: the zeros of a missing input are left out only as long as they are zeros."""
    from lbi.exporters import nir as exporter

    fixed, _ = cases.make("feed_forward")
    graph = exporter.graph(dequantize(fixed))
    entry = json.loads(graph.metadata["lbi"])
    name = next(name for name, node in graph.nodes.items() if type(node).__name__ == "Linear")
    graph.metadata["lbi"] = json.dumps({**entry, "nothing": [name]})
    nir.write(tmp_path / "net.nir", graph)
    assert load_nir(tmp_path / "net.nir").n_active == dequantize(fixed).n_active > 0


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_neurons_without_a_node_are_refused(name, tmp_path):
    lbi.save(cases.make(name)[0], tmp_path / "net.h5")
    done = call(lbi_export, tmp_path / "net.h5", "--target", "nir")
    assert done.code == 3
    assert [line.split(": ")[1] for line in done.errors] == [REFUSED[name]]
    assert not (tmp_path / "net.nir").exists()


def test_command_there_and_back(tmp_path):
    """network.h5 → .nir → loihi folder → the same spikes; the same input gives the same bytes."""
    fixed, spikes = cases.make("recurrent")
    lbi.save(fixed, tmp_path / "net.h5")
    for name in ("a.nir", "b.nir"):
        done = call(lbi_export, tmp_path / "net.h5", "--target", "nir", "-o", tmp_path / name)
        assert done.code == 0, done.errors
    assert (tmp_path / "a.nir").read_bytes() == (tmp_path / "b.nir").read_bytes()
    assert call(lbi_export, tmp_path / "a.nir", "--target", "loihi").code == 0
    float_spikes = oracle.simulate(dequantize(fixed), spikes).output_spikes
    again = oracle.simulate(lbi.load(tmp_path / "a.loihi"), spikes).output_spikes
    assert np.count_nonzero(again != float_spikes) <= 0.02 * float_spikes.size


def test_decays_of_zero_and_one(rng, tmp_path):
    """No leak at all, and no memory at all, are exact."""
    network = random_network(rng, (8, 6, 4), bias=True)
    neurons = (lbi.CubaLif(1.0, 0.0, 1.0, network.populations[0].neuron.bias), lbi.CubaLif(0.25, 0.0, 1.0))
    populations = tuple(
        replace(population, neuron=neuron)
        for population, neuron in zip(network.populations, neurons, strict=True)
    )
    network = replace(network, populations=populations)
    again = load_nir(to_file(network, tmp_path / "net.nir"))
    spikes = random_spikes(rng, 3, 60, 8)
    assert np.array_equal(
        oracle.simulate(again, spikes).output_spikes, oracle.simulate(network, spikes).output_spikes
    )
    for before, after in zip(network.populations, again.populations, strict=True):
        assert after.neuron.voltage_decay == pytest.approx(before.neuron.voltage_decay, abs=1e-15)
        assert after.neuron.current_decay == before.neuron.current_decay


def written_by(name, n_in=8, n_hidden=6, n_out=4):
    """A framework's model and the NIR graph that its own exporter makes of it."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    peer = {**peers.PEERS, **peers.READ_BY_VOLTAGE}[name]()
    model = peer.make(n_in, n_hidden, n_out)
    sample = torch.zeros(1, n_in)
    framework = name.split()[0]
    if framework == "snntorch":
        for linear, neuron in zip(model[::2], model[1::2], strict=True):
            for key in ("alpha", "beta", "threshold"):  # it writes shapes only of parameters per neuron
                if hasattr(neuron, key):
                    setattr(neuron, key, torch.full((linear.out_features,), float(getattr(neuron, key))))
        graph = peers.package("snntorch.export_nir").export_to_nir(model, sample, ignore_dims=[0])
    elif framework == "norse":
        sequence = peers.package("norse.torch").SequentialState(*model)
        graph = peers.package("norse.torch.utils.export_nir").to_nir(sequence, sample)
    else:
        layers = peers.package("sinabs.layers")
        squeezed = [  # samples and steps in one dimension, which it leaves out of the file
            module
            if isinstance(module, torch.nn.Linear)
            else layers.ExpLeakSqueeze(batch_size=1, tau_mem=10.0)
            if isinstance(module, layers.ExpLeak)
            else layers.LIFSqueeze(
                batch_size=1,
                tau_mem=10.0,
                spike_fn=module.spike_fn,
                reset_fn=module.reset_fn,
                norm_input=False,
            )
            for module in model
        ]
        graph = peers.package("sinabs.nir").to_nir(torch.nn.Sequential(*squeezed), torch.zeros(5, n_in))
    return peer, model, graph


@pytest.mark.parametrize(
    ("name", "writer", "decays"),
    [
        # β and α are what is kept per step: our decays are the fractions lost.
        ("snntorch Leaky", None, (1.0, 1 - 0.9)),
        ("snntorch Synaptic, reset at once", None, (1 - 0.7, 1 - 0.9)),
        ("snntorch Leaky", "snntorch", (1.0, 1 - 0.9)),
        # norse's defaults: dt = 1 ms, τ_syn = 5 ms, τ_mem = 10 ms.
        ("norse LIFCell", "norse", (0.001 / 5e-3, 0.001 / 1e-2)),
        ("norse LIFBoxCell", "norse", (1.0, 0.001 / 1e-2)),
        ("sinabs LIF", "sinabs", (1.0, 1 - np.exp(-1 / 10.0))),
    ],
)
def test_files_of_other_writers(name, writer, decays, rng, tmp_path):
    """Decays as the framework's parameters say, and the spikes of its own forward pass."""
    import torch

    peer, model, graph = written_by(name)
    nir.write(tmp_path / "net.nir", graph, compression=None)  # NIR cannot compress scalars
    network = load_nir(tmp_path / "net.nir", writer=writer)
    for population in network.populations:
        if population.name != "always_on":
            found = (population.neuron.current_decay, population.neuron.voltage_decay)
            assert found == pytest.approx(decays, rel=1e-4)
    spikes = random_spikes(rng, 3, 60, 8)
    with torch.no_grad():
        theirs = peer.run(model, torch.from_numpy(spikes).float()).numpy()
    ours = oracle.simulate(network, spikes).output_spikes
    assert ours.mean() > 0.005
    assert np.array_equal(theirs, ours)


@pytest.mark.parametrize(("name", "writer"), [("norse LIBoxCell", "norse"), ("sinabs ExpLeak", "sinabs")])
def test_integrators_of_other_writers(name, writer, rng, tmp_path):
    """The voltages of the framework's own forward pass."""
    import torch

    peer, model, graph = written_by(name)
    nir.write(tmp_path / "net.nir", graph, compression=None)
    network = load_nir(tmp_path / "net.nir", writer=writer)
    spikes = random_spikes(rng, 3, 60, 8)
    with torch.no_grad():
        theirs = peer.run(model, torch.from_numpy(spikes).float()).numpy()
    ours = oracle.simulate(network, spikes).output
    assert np.abs(ours).max() > 0.1
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-5 * np.abs(ours).max())


def test_a_file_without_a_time_step_is_not_guessed(tmp_path):
    _, _, graph = written_by("sinabs LIF")
    nir.write(tmp_path / "net.nir", graph, compression=None)  # NIR cannot compress scalars
    with pytest.raises(InputError, match=r"no-time-step: .*--dt.*--writer.*snntorch, norse, sinabs"):
        load_nir(tmp_path / "net.nir")
    with pytest.raises(UsageError, match="unknown-writer"):
        load_nir(tmp_path / "net.nir", writer="brian")
    done = call(lbi_export, tmp_path / "net.nir", "--target", "loihi")
    assert (done.code, len(done.errors)) == (3, 1)
    assert call(lbi_export, tmp_path / "net.nir", "--target", "loihi", "--writer", "sinabs").code == 0


@pytest.mark.parametrize("current_decay", [1.0, 0.25])
def test_ours_load_in_snntorch(current_decay, rng):
    """snnTorch takes dt = 1e-4, our default: the same decays and the same spikes."""
    import torch
    from lbi.exporters import nir as exporter

    snn = peers.package("snntorch")
    importer = peers.package("snntorch.import_nir")
    network = plain(rng, current_decay, 0.125)
    model = importer.import_from_nir(exporter.graph(network))
    neurons = [module for module in model.modules() if isinstance(module, (snn.Leaky, snn.Synaptic))]
    assert [float(neuron.beta.max()) for neuron in neurons] == pytest.approx([1 - 0.125] * 2)
    if current_decay < 1:
        assert [float(neuron.alpha.max()) for neuron in neurons] == pytest.approx([1 - current_decay] * 2)
    spikes = random_spikes(rng, 2, 50, 8)
    state, outputs = None, []
    with torch.no_grad():
        for t in range(50):
            out, state = model(torch.from_numpy(spikes[:, t]).float(), state)
            outputs.append(out[0] if isinstance(out, tuple) else out)
    ours = oracle.simulate(network, spikes).output_spikes
    assert ours.mean() > 0.01
    assert np.array_equal(torch.stack(outputs, dim=1).numpy(), ours)


def test_ours_load_in_norse(rng):
    """norse takes dt = 1e-3: written for it, the same spikes. (It ignores R of ``LIF``, and says so.)"""
    import torch
    from lbi.exporters import nir as exporter

    importer = peers.package("norse.torch.utils.import_nir")
    network = plain(rng, 0.25, 0.125)
    model = importer.from_nir(exporter.graph(network, dt=1e-3), ignore_warnings=True, dt=1e-3)
    spikes = random_spikes(rng, 2, 50, 8)
    state, outputs = None, []
    with torch.no_grad():
        for t in range(50):
            out, state = model(torch.from_numpy(spikes[:, t]).float(), state)
            outputs.append(out)
    ours = oracle.simulate(network, spikes).output_spikes
    assert ours.mean() > 0.01
    assert np.array_equal(torch.stack(outputs, dim=1).numpy(), ours)


def test_ours_load_in_sinabs(rng):
    """sinabs counts τ in steps: written for dt = 1, its τ is 1/decay, which it then decays by exp(−1/τ).

    It ignores R, and takes several spikes per step and a soft reset: with those set right, its spikes are those of
    these equations with that decay.
    """
    import torch
    from lbi.exporters import nir as exporter

    sinabs, activation = peers.package("sinabs.nir"), peers.package("sinabs.activation")
    network = plain(rng, 1.0, 0.125)
    graph = exporter.graph(network, dt=1.0)
    for node in graph.nodes.values():  # its reader wants the arrays as tensors
        for key in ("tau", "r", "v_leak", "v_threshold"):
            if hasattr(node, key):
                setattr(node, key, torch.from_numpy(getattr(node, key)).float())
    linear = {name: node for name, node in graph.nodes.items() if isinstance(node, nir.Linear)}
    for name, node in linear.items():  # and no Linear without a bias
        graph.nodes[name] = nir.Affine(weight=node.weight, bias=np.zeros(node.weight.shape[0]))
    model = sinabs.from_nir(graph, batch_size=2)
    layers = [module for module in model.modules() if hasattr(module, "tau_mem")]
    assert [float(layer.tau_mem.max()) for layer in layers] == pytest.approx([1 / 0.125] * 2)
    for layer in layers:
        layer.spike_fn, layer.reset_fn = activation.SingleSpike, activation.MembraneReset()
    spikes = random_spikes(rng, 2, 50, 8)
    with torch.no_grad():
        out = model(torch.from_numpy(spikes).float().flatten(0, 1))
    theirs = (out[0] if isinstance(out, tuple) else out).reshape(2, 50, -1).numpy()
    decayed = tuple(
        replace(p, neuron=replace(p.neuron, voltage_decay=-np.expm1(-0.125))) for p in network.populations
    )
    ours = oracle.simulate(replace(network, populations=decayed), spikes).output_spikes
    assert ours.mean() > 0.01
    assert np.array_equal(theirs, ours)


def plain(rng, current_decay, voltage_decay):
    """A chain of two without biases, in float32 weights, for the readers of other frameworks."""
    network = random_network(rng, (8, 6, 4), density=0.8)
    neuron = lbi.CubaLif(current_decay, voltage_decay, 0.25)
    populations = tuple(replace(population, neuron=neuron) for population in network.populations)
    projections = tuple(
        replace(p, weights=p.weights.with_data(p.weights.data.astype(np.float32))[0])
        for p in network.projections
    )
    return replace(network, populations=populations, projections=projections)


def lif(n, tau=1e-3, dt=1e-4, **changes):
    one = np.ones(n)
    parameters = {
        "tau": one * tau,
        "r": one * tau / dt,
        "v_leak": 0 * one,
        "v_threshold": one,
        "v_reset": 0 * one,
    }
    return nir.LIF(**{**parameters, **changes})


def graph_of(nodes, edges, n_in, n_out):
    ends = {
        "input": nir.Input({"input": np.atleast_1d(n_in)}),
        "output": nir.Output({"output": np.atleast_1d(n_out)}),
    }
    return nir.NIRGraph(nodes={**ends, **nodes}, edges=edges, type_check=False)


def test_images_convolutions_pooling_scale(rng):
    """Conv2d → neurons → SumPool2d → Scale → Flatten → Affine → neurons, against torch's own functions."""
    import torch
    from torch.nn import functional as f

    from lbi.importers.nir import from_graph

    kernel = rng.normal(0.2, 0.5, (3, 1, 3, 3))
    weight, bias, scale = (
        rng.normal(0, 0.3, (4, 12)),
        rng.normal(0.1, 0.1, 4),
        rng.uniform(0.5, 1.0, (3, 2, 2)),
    )
    shape = (3, 4, 4)
    nodes = {
        "conv": nir.Conv2d((8, 8), kernel, (2, 2), (1, 1), (1, 1), 1, np.zeros(3)),
        "a": lif(shape),
        "pool": nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
        "scale": nir.Scale(scale),
        "flat": nir.Flatten({"input": np.array([3, 2, 2])}, 0, -1),
        "dense": nir.Affine(weight, bias),
        "b": lif(4),
    }
    chain = ["input", "conv", "a", "pool", "scale", "flat", "dense", "b", "output"]
    network = from_graph(graph_of(nodes, list(itertools.pairwise(chain)), (1, 8, 8), 4))
    spikes = random_spikes(rng, 2, 30, 64)
    v_a, v_b, expected = torch.zeros(2, *shape).double(), torch.zeros(2, 4).double(), []
    for t in range(30):
        x = torch.from_numpy(spikes[:, t].reshape(2, 1, 8, 8)).double()
        v_a = 0.9 * v_a + f.conv2d(x, torch.from_numpy(kernel), stride=2, padding=1)
        s_a = (v_a > 1).double()
        v_a = v_a * (1 - s_a)
        pooled = f.lp_pool2d(s_a, 1, 2) * torch.from_numpy(scale)
        v_b = 0.9 * v_b + pooled.flatten(1) @ torch.from_numpy(weight).T + torch.from_numpy(bias)
        s_b = (v_b > 1).double()
        v_b = v_b * (1 - s_b)
        expected.append(s_b.numpy())
    ours = oracle.simulate(network, spikes).output_spikes
    assert 0.02 < ours.mean() < 0.98
    assert np.array_equal(ours, np.stack(expected, axis=1))


def test_nested_recurrent_subgraphs(rng, tmp_path):
    """snnTorch writes a recurrent layer as a graph within the graph."""
    _, model, graph = written_by("snntorch RLeaky")
    nir.write(tmp_path / "net.nir", graph, compression=None)  # NIR cannot compress scalars
    network = load_nir(tmp_path / "net.nir")
    feedback = [p for p in network.projections if p.source == p.target]
    assert len(feedback) == 2
    recurrent = model[1].recurrent.weight.detach().numpy()
    assert np.allclose(feedback[0].weights.to_dense(), recurrent, atol=1e-6)


def test_refusals_name_every_node(tmp_path):
    nodes = {
        "fc": nir.Linear(np.ones((4, 8))),
        "soft": lif(4, v_reset=np.full(4, 0.25)),
        "sigma": nir.Threshold(np.ones(4)),
        "out": nir.LI(tau=np.ones(4), r=np.ones(4), v_leak=np.zeros(4)),
    }
    edges = [("input", "fc"), ("fc", "soft"), ("soft", "sigma"), ("sigma", "out"), ("out", "output")]
    nir.write(tmp_path / "net.nir", graph_of(nodes, edges, (8,), 4))
    with pytest.raises(InputError) as caught:
        load_nir(tmp_path / "net.nir", dt=1e-4)
    found = {(problem.code, problem.where.rsplit(" ", 1)[1]) for problem in caught.value.problems}
    assert found == {("nir-node", "'sigma'"), ("reset-value", "'soft'")}
    nir.write(
        tmp_path / "net.nir",
        graph_of(
            {k: nodes[k] for k in ("fc", "soft")},
            [("input", "fc"), ("fc", "soft"), ("soft", "output")],
            (8,),
            4,
        ),
    )
    with pytest.raises(InputError, match=r"reset-value: .*node 'soft': v_reset 0.25 to 0.25; allowed: 0"):
        load_nir(tmp_path / "net.nir")


@pytest.mark.parametrize("kind", ["CubaLI", "LI", "I"])
def test_integrators_end_a_network(kind, rng):
    """Their voltage by the node's own equations, step by step; inside a network they would hand on no spikes."""
    from lbi.importers.nir import from_graph

    dt, tau, fast, one = 1e-4, 8e-4, 4e-4, np.ones(4)
    weight, leak = rng.normal(0, 0.5, (4, 8)), rng.normal(0, 0.3, 4)
    node = {
        "CubaLI": nir.CubaLI(tau_syn=fast * one, tau_mem=tau * one, r=2 * one, v_leak=leak, w_in=3 * one),
        "LI": nir.LI(tau=tau * one, r=2 * one, v_leak=leak),
        "I": nir.I(r=2 * one),
    }[kind]
    nodes = {"fc": nir.Linear(weight), "out": node}
    network = from_graph(
        graph_of(nodes, list(itertools.pairwise(["input", *nodes, "output"])), (8,), 4), dt=dt
    )
    spikes = random_spikes(rng, 2, 50, 8)
    current, voltage, expected = np.zeros((2, 4)), np.zeros((2, 4)), []
    for t in range(50):
        arriving = spikes[:, t] @ weight.T
        current = current + dt / fast * (3 * arriving - current) if kind == "CubaLI" else arriving
        voltage = voltage + (dt / tau * (leak - voltage + 2 * current) if kind != "I" else dt * 2 * current)
        expected.append(voltage)
    activity = oracle.simulate(network, spikes)
    assert network.readout.kind == "membrane_mean"
    np.testing.assert_allclose(activity.output, np.stack(expected, axis=1), rtol=0, atol=1e-9)
    inside = {**nodes, "more": nir.Linear(np.ones((3, 4))), "b": lif(3)}
    with pytest.raises(InputError, match=r"no-spikes: layer 'b': receives the voltages of 'out'"):
        from_graph(graph_of(inside, list(itertools.pairwise(["input", *inside, "output"])), (8,), 3), dt=dt)


def test_delays_must_be_whole_steps(tmp_path):
    nodes = {"late": nir.Delay(np.full(8, 2.5e-4)), "fc": nir.Linear(np.ones((4, 8))), "n": lif(4)}
    edges = [("input", "late"), ("late", "fc"), ("fc", "n"), ("n", "output")]
    nir.write(tmp_path / "net.nir", graph_of(nodes, edges, (8,), 4))
    with pytest.raises(InputError, match=r"delay-value: .*2.5 to 2.5 steps of 0.0001 s"):
        load_nir(tmp_path / "net.nir")
    network = load_nir(tmp_path / "net.nir", dt=0.5e-4)
    assert network.projections[0].delay == 5


@pytest.mark.parametrize("content", [b"", b"nothing", b"\x89HDF\r\n\x1a\n" + b"0" * 64])
def test_damaged_files(content, tmp_path):
    (tmp_path / "net.nir").write_bytes(content)
    with pytest.raises(InputError, match="nir-file"):
        load_nir(tmp_path / "net.nir")
