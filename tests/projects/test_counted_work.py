"""Counted work of a training step: operators and bytes, and their table."""

import pytest
from torch import nn

from projects.benchmark.counted_work import CountedWork, count_step, format_counted_work
from projects.benchmark.finetuning import torchvision_pair


class Doubled(nn.Module):
    """Model with one operator of its own: a product with a number."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(nn.init.ones_(nn.Linear(1, 1).weight.detach().flatten()))

    def forward(self, x):
        return (x * self.weight).view(-1)  # a view moves nothing


def test_operators_and_bytes():
    """Forward: the product, the conversion to float32, the square and the mean; backward: as many and the sum."""
    operators, traffic = count_step(Doubled(), (1000,))
    more, more_traffic = count_step(Doubled(), (2000,))
    assert operators == more and 8 <= operators <= 16
    # the product reads and writes 2 bytes for each value
    assert more_traffic - traffic >= 1000 * (2 + 2)
    assert more_traffic == pytest.approx(2 * traffic, rel=0.01)


def test_an_mvit_moves_less_than_torchvisions():
    (ours, our_traffic), (theirs, their_traffic) = (count_step(m, (1, 3, 16, 224, 224)) for m in torchvision_pair())
    assert ours <= theirs
    assert our_traffic <= 0.8 * their_traffic


def test_table():
    rows = iter([CountedWork("a step", "a peer", (5, 10), (2 * 10**9, 8 * 10**9))])
    assert format_counted_work(rows).splitlines()[-1] == "| a step | a peer | 5 | 10 | 0.50 | 2.00 | 8.00 | 0.25 |"
