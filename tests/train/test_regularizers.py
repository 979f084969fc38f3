import itertools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from lbi.errors import UsageError
from lbi.train import L1, GroupL1, Regularizer, SparseGroupL1
from lbi.train.optim.priced import PricedL1

SHAPES = [(4, 6), (7,), (3, 2, 2, 3), (5, 1), ()]
KINDS = {
    "l1": lambda **options: L1(0.7, **options),
    **{
        f"group-{over}": lambda over=over, **options: GroupL1(0.3, over=over, **options)
        for over in ("rows", "columns", "channels", "kernels", (2, 3), (1, 1), (50, 50))
    },
    **{
        f"sparse-group-{over}-{mix}": lambda over=over, mix=mix, **options: SparseGroupL1(
            0.4, over=over, mix=mix, **options
        )
        for over, mix in (("rows", 0.5), ("columns", 0.9), ((2, 3), 0.2), ("rows", 0.0), ("rows", 1.0))
    },
}
OPTIONS = [{}, {"elastic": 0.8}, {"nonneg": True}, {"elastic": 0.4, "nonneg": True}]
FAMILY = [
    pytest.param(make(**options), id=f"{name}-{options}")
    for name, make in KINDS.items()
    for options in OPTIONS
]

WITHOUT_KINKS = [entry for entry in FAMILY if not entry.id.startswith("sparse-group")]
"""Those smooth inside a group, for minimizers that need gradients and for conjugates in closed form."""


def randn(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def groups_by_hand(reg, shape):
    """The index sets of the groups, spelled out entry by entry."""
    matrix = shape if len(shape) >= 2 else (math.prod(shape), 1)
    sets = {}
    for index in itertools.product(*map(range, matrix)):
        if isinstance(reg, L1):
            key = index
        elif isinstance(reg.over, tuple):
            flat = int(np.ravel_multi_index(index[1:], matrix[1:]))
            key = (index[0] // reg.over[0], flat // reg.over[1])
        else:
            key = {"rows": index[:1], "channels": index[:1], "columns": index[1:2], "kernels": index[:2]}[
                reg.over
            ]
        sets.setdefault(key, []).append(int(np.ravel_multi_index(index, matrix)))
    return list(sets.values())


def value_by_hand(reg, x, groups):
    flat = np.asarray(x, dtype=float).ravel()
    if reg.nonneg and (flat < 0).any():
        return math.inf
    total = sum(math.sqrt(len(g)) * math.sqrt(sum(flat[i] ** 2 for i in g)) for g in groups)
    if isinstance(reg, SparseGroupL1):
        total = reg.mix * sum(abs(x) for x in flat) + (1 - reg.mix) * total
    return reg.lamda * total + reg.elastic / 2 * float((flat**2).sum())


@pytest.mark.parametrize("reg", FAMILY)
@pytest.mark.parametrize("shape", SHAPES)
def test_value_is_the_definition(reg, shape):
    x = randn(shape, 1).abs()
    assert float(reg.value(x)) == pytest.approx(value_by_hand(reg, x, groups_by_hand(reg, shape)), rel=1e-12)
    x = -x - 1
    assert float(reg.value(x)) == pytest.approx(value_by_hand(reg, x, groups_by_hand(reg, shape)), rel=1e-12)


@pytest.mark.parametrize("reg", WITHOUT_KINKS)
@pytest.mark.parametrize("delta", [0.5, 2.0])
def test_prox_is_the_minimizer_of_its_argmin(reg, delta):
    shape = (3, 4)
    groups = groups_by_hand(reg, shape)
    x = 1.5 * randn(shape, 0)
    y = reg.prox(x, delta).numpy().ravel()

    def objective(flat):
        return 0.5 * ((flat - x.numpy().ravel()) ** 2).sum() + delta * value_by_hand(reg, flat, groups)

    # The problem splits over groups; each is minimized numerically.
    found = minimize_groups(objective, x.numpy().ravel(), groups, reg.nonneg)
    assert objective(y) <= objective(found) + 1e-12
    # Strongly convex with modulus 1: ½‖y − found‖² ≤ objective(found) − minimum, so a search that
    # ends within 1e-8 of the minimum ends within 1.5e-4 of its place.
    np.testing.assert_allclose(y, found, atol=1.5e-4)


def minimize_groups(objective, x, groups, nonneg):
    """The objective minimized group by group with scipy's L-BFGS-B (it is smooth but at a group's 0)."""
    best = np.zeros_like(x)
    low = 0.0 if nonneg else -10.0
    for group in groups:

        def part(values, group=group):
            trial = best.copy()
            trial[group] = np.clip(values, low, 10.0)
            return objective(trial)

        start = np.clip(0.5 * x[group], low + 1e-3, 10.0)
        options = {"ftol": 1e-15, "gtol": 1e-9}
        run = minimize(part, start, method="L-BFGS-B", bounds=[(low, 10.0)] * len(group), options=options)
        best[group] = min((np.zeros(len(group)), np.clip(run.x, low, 10.0)), key=part)
    return best


@pytest.mark.parametrize("reg", FAMILY)
@pytest.mark.parametrize("shape", SHAPES)
def test_optimality_condition_of_prox(reg, shape):
    # y = prox(x, δ)  ⇔  (x − y)/δ ∈ ∂J(y)  ⇔  J(z) ≥ J(y) + ⟨(x − y)/δ, z − y⟩ for all z.
    for seed, delta in itertools.product(range(2), (0.3, 4.0)):
        x = 2 * randn(shape, seed)
        y = reg.prox(x, delta)
        for other in range(20):
            z = randn(shape, 100 + other) * 2
            z = z.abs() if reg.nonneg else z
            z = z if other % 2 else y + 1e-3 * z
            slack = reg.value(z) - reg.value(y) - ((x - y) / delta * (z - y)).sum()
            assert slack >= -1e-12


@pytest.mark.parametrize("reg", FAMILY)
@pytest.mark.parametrize("shape", SHAPES)
def test_sub_grad_satisfies_the_subgradient_inequality(reg, shape):
    for seed in range(5):
        x = randn(shape, seed)
        x = torch.where(x.abs() < 0.5, torch.zeros_like(x), x)
        x = x.clamp(min=0) if reg.nonneg else x
        p = reg.sub_grad(x)
        assert p.shape == x.shape
        assert (p[x == 0] == 0).all()
        for other in range(20):
            z = randn(shape, 100 + other)
            z = z.abs() if reg.nonneg else z
            assert reg.value(z) >= reg.value(x) + (p * (z - x)).sum() - 1e-12


@pytest.mark.parametrize("reg", WITHOUT_KINKS)
def test_moreau_identity(reg):
    # x = prox_{δJ}(x) + δ·prox_{J*/δ}(x/δ). J* is taken numerically out of the game by its optimality:
    # q = (x − prox)/δ must satisfy J(y) + J*(q) = ⟨q, y⟩, with J* from its own closed form below.
    shape = (4, 3)
    groups = groups_by_hand(reg, shape)
    for seed, delta in itertools.product(range(4), (0.5, 2.0)):
        x = 2 * randn(shape, seed)
        y = reg.prox(x, delta)
        q = ((x - y) / delta).numpy().ravel()
        conjugate = conjugate_by_hand(reg, q, groups)
        assert float(reg.value(y)) + conjugate == pytest.approx(
            float((torch.tensor(q) * y.ravel()).sum()), abs=1e-10
        )
        dual = dual_prox_by_hand(reg, (x / delta).numpy().ravel(), 1 / delta, groups)
        np.testing.assert_allclose(y.numpy().ravel() + delta * dual, x.numpy().ravel(), atol=1e-12)


def conjugate_by_hand(reg, q, groups):
    """J*(q) = sup_y ⟨q, y⟩ − J(y): per group, excess = max(‖q_g‖ − λ√n, 0): 0 or ∞, or excess²/(2·elastic)."""
    total = 0.0
    for g in groups:
        part = np.maximum(q[g], 0) if reg.nonneg else q[g]
        excess = max(np.linalg.norm(part) - reg.lamda * math.sqrt(len(g)), 0.0)
        if reg.elastic:
            total += excess**2 / (2 * reg.elastic)
        elif excess > 1e-12:
            return math.inf
    return total


def dual_prox_by_hand(reg, z, step, groups):
    """prox_{step·J*}(z): per group along the positive part's direction, minimizing ½(r − |z|)² + step·J*(r)."""
    out = np.where(z < 0, z, 0.0) if reg.nonneg else np.zeros_like(z)
    for g in groups:
        part = np.maximum(z[g], 0) if reg.nonneg else z[g]
        length, ball = np.linalg.norm(part), reg.lamda * math.sqrt(len(g))
        if length > ball:
            radius = (length + step / reg.elastic * ball) / (1 + step / reg.elastic) if reg.elastic else ball
            part = part * (radius / length)
        out[g] += part
    return out


@pytest.mark.parametrize("reg", FAMILY)
@pytest.mark.parametrize("shape", SHAPES)
def test_strength_is_the_lamda_at_which_entries_vanish(reg, shape):
    v = 2 * randn(shape, 3)
    strength = reg.strength(v)
    assert strength.shape == v.shape
    for lamda in (0.1, 0.6, 1.2, 2.5):
        for delta in (0.5, 3.0):
            alive = reg.with_lamda(lamda).prox(delta * v, delta) != 0
            assert torch.equal(alive, strength > lamda)


@pytest.mark.parametrize("reg", FAMILY)
def test_not_a_number_is_not_hidden_as_zero(reg):
    x = torch.full((2, 3), math.nan)
    assert reg.prox(x, 1.0).isnan().all()


@pytest.mark.parametrize("reg", FAMILY)
def test_round_trip_through_plain_types(reg):
    fields = reg.to_dict()
    assert all(type(field) in (str, float, bool, tuple) for field in fields.values())
    assert Regularizer.from_dict(fields) == reg
    assert reg.with_lamda(0.123).lamda == 0.123


PRICES = [((), ()), ((0.5, 2.0, 9.0), ()), ((), (1.0, 4.0)), ((0.5, 2.0, 9.0), (1.0, 4.0))]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize(("rows", "columns"), PRICES)
def test_prices_are_an_l1_of_its_own_lamda_for_every_entry(rows, columns, options):
    reg = PricedL1(0.3, rows=rows, columns=columns, **options)
    x = 2 * randn((3, 2), 5)
    x = x.abs() if reg.nonneg else x
    x[0, 1] = 0
    wanted = {
        name: torch.zeros(3, 2, dtype=torch.float64) for name in ("value", "prox", "sub_grad", "strength")
    }
    for i, j in itertools.product(range(3), range(2)):
        prices = [part[k] for part, k in ((rows, i), (columns, j)) if part]
        price = sum(prices) / len(prices) if prices else 1.0
        own = L1(0.3 * price, **options)
        wanted["value"][i, j] = own.value(x[i, j])
        wanted["prox"][i, j] = own.prox(x[i, j], 1.5)
        wanted["sub_grad"][i, j] = own.sub_grad(x[i, j])
        wanted["strength"][i, j] = own.strength(x[i, j]) / price
    assert float(reg.value(x)) == pytest.approx(float(wanted["value"].sum()))
    torch.testing.assert_close(reg.prox(x, 1.5), wanted["prox"])
    torch.testing.assert_close(reg.sub_grad(x), wanted["sub_grad"])
    torch.testing.assert_close(reg.strength(x), wanted["strength"])
    assert reg.prox(torch.full((3, 2), math.nan)).isnan().all()
    assert Regularizer.from_dict(reg.to_dict()) == reg
    assert reg.shrinkage(0.5) is None
    free = reg.with_lamda(0.0)
    threshold, scale = free.shrinkage(0.5)
    torch.testing.assert_close(free.prox(x, 0.5), (x - threshold) * scale)


def test_an_option_of_a_run_names_no_regularizer_of_one_shape():
    with pytest.raises(UsageError, match=r"'PricedL1'; allowed: GroupL1, L1, SparseGroupL1;"):
        Regularizer.named("PricedL1", 0.1, {})


def test_errors_name_every_field():
    with pytest.raises(UsageError, match=r"PricedL1\.rows: 2 other numbers; allowed: finite numbers > 0"):
        PricedL1(1.0, rows=(1.0, 0.0, math.inf))
    with pytest.raises(UsageError, match=r"(?s)L1\.lamda.*-1.*≥ 0.*L1\.elastic.*nan"):
        L1(-1, elastic=math.nan)
    with pytest.raises(UsageError, match=r"GroupL1\.over: 'diagonal'; allowed: 'rows'"):
        GroupL1(1.0, over="diagonal")
    with pytest.raises(UsageError, match=r"GroupL1\.over: \(0, 3\)"):
        GroupL1(1.0, over=(0, 3))
    with pytest.raises(UsageError, match=r"SparseGroupL1\.mix: 1\.5; allowed: a number from 0 to 1"):
        SparseGroupL1(1.0, mix=1.5)
    with pytest.raises(
        UsageError,
        match="regularizer-unknown: kind: 'Nuclear'; allowed: GroupL1, L1, PricedL1, SparseGroupL1",
    ):
        Regularizer.from_dict({"kind": "Nuclear", "lamda": 1.0})


def test_a_kind_keeps_its_class():
    with pytest.raises(
        UsageError, match=r"regularizer-kind: class .*<locals>\.L1: that of lbi\.train\.optim"
    ):
        type("L1", (Regularizer,), {"__module__": __name__, "__qualname__": "f.<locals>.L1"})
    assert type(Regularizer.named("L1", 0.1, {})) is L1
