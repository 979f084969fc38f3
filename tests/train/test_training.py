"""Training end to end on real digits: resume, reproducibility, sparsity, chip-exact accuracy, and parts by hand."""

from __future__ import annotations

import csv
import hashlib
import re
from dataclasses import fields, replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")


from support.command import call  # noqa: E402

import lbi  # noqa: E402
from lbi import datasets  # noqa: E402
from lbi.cli import train as command  # noqa: E402
from lbi.datasets import Dataset, SpikeData  # noqa: E402
from lbi.datasets.packed import PackedSpikes  # noqa: E402
from lbi.errors import InputError, UsageError  # noqa: E402
from lbi.train import SpikingNetwork, network_of  # noqa: E402
from lbi.train.layers.mantissas import mantissas  # noqa: E402
from lbi.train.session.augment import augment  # noqa: E402
from lbi.train.session.config import TrainConfig, make_config, response_norm  # noqa: E402
from lbi.train.session.loop import Trainer, evaluate  # noqa: E402
from lbi.train.session.losses import activity_loss  # noqa: E402
from lbi.train.session.readout import classify, predict, scores  # noqa: E402
from lbi.train.session.run import Outputs, complete, prepare, read_checkpoint, resume_config, save_checkpoint  # noqa: E402


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits", n_steps=8)


SMALL = {"encoding": {"n_steps": 8}, "hidden": (32,), "epochs": 3, "batch_size": 128}


def small(**options):
    return make_config("digits", None, {**SMALL, **options})


def trained(config, dataset):
    trainer = Trainer(config, dataset)
    trainer.run()
    return trainer


@pytest.mark.parametrize("optimizer", ["adam", "linbreg", "adabreg"])
def test_weight_decay_reaches_the_optimizer(optimizer, digits):
    groups = Trainer(small(optimizer=optimizer, weight_decay=0.5), digits).optimizer.param_groups
    assert {group["weight_decay"] for group in groups} == {0.5}


def test_every_option_is_described():
    words = set(re.findall(r"\w+", TrainConfig.__doc__))
    assert not {field.name for field in fields(TrainConfig)} - words


@pytest.mark.parametrize("optimizer", ["adam", "linbreg", "adabreg"])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(optimizer, digits, tmp_path):
    config = small(
        optimizer=optimizer,
        recurrent=True,
        dropout=0.2,
        channel_jitter=1.0,
        time_shift=1,
        bias=True,
        train_decays=True,
        validation=0.1,
        initial_density=0.5,
    )
    whole = trained(config, digits)

    class StopError(Exception):
        pass

    def stop(trainer):
        if trainer.progress.epoch == 2:
            save_checkpoint(trainer, tmp_path / "part.ckpt")
            raise StopError

    with pytest.raises(StopError):
        Trainer(config, digits, on_epoch=stop).run()
    checkpoint = read_checkpoint(tmp_path / "part.ckpt")
    assert resume_config(checkpoint, {}) == config
    resumed = Trainer(config, digits)
    resumed.restore(checkpoint)
    resumed.run()
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[key]), key
    drop = [{k: v for k, v in entry.items() if k != "seconds"} for entry in whole.progress.history]
    assert drop == [{k: v for k, v in entry.items() if k != "seconds"} for entry in resumed.progress.history]


def test_seeds_repeat_and_differ(digits):
    states = [trained(small(seed=seed, epochs=1), digits).model.state_dict() for seed in (0, 0, 1)]
    key = "layers.hidden.weight"
    assert torch.equal(states[0][key], states[1][key])
    assert not torch.equal(states[0][key], states[2][key])


def test_sparse_training_reaches_its_density_and_the_zeros_stay_absent(digits, tmp_path):
    trainer = trained(small(density=0.2, epochs=12), digits)
    # settled: at most what was asked for, and less only by what the controller's band of 4 % leaves open
    assert 0.19 < trainer.density() <= 0.2
    network = network_of(trainer.model)
    assert network.n_active == trainer.model.n_active() < 0.25 * network.n_weights
    # 12 short epochs with a fifth of the weights: far above the 10 % of guessing
    assert evaluate(trainer.model, digits.test) > 0.5


def test_a_denser_start_shrinks_to_the_density_and_then_settles(digits):
    supports = []

    def look(trainer):
        supports.append(torch.cat([weight.ravel() != 0 for weight in trainer.model.weights().values()]))

    config = small(density=0.1, initial_density=0.5, epochs=20, shrink=0.5, settle=0.25)
    trainer = Trainer(config, digits, on_epoch=look)
    trainer.run()
    shares = [float(support.float().mean()) for support in supports]
    for record in trainer.controller.log:
        epoch = (record.step - 1) // trainer.n_batches
        # the controller leaves 4 % alone; in the first epoch it has weights to wait for
        if epoch > 0:
            assert record.density == pytest.approx(0.1 * (1 + 4 * max(0.0, 1 - epoch / 10) ** 3), rel=0.041)
    assert 0.095 < shares[-1] <= 0.1
    assert all(torch.equal(support, supports[15]) for support in supports[16:])
    assert not torch.equal(supports[13], supports[15])


def test_dead_weights_get_gradients_every_kth_step_and_none_once_the_support_is_fixed(digits):
    config = small(hidden=(256,), density=0.1, initial_density=0.1, dead_every=3)
    trainer, rng = Trainer(config, digits), np.random.default_rng(0)
    weight = trainer.model.populations()[0].weight
    reached = []
    for step in range(5):
        dead = weight == 0
        trainer._batch(np.arange(step, step + 64), rng)
        assert weight.grad[~dead].abs().max() > 0
        reached.append(bool((weight.grad[dead] != 0).any()))
    assert reached == [True, False, False, True, False]
    trainer.controller.settle()
    for _ in range(3):
        dead = weight == 0
        trainer._batch(np.arange(64), rng)
        assert not weight.grad[dead].any()
        assert not weight[dead].any()


@pytest.mark.parametrize("epochs", [0, 1])
def test_density_holds_however_early_training_ends(epochs, digits):
    trainer = trained(small(density=0.1, initial_density=0.5, epochs=epochs), digits)
    assert 0.095 < trainer.density() <= 0.1


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize(
    ("neuron", "readout"),
    [
        ("cuba_lif", "spike_count"),
        ("atrlif", "spike_count"),
        ("cuba_lif", "membrane_max"),
        ("atrlif", "membrane_mean"),
    ],
)
def test_chip_exact_training_prints_the_deployed_accuracy(neuron, readout, recurrent, digits):
    parts = ((0.5, 0.8), (0.1, 0.3)) if recurrent else ((0.5,), (0.2,))
    config = small(
        precision="chip",
        chip_from=0.5,
        recurrent=recurrent,
        current_decay=parts[0],
        voltage_decay=parts[1],
        bias=recurrent,
        epochs=6,
        optimizer="adam",
        lr=0.02,
        neuron=neuron,
        readout=readout,
    )
    trainer = trained(config, digits)
    fixed = lbi.quantize(network_of(trainer.model))
    assert fixed.populations[0].neuron.model == neuron
    activity = lbi.simulate(fixed, digits.test.spikes)
    with torch.no_grad():
        spikes, voltages = trainer.model(torch.from_numpy(digits.test.spikes))[-1]
    np.testing.assert_array_equal(activity.output_spikes, spikes.numpy())
    if readout == "spike_count":
        assert spikes.sum() > 450
    else:
        np.testing.assert_array_equal(activity.output, voltages.double().numpy() * 64)
    right = fixed.readout.classify(activity.output) == digits.test.labels
    assert right.mean() > 0.5
    assert evaluate(trainer.model, digits.test) == right.mean()
    assert all(projection.n_rounded_to_zero == 0 for projection in fixed.projections)


def test_chip_gradients_are_the_float_ones_of_the_rounded_network():
    """Straight through: where rounding changes nothing, chip and float gradients agree."""
    from lbi.train import ModelConfig, PopulationConfig, SpikingNetwork

    # decays of 1: no state is carried, so nothing is truncated and the integers equal the floats
    hidden = PopulationConfig("hidden", 40, (1.0,), (4095 / 4096,), (1.0,), recurrent=True)
    output = PopulationConfig("output", 3, (1.0,), (4095 / 4096,), (1.0,))
    model = SpikingNetwork(ModelConfig((6,), (hidden, output)), seed=1).double()
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.weights().values():
            weight.copy_(torch.randint(-60, 61, weight.shape, generator=g) * 2 / 64)
    x = (torch.rand(4, 9, 6, generator=g) < 0.4).to(torch.uint8)
    grads = []
    for scale in (0.0, 64.0):
        for layer in model.layers.values():
            layer.scale.fill_(scale)
        model.zero_grad()
        run = model(x)
        run[-1][0].sum(1).square().sum().backward()
        grads.append([weight.grad.clone() for weight in model.weights().values()])
    assert run[-1][0].sum() > 0
    for with_floats, with_integers in zip(*grads, strict=True):
        assert with_floats.abs().max() > 0
        # the voltage keeps 1/4096 per step in floats, and up to a unit in 4096 is cut off in integers
        torch.testing.assert_close(
            with_integers, with_floats, rtol=0.02, atol=1e-3 * float(with_floats.abs().max())
        )


def test_mantissas_are_the_quantizers(rng):
    weight = torch.tensor(rng.normal(size=(5, 40)), dtype=torch.float32).requires_grad_()
    scale = torch.tensor([3.0, 50.5, 120.7, 400.0, 77.7], dtype=torch.float64)
    rounded = mantissas(weight, scale)
    exact = weight.detach().double().numpy() * scale.numpy()[:, None]
    np.testing.assert_array_equal(rounded.detach().numpy(), np.clip(np.rint(exact / 2) * 2, -254, 254))
    rounded.sum().backward()
    np.testing.assert_allclose(
        weight.grad.numpy(), np.broadcast_to(scale.numpy()[:, None], (5, 40)), rtol=1e-6
    )


def test_early_stop_returns_the_best_weights(digits):
    config = small(validation=0.2, patience=1, epochs=30, lr=0.5, optimizer="adam", schedule="constant")
    trainer = trained(config, digits)
    progress = trainer.progress
    assert progress.epoch < 30
    assert progress.best == max(entry["validation"] for entry in progress.history)
    assert evaluate(trainer.model, trainer.validation) == progress.best
    with pytest.raises(UsageError, match="--validation"):
        Trainer(small(patience=2), digits)


def test_validation_samples_are_held_out_of_training(digits):
    trainer = Trainer(small(validation=0.2), digits)
    assert len(trainer.train) + len(trainer.validation) == 1347
    assert abs(len(trainer.validation) - 0.2 * 1347) < 6


def test_a_checkpoint_lies_beside_the_model_while_it_trains(tmp_path, monkeypatch):
    monkeypatch.setattr("lbi.train.session.run.CHECKPOINT_EVERY_S", 0.0)
    outputs = Outputs(tmp_path / "model.pt", tmp_path / "m.csv")

    class StopError(Exception):
        pass

    def stop(record):
        if len(trainer.progress.history) == 2:
            raise StopError

    trainer = prepare(small(), outputs)
    trainer.on_batch = stop
    with pytest.raises(StopError):
        complete(trainer, outputs)
    assert not outputs.model.exists()
    checkpoint = read_checkpoint(outputs.checkpoint)
    assert checkpoint["progress"]["epoch"] == 2
    resumed = complete(prepare(resume_config(checkpoint, {}), outputs, checkpoint), outputs)
    whole = complete(prepare(small(), Outputs(tmp_path / "whole.pt")), Outputs(tmp_path / "whole.pt"))
    assert outputs.model.read_bytes() == (tmp_path / "whole.pt").read_bytes()
    assert resumed["accuracy"] == whole["accuracy"]
    assert [row["epoch"] for row in csv.DictReader(outputs.metrics.read_text().splitlines())] == [
        "1",
        "2",
        "3",
    ]
    assert not outputs.checkpoint.exists()


def test_a_checkpoint_of_another_network_is_refused(digits):
    checkpoint = Trainer(small(), digits).checkpoint()
    with pytest.raises(InputError, match="does not fit"):
        Trainer(small(hidden=(16,)), digits).restore(checkpoint)


def test_a_checkpoint_of_other_samples_is_refused(tmp_path, monkeypatch):
    """One spike moved by a step; the same samples as bits, and checkpoints of earlier versions, are continued."""
    spikes, labels = np.zeros((10, 3, 5), np.uint8), np.arange(10) % 2
    spikes[:, 0] = 1
    path = tmp_path / "own.npz"

    def data():
        np.savez(path, spikes=spikes, labels=labels, test_spikes=spikes[:2], test_labels=labels[:2])
        return datasets.load(str(path))

    checkpoint = Trainer(small(hidden=(3,)), data()).checkpoint()
    bits = np.packbits(spikes, axis=-1)
    by_hand = repr(((10, 3, 5), 2)).encode() + labels.astype(np.int64).tobytes() + bits.tobytes()
    assert checkpoint["data"] == hashlib.sha256(by_hand).hexdigest()
    packed = {name: SpikeData(PackedSpikes(bits, 5), labels) for name in ("train", "test")}
    large = Dataset(str(path), packed, n_classes=2, n_steps=3, input_shape=(5,))
    Trainer(small(hidden=(3,)), large).restore(checkpoint)
    spikes[7, :2, 4] = 0, 1
    with pytest.raises(
        InputError, match=r"checkpoint: --resume, data set \S*own\.npz: others; allowed: the training samples"
    ):
        Trainer(small(hidden=(3,)), data()).restore(checkpoint)
    del checkpoint["data"]
    Trainer(small(hidden=(3,)), data()).restore(checkpoint)


def test_a_last_step_that_leaves_a_nan_is_an_error(digits):
    trainer = Trainer(small(optimizer="adam", epochs=1), digits)
    step = trainer.optimizer.step

    def diverging():
        step()
        with torch.no_grad():
            trainer.model.layers["hidden"].weight[3, :2] = float("nan")

    trainer.optimizer.step = diverging
    trainer.train = trainer.train.subset(slice(0, 8))  # one batch: no later loss tells
    with pytest.raises(InputError, match=r"diverged: epoch 1, layers\.hidden\.weight: 2 values are NaN"):
        trainer.run()


def test_divergence_is_an_error(digits):
    trainer = Trainer(small(optimizer="adam"), digits)
    with torch.no_grad():
        trainer.model.layers["hidden"].weight[3, 2] = float("nan")
    with pytest.raises(InputError, match=r"diverged: epoch 1.*lower --lr"):
        trainer.run()


def test_options_are_checked_together(tmp_path):
    with pytest.raises(UsageError, match="slope") as caught:
        TrainConfig(slope=0, lr=-1, optimizer="sgd", hidden=(0,))
    assert len(caught.value.problems) == 4
    with pytest.raises(UsageError, match="option-type: lr: 'fast'; allowed: a number, above 0"):
        make_config("digits", None, {"lr": "fast"})
    with pytest.raises(UsageError, match=r"voltage_decay: '0\.1,0\.02'.*fix: write lists as \[0\.1, 0\.02\]"):
        make_config("digits", None, {"voltage_decay": "0.1,0.02"})
    (tmp_path / "bad.toml").write_text("lr = = 2")
    with pytest.raises(InputError, match="toml-syntax"):
        make_config(None, tmp_path / "bad.toml", {})
    with pytest.raises(InputError, match=r"config-unreadable.*does not exist"):
        make_config(None, tmp_path / "none.toml", {})
    assert make_config("digits", None, {"voltage_decay": [0.1, 0.2]}).current_decay == (0.5, 0.5)


def test_few_weights_have_presets_of_their_own():
    assert [make_config("shd", None, {"density": density}).lr for density in (0.1, 0.05, 0.02)] == [
        0.01,
        0.02,
        0.02,
    ]
    assert make_config("shd", None, {"density": 0.05, "optimizer": "adam"}).lr == 0.01
    assert make_config("shd", None, {"density": 0.05, "lr": 0.3}).lr == 0.3
    budget = {"budget": ("cores=1",), "chip": "loihi1"}
    assert make_config("shd", None, budget).lr == 0.02  # what is left is few weights
    assert make_config("shd", None, {**budget, "density": 0.1}).lr == 0.01


def test_response_norm_is_the_sum_it_claims():
    for current, voltage in ((0.5, 0.25), (1.0, 0.1), (0.2, 0.05)):
        h = [sum((1 - current) ** i * (1 - voltage) ** (k - i) for i in range(k + 1)) for k in range(900)]
        assert response_norm(current, voltage) == pytest.approx(sum(x * x for x in h) ** 0.5, rel=1e-9)


def test_classes_are_the_readouts():
    counts = torch.tensor([[0.0, 2.0, 2.0], [0.0, 0.0, 0.0], [1.0, 0.0, 3.0]])
    assert classify(counts).tolist() == [1, 0, 2]
    spikes = np.zeros((3, 3, 3), np.uint8)
    for sample, row in enumerate(counts.int().tolist()):
        for neuron, count in enumerate(row):
            spikes[sample, :count, neuron] = 1
    assert lbi.Readout("output").classify(spikes).tolist() == [1, 0, 2]


@pytest.mark.parametrize("kind", ["spike_count", "membrane_max", "membrane_mean"])
def test_scores_by_hand_and_classes_as_deployed(kind):
    neuron = {"threshold": ()} | {"neuron": "integrator"} if kind != "spike_count" else {}
    population = lbi.train.PopulationConfig("output", 3, (1.0,), (0.5,), **neuron)
    model = SpikingNetwork(lbi.train.ModelConfig((4,), (population,), kind))
    output = torch.tensor([[[1.0, 0.0, 4.0], [4.0, 3.0, -4.0]], [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]])
    found = scores(model, [(output, output)])
    # the response to one unit of input is 1, 1/2, 1/4 …: its norm is √(4/3)
    expected = {
        "spike_count": [5.0, 3.0, 0.0],
        "membrane_max": [4.0, 3.0, 4.0],
        "membrane_mean": [2.5, 1.5, 0.0],
    }[kind]
    unit = 1.0 if kind == "spike_count" else (4 / 3) ** 0.5
    np.testing.assert_allclose(found[0].numpy() * unit, expected, rtol=1e-6)
    deployed = lbi.Readout("output", kind).classify(output.numpy().astype(np.int64))
    assert predict(model, [(output, output)]).tolist() == deployed.tolist() == [0, 0]


def test_augmentation_moves_whole_samples(rng):
    spikes = (rng.random((30, 12, 20)) < 0.3).astype(np.uint8)
    assert augment(spikes, 0.0, 0, rng) is spikes
    moved = augment(spikes, 2.0, 3, np.random.default_rng(4))
    draw = np.random.default_rng(4)
    channels, steps = np.rint(draw.normal(0, 2.0, 30)).astype(int), draw.integers(-3, 4, 30)
    assert {*channels} > {0}
    for i in range(30):
        for t, c in np.argwhere(spikes[i]):
            to = (t + steps[i], c + channels[i])
            if 0 <= to[0] < 12 and 0 <= to[1] < 20:
                assert moved[i][to] == 1
        assert moved[i].sum() <= spikes[i].sum()
    assert augment(spikes, 1e9, 0, np.random.default_rng(0)).sum() == 0


def test_activity_loss_by_hand():
    config = small(activity=2.0, rate_low=0.1, rate_high=0.3)
    hidden, output = torch.zeros(1, 10, 32), torch.zeros(1, 10, 10)
    hidden[0, :5, 0] = 1  # rate 0.5: 0.2 above; the 31 others are 0.1 below
    expected = 2.0 * (0.2**2 + 31 * 0.1**2) / 32
    run = [(hidden, hidden), (output, output)]
    assert float(activity_loss(run, config)) == pytest.approx(expected, rel=1e-5)
    assert float(activity_loss(run, replace(config, activity=0.0))) == 0.0


def test_options_that_were_removed_are_read_where_they_did_nothing():
    saved = small().to_dict()
    assert make_config(None, None, {}, {**saved, "synops": 0.0}) == make_config(None, None, {}, saved)
    assert resume_config({"config": {**saved, "synops": 0.0}}, {}) == resume_config({"config": saved}, {})
    with pytest.raises(
        UsageError, match=r"removed-option: the earlier run, synops: 0\.1.*--budget synops=NUMBER"
    ):
        resume_config({"config": {**saved, "synops": 0.1}}, {})
    with pytest.raises(UsageError, match=r"removed-option: options, synops: 3"):
        make_config("digits", None, {"synops": 3})


@pytest.mark.parametrize("dataset", ["digits", "mnist", "psdigits", "psmnist", "shd", "ssc"])
@pytest.mark.parametrize(
    "given", [{}, {"average": 0.0}, {"density": 0.01}, {"average": 0.0, "density": 0.01}]
)
def test_a_resumed_run_has_the_options_that_it_was_started_with(dataset, given):
    config = make_config(dataset, None, given)
    assert resume_config({"config": config.to_dict()}, {}) == config


def test_a_users_own_spikes_train(tmp_path, rng):
    labels = np.arange(120) % 2
    rate = np.where(labels[:, None, None] == np.arange(6)[None, None, :] % 2, 0.6, 0.05)
    np.savez(tmp_path / "own.npz", spikes=(rng.random((120, 10, 6)) < rate).astype(np.uint8), labels=labels)
    config = make_config(
        str(tmp_path / "own.npz"), None, {"hidden": [16], "epochs": 12, "batch_size": 16, "optimizer": "adam"}
    )
    outputs = Outputs(tmp_path / "model.pt")
    # two classes told apart by which half of the channels fires: 3 channels × 10 steps, 0.6 against 0.05
    assert complete(prepare(config, outputs), outputs)["accuracy"]["test"] >= 0.9
    assert isinstance(prepare(config, outputs).train, SpikeData)


def test_a_model_in_place_of_a_checkpoint_and_the_reverse_say_which_option_takes_it(tmp_path):
    outputs = Outputs(tmp_path / "model.pt")
    trainer = prepare(small(epochs=0), outputs)
    save_checkpoint(trainer, outputs.checkpoint)
    complete(trainer, Outputs(tmp_path / "model.pt"))
    save_checkpoint(trainer, outputs.checkpoint)
    done = call(command.main, "--resume", outputs.model, "-o", tmp_path / "new.pt")
    assert (done.code, len(done.errors)) == (3, 1)
    fix = f"fix: it is a trained model: train on from it with --from, or resume an interrupted run from {outputs.checkpoint}"
    assert fix in done.errors[0]
    assert call(command.main, "--resume", outputs.model, "-o", outputs.model).errors == done.errors
    done = call(command.main, "--from", outputs.checkpoint, "-o", tmp_path / "new.pt")
    assert (done.code, len(done.errors)) == (3, 1)
    assert "fix: it is the state of a run: finish it with lbi-train --resume" in done.errors[0]
