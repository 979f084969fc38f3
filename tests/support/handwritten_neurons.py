"""One step of neurons in plain torch, as people write it: functions of the input and the states, which return spikes and states."""

from __future__ import annotations

import torch


class Step(torch.autograd.Function):
    """A step function with a surrogate gradient."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad / (1 + x.abs()) ** 2


class Assigned(torch.autograd.Function):
    """The same, by an assignment to the places of a mask, as in SpyTorch."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        out = torch.zeros_like(x)
        out[x > 0] = 1.0
        return out

    @staticmethod
    def backward(ctx, grad):
        return grad


class AtThreshold(torch.autograd.Function):
    """Fires at the threshold, too."""

    @staticmethod
    def forward(ctx, x, threshold):
        return x.ge(threshold).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        return grad, None


def reset_by_product(x, mem):
    mem = 0.9 * mem + x
    spikes = Step.apply(mem - 1.0)
    return spikes, mem * (1 - spikes)


def reset_by_difference(x, mem):
    mem = 0.9 * mem + x
    spikes = Step.apply(mem - 1.0)
    return spikes, mem - mem * spikes.detach()


def reset_by_where(x, mem):
    mem = 0.9 * mem + x
    fired = mem > 1.0
    return fired.to(x.dtype), torch.where(fired, torch.zeros_like(mem), mem)


def reset_by_masked_fill(x, mem):
    mem = 0.9 * mem + x
    spikes = Assigned.apply(mem - 1.0)
    return spikes, mem.masked_fill(spikes > 0.5, 0.0)


def reset_by_assignment(x, mem):
    mem = 0.9 * mem + x
    spikes = Assigned.apply(mem - 1.0)
    mem = mem.clone()
    mem[spikes.bool()] = 0.0
    return spikes, mem


def reset_in_place(x, mem):
    mem = mem.mul(0.9).add_(x)
    spikes = (mem >= 1.0).to(x)
    mem *= 1.0 - spikes
    return spikes, mem


def reset_before(x, mem, spikes):
    mem = mem * 0.8 * (1.0 - spikes) + x
    spikes = AtThreshold.apply(mem, 1.0)
    return spikes, mem, spikes


def reset_by_comparison_before(x, mem):
    reset = (mem > 1.0).to(x.dtype)
    mem = 0.9 * mem * (1 - reset) + x
    return (mem > 1.0).to(x.dtype), mem


def subtracted(x, mem):
    mem = 0.9 * mem + x
    spikes = Step.apply(mem - 1.0)
    return spikes, mem - spikes * 1.0


def subtracted_before(x, mem):
    reset = Step.apply(mem - 1.5).detach()
    mem = 0.9 * mem + x - reset * 1.5
    return Step.apply(mem - 1.5), mem


def subtracted_in_units(x, mem):
    mem = 0.7 * mem + x
    spikes = Step.apply(mem / 2.0 - 1.0)
    return spikes, mem - 2.0 * spikes


def subtracted_late(x, mem, current):
    spikes = Step.apply(mem - 1.0)
    return spikes, 0.9 * mem + current - spikes, x


def compared_before(x, mem):
    """The neurons of DIET-SNN: what comes in a step is compared in the next one."""
    spikes = Step.apply(mem / 1.5 - 1.0)
    reset = 1.5 * (mem / 1.5 - 1.0 > 0).to(x.dtype)
    return spikes, 0.9 * mem + x - reset


def integrate_and_fire(x, mem):
    mem = mem + x
    spikes = torch.heaviside(mem - 1.0, torch.zeros(1, dtype=x.dtype))
    return spikes, torch.where(spikes == 1, 0.0, mem)


def from_rest(x, v):
    v = v + (-65.0 - v + 10.0 * x) / 8.0
    spikes = (v >= -60.0).to(x.dtype)
    return spikes, (1 - spikes) * v + spikes * -65.0


def to_another_value(x, v):
    v = v + (x - v) / 4.0
    spikes = (v > 0.5).to(x.dtype)
    return spikes, torch.where(spikes.bool(), -0.2, v)


def interpolated(x, mem):
    mem = torch.lerp(mem, x, 0.4)
    spikes = Step.apply(mem - 0.5)
    return spikes, torch.addcmul(mem, mem, spikes, value=-1)


def interpolated_in_place(x, mem):
    mem = mem.clone().lerp_(x, 0.4)
    mem.addcdiv_(x, torch.full_like(x, 4.0), value=0.5)
    spikes = Step.apply(mem - 0.5)
    return spikes, mem.addcmul_(mem, spikes, value=-1)


def averaging(x, mem):
    mem = mem + (x - mem) / 2.0
    spikes = Step.apply(mem - 0.5)
    return spikes, mem * (1.0 - spikes)


def synaptic(x, syn, mem):
    syn = 0.8 * syn + x
    mem = 0.9 * mem + syn
    spikes = Step.apply(mem - 2.0)
    return spikes, syn, mem * (1 - spikes)


def synaptic_late(x, syn, mem):
    spikes = Assigned.apply(mem - 1.0)
    return spikes, 0.8 * syn + x, 0.9 * mem * (1.0 - spikes.detach()) + syn


def synaptic_losing(x, syn, mem):
    """SpyTorch: what comes in the step after a spike is lost to the voltage."""
    spikes = Assigned.apply(mem - 1.0)
    reset = spikes.detach()
    return spikes, 0.8 * syn + x, (0.9 * mem + syn) * (1.0 - reset)


def losing(x, mem, spikes):
    mem = (0.9 * mem + x) * (1 - spikes)
    spikes = Step.apply(mem - 1.0)
    return spikes, mem, spikes


def memoryless(x):
    return ((x > 0.4).to(x.dtype),)


def never_reset(x, mem):
    mem = 0.6 * mem + x
    return Step.apply(mem - 1.0), mem


def below(x, mem):
    mem = 0.9 * mem + x
    quiet = 1.0 - mem >= 0
    return (~quiet).to(x.dtype), mem * quiet
