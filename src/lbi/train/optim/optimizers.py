"""LinBreg, AdaBreg and ProxSGD: optimizers for sparse weights with the interface of torch's optimizers.

A Bregman optimizer moves a dual v and reads the weights off it (Bungert, Roith, Tenbrinck, Burger,
"A Bregman Learning Framework for Sparse Neural Networks", JMLR 23, 2022, arXiv:2105.04319; for
spiking networks Windhager, Moser, Lunglmayr, arXiv:2603.16462):

    v₀ = θ₀/δ + p₀,  p₀ ∈ ∂J(θ₀)
    v ← v − lr·(direction + weight_decay·θ)
    θ ← prox_{δJ}(δ·v)

A weight stays exactly 0 while its dual is within the threshold of J, so a network that starts
almost empty grows the weights that the loss keeps asking for. Regularizer, δ, lr and all other
options may differ per parameter group; a group with ``reg=None`` (biases, decays) is stepped as
by torch's SGD or Adam, and keeps no dual.
"""

from __future__ import annotations

import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from lbi.errors import Problem, Problems, Rule, UsageError
from lbi.train.optim.plan import Plan
from lbi.train.optim.regularizers import Regularizer
from lbi.train.optim.slot import Slot, slot
from lbi.train.optim.weights import split_parameters

OPTION = Rule("optimizer-option", "a number {bound}")
BETA = Rule("optimizer-option", "a number ≥ 0 and < 1")
BETAS = Rule("optimizer-option", "two numbers, β₁ and β₂")
REG = Rule("optimizer-option", "None or a Regularizer", "pass an instance such as L1(0.1)")
STATE = Rule("optimizer-state", "the state_dict of {kind}", "make the optimizer that was saved")
OPTION_NAME = Rule("optimizer-option", "{names}", "correct the name, or leave the option out")
NOT_HERE = (
    *("lamda", "lambda", "density"),  # of a regularizer, of a DensityController
    *(
        "amsgrad",
        "capturable",
        "dampening",
        "decoupled_weight_decay",
        "differentiable",
        "foreach",
        "maximize",
        "nesterov",
    ),
)
"""Options of other classes and of torch's optimizers that a group of these would silently ignore."""
EPS = Rule(
    "optimizer-option",
    "a number that is not 0 in {dtype}",
    "keep the weights in float32 and run the model under torch.autocast, or set eps=1e-4",
)
GRADIENT = Rule(
    "gradient-unsupported",
    "dense real gradients",
    "use sparse=False in nn.Embedding; split complex weights into two real ones",
)


def param_groups(
    module: nn.Module, reg: Regularizer | None, *, per_layer: bool = False
) -> list[dict[str, Any]]:
    """Parameter groups for a sparse optimizer: weights under ``reg``, all other parameters under no regularizer.

    Args:
        module: any torch module; ``split_parameters`` says which of its parameters are weights. Frozen ones
            (``requires_grad=False``) are left out.
        reg: regularizer of the weights.
        per_layer: one group per weight tensor, with its ``name``, for a λ of its own per layer.

    Returns:
        Groups as torch's optimizers take them, named "weights" (or by tensor) and "rest".

    Raises:
        UsageError: naming every weight that torch derives from others in a way that does not keep zeros.
    """
    weights, others = (
        [(name, p) for name, p in part if p.requires_grad] for part in split_parameters(module)
    )
    rest = [p for _, p in others]
    if per_layer:
        groups = [{"params": [p], "reg": reg, "name": name} for name, p in weights]
    else:
        groups = [{"params": [p for _, p in weights], "reg": reg, "name": "weights"}] if weights else []
    return groups + ([{"params": rest, "reg": None, "name": "rest"}] if rest else [])


class SparseOptimizer(torch.optim.Optimizer, ABC):
    """Base class of the three: checks, closures, plain state dicts, cached dispatch of a step."""

    _kind: str  # name of the step in ``steps`` and in the kernels
    _own: tuple[str, ...]  # names of the method's tensors in a parameter's state
    _needed: tuple[str, ...]  # options by which a saved state is known as this optimizer's
    _plan: Plan | None = None
    _held: Mapping[Tensor, Tensor] = {}

    @abstractmethod
    def _prepare(self, param: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        """Create a parameter's state, or adapt it to changed options of its group."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters; options that are left out take the optimizer's defaults.

        Args:
            param_group: ``params`` and options, as torch's optimizers take them.

        Raises:
            UsageError: naming every option that is out of range.
        """
        where, problems = f"param_groups[{len(self.param_groups)}]", Problems()
        for name in param_group:
            names = ", ".join(sorted(self.defaults))
            OPTION_NAME.check(problems, not self._mistaken(name), where, repr(name), names=names)
        problems.raise_as(UsageError)
        self._check({**self.defaults, **param_group}, where)
        _of_torch("add_param_group")(self, param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients.

        Args:
            set_to_none: replace them with None, otherwise with zeros.
        """
        _of_torch("zero_grad")(self, set_to_none)

    def _mistaken(self, name: str) -> bool:
        """Whether the name is meant for an option, but is none; a group may hold what else its user wants."""
        if name in self.defaults or name in ("params", "name"):
            return False
        return name in NOT_HERE or bool(get_close_matches(name, self.defaults, cutoff=0.8))

    def _check(self, group: dict[str, Any], where: str) -> None:
        problems = Problems()
        for name, low, high in (
            ("lr", 0.0, math.inf),
            ("weight_decay", 0.0, math.inf),
            ("momentum", 0.0, 1.0),
            ("delta", 0.0, math.inf),
            ("eps", 0.0, math.inf),
        ):
            if name in group:
                number = _number(group[name])
                positive = name in {"delta", "eps"}
                holds = low <= number < high and (number > low or not positive)
                bound = f"{'>' if positive else '≥'} 0" + (" and < 1" if high == 1.0 else "")
                found = group[name] if math.isnan(number) else number
                OPTION.check(problems, holds, f"{where}.{name}", found, bound=bound)
        betas = group.get("betas", (0.0, 0.0))
        two = isinstance(betas, tuple | list) and len(betas) == 2
        BETAS.check(problems, two, f"{where}.betas", betas)
        for i, beta in enumerate(betas if two else ()):
            holds = 0.0 <= _number(beta) < 1.0
            BETA.check(problems, holds, f"{where}.betas[{i}]", beta)
        REG.check(
            problems,
            group["reg"] is None or isinstance(group["reg"], Regularizer),
            f"{where}.reg",
            type(group["reg"]).__name__,
        )
        problems.raise_as(UsageError)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Do one step for every parameter that has a gradient.

        Args:
            closure: re-evaluates the model and returns the loss.

        Returns:
            The closure's loss, or None without a closure.

        Raises:
            UsageError: for sparse or complex gradients, and weights of a type in which eps is 0, before anything is
                changed.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if self._plan is None or not self._plan.refresh(self.param_groups, self.state):
            self._plan = self._new_plan()
        self._plan.run()
        return loss

    def _new_plan(self) -> Plan:
        members = [(i, p) for i, group in enumerate(self.param_groups) for p in group["params"]]
        unsupported = [
            (i, p)
            for i, p in members
            if p.grad is not None and (p.grad.layout is not torch.strided or p.is_complex())
        ]
        if unsupported:
            raise UsageError(*(_unsupported(i, p) for i, p in unsupported))
        problems = Problems()
        for i, p in members:
            eps = self.param_groups[i].get("eps", 1.0)
            holds = p.grad is None or eps > _rounded_to_zero(p.dtype)
            EPS.check(problems, holds, f"param_groups[{i}].eps", f"{eps}, 0 in {p.dtype}", dtype=p.dtype)
        problems.raise_as(UsageError)
        slots: list[Slot | None] = []
        for i, p in members:
            if p.grad is None:
                slots.append(None)
            else:
                group, state = self.param_groups[i], self.state[p]
                self._prepare(p, group, state)
                held = None if group["reg"] is None else self._held.get(p)
                slots.append(slot(group, state, p, self._own, held))
        return Plan(self._kind, self.param_groups, slots)

    def hold(self, supports: Mapping[Tensor, Tensor]) -> None:
        """From now on, step these parameters only where their supports hold, if a compiled kernel does it (``holds``).

        All other weights, and their state, stay as they are; parameters without a regularizer are stepped everywhere. This
        is no part of ``state_dict``.

        Args:
            supports: parameter → bool, of its shape; parameters that are left out are stepped everywhere.
        """
        self._plan = None
        self._held = {p: support.contiguous() for p, support in supports.items()}

    def holds(self, param: Tensor) -> bool:
        """Test for a parameter of which the last step left everything outside its support as it was.

        Args:
            param: a parameter.

        Returns:
            True if it did; False also before the first step.
        """
        return self._plan is not None and self._plan.holds(param)

    def regularization(self) -> float:
        """Σ J(θ) over all groups with a regularizer, at the current weights."""
        return sum(
            float(group["reg"].value(p.detach()))
            for group in self.param_groups
            if group["reg"] is not None
            for p in group["params"]
        )

    def state_dict(self) -> dict[str, Any]:
        """The state as tensors and plain types, including regularizers: loadable with ``weights_only=True``."""
        packed: dict[str, Any] = _of_torch("state_dict")(self)
        packed["param_groups"] = [
            {**group, "reg": None if group["reg"] is None else group["reg"].to_dict()}
            for group in packed["param_groups"]
        ]
        return packed

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a saved state, including λ; training continues bit for bit.

        Args:
            state_dict: the result of ``state_dict``.

        Raises:
            UsageError: for the state of another optimizer; nothing is changed then.
        """
        groups = []
        for i, saved in enumerate(state_dict["param_groups"]):
            group = {**self.defaults, **saved}  # options that an older version did not have
            if isinstance(group["reg"], dict):
                group["reg"] = Regularizer.from_dict(group["reg"])
            self._check_state(group, saved, f"param_groups[{i}]")
            groups.append(group)
        _of_torch("load_state_dict")(self, {**state_dict, "param_groups": groups})

    def _check_state(self, group: dict[str, Any], saved: dict[str, Any], where: str) -> None:
        """Raise UsageError unless a saved group is this optimizer's, with options in range."""
        problems = Problems()
        lacking = sorted({"lr", "reg", *self._needed} - set(saved))
        STATE.check(problems, not lacking, where, f"no {', '.join(lacking)}", kind=type(self).__name__)
        problems.raise_as(UsageError)
        self._check(group, where)


def _of_torch(name: str) -> Callable[..., Any]:
    """A method of torch's ``Optimizer``, without its wrapper against ``torch.compile`` while nothing has loaded that.

    The wrapper would load it: some 4 s of every start.
    """
    method: Callable[..., Any] = getattr(torch.optim.Optimizer, name)
    return method if "torch._dynamo" in sys.modules else getattr(method, "__wrapped__", method)


def _number(value: Any) -> float:
    """The value as a float, a tensor of one number too; NaN, which no range holds, for anything else."""
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        return math.nan


def _momentum_for(param: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
    """The momentum buffer, initially 0; None without momentum."""
    if group["momentum"] == 0:
        state.pop("momentum_buffer", None)
    elif "momentum_buffer" not in state:
        state["momentum_buffer"] = torch.zeros_like(param)


def _rounded_to_zero(dtype: torch.dtype) -> float:
    """The largest number that is 0 in a type of floats: half its smallest number above 0."""
    limits = torch.finfo(dtype)
    return limits.smallest_normal * limits.eps / 2


def _unsupported(i: int, p: Tensor) -> Problem:
    return GRADIENT.broken(
        f"param_groups[{i}], a parameter of shape {tuple(p.shape)}",
        f"dtype {p.dtype}" if p.is_complex() else "a sparse gradient",
    )


class _Bregman(SparseOptimizer):
    """A SparseOptimizer with a dual per regularized parameter, under ``state[p]["dual"]``."""

    def _dual_for(self, param: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        reg = group["reg"]
        if reg is None:
            state.pop("dual", None)
        elif "dual" not in state:
            state["dual"] = param.detach() * (1.0 / group["delta"]) + reg.sub_grad(param.detach())

    @torch.no_grad()
    def reset_duals(self) -> None:
        """Recompute the duals from the weights: v = θ/δ + p, p ∈ ∂J(θ).

        This is needed after weights were changed directly (loading, clipping, masking); otherwise the next step
        restores them from the old duals.
        """
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                had = state.pop("dual", None) is not None
                if had or state:
                    self._dual_for(p, group, state)


class LinBreg(_Bregman):
    """Linearized Bregman iterations, with momentum as in ``torch.optim.SGD``.

    Per step, with gradient g (Bungert et al., Algorithms 1 and 2):

        b ← momentum·b + g  (b = g at first);   v ← v − lr·(b + weight_decay·θ);   θ ← prox_{δJ}(δ·v)

    The paper's momentum, m ← β·m + (1 − β)·τ·g and v ← v − m, is the same with momentum = β and
    lr = (1 − β)·τ. With ``reg=None``: θ ← θ − lr·(b + weight_decay·θ), torch's SGD (δ unused; weight
    decay decoupled, that is, outside the momentum).

    Args:
        params: tensors, or groups as dicts.
        lr: learning rate, at least 0.
        reg: regularizer J, or None.
        delta: step δ > 0 of the elastic net around J. Larger is sparser for the same λ·lr, and weights move δ
            times as fast as their dual.
        momentum: in [0, 1).
        weight_decay: decoupled weight decay, at least 0.
        fused: see ``AdaBreg``.

    Raises:
        UsageError: naming every option that is out of range.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        reg: Regularizer | None = None,
        delta: float = 1.0,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        *,
        fused: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "reg": reg,
            "delta": delta,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "fused": fused,
        }
        super().__init__(params, defaults)

    _kind, _own, _needed = "linbreg", ("momentum_buffer",), ("delta", "momentum")

    def _prepare(self, param: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        self._dual_for(param, group, state)
        _momentum_for(param, group, state)


class AdaBreg(_Bregman):
    """Adam's direction in the Bregman dual (Bungert et al., Algorithm 3), weight decay decoupled.

    Per step k = 1, 2, ..., with gradient g:

        m ← β₁m + (1−β₁)g;   s ← β₂s + (1−β₂)g²
        v ← v − lr·m/(1−β₁ᵏ) / (√(s/(1−β₂ᵏ)) + ε) − lr·weight_decay·θ
        θ ← prox_{δJ}(δ·v)

    With ``reg=None``: θ ← θ − lr·(...), torch's Adam, or AdamW with weight decay (δ unused).

    Args:
        params: tensors, or groups as dicts.
        lr: learning rate, at least 0.
        reg: regularizer J, or None.
        delta: step δ > 0 of the elastic net around J; weights move δ times as fast as their dual.
        betas: β₁ and β₂, in [0, 1).
        eps: ε > 0.
        weight_decay: decoupled weight decay, at least 0.
        fused: None uses the one-pass kernel on a CPU if it is faster and numba is installed; True always uses it,
            and on CUDA the Triton kernel (see ``fused_cuda``); False uses torch's foreach operations, which give
            the same numbers.

    Raises:
        UsageError: naming every option that is out of range.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        reg: Regularizer | None = None,
        delta: float = 1.0,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        fused: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "reg": reg,
            "delta": delta,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "fused": fused,
        }
        super().__init__(params, defaults)

    _kind, _own, _needed = "adabreg", ("exp_avg", "exp_avg_sq"), ("delta", "betas")

    def _prepare(self, param: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        if "step" not in state:
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(param)
            state["exp_avg_sq"] = torch.zeros_like(param)
        self._dual_for(param, group, state)


class ProxSGD(SparseOptimizer):
    """Proximal gradient descent (ISTA when the gradient is exact): the baseline without a dual.

    Per step, with gradient g (Bungert et al., Section 1):

        b ← momentum·b + g  (b = g at first);   θ ← prox_{lr·J}(θ − lr·(b + weight_decay·θ))

    With ``reg=None``: torch's SGD. It shrinks all weights towards 0 in every step, so its solutions are
    biased, unlike those of Bregman iterations.

    Args:
        params: tensors, or groups as dicts.
        lr: learning rate, at least 0.
        reg: regularizer J, or None.
        momentum: in [0, 1).
        weight_decay: decoupled weight decay, at least 0.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        reg: Regularizer | None = None,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "reg": reg, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    _kind, _own, _needed = "proxsgd", ("momentum_buffer",), ("momentum",)

    def _prepare(self, param: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        _momentum_for(param, group, state)
