"""``--device``: the choice of a device, tensors that are all on it, files that move between devices, and the kernels' check.

No test here runs on a GPU. PyTorch's fake tensors have a device without having one, and refuse operations on two.
"""

from __future__ import annotations

import importlib
import json
import subprocess

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from support.command import call  # noqa: E402
from support.interpreter import interpreted  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402

from lbi import datasets  # noqa: E402
from lbi.cli import train as command  # noqa: E402
from lbi.errors import UsageError  # noqa: E402
from lbi.train import SpikingNetwork, gpu  # noqa: E402
from lbi.train.layers import model as layers  # noqa: E402
from lbi.train.layers import wiring  # noqa: E402
from lbi.train.neurons import CUBA_LIF  # noqa: E402
from lbi.train.session import device as devices  # noqa: E402
from lbi.train.session import gpu_check  # noqa: E402
from lbi.train.session.config import make_config  # noqa: E402
from lbi.train.session.device import choose  # noqa: E402
from lbi.train.session.loop import Trainer, evaluate  # noqa: E402
from lbi.train.session.losses import activity_loss  # noqa: E402
from lbi.train.session.readout import predict, scores  # noqa: E402
from lbi.train.session.setup import make_controller, make_optimizer  # noqa: E402


@pytest.fixture
def gpus(monkeypatch):
    """As many GPUs as the test says, none of which can be used."""

    def set_to(n, **environment):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: n > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: n)
        for key in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"):
            monkeypatch.delenv(key, raising=False)
        for key, value in environment.items():
            monkeypatch.setenv(key, value)

    return set_to


def test_cuda_without_a_gpu_is_one_line_and_exit_2(gpus, tmp_path):
    gpus(0)
    done = call(command.main, "--device", "cuda", "-o", tmp_path / "m.pt")
    assert done.code == 2
    assert len(done.errors) == 1
    assert done.errors[0].startswith("error: device: --device: cuda, but PyTorch")
    assert "fix: pass --device cpu" in done.errors[0]
    assert call(command.main, "--device", "tpu").errors[0].startswith("error: option: device: 'tpu'")


def test_each_process_takes_a_gpu_of_its_own(gpus):
    gpus(0)
    assert choose("auto") == choose("cpu") == torch.device("cpu")
    gpus(2)
    assert choose("auto") == choose("cuda") == torch.device("cuda", 0)
    assert choose("cpu") == torch.device("cpu")
    gpus(2, LOCAL_RANK="1", LOCAL_WORLD_SIZE="2")
    assert choose("auto") == torch.device("cuda", 1)
    gpus(2, LOCAL_RANK="1", LOCAL_WORLD_SIZE="3")
    assert choose("auto") == torch.device("cpu")
    with pytest.raises(UsageError, match="3 processes for 2 GPUs; allowed: one GPU for each process"):
        choose("cuda")


def put_on_the_gpu(model, fake):
    for module in model.modules():
        for entries in (module._parameters, module._buffers):
            for name in [name for name, tensor in entries.items() if tensor is not None]:
                copied = fake.from_tensor(entries[name].detach())
                with fake:
                    moved = copied.to("cuda")
                    entries[name] = torch.nn.Parameter(moved) if entries is module._parameters else moved


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        ("adam", {"neuron": "cuba_lif"}),
        ("linbreg", {"neuron": "atrlif", "bias": True}),
        ("adabreg", {"neuron": "lif_refractory"}),
    ],
)
def test_a_step_keeps_every_tensor_on_the_gpu(optimizer, options, monkeypatch):
    config = make_config(
        "digits",
        None,
        {
            "hidden": (12, 7),
            "recurrent": True,
            "train_decays": True,
            "optimizer": optimizer,
            "dropout": 0.2,
            "activity": 1.0,
        }
        | options,
    )
    monkeypatch.setattr(layers.PopulationLayer, "on_chip", False)  # its value would be data of a fake tensor
    model = SpikingNetwork(config.model((64,), 10), 0)
    fake = FakeTensorMode()
    put_on_the_gpu(model, fake)
    with fake:
        optimizer_ = make_optimizer(config, model, fresh=False)
        make_controller(config, model, optimizer_, 1)
        spikes = torch.zeros(3, 5, 64, dtype=torch.uint8, device="cuda")
        labels = torch.zeros(3, dtype=torch.long, device="cuda")
        run = model(spikes, config.dropout)
        loss = torch.nn.functional.cross_entropy(scores(model, run), labels) + activity_loss(run, config)
        for p in model.parameters():  # autograd's engine itself needs a driver
            p.grad = torch.zeros_like(p)
        optimizer_.step()
        found = [
            *run[0],
            *run[-1],
            loss,
            predict(model, run),
            *model.parameters(),
        ]
        found += [
            value
            for state in optimizer_.state.values()
            for key, value in state.items()
            if isinstance(value, torch.Tensor) and key != "step"
        ]
    assert {tensor.device for tensor in found} == {torch.device("cuda", 0)}
    with pytest.raises(RuntimeError, match="same device"), fake:
        model(spikes.cpu().float())


@pytest.mark.parametrize("precision", ["float", "chip"])
def test_nothing_is_made_on_the_default_device(precision, monkeypatch):
    """A whole run on the CPU while tensors without a device become meta tensors, with which no operation ends well."""
    data = datasets.load("digits", n_steps=4)
    options = {
        "hidden": (40,),
        "epochs": 2,
        "batch_size": 512,
        "dropout": 0.1,
        "bias": True,
        "precision": precision,
    }
    config = make_config("digits", None, {**options, "recurrent": True, "settle": 0.5})
    model = SpikingNetwork(config.model(data.input_shape, data.n_classes), 0)
    plain = Trainer(config, data, model=model)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    plain.run()
    again = SpikingNetwork(model.config, 1)
    again.load_state_dict(state)
    linear = lambda spikes, weight, only_living=False: spikes.to(weight.dtype) @ weight.T  # noqa: E731 - as on a GPU
    monkeypatch.setattr(wiring, "event_linear", linear)
    with torch.device("meta"):
        trainer = Trainer(config, data, model=again)
        trainer.run()
        restored = Trainer(config, data, model=again)
        restored.restore(trainer.checkpoint())
        accuracy = evaluate(again, data.test)
    assert {value.device.type for value in again.state_dict().values()} == {"cpu"}
    assert accuracy == pytest.approx(evaluate(plain.model, data.test), abs=0.1)


def test_a_checkpoint_and_a_model_are_the_same_from_any_device():
    """Tensors move to the CPU in copies of their containers; what is not a tensor stays as it is."""
    state = {"a": [torch.ones(2), 3], "b": (None, {"c": torch.zeros(1)}), "d": "text"}
    with FakeTensorMode() as fake:
        moved = {
            "a": [fake.from_tensor(state["a"][0]).to("cuda"), 3],
            "b": (None, {"c": torch.zeros(1, device="cuda")}),
            "d": "text",
        }
        found = devices.on_cpu(moved)
    assert found["a"][0].device.type == found["b"][1]["c"].device.type == "cpu"
    assert (found["a"][1], found["b"][0], found["d"]) == (3, None, "text")
    assert devices.on_cpu(state)["a"][0] is state["a"][0]


def test_files_do_not_say_where_a_run_took_place():
    assert "device" not in make_config("digits", None, {"device": "cpu"}).to_dict()
    assert (
        make_config("digits", None, {"device": "cpu"}).to_dict() == make_config("digits", None, {}).to_dict()
    )


def test_a_gpu_uses_plain_pytorch_until_the_kernels_were_checked(monkeypatch):
    """Fake tensors on a GPU reach ``CudaScan`` only after ``gpu.allow``."""
    calls = []
    fused = type(
        "Fused", (), {"apply": staticmethod(lambda *args: calls.append("fused") or (args[4], args[4]))}
    )
    scan = importlib.import_module("lbi.train.layers.scan")
    monkeypatch.setattr(scan, "import_module", lambda name: type("M", (), {"CudaScan": fused}))
    for allowed in (False, True):
        monkeypatch.setattr(gpu, "_checked", allowed)
        with FakeTensorMode():
            a = torch.zeros(2, 3, 4, device="cuda")
            neuron = [torch.zeros(4, device="cuda")] * 4
            scan.scan(CUBA_LIF, a, None, neuron, "boxcar", 1.0)
        assert calls == ["fused"] * allowed


@pytest.fixture
def kernels(monkeypatch):
    """The Triton kernels in Triton's interpreter, the optimizers' also for tensors on a CPU."""
    with interpreted(monkeypatch) as (scans, fused):
        monkeypatch.setattr("lbi.train.optim.fused_cpu", fused, raising=False)
        yield scans, fused


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, on the lanes that a mask switches off
def test_the_comparison_finds_a_wrong_kernel(kernels, monkeypatch):
    scan, fused = kernels
    monkeypatch.setattr(gpu_check, "SURROGATES", ("fast_sigmoid",))
    # Two programs backward, of 4 samples each, and two launches: of the 16 steps that the longest delay allows, and the rest.
    monkeypatch.setattr(gpu_check, "SHAPE", (5, 6, 20))
    monkeypatch.setattr(gpu_check, "LONG", 20)
    assert gpu_check.compare(torch.device("cpu")) == ""
    forward = scan._forward

    def changed(model, a, recurrent, delays, given):
        given[0][0] *= 0.5  # the current decays twice as fast
        forward(model, a, recurrent, delays, given)

    with monkeypatch.context() as patch:
        patch.setattr(scan, "_forward", changed)
        assert "spikes differ" in gpu_check.compare(torch.device("cpu"))
    monkeypatch.setattr(gpu_check, "WIRINGS", {"feedforward": None})
    run = fused.run
    monkeypatch.setattr(fused, "run", lambda *args: [run(*args) for _ in range(2)])
    assert gpu_check.compare(torch.device("cpu")) == "AdaBreg: weights differ after five steps"


def test_the_comparison_runs_once_per_machine_and_source(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    runs, answer = [], ["", 0, ""]
    monkeypatch.setattr(gpu, "_checked", False)

    def process(command, **_):
        runs.append(command)
        return subprocess.CompletedProcess(command, answer[1], answer[0], answer[2])

    monkeypatch.setattr(gpu_check.subprocess, "run", process)
    cpu = torch.device("cpu")
    assert gpu_check.enable(cpu)
    assert gpu_check.enable(cpu)
    assert len(runs) == 1
    assert runs[0][1:] == ["-m", "lbi.train.session.gpu_check", "cpu"]
    (path,) = (tmp_path / "lbi").iterdir()
    path.write_text("{broken")
    answer[:] = ["cuba_lif: 3 spikes differ", 0, ""]
    for _ in range(2):
        with pytest.warns(gpu_check.GpuWarning, match="without Triton kernels: cuba_lif: 3 spikes differ"):
            assert not gpu_check.enable(cpu)
        assert not gpu.allowed()
    assert len(runs) == 2
    assert json.loads(path.read_text())["difference"] == "cuba_lif: 3 spikes differ"
    monkeypatch.setattr(torch, "__version__", "9.9")
    answer[:] = ["", 1, "Traceback\nRuntimeError: an illegal memory access was encountered"]
    for n in (3, 4):  # a crash may have another cause, and is tried again
        with pytest.warns(gpu_check.GpuWarning, match="illegal memory access"):
            gpu_check.enable(cpu)
        assert len(runs) == n
    monkeypatch.setattr(gpu_check, "find_spec", lambda name: None)
    with pytest.warns(gpu_check.GpuWarning, match="triton is not installed"):
        assert not gpu_check.enable(cpu)
    assert np.size(runs, 0) == 4
