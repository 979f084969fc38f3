"""Random small convolutions: strides, padding, dilation, groups, unconnected channels."""

from __future__ import annotations

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from lbi.network.convolution import Convolution

sizes = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def convolutions(draw):
    """A convolution and an input shape that it can take; some pairs of channels unconnected."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    groups = draw(st.integers(1, 3))
    shape = (groups * draw(st.integers(1, 2)), draw(st.integers(1, 2)), *draw(sizes))
    kernel = rng.integers(1, 4, shape) * rng.choice([-1, 1], shape)
    kernel = kernel * (rng.random(kernel.shape[:2])[..., None, None] < draw(st.sampled_from([0.6, 1.0])))
    padding = draw(st.sampled_from([(0, 0), (1, 2), (2, 0)]))
    conv = Convolution(kernel, draw(sizes), padding, draw(sizes), groups)
    shape = (groups * kernel.shape[1], draw(st.integers(1, 8)), draw(st.integers(1, 8)))
    assume(min(conv.output_shape(shape)) >= 1)
    return conv, shape
