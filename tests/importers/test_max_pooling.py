"""Maximum pooling of spikes: a population whose neurons fire with any spike of their window, as in the framework itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support import peers
from support.pooled_models import IMAGE, ROW, Loop, drawn, in_turn, leaky, loop
from torch import nn
from torch.nn import functional as F  # noqa: N812 - as users write it

import lbi
from lbi.importers import from_torch
from lbi.importers.builder import ALWAYS
from lbi.network.convolution_weights import ConvolutionWeights
from lbi.network.graph import INPUT, Network
from lbi.simulation import oracle
from lbi.simulation.run import simulate

pytestmark = pytest.mark.filterwarnings("ignore")  # the frameworks' own

SAMPLES, STEPS, RATE = 3, 25, 0.25


def input_spikes(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    return (rng.random((SAMPLES, STEPS, int(np.prod(shape)))) < RATE).astype(np.uint8)


def over_time(model: nn.Module, spikes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The model's own output of all steps at once, time first."""
    x = torch.from_numpy(spikes).float().reshape(SAMPLES, STEPS, *shape).transpose(0, 1)
    with torch.no_grad():
        return model(x).transpose(0, 1).flatten(2).numpy()


def by_steps(model: nn.Module, spikes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The model's own output, called once per step."""
    x = torch.from_numpy(spikes).float().reshape(SAMPLES, STEPS, *shape)
    with torch.no_grad():
        return torch.stack([model(x[:, step]).flatten(1) for step in range(STEPS)], 1).numpy()


def assert_equal(model, shape, rng, run=over_time):
    """The network of a model, after its output was found equal to the model's own."""
    network = from_torch(model, shape)
    spikes = input_spikes(shape, rng)
    if any(hasattr(module, "step_mode") for module in model.modules()):
        peers.package("spikingjelly.activation_based.functional").reset_net(model)
    theirs = run(model, spikes, shape)
    ours = oracle.simulate(network, spikes).output_spikes
    assert 0.02 < theirs.mean() < 0.95
    assert np.count_nonzero(ours != theirs) == 0
    return network


def populations(network):
    """Name → shape, without the neuron that stands for biases."""
    return {p.name: p.shape for p in network.populations if p.name != ALWAYS}


# ---- spikingjelly ----------------------------------------------------------------------------------------------------


def spikingjelly():
    """The package, with its modules."""
    for name in ("layer", "neuron", "functional"):
        peers.package(f"spikingjelly.activation_based.{name}")
    return peers.package("spikingjelly.activation_based")


def jelly_layers(layer, neuron, last):
    """Convolutions, each with its neurons and a maximum."""
    return [
        layer.Conv2d(1, 3, 3, padding=1, bias=False),
        neuron.IFNode(),
        layer.MaxPool2d(2),
        layer.Conv2d(3, 4, 3, padding=1, bias=False),
        neuron.IFNode(),
        layer.MaxPool2d(2),
        layer.Flatten(),
        layer.Linear(16, 5, bias=False),
        last,
    ]


def jelly(mode, last="LIFNode"):
    based = spikingjelly()
    model = drawn(nn.Sequential(*jelly_layers(based.layer, based.neuron, getattr(based.neuron, last)())), 1.5)
    based.functional.set_step_mode(model, mode)
    return model


@pytest.mark.parametrize("mode", ["m", "s"])
def test_spikingjellys_layers(mode, rng):
    run = over_time if mode == "m" else by_steps
    network = assert_equal(jelly(mode), IMAGE, rng, run)
    assert populations(network) == {
        "layer1": (3, 8, 8),
        "layer2": (3, 4, 4),
        "layer4": (4, 4, 4),
        "layer5": (4, 2, 2),
        "layer8": (5,),
    }
    for name in ("layer1_to_layer2", "layer2_to_layer4", "layer4_to_layer5"):
        weights = next(p.weights for p in network.projections if p.name == name)
        assert isinstance(weights, ConvolutionWeights)
    pool = network.population("layer2").neuron
    assert (pool.current_decay, pool.voltage_decay, pool.threshold, pool.bias) == (1, 1, 0.5, None)


def test_spikingjellys_container_of_layers_without_time(rng):
    based = spikingjelly()
    container = based.layer.SeqToANNContainer
    model = nn.Sequential(
        container(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3)),
        based.neuron.LIFNode(tau=2.0, step_mode="m"),
        container(nn.MaxPool2d(2), nn.Conv2d(3, 2, 3), nn.Flatten()),
        based.neuron.IFNode(step_mode="m"),
    )
    network = assert_equal(drawn(model, 2.0), IMAGE, rng)
    assert list(populations(network)) == ["layer1", "layer2.0", "layer3"]


# ---- snnTorch --------------------------------------------------------------------------------------------------------


POOLINGS = {
    "2": (nn.MaxPool2d(2), (3, 4, 4)),
    "3, stride 2, padding 1": (nn.MaxPool2d(3, stride=2, padding=1), (3, 4, 4)),
    "3, ceil_mode": (nn.MaxPool2d(3, ceil_mode=True), (3, 3, 3)),
    "oblong, dilated": (nn.MaxPool2d((3, 2), stride=(1, 2), padding=(1, 0), dilation=(2, 3)), (3, 6, 3)),
    "to a size": (nn.AdaptiveMaxPool2d((3, 1)), (3, 3, 1)),
}


@pytest.mark.parametrize("name", POOLINGS)
def test_every_form_of_window_equals_torch(name, rng):
    pool, shape = POOLINGS[name]
    n = int(np.prod(shape))
    model = in_turn(nn.Conv2d(1, 3, 3, padding=1), leaky(), pool, nn.Flatten(), nn.Linear(n, 6), leaky())
    network = assert_equal(model, IMAGE, rng, by_steps)
    assert populations(network)["layer2"] == shape


def test_one_dimension(rng):
    pool = nn.MaxPool1d(3, stride=2, padding=1)
    model = in_turn(nn.Conv1d(2, 3, 3), leaky(), pool, nn.Flatten(), nn.Linear(15, 6), leaky())
    assert_equal(model, ROW, rng, by_steps)


def test_the_maximum_of_input_spikes_and_of_maxima(rng):
    model = in_turn(nn.MaxPool2d(2), nn.MaxPool2d(3, 1), nn.Conv2d(1, 3, 2), leaky())
    network = assert_equal(model, IMAGE, rng, by_steps)
    assert [p.source for p in network.projections if p.name.startswith(("input", "layer0", "layer1"))] == [
        INPUT,
        "layer0",
        "layer1",
    ]


def of_functions(self, x):
    return F.max_pool2d(self.lif2(self.conv2(F.max_pool2d(self.lif1(self.conv1(x)), 2))), 2)


def two_of_one_layer(self, x):
    spikes = self.lif1(self.conv1(x))
    small, large = F.max_pool2d(spikes, 2), F.max_pool2d(spikes, 4, 2, 1)
    return self.lif2(self.conv2(small)) + 0.5 * large


def residual(self, x):
    pooled = F.max_pool2d(self.lif1(self.conv1(x)), 3, 1, 1)
    return pooled + self.lif2(self.conv2(pooled))


def of_two_layers(self, x):
    first = self.lif1(self.conv1(x))
    return F.max_pool2d(torch.cat([first, self.lif2(self.conv2(first))], 1), 2)


def from_the_step_before(self, x):
    if self.before is None:
        self.before = torch.zeros(x.shape[0], 3, 8, 8)
    fed = F.interpolate(F.max_pool2d(self.before, 2), scale_factor=2)
    first = self.lif1(self.conv1(x) - 0.3 * fed)
    self.before = self.lif2(self.conv2(first))
    return self.before


STEPS_OF_A_LOOP = {
    of_functions: ["lif1", "lif1_pooled", "lif2", "lif2_pooled", "out"],
    two_of_one_layer: ["lif1", "lif1_pooled_2", "lif1_pooled", "lif2", "out"],
    residual: ["lif1", "lif1_pooled", "lif2", "out"],
    of_two_layers: ["lif1", "lif2", "lif1_pooled", "out"],
    from_the_step_before: ["lif1", "lif2", "lif2_pooled", "out"],
}


@pytest.mark.parametrize("step", STEPS_OF_A_LOOP, ids=lambda step: step.__name__)
def test_a_loop_over_time(step, rng):
    network = assert_equal(loop(step), IMAGE, rng)
    assert list(populations(network)) == STEPS_OF_A_LOOP[step]


def test_one_module_that_pools_two_layers_is_a_population_for_each(rng):
    class Shared(Loop):
        def __init__(self):
            super().__init__()
            self.pool, self.fc = nn.MaxPool2d(2), nn.Linear(12, 5)

        def step(self, x):
            return self.pool(self.lif2(self.conv2(self.pool(self.lif1(self.conv1(x))))))

    network = assert_equal(drawn(Shared()), IMAGE, rng)
    assert list(populations(network)) == ["lif1", "pool", "lif2", "pool_2", "out"]


def test_equal_windows_are_one_population_and_unused_ones_none(rng):
    def step(self, x):
        spikes = self.lif1(self.conv1(x))
        F.max_pool2d(spikes, 3)
        return self.lif2(self.conv2(F.max_pool2d(spikes, 2))) + F.max_pool2d(spikes, 2)

    network = assert_equal(loop(step), IMAGE, rng)
    assert list(populations(network)) == ["lif1", "lif1_pooled_2", "lif2", "out"]


def test_a_layer_behind_a_maximum_of_hidden_spikes_is_the_one_that_is_read(rng):
    class Both(Loop):
        def forward(self, x):
            for neuron in (self.lif1, self.out):
                neuron.reset_mem()
            hidden = [self.lif1(self.conv1(current)) for current in x]
            out = [self.out(self.fc(F.max_pool2d(spikes, 2).flatten(1))) for spikes in hidden]
            return torch.stack(hidden), torch.stack(out)

    model = Both()
    model(torch.zeros(2, 1, *IMAGE))
    del model.lif2
    assert from_torch(drawn(model), IMAGE).readout.population == "out"


# ---- other conventions -----------------------------------------------------------------------------------------------


def test_sinabss_steps_in_the_axis_of_samples(rng):
    iaf = peers.package("sinabs.layers").IAFSqueeze
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1, bias=False),
        iaf(batch_size=1),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(48, 5, bias=False),
        iaf(batch_size=1),
    )
    drawn(model)
    neurons = [module for module in model if hasattr(module, "reset_states")]
    for neuron in neurons:
        neuron.spike_fn = peers.package("sinabs.activation").SingleSpike

    def alone(model, spikes, shape):
        outputs = []
        for sample in torch.from_numpy(spikes).float().reshape(SAMPLES, STEPS, *shape):
            for neuron in neurons:
                neuron.reset_states()
            with torch.no_grad():
                outputs.append(model(sample))
        return torch.stack(outputs).numpy()

    assert list(populations(assert_equal(model, IMAGE, rng, alone))) == ["layer1", "layer2", "layer5"]


def test_norses_cells(rng):
    norse = peers.package("norse.torch")
    cell = norse.LIFBoxParameters(v_th=torch.tensor(0.2))
    model = norse.SequentialState(
        nn.Conv2d(1, 3, 3),
        norse.LIFBoxCell(cell),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(27, 5),
        norse.LIFBoxCell(cell),
    )

    def run(model, spikes, shape):
        state, outputs = None, []
        x = torch.from_numpy(spikes).float().reshape(SAMPLES, STEPS, *shape)
        with torch.no_grad():
            for step in range(STEPS):
                out, state = model(x[:, step], state)
                outputs.append(out)
        return torch.stack(outputs, 1).numpy()

    network = assert_equal(drawn(model, 3.0), IMAGE, rng, run)
    assert list(populations(network)) == ["layer1", "layer2", "layer5"]


def test_neurons_with_several_decays_are_pooled_from_each_of_their_populations(rng):
    snn = peers.package("snntorch")
    betas = torch.tensor([0.5, 0.75, 0.5]).reshape(3, 1, 1)
    mixed = snn.Leaky(beta=betas, threshold=0.6, init_hidden=True, reset_mechanism="zero")
    model = in_turn(nn.Conv2d(1, 3, 3), mixed, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 5), leaky())
    network = assert_equal(model, IMAGE, rng, by_steps)
    assert [p.source for p in network.projections if p.target == "layer2"] == ["layer1_1", "layer1_2"]


def test_one_image_of_spikes_for_all_steps(rng):
    class Static(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.lif = nn.Conv2d(1, 3, 3, bias=False), leaky()

        def forward(self, x, num_steps=STEPS):
            self.lif.reset_mem()
            pooled = F.max_pool2d(x, 2)
            return torch.stack([self.lif(self.conv(pooled)) for _ in range(num_steps)])

    model = drawn(Static())
    image = (rng.random((SAMPLES, 1, 64)) < RATE).astype(np.uint8)
    ours = oracle.simulate(from_torch(model, IMAGE), image.repeat(STEPS, 1)).output_spikes
    with torch.no_grad():
        theirs = model(torch.from_numpy(image).float().reshape(SAMPLES, *IMAGE))
    assert 0.02 < ours.mean() < 0.95
    assert np.count_nonzero(theirs.transpose(0, 1).flatten(2).numpy() != ours) == 0


def test_places_that_are_not_used_do_no_harm(rng):
    def step(self, x):
        return F.max_pool2d(self.lif1(self.conv1(x)), 2, return_indices=True)[0]

    assert_equal(loop(step), IMAGE, rng)


# ---- on the chip -----------------------------------------------------------------------------------------------------


def on_grid() -> Network:
    """A network whose weights are eighths, with scales at which they are integers; those of the pools are not stated."""
    model = jelly("m", "IFNode")
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_((weight * 8).round() / 8)
    network = from_torch(model, IMAGE)
    return replace(
        network, meta={**network.meta, "scales": dict.fromkeys(("layer1", "layer4", "layer8"), 64.0)}
    )


@pytest.mark.parametrize("chip", ["loihi1", "loihi2"])
def test_integers_on_the_chips_grid_spike_as_the_float_network_does(chip, rng):
    network = on_grid()
    spikes = input_spikes(IMAGE, rng)
    floats = oracle.simulate(network, spikes, record=("spikes",)).recorded
    integers = simulate(lbi.quantize(network, chip), spikes, record=("spikes",)).recorded
    for name in ("layer1", "layer2", "layer4", "layer5", "layer8"):
        assert 0.02 < floats[name, "spikes"].mean() < 0.98
        np.testing.assert_array_equal(integers[name, "spikes"] != 0, floats[name, "spikes"] != 0)


@pytest.mark.parametrize("exponents", ["zero", "free"])
def test_rounded_weights_leave_the_windows_as_they_are(exponents, rng):
    fixed = lbi.quantize(from_torch(jelly("m"), IMAGE), "loihi2", exponents=exponents)
    recorded = simulate(fixed, input_spikes(IMAGE, rng), record=("spikes",)).recorded
    for source, pool in (("layer1", "layer2"), ("layer4", "layer5")):
        channels, height, width = fixed.population(pool).shape
        before = recorded[source, "spikes"].reshape(SAMPLES, STEPS, channels, height, 2, width, 2)
        found = recorded[pool, "spikes"].reshape(SAMPLES, STEPS, channels, height, width)
        assert 0.02 < found.mean() < 0.98
        np.testing.assert_array_equal(found != 0, (before != 0).any(axis=(4, 6)))


@pytest.mark.parametrize("chip", ["loihi1", "loihi2"])
def test_the_largest_window_fits_a_current(chip, rng):
    shape = (1, 16, 32)
    model = in_turn(nn.MaxPool2d(shape[1:]), nn.Flatten(), nn.Linear(1, 2), leaky())
    network = from_torch(model, shape)
    fixed = lbi.quantize(network, chip)
    spikes = np.ones((1, 4, 512), dtype=np.uint8)
    spikes[0, 1], spikes[0, 2, 1:] = 0, 0
    found = simulate(fixed, spikes, record=("spikes",)).recorded["layer0", "spikes"]
    assert np.flatnonzero(found).tolist() == [0, 2, 3]
