"""What a network in training would use of a chip.

It is measured as it would be exported: quantized, compacted, placed, and run on fixed samples in the exact simulator;
``lbi.costing`` prices the run. So ``lbi-estimate`` on the export gives the same number for the same spikes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lbi.costing.budget import Budget, Use
from lbi.costing.estimation import estimate
from lbi.errors import FitError
from lbi.network.graph import Network
from lbi.quantization.compaction import compact
from lbi.quantization.to_integers import quantize


def measure(budget: Budget, network: Network, spikes: NDArray[np.uint8]) -> tuple[Use, ...]:
    """What a network uses when deployed.

    Args:
        budget: the limits and the chip.
        network: the float network.
        spikes: input, (n_samples, n_steps, n_in).

    Returns:
        One use per limit; all infinite if the network does not fit the chip.
    """
    fixed = compact(quantize(network, budget.profile))
    try:
        return budget.uses(estimate(fixed, spikes=spikes, chip=budget.profile).sparse)
    except FitError:
        return budget.uses(None)
