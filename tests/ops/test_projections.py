"""Keys and values of only the tokens that the pooling reads."""

import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from maskfeat_plugin.ops.depthwise_conv import depthwise_conv3d
from maskfeat_plugin.ops.projections import pooling_places


def random(*size, seed=0, dtype=torch.float32):
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@settings(max_examples=60, deadline=None)
@given(
    grid=st.tuples(st.integers(1, 4), st.integers(1, 17), st.integers(1, 17)),
    kernel=st.tuples(*[st.sampled_from([1, 3])] * 3),
    stride=st.tuples(*[st.integers(1, 9)] * 3),
    extra=st.integers(0, 2),
)
def test_a_convolution_sees_its_places_alone(grid, kernel, stride, extra):
    padding = tuple(k // 2 for k in kernel)
    places = pooling_places(grid, kernel, stride, padding, extra)
    assume(places is not None)
    tokens = random(1, extra + grid[0] * grid[1] * grid[2], 2)
    weight = random(2, 1, *kernel, seed=1)

    def convolve(tokens, grid, stride):
        maps = tokens[:, extra:].unflatten(1, grid).permute(0, 4, 1, 2, 3)
        return depthwise_conv3d(maps, weight, stride, padding)

    seen = tokens[:, places.index]
    assert torch.equal(seen[:, :extra], tokens[:, :extra]) and seen.shape[1] < tokens.shape[1]
    torch.testing.assert_close(convolve(seen, places.grid, places.stride), convolve(tokens, grid, stride))


def test_every_place_is_seen_at_small_strides():
    assert pooling_places((8, 14, 14), (3, 3, 3), (1, 2, 2), (1, 1, 1), 1) is None
    assert pooling_places((8, 56, 56), (3, 3, 3), (1, 8, 8), (1, 1, 1), 1).grid == (8, 20, 20)
