"""The learning rate's phases, averaged weights, and distillation."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from lbi import datasets  # noqa: E402
from lbi.errors import InputError, UsageError  # noqa: E402
from lbi.train.model_pt import save_model  # noqa: E402
from lbi.train.session.averaging import Average  # noqa: E402
from lbi.train.session.config import make_config  # noqa: E402
from lbi.train.session.distillation import divergence  # noqa: E402
from lbi.train.session.loop import Trainer, evaluate  # noqa: E402
from lbi.train.session.run import describe, read_checkpoint, save_checkpoint, summary  # noqa: E402
from lbi.train.session.schedule import learning_rate, settling_epoch  # noqa: E402

SMALL = {"encoding": {"n_steps": 8}, "hidden": (24,), "epochs": 4, "batch_size": 128, "settle": 0.5}


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits", n_steps=8)


def small(**options):
    return make_config("digits", None, {**SMALL, **options})


def test_the_learning_rate_is_constant_until_the_weights_settle():
    config = small(schedule="settled", epochs=10, lr=0.2)
    assert settling_epoch(config) == 5
    rates = [learning_rate(config, 4, step) for step in range(40)]
    assert rates[:21] == [0.2] * 21
    cosine = [0.1 * (1 + math.cos(math.pi * step / 20)) for step in range(20)]
    assert rates[20:] == pytest.approx(cosine, rel=1e-12)
    assert learning_rate(replace(config, settle=0.0), 4, 39) == 0.2
    whole = [learning_rate(replace(config, schedule="cosine"), 4, step) for step in (0, 20, 39)]
    assert whole == pytest.approx([0.2 * 0.5 * (1 + math.cos(math.pi * s / 40)) for s in (0, 20, 39)])


def test_an_average_is_the_recursion_in_plain_numbers():
    module = torch.nn.Linear(1, 1, bias=False).double()
    values, expected = [1.0, 3.0, -2.0, 0.5], 1.0
    with torch.no_grad():
        module.weight.fill_(values[0])
        average = Average(module, 0.25)
        for value in values[1:]:
            module.weight.fill_(value)
            average.step()
            expected += 0.25 * (value - expected)
    with average.in_place():
        assert module.weight.item() == pytest.approx(expected, rel=1e-15)
    assert module.weight.item() == values[-1]


@pytest.mark.parametrize("optimizer", ["adam", "adabreg", "linbreg"])
def test_averaged_runs_keep_their_zeros_and_resume_bit_for_bit(optimizer, digits, tmp_path):
    config = small(
        optimizer=optimizer,
        density=0.1,
        schedule="settled",
        average=0.05,
        validation=0.1,
        bias=True,
        train_decays=True,
    )
    supports = []

    def look(trainer):
        supports.append([weight != 0 for weight in trainer.model.weights().values()])
        if trainer.progress.epoch == 3:
            save_checkpoint(trainer, tmp_path / "part.ckpt")

    whole = Trainer(config, digits, on_epoch=look)
    whole.run()
    for name, own in whole.model.named_parameters():
        assert torch.equal(own, whole.average.values[name])
    if optimizer != "adam":
        assert whole.density() <= 0.1
    for weight, support in zip(whole.model.weights().values(), supports[-1], strict=True):
        assert not weight.detach()[~support].any()
    assert whole.progress.history[-1]["validation"] == evaluate(whole.model, whole.validation)
    resumed = Trainer(config, digits)
    resumed.restore(read_checkpoint(tmp_path / "part.ckpt"))
    resumed.run()
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[key]), key


def test_a_damaged_average_is_refused(digits, tmp_path):
    config = small(average=0.1, optimizer="adam")
    trainer = Trainer(config, digits, on_epoch=lambda t: save_checkpoint(t, tmp_path / "a.ckpt"))
    trainer.run()
    checkpoint = read_checkpoint(tmp_path / "a.ckpt")
    checkpoint["average"]["layers.hidden.weight"][0, 0] = math.nan
    with pytest.raises(InputError, match=r"average, layers\.hidden\.weight"):
        Trainer(config, digits).restore(checkpoint)


def test_the_divergence_is_hintons():
    rng = torch.Generator().manual_seed(0)
    own, taught = (torch.randn(3, 5, generator=rng, dtype=torch.float64) for _ in range(2))
    p, q = ((z / 2).softmax(1) for z in (taught, own))
    expected = 4 * (p * (p / q).log()).sum()
    assert divergence(own, taught, 2.0).item() == pytest.approx(expected.item(), rel=1e-12)


def test_a_teacher_is_read_from_its_model_and_recorded(digits, tmp_path):
    teacher = Trainer(small(optimizer="adam", epochs=2, gain=0.7), digits)
    teacher.run()
    path = tmp_path / "teacher.pt"
    save_model(teacher.model, path, describe(teacher, summary(teacher, 0.0)))
    config = small(teacher=str(path), epochs=1)
    taught = Trainer(config, digits, on_epoch=lambda t: save_checkpoint(t, tmp_path / "t.ckpt"))
    taught.run()
    alone = Trainer(small(epochs=1), digits)
    alone.run()
    assert taught.progress.history[0]["loss"] != alone.progress.history[0]["loss"]
    assert taught.teacher.gain == 0.7
    described = describe(taught, summary(taught, 0.0))["training"]
    assert described["teacher"] == {"file": "teacher.pt", "sha256": taught.teacher.sha256}
    assert "teacher" not in described["config"]
    checkpoint = read_checkpoint(tmp_path / "t.ckpt")
    checkpoint["teacher"] = "0" * 64
    with pytest.raises(InputError, match="--resume, teacher"):
        Trainer(config, digits).restore(checkpoint)
    other = datasets.load("psdigits")
    with pytest.raises(InputError, match="from-dataset"):
        Trainer(make_config("psdigits", None, {"teacher": str(path), "hidden": (8,)}), other)


def test_a_part_of_the_encoding_keeps_the_rest():
    config = make_config("psdigits", None, {"encoding.n_levels": 4})
    assert config.encoding == {"code": "on_off", "n_levels": 4}
    config = make_config("digits", None, {"regularizer": "GroupL1", "regularizer_options.over": "columns"})
    assert config.regularizer_options == {"over": "columns"}
    with pytest.raises(UsageError, match=r"hidden\.x"):
        make_config("digits", None, {"hidden.x": 1})
