"""The optimizers with torch's tools: closures, clipping, AMP, compile, checkpoints, kill and resume, DDP."""

import copy
import io
import math
import signal
import subprocess
import sys

import pytest
import torch
from torch import nn

from lbi.train import L1, AdaBreg, GroupL1, LinBreg, ProxSGD, param_groups, sparse_init_


def small_net(dtype=torch.float64):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 6 * 6, 12), nn.Tanh(), nn.Linear(12, 3)
    )
    return sparse_init_(net, 0.3, torch.Generator().manual_seed(1)).to(dtype)


def batches(n, dtype=torch.float64):
    generator = torch.Generator().manual_seed(7)
    for _ in range(n):
        x = torch.randn(16, 1, 8, 8, generator=generator, dtype=dtype)
        yield x, (x.mean((1, 2, 3)) > 0).long() + (x[:, 0, 0, 0] > 0).long()


def train(net, optimizer, steps, each=lambda: None, dtype=torch.float64):
    for x, y in batches(steps, dtype):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        each()
        optimizer.step()
    return torch.cat([p.detach().ravel() for p in net.parameters()])


OPTIMIZERS = [
    pytest.param(lambda net, reg: AdaBreg(param_groups(net, reg), lr=0.01), id="AdaBreg"),
    pytest.param(lambda net, reg: LinBreg(param_groups(net, reg), lr=0.05, momentum=0.9), id="LinBreg"),
    pytest.param(lambda net, reg: ProxSGD(param_groups(net, reg), lr=0.05, momentum=0.9), id="ProxSGD"),
]


@pytest.mark.parametrize("make", OPTIMIZERS)
@pytest.mark.parametrize(
    "reg", [L1(0.05), GroupL1(0.01), GroupL1(0.01, over="columns"), GroupL1(0.02, over=(3, 3))]
)
def test_trains_convolutions_and_biases(make, reg):
    net = small_net()
    optimizer = make(net, reg)
    x, y = next(batches(1))
    first = float(nn.functional.cross_entropy(net(x), y).detach())
    assert train(net, optimizer, 60).isfinite().all()
    assert float(nn.functional.cross_entropy(net(x), y).detach()) < first
    biases = [p for p in net.parameters() if p.ndim == 1]
    assert all((p != 0).all() for p in biases)


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_closure_is_called_with_gradients_on_and_its_loss_returned(make):
    net, twin = small_net(), small_net()
    optimizer = make(net, L1(0.05))
    losses = []

    for x, y in batches(5):

        def closure(x=x, y=y):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(x), y)
            loss.backward()
            losses.append(float(loss.detach()))
            return loss

        assert float(optimizer.step(closure).detach()) == losses[-1]
    assert len(losses) == 5
    expected = train(twin, make(twin, L1(0.05)), 5)
    assert torch.equal(torch.cat([p.detach().ravel() for p in net.parameters()]), expected)


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_clipping_scaling_and_compiling(make):
    net = small_net()
    clipped = train(net, make(net, L1(0.05)), 5, lambda: nn.utils.clip_grad_norm_(net.parameters(), 0.1))

    # A power of two scales gradients without rounding, so the scaled run has the same bits.
    net = small_net()
    optimizer, scaler = make(net, L1(0.05)), torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for x, y in batches(5):
        optimizer.zero_grad()
        scaler.scale(nn.functional.cross_entropy(net(x), y)).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(net.parameters(), 0.1)
        scaler.step(optimizer)
        scaler.update()
    assert torch.equal(torch.cat([p.detach().ravel() for p in net.parameters()]), clipped)

    # An overflow skips the step: neither weights nor duals move.
    state = copy.deepcopy(optimizer.state_dict())
    next(net.parameters()).grad.fill_(math.inf)
    scaler.step(optimizer)
    scaler.update()
    assert equal_states(optimizer.state_dict(), state)

    net = small_net()
    compiled = torch.compile(net, backend="eager")
    ran = train(
        compiled, make(compiled, L1(0.05)), 5, lambda: nn.utils.clip_grad_norm_(net.parameters(), 0.1)
    )
    assert torch.equal(ran, clipped)


def equal_states(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal_states(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal_states, a, b))
    return a == b


def through_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("reg", [None, L1(0.05), L1(0.05, elastic=0.1), GroupL1(0.01, over=(2, 3))], ids=str)
@pytest.mark.parametrize("make", OPTIMIZERS)
def test_state_dict_is_plain_and_resumes_bit_for_bit(make, reg, dtype):
    net = small_net(dtype)
    optimizer = make(net, reg)
    train(net, optimizer, 10, dtype=dtype)
    if reg is not None:
        optimizer.param_groups[0]["reg"] = reg.with_lamda(0.021)
    weights, state = through_file(net.state_dict()), through_file(optimizer.state_dict())
    expected = train(net, optimizer, 10, dtype=dtype)

    resumed = small_net(dtype)
    resumed.load_state_dict(weights)
    successor = make(resumed, None if reg is None else L1(9.0))
    successor.load_state_dict(state)
    assert equal_states(successor.state_dict(), state)
    assert successor.param_groups[0]["reg"] == (None if reg is None else reg.with_lamda(0.021))
    assert torch.equal(train(resumed, successor, 10, dtype=dtype), expected)


KILLED = """
import os, sys, torch
from pathlib import Path
from torch import nn
from lbi.train import L1, AdaBreg, param_groups, sparse_init_
if __name__ == "__main__":
    assert "numba" not in sys.modules, "importing lbi.train is to be cheap"

def main(path, end, steps):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 2))
    sparse_init_(net, 0.2)
    optimizer = AdaBreg(param_groups(net, L1(0.02)), lr=0.01)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    first = step = 0
    if path.exists():
        saved = torch.load(path, weights_only=True)
        net.load_state_dict(saved["net"])
        optimizer.load_state_dict(saved["optimizer"])
        scheduler.load_state_dict(saved["scheduler"])
        first = step = saved["step"]
    while step < steps:
        x = torch.randn(32, 8, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        ((net(x) - x[:, :2].sin() * x[:, 2:4]) ** 2).mean().backward()
        optimizer.step()
        scheduler.step()
        step += 1
        if step % 10 == 0:
            saved = {"net": net.state_dict(), "optimizer": optimizer.state_dict(),
                     "scheduler": scheduler.state_dict(), "step": step}
            torch.save(saved, path.with_suffix(".tmp"))
            os.replace(path.with_suffix(".tmp"), path)
            assert __name__ != "__main__" or "torch._dynamo" not in sys.modules, "seconds of every start"
            print("saved", step, flush=True)
    torch.save(net.state_dict(), end)
    return first

if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
"""


def test_kill_and_resume_ends_in_the_same_bits(tmp_path, capsys):
    steps, checkpoint = 1000, tmp_path / "killed.pt"
    command = [sys.executable, "-c", KILLED, str(checkpoint), str(tmp_path / "end.pt"), str(steps)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert any(line == "saved 200\n" for line in child.stdout)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    child.stdout.close()
    assert not (tmp_path / "end.pt").exists()

    namespace = {"__name__": "killed"}
    exec(KILLED, namespace)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert 200 <= namespace["main"](checkpoint, tmp_path / "resumed.end", steps) < steps
        assert namespace["main"](tmp_path / "whole.pt", tmp_path / "whole.end", steps) == 0
    finally:
        torch.set_num_threads(before)
    capsys.readouterr()
    whole, resumed = (
        torch.load(tmp_path / f"{name}.end", weights_only=True) for name in ("whole", "resumed")
    )
    assert equal_states(whole, resumed)
    assert 0 < (whole["0.weight"] == 0).sum() < 8 * 64


DISTRIBUTED = """
import datetime, sys, torch
import torch.distributed as dist
from torch import nn
from lbi.train import L1, AdaBreg, param_groups

def main(rank, store, world):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 2)).double()
    if world > 1:
        timeout = datetime.timedelta(seconds=120)
        dist.init_process_group(
            "gloo", init_method="file://" + store, rank=rank, world_size=world, timeout=timeout
        )
        net = nn.parallel.DistributedDataParallel(net)
    optimizer = AdaBreg(param_groups(net, L1(0.02)), lr=0.01)
    for step in range(30):
        x = torch.randn(8, 6, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
        part = x.chunk(world)[rank]
        optimizer.zero_grad()
        ((net(part) - part[:, :2].sin()) ** 2).mean().backward()
        optimizer.step()
    if world > 1:
        dist.destroy_process_group()
        net = net.module
    return net.state_dict()

if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.save(main(1, sys.argv[1], 2), sys.argv[2])
"""


@pytest.mark.skipif(
    not torch.distributed.is_available(), reason="this torch is built without torch.distributed"
)
def test_distributed_data_parallel_equals_one_process(tmp_path):
    store, end = str(tmp_path / "store"), tmp_path / "end.pt"
    child = subprocess.Popen([sys.executable, "-c", DISTRIBUTED, store, str(end)])
    namespace = {"__name__": "distributed"}
    exec(DISTRIBUTED, namespace)
    first = namespace["main"](0, store, 2)
    assert child.wait(120) == 0
    assert equal_states(first, torch.load(end, weights_only=True))
    for name, p in namespace["main"](0, store, 1).items():
        # The mean over ranks rounds otherwise than the mean over the batch; Adam's direction carries
        # a relative error of a few ulp per step into 30 steps of 0.01.
        torch.testing.assert_close(p, first[name], rtol=0, atol=1e-12)


def test_param_groups_split_weights_from_the_rest():
    net = small_net()
    whole = param_groups(net, L1(0.1))
    assert [group["name"] for group in whole] == ["weights", "rest"]
    assert [len(group["params"]) for group in whole] == [3, 3]
    assert [group["reg"] for group in whole] == [L1(0.1), None]
    layers = param_groups(net, L1(0.1), per_layer=True)
    assert [group["name"] for group in layers] == ["0.weight", "2.weight", "4.weight", "rest"]
    net[0].weight.requires_grad_(False)
    assert [group["name"] for group in param_groups(net, None, per_layer=True)] == [
        "2.weight",
        "4.weight",
        "rest",
    ]
