"""Every registered neuron model and regularizer trains, and the options of ``lbi-train`` reach it."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from pathlib import Path  # noqa: E402

from lbi.datasets.base import Dataset, SpikeData  # noqa: E402
from lbi.errors import InputError, UsageError  # noqa: E402
from lbi.network.neurons import MODELS  # noqa: E402
from lbi.simulation import oracle  # noqa: E402
from lbi.train import (  # noqa: E402
    ModelConfig,
    PopulationConfig,
    network_of,
)
from lbi.train.neurons import COMPILED  # noqa: E402
from lbi.train.optim.regularizers import Regularizer  # noqa: E402
from lbi.train.session.config import default_options, make_config, option_hints  # noqa: E402
from lbi.train.session.loop import Trainer  # noqa: E402
from lbi.train.session.single_options import spiking  # noqa: E402

ROOT = Path(__file__).parents[2]


def tiny() -> Dataset:
    """Two classes that spike in different halves of eight channels."""
    rng = np.random.default_rng(0)
    labels = np.arange(32) % 2
    rates = np.where(np.arange(8) // 4 == labels[:, None], 0.6, 0.1)
    spikes = (rng.random((32, 12, 8)) < rates[:, None, :]).astype(np.uint8)
    data = SpikeData(spikes, labels)
    return Dataset("tiny", {"train": data, "test": data}, n_classes=2, n_steps=12, input_shape=(8,))


@pytest.mark.parametrize(("shortest", "delay"), [(0, 0), (0, 4), (2, 4)])
@pytest.mark.parametrize("name", list(MODELS))
def test_an_epoch_of_training_moves_the_weights(name, shortest, delay):
    hidden, readout = (name, "spike_count") if MODELS[name].floats.spikes else ("cuba_lif", "membrane_mean")
    options = {"hidden": [6], "epochs": 1, "batch_size": 8, "neuron": hidden, "readout": readout}
    options |= {"recurrent": True, "recurrent_delay": delay, "recurrent_delay_from": shortest}
    options |= {"current_decay": [0.5, 0.4]}
    more = {"optimizer": "adam", "train_decays": True, "bias": True, "threshold": 0.3}
    trainer = Trainer(make_config("tiny", None, {**options, **more}), tiny())
    before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    trainer.run()
    after = trainer.model.state_dict()
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    (layer,) = [layer for layer in trainer.model.populations() if layer.config.neuron == name][:1]
    prefix = f"layers.{layer.config.name}."
    assert {
        f"{prefix}weight",
        f"{prefix}bias",
        *(prefix + decay for decay in MODELS[name].floats.decays),
    } <= moved
    network = network_of(trainer.model)
    spikes = trainer.train.spikes[:4]
    run = trainer.model.double()(torch.from_numpy(spikes))
    traces = oracle.simulate(network_of(trainer.model), spikes)
    longest = max(projection.max_delay for projection in network.projections)
    # The spikes of the first part, three neurons, reach the second, evaluated later, one step later.
    lags = [shortest + i % (delay - shortest + 1) for i in range(6)]
    assert longest == max(lag + (i < 3) for i, lag in enumerate(lags))
    assert name in {population.neuron.model for population in network.populations}
    output = run[-1][0 if readout == "spike_count" else 1].detach().numpy()
    np.testing.assert_allclose(output, traces.output, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", spiking())
def test_every_option_of_a_model_is_an_option_of_training(name):
    record = MODELS[name].floats
    assert {*record.decays, *record.levels, *record.periods} <= {
        "current_decay",
        "voltage_decay",
        "threshold",
        *record.options,
    }
    assert set(record.options) <= set(option_hints()) == set(default_options())
    changed = {key: value * 2 for key, value in record.options.items()}
    config = make_config("digits", None, {"neuron": name, **changed})
    (hidden, _) = config.model((4,), 2).populations
    for key in changed:
        factor = hidden.threshold[0] if key in record.levels else 1.0
        assert hidden.parameter(key) == (changed[key] * factor,)
    assert make_config(None, None, config.to_dict()) == config


@pytest.mark.parametrize("dataset", ["psdigits", "psmnist"])
def test_an_option_that_a_file_leaves_out_is_not_read_as_a_presets(dataset):
    config = make_config(dataset, None, {"recurrent_delay": 0})
    assert "recurrent_delay" not in config.to_dict()
    assert make_config(None, None, {}, config.to_dict()) == config
    assert make_config(dataset, None, {}).recurrent_delay > 0
    before = make_config(dataset, None, {"recurrent_delay": 62}).to_dict()
    assert "recurrent_delay_from" not in before
    assert make_config(None, None, {"epochs": 3}, before).recurrent_delay_from == 0


def test_delays_need_recurrence():
    assert make_config("psdigits", None, {"recurrent": False}).recurrent_delay == 0
    with pytest.raises(UsageError, match=r"recurrent_delay: 5; allowed: 0 without recurrence"):
        make_config("digits", None, {"recurrent_delay": 5})
    assert make_config("psmnist", None, {"recurrent": False}).recurrent_delay_from == 0
    with pytest.raises(UsageError, match=r"recurrent_delay_from: 6; allowed: 0 to recurrent_delay \(5\)"):
        make_config("psdigits", None, {"recurrent_delay": 5, "recurrent_delay_from": 6})
    earlier = make_config("psmnist", None, {}).to_dict()  # its delays go with its recurrence
    assert make_config(None, None, {"recurrent": False}, earlier).recurrent_delay_from == 0
    assert make_config(None, None, {"recurrent_delay": 62}, earlier).recurrent_delay_from == 15
    with pytest.raises(UsageError, match=r"0 to recurrent_delay \(0\); fix: set recurrent_delay, with --rec"):
        make_config("psdigits", None, {"recurrent": False, "recurrent_delay_from": 2})
    layer = PopulationConfig("o", 2, (0.5,), (0.5,), (1.0,), True, recurrent_delay=1, recurrent_delay_from=2)
    with pytest.raises(InputError, match="recurrent-delay"):
        ModelConfig((4,), (layer,))
    with pytest.raises(InputError, match="recurrent-delay"):
        ModelConfig((4,), (PopulationConfig("output", 2, (0.5,), (0.5,), recurrent_delay=1),))


def test_one_option_of_a_model_leaves_the_others_of_a_preset():
    own = make_config("psmnist", None, {}).neuron_options
    changed = make_config("psmnist", None, {"threshold_step": 0.7}).neuron_options
    assert own["threshold_decay"] != default_options()["threshold_decay"]
    assert changed == {**own, "threshold_step": 0.7}


@pytest.mark.parametrize("name", list(MODELS))
def test_the_docs_say_how_it_trains(name):
    table = (ROOT / "docs" / "reference" / "neurons.md").read_text(encoding="utf-8")
    rows = [line for line in table.splitlines() if line.startswith(f"| `{name}` |")]
    assert len(rows) == 1, f"docs/reference/neurons.md needs one row for {name}"
    assert rows[0].rstrip("| ").endswith("compiled" if name in COMPILED else "plain PyTorch")


@pytest.mark.parametrize("kind", Regularizer.choices())
def test_every_regularizer_trains_by_name(kind):
    options = {"hidden": [6], "epochs": 1, "batch_size": 8, "regularizer": kind, "density": 0.5}
    trainer = Trainer(make_config("tiny", None, options), tiny())
    trainer.run()
    (reg,) = {group["reg"] for group in trainer.optimizer.param_groups if group["reg"] is not None}
    assert type(reg).__name__ == kind
    assert trainer.density() <= 0.5
