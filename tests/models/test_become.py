"""A layer of a built model can take the class of a subclass, and no other class."""

import pytest
from torch import nn

from maskfeat_plugin.models.utils import become


class Doubled(nn.Linear):
    """A layer without additional state."""

    def forward(self, x):
        return 2 * super().forward(x)


def test_a_layer_keeps_its_parameters():
    layer = nn.Linear(2, 3)
    weight = layer.weight
    become(layer, Doubled)
    become(layer, Doubled)
    assert type(layer) is Doubled and layer.weight is weight


def test_other_classes_are_refused():
    with pytest.raises(TypeError, match="Conv1d cannot become Doubled, which is no subclass of it"):
        become(nn.Conv1d(1, 1, 1), Doubled)
