"""The cached plan of a step is rebuilt after every change that a user can make between steps."""

import copy
import weakref

import pytest
import torch

from lbi.train import L1, AdaBreg, GroupL1, LinBreg

MAKERS = [
    pytest.param(lambda groups, **o: AdaBreg(groups, lr=0.01, **o), id="AdaBreg"),
    pytest.param(lambda groups, **o: LinBreg(groups, lr=0.01, momentum=0.9, **o), id="LinBreg-momentum"),
    pytest.param(lambda groups, **o: LinBreg(groups, lr=0.01, **o), id="LinBreg"),
]


def transpose_data(o):
    """Another layout at the same address."""
    p = o.param_groups[0]["params"][0]
    p.data = p.data.t()


def move_data(o):
    for group in o.param_groups:
        for p in group["params"]:
            p.data = p.data.clone()


def change_type(o):
    """θ and its gradient in double precision, as by ``Module.double()``; the state stays in single."""
    p = o.param_groups[0]["params"][0]
    p.data, p.grad = p.data.double(), None


def replace_state(o):
    for state in o.state.values():
        for key, value in state.items():
            state[key] = 0 * value


def restart_one(o):
    o.state[o.param_groups[0]["params"][0]].clear()


def miscount_one(o):
    o.state[o.param_groups[0]["params"][0]].update(step=0)


def freeze(o):
    o.param_groups[0]["params"][0].requires_grad_(False)


def add_group(o):
    o.add_param_group({"params": [torch.ones(6, requires_grad=True)], "reg": L1(0.01), "lr": 0.1})


def grow_group(o):
    o.param_groups[1]["params"].append(torch.ones(3, requires_grad=True))


DISTURBANCES = {
    "nothing": lambda o: None,
    "θ transposed": transpose_data,
    "θ moved": move_data,
    "θ of another type": change_type,
    "state replaced": replace_state,
    "state cleared": restart_one,
    "all states cleared": lambda o: o.state.clear(),
    "step reset": miscount_one,
    "θ frozen": freeze,
    "group added": add_group,
    "group grown": grow_group,
    "regularizer gone": lambda o: o.param_groups[0].update(reg=None),
    "regularizer of groups": lambda o: o.param_groups[0].update(reg=GroupL1(0.02)),
    "learning rate": lambda o: o.param_groups[0].update(lr=0.1),
    "momentum": lambda o: o.param_groups[0].update(momentum=0.3),
    "foreach": lambda o: o.param_groups[0].update(fused=False),
    "state loaded": lambda o: o.load_state_dict(copy.deepcopy(o.state_dict())),
    "duals recomputed": lambda o: o.reset_duals(),
}

GRADIENTS = {
    "new": lambda p, g: setattr(p, "grad", g),
    "in place": lambda p, g: setattr(p, "grad", g) if p.grad is None else p.grad.copy_(g),
    "data": lambda p, g: setattr(p, "grad", g) if p.grad is None else setattr(p.grad, "data", g),
    "strided": lambda p, g: setattr(p, "grad", g.mT.contiguous().mT if g.ndim > 1 else g),
    "strided data": lambda p, g: (
        setattr(p, "grad", g)
        if p.grad is None
        else setattr(p.grad, "data", g.mT.contiguous().mT if g.ndim > 1 else g)
    ),
    "at times": lambda p, g: setattr(p, "grad", g if g.sum() > 0 else None),
}


def run(make, disturb, give, replan):
    """Weights after each of 9 steps and the states at the end, disturbed after the third and the sixth; replan: forget all plans."""
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(shape, generator=generator) for shape in [(6, 6), (5, 4), (7,), (3,)]]
    params = [t.requires_grad_() for t in tensors]
    optimizer = make([{"params": params[:3], "reg": L1(0.05)}, {"params": params[3:]}], fused=True)
    weights = []
    for step in range(9):
        for group in optimizer.param_groups:
            for p in group["params"]:
                give(p, torch.randn(p.shape, generator=generator).to(p.dtype))
        if replan:
            optimizer._plan = None
        optimizer.step()
        weights += [p.detach().clone() for group in optimizer.param_groups for p in group["params"]]
        if step in (2, 5):
            disturb(optimizer)
    states = [value for state in optimizer.state.values() for value in state.values()]
    return weights + [torch.as_tensor(value) for value in states]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("disturb", DISTURBANCES.values(), ids=DISTURBANCES)
def test_a_kept_plan_sees_what_was_done_between_steps(make, disturb):
    kept, fresh = (run(make, disturb, GRADIENTS["new"], replan) for replan in (False, True))
    assert len(kept) == len(fresh)
    assert all(torch.equal(a, b) for a, b in zip(kept, fresh, strict=True))


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("give", GRADIENTS.values(), ids=GRADIENTS)
def test_a_kept_plan_takes_any_gradient(make, give):
    kept, fresh = (run(make, lambda o: None, give, replan) for replan in (False, True))
    assert all(torch.equal(a, b) for a, b in zip(kept, fresh, strict=True))


@pytest.mark.parametrize("make", MAKERS)
def test_a_copy_goes_its_own_way(make):
    p = torch.ones(4, requires_grad=True)
    optimizer = make([p], reg=L1(0.1))
    p.grad = torch.ones(4)
    optimizer.step()
    q, twin = copy.deepcopy((p, optimizer))
    held = p.detach().clone()
    q.grad = torch.ones(4)
    twin.step()
    assert torch.equal(p, held)
    optimizer.step()
    assert torch.equal(p, q)
    assert not torch.equal(p, held)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("make", MAKERS)
def test_gradients_are_freed_between_steps(make, fused):
    p = torch.ones(4, requires_grad=True)
    optimizer = make([p], reg=L1(0.1), fused=fused)
    for _ in range(2):
        p.grad = torch.ones(4)
        alive = weakref.ref(p.grad)
        optimizer.step()
        optimizer.zero_grad()
        assert alive() is None


def test_a_gradient_of_another_size_is_an_error():
    p = torch.ones(40, requires_grad=True)
    optimizer = AdaBreg([p], reg=L1(0.1), fused=True)
    p.grad = torch.ones(40)
    optimizer.step()
    p.data = p.data[:30]  # at the same address
    with pytest.raises(RuntimeError, match="size"):
        optimizer.step()
