"""Operations of torch that layers lower to in rare forms: the currents are those of torch, or the operation is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import peers
from torch import nn
from torch.nn import functional

from lbi.errors import InputError
from lbi.importers import from_torch
from lbi.simulation import oracle

pytestmark = pytest.mark.filterwarnings("ignore")  # snnTorch's own

SAMPLES, STEPS = 2, 30

LAYERS = {
    "transposed": (nn.ConvTranspose2d(2, 3, 2, stride=2), (2, 4, 4)),
    "transposed, groups": (
        nn.ConvTranspose2d(4, 6, 3, stride=(2, 3), padding=(1, 0), output_padding=(1, 2), groups=2),
        (4, 3, 4),
    ),
    "transposed, dilated": (nn.ConvTranspose2d(2, 3, (3, 2), dilation=(2, 1), bias=False), (2, 4, 3)),
    "transposed, padded beyond its stride": (
        nn.ConvTranspose2d(2, 3, 3, dilation=2, output_padding=1),
        (2, 4, 3),
    ),
    "transposed, 1 dimension": (nn.ConvTranspose1d(3, 4, 3, stride=2, padding=1, output_padding=1), (3, 7)),
    "even kernel, same size": (nn.Conv2d(2, 3, 4, padding="same"), (2, 5, 5)),
    "even kernel, same size, 1 dimension": (nn.Conv1d(2, 3, 2, padding="same", dilation=3), (2, 7)),
}


def assert_equal(between: nn.Module, shape: tuple[int, ...], rng: np.random.Generator) -> None:
    leaky = peers.package("snntorch").Leaky(beta=0.5, threshold=0.6, init_hidden=True)
    model = nn.Sequential(between, leaky).eval()
    spikes = (rng.random((SAMPLES, STEPS, int(np.prod(shape)))) < 0.4).astype(np.uint8)
    ours = oracle.simulate(from_torch(model, shape), spikes).output
    x = torch.from_numpy(spikes).float().reshape(SAMPLES, STEPS, *shape)
    with torch.no_grad():
        theirs = torch.stack([model(x[:, step]).flatten(1) for step in range(STEPS)], 1).numpy()
    assert 0.02 < theirs.mean() < 0.95
    assert np.count_nonzero(ours != theirs) == 0


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_equals_torch(name, rng):
    layer, shape = LAYERS[name]
    torch.manual_seed(0)
    for weight in layer.parameters():
        nn.init.normal_(weight, 0.05, 0.4)
    with torch.no_grad():
        layer.weight[0, 0].zero_()  # absent synapses among the layer's places
    assert_equal(layer, shape, rng)


class Between(nn.Module):
    """A Linear behind one operation on its input."""

    def __init__(self, operation) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.operation, self.fc = operation, nn.Linear(8, 6)

    def forward(self, x):
        return self.fc(self.operation(x))


def places(x):
    return torch.tensor([1, 4, 6]).expand(len(x), 3)


def accumulated(x):
    rows = torch.arange(len(x))[:, None]
    return torch.zeros_like(x).index_put((rows, torch.tensor([1, 1, 4])), x[:, :3], accumulate=True)


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: x.scatter(1, places(x), 1.0),
        lambda x: x.scatter(1, places(x), 2.0),
        lambda x: x.masked_fill(torch.arange(8) > 5, 3.0),
        lambda x: functional.pad(x[:, 2:], (1, 1), value=3.0),
        lambda x: functional.pad(x[:, 2:], (1, 1)),
    ],
    ids=["scatter 1", "scatter 2", "masked_fill", "pad 3", "pad"],
)
def test_values_that_are_filled_in_are_constants(operation, rng):
    assert_equal(Between(operation), (8,), rng)


@pytest.mark.parametrize(
    ("operation", "name"),
    [
        (lambda x: torch.zeros_like(x).scatter(1, places(x), x[:, :3], reduce="add"), "scatter"),
        (accumulated, "index_put"),
    ],
)
def test_values_that_are_added_where_they_are_written_are_refused(operation, name):
    with pytest.raises(InputError, match=rf"{name}_? of the input cannot be followed"):
        assert_equal(Between(operation), (8,), np.random.default_rng(0))
