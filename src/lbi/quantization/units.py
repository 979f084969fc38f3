"""Neurons that compaction removes together: single ones, or whole channels of feature maps.

A convolution shares its kernels over all positions of a channel, so the channel stays or goes as a whole; of one with
groups, all channels of a group do, on both sides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lbi.network.convolution_weights import ConvolutionWeights
from lbi.network.fixed import FixedNetwork, FixedProjection
from lbi.network.graph import INPUT

Masks = Mapping[str, NDArray[np.bool_]]


@dataclass(frozen=True)
class Units:
    """The units of every population.

    Attributes:
        whole: populations that stay as they are: the readout's, and those at an end of a matrix with a pattern (an unrolled
            convolution), whose geometry would be lost.
        sizes: population → neurons of a unit: 1, or the positions of a channel.
        groups: (source, target, number of groups) of each convolution with groups.
    """

    whole: frozenset[str]
    sizes: Mapping[str, int]
    groups: tuple[tuple[str, str, int], ...]

    def together(self, chosen: Masks) -> dict[str, NDArray[np.bool_]]:
        """The smallest choice of whole units that contains a choice of neurons.

        Of a convolution with groups, two groups at least are chosen or none: with a single one left, it could not be told
        from a convolution without groups.

        Args:
            chosen: population → (n,) bools.

        Returns:
            Population → (n,) bools, True for all neurons of a unit or for none.
        """
        found = {name: self._units(name, mask) for name, mask in chosen.items()}
        while True:
            before = sum(int(np.count_nonzero(mask)) for mask in found.values())
            for source, target, n_groups in self.groups:
                ends = {source, target} - {INPUT}
                in_groups = [found[name].reshape(n_groups, -1).any(axis=1) for name in ends]
                stays = np.any(in_groups, axis=0) | (source == INPUT)
                if np.count_nonzero(stays) == 1:
                    stays[int(stays[0])] = True
                for name in ends:
                    of_groups = np.repeat(stays, found[name].size // n_groups)
                    found[name] = self._units(name, found[name] | of_groups)
            if sum(int(np.count_nonzero(mask)) for mask in found.values()) == before:
                return found

    def staying(self, wanted: Masks) -> dict[str, NDArray[np.bool_]]:
        """The neurons that stay if those are wanted: at least a unit of each population.

        Args:
            wanted: population → (n,) bools, whole units.

        Returns:
            Population → (n,) bools, whole units.
        """
        stays = {name: mask.copy() for name, mask in wanted.items()}
        for name, mask in stays.items():
            if not np.any(mask):
                mask[: self.sizes[name]] = True
        return self.together(stays)

    def _units(self, name: str, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        if name in self.whole:
            return np.ones_like(mask)
        size = self.sizes[name]
        return np.repeat(mask.reshape(-1, size).any(axis=1), size)


def units(fixed: FixedNetwork) -> Units:
    """The units of a network.

    Args:
        fixed: the network.

    Returns:
        Which populations stay whole, the neurons of a unit of each, and the groups of convolutions.
    """
    whole = {fixed.readout.population}
    sizes: dict[str, int] = {}
    groups = []
    for projection in fixed.projections:
        ends = (projection.source, projection.target)
        kernels = in_kernels(projection)
        if kernels is None:
            whole |= set() if projection.pattern is None else set(ends)
            continue
        shapes = (kernels.input_shape, kernels.output_shape)
        for name, (_, height, width) in zip(ends, shapes, strict=True):
            if sizes.setdefault(name, height * width) != height * width:
                whole.add(name)
        if kernels.convolution.groups > 1:
            groups.append((*ends, kernels.convolution.groups))
    of_all = {population.name: sizes.get(population.name, 1) for population in fixed.populations}
    return Units(frozenset(whole - {INPUT}), of_all, tuple(groups))


def in_kernels(projection: FixedProjection) -> ConvolutionWeights | None:
    """The weights of a projection whose pattern is in kernels of the same geometry; None for any other.

    Args:
        projection: the projection.

    Returns:
        The weights; None for any other projection.
    """
    weights, pattern = projection.weights, projection.pattern
    if isinstance(weights, ConvolutionWeights) and isinstance(pattern, ConvolutionWeights):
        return weights if weights.has_geometry_of(pattern) else None
    return None
