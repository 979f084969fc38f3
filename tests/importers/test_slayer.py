"""SLAYER blocks give the spikes of their own forward pass, one step earlier per block (the chip's latency)."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch
from support import peers

from lbi import datasets
from lbi.errors import InputError
from lbi.files.netx.reader import load
from lbi.importers import from_torch
from lbi.simulation import oracle
from lbi.simulation.run import simulate

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.lava]

N_IN = 64
NEURON = {
    "threshold": 1.25,
    "current_decay": 0.25,
    "voltage_decay": 0.05,
    "tau_grad": 0.1,
    "scale_grad": 1.0,
    "requires_grad": False,
}


@pytest.fixture(scope="module")
def cuba():
    return peers.package("lava.lib.dl.slayer").block.cuba


def forward(model, spikes):
    """Their output (samples, steps, n_out) for spikes (samples, steps, n_in): they run (sample, n, time)."""
    signal = torch.as_tensor(spikes).float().permute(0, 2, 1)
    for block in model:
        signal = block(signal)
    return signal.permute(0, 2, 1)


def assert_same_spikes(model, rng):
    spikes = (rng.random((3, 100, N_IN)) < 0.15).astype(np.uint8)
    with torch.no_grad():
        theirs = forward(model, spikes).numpy()
    fixed = from_torch(model, (N_IN,))
    ours = oracle.simulate(fixed, spikes).output_spikes
    late = len(fixed.populations)
    assert 0.005 < ours.mean() < 0.9
    assert np.abs(theirs[:, late:] - ours[:, :-late]).sum() == 0
    return fixed


def chain(*blocks):
    torch.manual_seed(1)
    return torch.nn.Sequential(*(make() for make in blocks))


def test_dense(cuba, rng):
    model = chain(
        lambda: cuba.Dense(NEURON, N_IN, 30, weight_scale=2),
        lambda: cuba.Dense(NEURON, 30, 10, weight_scale=2),
    )
    assert_same_spikes(model, rng)


def test_weight_norm_and_masks(cuba, rng):
    """Where lava-dl's own export loses the mask, zeros stay absent here."""
    torch.manual_seed(1)
    mask = (torch.rand(30, N_IN) < 0.3).float()
    masked = cuba.Dense(NEURON, N_IN, 30, weight_scale=4, mask=mask)
    normed = cuba.Dense(NEURON, 30, 10, weight_scale=3, weight_norm=True)
    fixed = assert_same_spikes(torch.nn.Sequential(masked, normed), rng)
    assert fixed.projections[0].weights.nnz <= int(mask.sum())
    with torch.no_grad():
        before = {name: value.clone() for name, value in normed.state_dict().items()}
    from_torch(torch.nn.Sequential(masked, normed), (N_IN,))
    assert all(torch.equal(before[name], value) for name, value in normed.state_dict().items())


def test_delays(cuba, rng):
    late = cuba.Dense(NEURON, N_IN, 30, weight_scale=2, delay=True)
    with torch.no_grad():
        late(torch.zeros(1, N_IN, 3))
        late.delay.delay.data.uniform_(0, 6, generator=torch.Generator().manual_seed(0))
    fixed = assert_same_spikes(torch.nn.Sequential(late, cuba.Dense(NEURON, 30, 10, weight_scale=2)), rng)
    assert fixed.projections[1].max_delay == 5


def test_recurrent(cuba, rng):
    model = chain(
        lambda: cuba.Recurrent(NEURON, N_IN, 30, weight_scale=2),
        lambda: cuba.Dense(NEURON, 30, 10, weight_scale=2),
    )
    fixed = assert_same_spikes(model, rng)
    assert [p.name for p in fixed.projections if p.source == p.target] == ["block0_to_block0"]


def test_trained_on_digits(cuba):
    """Trained in SLAYER (without the shift, whose gradient recent torch refuses): classified as by itself."""
    pytest.importorskip("sklearn")
    data = datasets.load("digits", n_steps=14)
    model = chain(
        lambda: cuba.Dense(NEURON, N_IN, 32, weight_scale=2, delay_shift=False),
        lambda: cuba.Dense(NEURON, 32, 10, weight_scale=2, delay_shift=False),
    )
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    labels = torch.from_numpy(data.train.labels)
    for epoch in range(10):
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(epoch))
        for batch in order.split(128):
            counts = forward(model, data.train.spikes[batch]).sum(dim=1)
            loss = torch.nn.functional.cross_entropy(counts, labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        counts = forward(model, data.test.spikes).sum(dim=1).numpy()
    theirs = (counts.argmax(axis=1) == data.test.labels).mean()
    assert theirs > 0.6, "training must have taught it something"
    fixed = from_torch(model, (N_IN,))
    ours = fixed.readout.classify(simulate(fixed, data.test.spikes).output_spikes)
    assert (ours == data.test.labels).mean() == theirs


def test_refusals(cuba):
    per_neuron = {**NEURON, "shared_param": False}
    model = torch.nn.Sequential(
        cuba.Dense(per_neuron, N_IN, 8),
        cuba.Dense(NEURON, 8, 4, pre_hook_fx=lambda x, descale=False: x),
        torch.nn.Tanh(),
    )
    with torch.no_grad():
        model[0](torch.zeros(1, N_IN, 3))
    with pytest.raises(InputError) as caught:
        from_torch(model, (N_IN,))
    assert {(problem.code, problem.where) for problem in caught.value.problems} == {
        ("mixed-decays", "block '0'"),
        ("weights-float", "block '1'"),
        ("unknown-module", "module '2'"),
    }


def test_a_last_block_without_dynamics_sums_up_in_its_net(cuba, tmp_path, rng):
    """Its voltage in netx is 4096 times the sum of SLAYER's output so far, which is one step later."""
    blocks = chain(
        lambda: cuba.Dense(NEURON, N_IN, 30, weight_scale=2),
        lambda: cuba.Affine(NEURON, 30, 10, weight_scale=2, dynamics=False),
    )
    spikes = (rng.random((5, 40, N_IN)) < 0.3).astype(np.uint8)
    with torch.no_grad():
        theirs = forward(blocks, spikes).numpy()
    with h5py.File(tmp_path / "a.net", "w") as file:
        for index, block in enumerate(blocks):
            block.export_hdf5(file.create_group(f"layer/{index}"))
    network = load(tmp_path / "a.net")
    ours = simulate(network, spikes).output
    assert np.any(theirs)
    assert network.readout.kind == "membrane_last"
    assert "SLAYER's sum" in network.provenance["notes"][0]
    assert np.array_equal(network.readout.classify(ours[:, :-1]), theirs.sum(axis=1).argmax(axis=1))
    assert np.array_equal(ours[:, :-1], 4096 * theirs.cumsum(axis=1)[:, 1:])
