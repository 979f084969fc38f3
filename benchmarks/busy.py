#!/usr/bin/env python3
"""Time of training and of an optimizer step while other processes keep the machine busy.

Every subject runs in a process of its own, which sleeps between its turns. In each round, the subjects take turns with 0, 1 and 4
other processes beside them that compute without pause; so other load affects all of them equally. Shown are medians over the
rounds and the ratio to the empty machine; the processor time (user and system) says how much work was done in that time.

epochs    an epoch as ``lbi-train`` runs it, of psdigits and of spoken digits (random spikes of their size and rate, or --data)
script    a step of 700-256-20 (recurrent) in a script that imports torch first
peer      the same in spikingjelly, the fastest peer of ``train.py``
adabreg   an AdaBreg step on 2.5 million weights, in a script that imports torch first
adam      torch's fused Adam on the same
loader    an epoch of the script's network with a DataLoader of two workers
torchrun  an epoch of psdigits in two processes under torchrun (per process, one thread each)

usage: busy.py [--rounds 5] [--data DIR] [--only NAME,…]        (about 5 minutes on two cores)
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

BUSY = (0, 1, 4)
"""Numbers of other processes."""

REPEATS = {"script": 6, "peer": 2, "adabreg": 60, "adam": 60}
"""Steps that a turn consists of."""

Turn = Callable[[], object]


def epochs(name: str, data: str | None) -> Turn:
    """An epoch of the preset of a data set; imports in the order of the command."""
    import lbi.train  # isort: skip  # bounds the spinning of torch's threads before torch is loaded
    import numpy as np

    from lbi import datasets
    from lbi.datasets.base import Dataset, SpikeData
    from lbi.train.layers.numba_bridge import take_threads
    from lbi.train.session import distributed
    from lbi.train.session.config import make_config
    from lbi.train.session.loop import Trainer

    config = make_config(name, None, {"data": data} if data else {})
    if name == "shd" and not data:
        rng = np.random.default_rng(0)
        spikes = (rng.random((1600, 100, 700)) < 0.053).astype(np.uint8)
        part = SpikeData(spikes, np.arange(1600) % 20)
        dataset = Dataset(name, {"train": part, "test": part}, n_classes=20, n_steps=100, input_shape=(700,))
    else:
        dataset = datasets.load(name, config.data, **config.encoding)
    assert lbi.train is not None
    distributed.start(__import__("torch").device("cpu"))
    trainer = Trainer(config, dataset)
    take_threads()
    return trainer._epoch


def script(recurrent: bool = True, name: str = "ours") -> Turn:
    """A training step of ``train.py``."""
    import torch
    import train

    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    x = (torch.rand(train.BATCH, train.STEPS, train.N_IN) < 0.053).to(torch.uint8)
    labels = torch.randint(0, train.N_OUT, (train.BATCH,))
    step: Turn = getattr(train, name)(x, labels, recurrent)
    return step


def optimizer(name: str) -> Turn:
    """A step of an optimizer of ``optimizers.py``."""
    import torch
    from optimizers import groups, parameters

    if name == "adam":
        return torch.optim.Adam(parameters("cpu"), fused=True).step
    from lbi.train import L1, AdaBreg

    return AdaBreg(groups(parameters("cpu"), L1(0.05))).step


def loader() -> Turn:
    """An epoch over a DataLoader of two workers."""
    import torch
    import train
    from torch.utils.data import DataLoader, TensorDataset

    torch.manual_seed(0)
    x = (torch.rand(512, train.STEPS, train.N_IN) < 0.053).to(torch.uint8)
    labels = torch.randint(0, train.N_OUT, (512,))
    batches = DataLoader(TensorDataset(x, labels), batch_size=train.BATCH, num_workers=2, shuffle=True)
    current: dict[str, Any] = {}

    from lbi.train import ModelConfig, PopulationConfig, SpikingNetwork

    hidden = PopulationConfig("hidden", train.N_HIDDEN, (0.4,), (0.2,), (3.0,), recurrent=True)
    output = PopulationConfig("output", train.N_OUT, (0.4,), (0.2,), (3.0,))
    model = SpikingNetwork(ModelConfig((train.N_IN,), (hidden, output)))
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)

    def epoch() -> None:
        for current["x"], current["labels"] in batches:
            adam.zero_grad(set_to_none=True)
            counts = model(current["x"])[-1][0].sum(1)
            torch.nn.functional.cross_entropy(counts, current["labels"]).backward()
            adam.step()

    return epoch


SUBJECTS: dict[str, Callable[[str | None], Turn]] = {
    "epoch, psdigits": lambda data: epochs("psdigits", None),
    "epoch, spoken digits": lambda data: epochs("shd", data),
    "script": lambda data: script(),
    "peer": lambda data: script(name="spikingjelly"),
    "adabreg": lambda data: optimizer("adabreg"),
    "adam": lambda data: optimizer("adam"),
    "loader": lambda data: loader(),
    "torchrun": lambda data: epochs("psdigits", None),
}
"""Name → builder of its turn, called in the subject's own process with --data."""


def serve(name: str, data: str | None) -> int:
    """A subject's process: one turn for each line read, answered by [wall, processor] seconds."""
    turn, repeats = SUBJECTS[name](data), REPEATS.get(name, 1)
    answers = os.environ.get("RANK", "0") == "0"
    turn()
    while True:
        if answers:
            print(json.dumps("ready"), flush=True)
        if "RANK" in os.environ:
            word = _shared_word(sys.stdin.readline() if answers else "")
        else:
            word = sys.stdin.readline()
        if not word.strip():
            return 0
        start, used = time.perf_counter(), _processor()
        for _ in range(repeats):
            turn()
        times = (time.perf_counter() - start) / repeats, (_processor() - used) / repeats
        if answers:
            print(json.dumps(times), flush=True)


def _shared_word(word: str) -> str:
    """The word that the first process of torchrun read, in all of them."""
    from torch import distributed

    words = [word]
    distributed.broadcast_object_list(words)
    return words[0]


def _processor() -> float:
    """Seconds of processor time of this process and its finished children, in user and system mode."""
    found = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in found)


class Subject:
    """A subject's process, seen from the driver."""

    def __init__(self, name: str, data: str | None) -> None:
        self.name = name
        command = [sys.executable]
        if name == "torchrun":
            command += ["-m", "torch.distributed.run", "--nproc-per-node", "2"]
        command += [os.path.abspath(__file__), "--serve", name, *(["--data", data] if data else [])]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.alive = self._read() is not None

    def turn(self) -> tuple[float, float]:
        """Wall and processor seconds of one turn."""
        assert self.process.stdin is not None
        self.process.stdin.write("turn\n")
        self.process.stdin.flush()
        wall, processor = self._read()
        self._read()
        return wall, processor

    def end(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def _read(self) -> Any:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(("[", '"ready"')):
                return json.loads(line)
        return None


@contextmanager
def busy(n: int) -> Iterator[None]:
    """``n`` processes that compute without pause."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]
    try:
        time.sleep(0.3 if n else 0)
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def main() -> int:
    """Measure all subjects and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data")
    parser.add_argument("--only", default="")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        return serve(arguments.serve, arguments.data)
    wanted = [name.strip() for name in arguments.only.split(",")] if arguments.only else []
    chosen = [name for name in SUBJECTS if not wanted or any(word in name for word in wanted)]
    subjects = [Subject(name, arguments.data) for name in chosen]
    for subject in subjects:
        if not subject.alive:
            print(f"{subject.name}: left out, it does not start (is its package installed?)")
    subjects = [subject for subject in subjects if subject.alive]
    found: dict[tuple[str, int], list[tuple[float, float]]] = {}
    load = os.getloadavg()[0]
    for _ in range(arguments.rounds):
        for n in BUSY:
            with busy(n):
                for subject in subjects:
                    found.setdefault((subject.name, n), []).append(subject.turn())
    for subject in subjects:
        subject.end()
    print(f"{os.cpu_count()} cores, load {load:.1f} before, {arguments.rounds} rounds, medians\n")
    print(f"{'':22}" + "".join(f"{n:>9} busy: ms (processor)   ×" for n in BUSY))
    for subject in subjects:
        columns = [list(zip(*found[subject.name, n], strict=True)) for n in BUSY]
        medians = [(statistics.median(wall), statistics.median(used)) for wall, used in columns]
        cells = (
            f"{1e3 * wall:12.2f} ({1e3 * used:9.2f}) {wall / medians[0][0]:6.2f}" for wall, used in medians
        )
        print(f"{subject.name:22}" + " ".join(cells))
    return 0


if __name__ == "__main__":
    sys.exit(main())
