#!/usr/bin/env python3
"""Time of one training step (forward, backward, Adam), compared with other libraries in one run.

The network is 700–256–20, batch 64, 100 steps, spikes at the rate of spoken digits (5.3 % of inputs set), loss: cross
entropy on spike counts. ``products`` is the part that no neuron implementation can save: the two dense matrix products with
the same loss and optimizer, without neurons. The recurrent variant adds 256 × 256 recurrent weights (for
``products``: one product per step). All candidates take turns in every round, so that other load affects them equally;
the minimum counts. A peer that is not installed is left out.

``--convolutions`` measures a network of convolutions instead: 2 × 34 × 34 inputs (5.3 % set), 16c3s2, 32c3s2, 10 dense, batch 16, 20
steps. A convolution has no state: every library takes all timesteps of its layer in one call of ``conv2d``, SLAYER in its own.
``products`` are the convolutions and the dense product without neurons.

``--densities`` measures instead what a step of AdaBreg takes as weights vanish: 700–1024–1024–20 and 700–512–20 with recurrence,
at density 1 and, before and after the support is fixed, at the densities given, all in turns.

usage: train.py [--rounds N] [--threads N] [--rate R] [--device cpu|cuda] [--only NAME,…] [--densities 0.1,…] [--convolutions] [--processor]
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib.metadata import version

import torch
from torch import Tensor, nn

N_IN, N_HIDDEN, N_OUT, BATCH, STEPS = 700, 256, 20, 64, 100
Step = Callable[[], object]


def training_step(module: nn.Module, forward: Callable[[], Tensor], labels: Tensor) -> Step:
    """A function that does one step; ``forward`` gives logits (batch, classes)."""
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(forward(), labels).backward()
        optimizer.step()

    return step


def products(x: Tensor, labels: Tensor, recurrent: bool) -> Step:
    """Only the dense products, in their fastest layout: time first where they go step by step."""
    first, second = nn.Linear(N_IN, N_HIDDEN, bias=False), nn.Linear(N_HIDDEN, N_OUT, bias=False)
    feedback = nn.Linear(N_HIDDEN, N_HIDDEN, bias=False)
    module = nn.ModuleList([first, second, *([feedback] if recurrent else [])]).to(x.device)
    dense = x.float() if not recurrent else x.float().transpose(0, 1).contiguous()

    def forward() -> Tensor:
        hidden = first(dense)
        if not recurrent:
            return second(hidden).mean(1)
        state, states = torch.zeros_like(hidden[0]), []
        for a in hidden:
            state = torch.addmm(a, state, feedback.weight.T)
            states.append(state)
        return second(torch.stack(states)).mean(0)

    return training_step(module, forward, labels)


def ours(x: Tensor, labels: Tensor, recurrent: bool) -> Step:
    """CUBA-LIF of this package with a surrogate gradient, on uint8 spikes; thresholds at which 5 to 9 % fire."""
    from lbi.train import ModelConfig, PopulationConfig, SpikingNetwork
    from lbi.train.session.gpu_check import enable

    if x.is_cuda:
        enable(x.device)
    hidden = PopulationConfig("hidden", N_HIDDEN, (0.4,), (0.2,), (0.8,), recurrent=recurrent)
    output = PopulationConfig("output", N_OUT, (0.4,), (0.2,), (0.8,))
    model = SpikingNetwork(ModelConfig((N_IN,), (hidden, output))).to(x.device)
    return training_step(model, lambda: model(x)[-1][0].sum(1), labels)


def sparse(x: Tensor, labels: Tensor, recurrent: bool, density: float, settled: bool) -> Step:
    """A step of AdaBreg with its density control: gradients, clipping, step, control, as ``lbi-train`` does it.

    Which weights are kept is drawn from another seed than their values, and thresholds are such that all layers fire.
    """
    from lbi.train import (
        L1,
        AdaBreg,
        DensityController,
        ModelConfig,
        PopulationConfig,
        SpikingNetwork,
        param_groups,
    )

    sizes = (512,) if recurrent else (1024, 1024)
    hidden = [
        PopulationConfig(f"hidden{i}", n, (0.4,), (0.2,), (0.8,), recurrent=recurrent)
        for i, n in enumerate(sizes)
    ]
    model = SpikingNetwork(
        ModelConfig((N_IN,), (*hidden, PopulationConfig("output", N_OUT, (0.4,), (0.2,), (0.8,))))
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.weights().values():
            kept = torch.rand(weight.shape, generator=generator) < density
            weight.mul_(kept).mul_(density**-0.5)
    optimizer = AdaBreg(param_groups(model, L1(0.1)), lr=1e-5)
    control = DensityController(optimizer, density, every=1 << 30)
    if settled:
        control.settle()
    for layer in model.populations():
        layer.only_living = settled

    rates = [float(spikes.detach().mean()) for spikes, _ in model(x)]
    if min(rates) < 0.02:
        raise RuntimeError(f"a layer is nearly silent at density {density:g}: rates {rates}")
    print(f"  density {density:g}: rates " + ", ".join(f"{rate:.3f}" for rate in rates))

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(model(x)[-1][0].sum(1), labels).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        control.step()

    return step


def snntorch(x: Tensor, labels: Tensor, recurrent: bool) -> Step:
    """snnTorch: Synaptic (current-based LIF), RSynaptic with recurrence."""
    import snntorch as snn

    first, second = nn.Linear(N_IN, N_HIDDEN, bias=False), nn.Linear(N_HIDDEN, N_OUT, bias=False)
    if recurrent:
        hidden = snn.RSynaptic(alpha=0.6, beta=0.8, linear_features=N_HIDDEN, reset_mechanism="zero")
    else:
        hidden = snn.Synaptic(alpha=0.6, beta=0.8, reset_mechanism="zero")
    output = snn.Synaptic(alpha=0.6, beta=0.8, reset_mechanism="zero")
    module = nn.ModuleList([first, hidden, second, output]).to(x.device)
    dense = x.float().transpose(0, 1).contiguous()

    def forward() -> Tensor:
        state = hidden.init_rsynaptic() if recurrent else hidden.init_synaptic()
        out_state = output.init_synaptic()
        counts: Tensor | float = 0.0
        for a in first(dense):
            spikes, *rest = hidden(a, *state)
            state = (spikes, *rest) if recurrent else rest
            out_spikes, *out_state = output(second(spikes), *out_state)
            counts = counts + out_spikes
        assert isinstance(counts, Tensor)
        return counts

    return training_step(module, forward, labels)


def norse(x: Tensor, labels: Tensor, recurrent: bool) -> Step:
    """Norse: LIF modules over a sequence."""
    from norse.torch import LIF, LIFRecurrent

    first, second = nn.Linear(N_IN, N_HIDDEN, bias=False), nn.Linear(N_HIDDEN, N_OUT, bias=False)
    hidden = LIFRecurrent(N_HIDDEN, N_HIDDEN) if recurrent else LIF()
    output = LIF()
    layers = [hidden, second, output] if recurrent else [first, hidden, second, output]
    module = nn.ModuleList([first, *layers] if recurrent else layers).to(x.device)
    dense = x.float().transpose(0, 1).contiguous()

    def forward() -> Tensor:
        spikes, _ = hidden(first(dense))
        counts: Tensor = output(second(spikes))[0].sum(0)
        return counts

    return training_step(module, forward, labels)


def spikingjelly(x: Tensor, labels: Tensor, recurrent: bool) -> Step:
    """SpikingJelly: multi-step LIFNode (torch backend on a CPU, cupy where it has it), recurrence in steps."""
    from spikingjelly.activation_based import functional, layer, neuron

    if recurrent:
        inner = layer.LinearRecurrentContainer(
            neuron.LIFNode(tau=5.0), in_features=N_HIDDEN, out_features=N_HIDDEN, bias=False
        )
        hidden: nn.Module = layer.MultiStepContainer(inner)
        hidden = nn.Sequential(nn.Linear(N_IN, N_HIDDEN, bias=False), hidden)
    else:
        hidden = nn.Sequential(nn.Linear(N_IN, N_HIDDEN, bias=False), neuron.LIFNode(tau=5.0, step_mode="m"))
    module = nn.Sequential(
        hidden, nn.Linear(N_HIDDEN, N_OUT, bias=False), neuron.LIFNode(tau=5.0, step_mode="m")
    ).to(x.device)
    dense = x.float().transpose(0, 1).contiguous()

    def forward() -> Tensor:
        functional.reset_net(module)
        counts: Tensor = module(dense).sum(0)
        return counts

    return training_step(module, forward, labels)


def slayer(x: Tensor, labels: Tensor, recurrent: bool) -> Step:
    """Lava-DL SLAYER: CUBA blocks, time last (its own compiled scan on a GPU, Python on a CPU)."""
    from lava.lib.dl import slayer

    parameters = {"threshold": 1.0, "current_decay": 0.4, "voltage_decay": 0.2}
    kind = slayer.block.cuba.Recurrent if recurrent else slayer.block.cuba.Dense
    hidden, output = kind(parameters, N_IN, N_HIDDEN), slayer.block.cuba.Dense(parameters, N_HIDDEN, N_OUT)
    module = nn.Sequential(hidden, output).to(x.device)
    dense = x.float().permute(0, 2, 1).contiguous()
    return training_step(module, lambda: module(dense).sum(-1), labels)


MAPS, N_CLASSES, CONV_BATCH, CONV_STEPS = (2, 34, 34), 10, 16, 20
CHANNELS = (16, 32)
FLAT = CHANNELS[1] * 9 * 9


def kernels() -> list[nn.Module]:
    """Two convolutions with stride 2, 34 → 17 → 9, and the dense layer behind them."""
    pairs = zip((MAPS[0], *CHANNELS), CHANNELS, strict=False)
    layers: list[nn.Module] = [nn.Conv2d(*pair, 3, stride=2, padding=1, bias=False) for pair in pairs]
    return [*layers, nn.Linear(FLAT, N_CLASSES, bias=False)]


def over_time(layer: nn.Module, x: Tensor) -> Tensor:
    """A layer without state on (time, batch, …), in one call."""
    out: Tensor = layer(x.flatten(0, 1))
    return out.unflatten(0, x.shape[:2])


def conv_products(x: Tensor, labels: Tensor) -> Step:
    """The convolutions and the dense product alone."""
    layers = kernels()

    def forward() -> Tensor:
        dense = x.float().transpose(0, 1)
        hidden = over_time(layers[1], over_time(layers[0], dense)).flatten(2)
        return over_time(layers[2], hidden).mean(0)

    return training_step(nn.ModuleList(layers), forward, labels)


def conv_ours(x: Tensor, labels: Tensor) -> Step:
    """CUBA-LIF feature maps of this package, on uint8 spikes."""
    from lbi.train import ModelConfig, PopulationConfig, SpikingNetwork
    from lbi.train.session.hidden import wirings

    found, _ = wirings([f"{channels}c3s2" for channels in CHANNELS], MAPS)
    maps = [
        PopulationConfig(f"maps{i}", n, (0.4,), (0.2,), (1.0,), wiring=wiring)
        for i, (n, wiring) in enumerate(found)
    ]
    output = PopulationConfig("output", N_CLASSES, (0.4,), (0.2,), (1.0,))
    model = SpikingNetwork(ModelConfig(MAPS, (*maps, output)))
    spikes = x.flatten(2)
    return training_step(model, lambda: model(spikes)[-1][0].sum(1), labels)


def conv_snntorch(x: Tensor, labels: Tensor) -> Step:
    """snnTorch: Synaptic neurons, the layers in between over all timesteps at once."""
    import snntorch as snn

    layers = kernels()
    neurons = [snn.Synaptic(alpha=0.6, beta=0.8, reset_mechanism="zero") for _ in layers]

    def forward() -> Tensor:
        spikes = x.float().transpose(0, 1)
        for layer, neuron in zip(layers, neurons, strict=True):
            state, out = neuron.init_synaptic(), []
            for a in over_time(layer, spikes.flatten(2) if layer is layers[-1] else spikes):
                fired, *state = neuron(a, *state)
                out.append(fired)
            spikes = torch.stack(out)
        return spikes.sum(0)

    return training_step(nn.ModuleList([*layers, *neurons]), forward, labels)


def conv_norse(x: Tensor, labels: Tensor) -> Step:
    """Norse: LIF modules over a sequence."""
    from norse.torch import LIF

    layers = kernels()
    neurons = [LIF() for _ in layers]

    def forward() -> Tensor:
        spikes = x.float().transpose(0, 1)
        for layer, neuron in zip(layers, neurons, strict=True):
            spikes, _ = neuron(over_time(layer, spikes.flatten(2) if layer is layers[-1] else spikes))
        return spikes.sum(0)

    return training_step(nn.ModuleList([*layers, *neurons]), forward, labels)


def conv_spikingjelly(x: Tensor, labels: Tensor) -> Step:
    """SpikingJelly: multi-step LIFNode, its SeqToANNContainer over all timesteps at once."""
    from spikingjelly.activation_based import functional, layer, neuron

    first, second, last = kernels()
    module = nn.Sequential(
        layer.SeqToANNContainer(first),
        neuron.LIFNode(tau=5.0, step_mode="m"),
        layer.SeqToANNContainer(second),
        neuron.LIFNode(tau=5.0, step_mode="m"),
        layer.SeqToANNContainer(nn.Flatten(), last),
        neuron.LIFNode(tau=5.0, step_mode="m"),
    )

    def forward() -> Tensor:
        functional.reset_net(module)
        counts: Tensor = module(x.float().transpose(0, 1)).sum(0)
        return counts

    return training_step(module, forward, labels)


def conv_slayer(x: Tensor, labels: Tensor) -> Step:
    """Lava-DL SLAYER: CUBA blocks of its Conv, time last."""
    from lava.lib.dl import slayer

    parameters = {"threshold": 1.0, "current_decay": 0.4, "voltage_decay": 0.2}
    block = slayer.block.cuba
    module = nn.Sequential(
        *(
            block.Conv(parameters, *pair, 3, stride=2, padding=1)
            for pair in zip((MAPS[0], *CHANNELS), CHANNELS, strict=False)
        ),
        block.Flatten(),
        block.Dense(parameters, FLAT, N_CLASSES),
    )
    dense = x.float().permute(0, 2, 3, 4, 1).contiguous()
    return training_step(module, lambda: module(dense).sum(-1), labels)


CONVOLUTIONS: dict[str, Callable[[Tensor, Tensor], Step]] = {
    "products": conv_products,
    "lbi": conv_ours,
    "snntorch": conv_snntorch,
    "norse": conv_norse,
    "spikingjelly": conv_spikingjelly,
    "slayer": conv_slayer,
}

CANDIDATES: dict[str, tuple[Callable[[Tensor, Tensor, bool], Step], str]] = {
    "products": (products, "torch"),
    "lbi": (ours, "lbi-snn"),
    "snntorch": (snntorch, "snntorch"),
    "norse": (norse, "norse"),
    "spikingjelly": (spikingjelly, "spikingjelly"),
    "slayer": (slayer, "lava-dl"),
}
"""Name → (builder of a step, distribution)."""


def measure(
    steps: dict[str, Step], rounds: int, device: str, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Seconds per step, the minimum over ``rounds``; all candidates take turns in every round."""
    least = dict.fromkeys(steps, float("inf"))
    for round_ in range(rounds + 2):
        for name, step in steps.items():
            start = clock()
            step()
            if device != "cpu":
                torch.cuda.synchronize()
            if round_ >= 2:  # two rounds to compile and to warm up
                least[name] = min(least[name], clock() - start)
    return least


def build(builders: dict[str, Callable[[], Step]], only: list[str]) -> dict[str, Step]:
    """The candidates that are installed and support this variant; prints why others are left out."""
    steps = {}
    for name, builder in builders.items():
        if only and name not in only:
            continue
        try:
            step = builder()
            step()
            step()
        except Exception as error:
            print(f"  {name}: left out ({type(error).__name__}: {str(error).strip().splitlines()[0][:90]})")
            continue
        steps[name] = step
    return steps


def compare_densities(
    x: Tensor, labels: Tensor, densities: list[float], rounds: int, clock: Callable[[], float]
) -> None:
    """Print the step at each density beside the one at density 1."""
    for recurrent, name in ((False, "700-1024-1024-20"), (True, "700-512-20, recurrent")):
        variants = [(1.0, True), *((density, settled) for density in densities for settled in (False, True))]
        steps = {}
        for density, settled in variants:
            label = f"density {density:g}, support {'fixed' if settled else 'moving'}"
            steps[label] = sparse(x, labels, recurrent, density, settled)
        times = measure(steps, rounds, "cpu", clock)
        print(name)
        first = next(iter(times.values()))
        for label, seconds in times.items():
            print(f"  {label:32} {1e3 * seconds:9.2f} ms   density 1 takes {first / seconds:5.2f} × as long")


def main() -> int:
    """Print one table per variant and compare it with the expected ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rate", type=float, default=0.053)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", default="")
    parser.add_argument("--densities", default="")
    parser.add_argument("--convolutions", action="store_true")
    parser.add_argument("--processor", action="store_true", help="processor time instead of wall time")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    x = (torch.rand(BATCH, STEPS, N_IN) < arguments.rate).to(torch.uint8).to(arguments.device)
    labels = torch.randint(0, N_OUT, (BATCH,), device=arguments.device)
    clock = time.process_time if arguments.processor else time.perf_counter
    if arguments.densities:
        compare_densities(
            x, labels, [float(d) for d in arguments.densities.split(",")], arguments.rounds, clock
        )
        return 0
    only = arguments.only.split(",") if arguments.only else []
    if arguments.convolutions:
        size = (CONV_BATCH, CONV_STEPS, *MAPS)
        maps = (torch.rand(size) < arguments.rate).to(torch.uint8)
        classes = torch.randint(0, N_CLASSES, (CONV_BATCH,))
        builders = {name: partial(make, maps, classes) for name, make in CONVOLUTIONS.items()}
        print(f"convolutions, {arguments.threads} threads, cpu")
        show(measure(build(builders, only), arguments.rounds, "cpu", clock))
        return 0
    for recurrent, expected in ((False, 4.0), (True, 2.0)):
        print(
            f"{'recurrent' if recurrent else 'feed-forward'}, {arguments.threads} threads, {arguments.device}"
        )
        builders = {name: partial(make, x, labels, recurrent) for name, (make, _) in CANDIDATES.items()}
        times = measure(build(builders, only), arguments.rounds, arguments.device, clock)
        show(times)
        peers = [times[name] for name in times if name not in ("products", "lbi")]
        if peers and {"products", "lbi"} <= times.keys():
            print(
                f"  lbi / products: {times['lbi'] / times['products']:.2f} (expected for feed-forward: ≤ 1.25)"
            )
            print(f"  fastest peer / lbi: {min(peers) / times['lbi']:.1f} (expected: ≥ {expected:g})")
    return 0


def show(times: dict[str, float]) -> None:
    """Print the candidates, the fastest first."""
    for name, seconds in sorted(times.items(), key=lambda item: item[1]):
        ratio = seconds / times["lbi"] if "lbi" in times else float("nan")
        label = f"{CANDIDATES[name][1]} {version(CANDIDATES[name][1])}" if name != "lbi" else "this package"
        print(f"  {name:13} {label:24} {1e3 * seconds:9.2f} ms   {ratio:6.2f} × lbi")


if __name__ == "__main__":
    sys.exit(main())
