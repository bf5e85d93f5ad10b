"""Several targets at once."""

from collections.abc import Sequence

import torch
from mmengine.model import ModuleDict
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from maskfeat_plugin.registry import MODELS

from ..utils import TokenPlaces, takes_argument
from .base import TargetGenerator
from .whole_grid import as_target_generator


@MODELS.register_module()
class MultiTargetGenerator(TargetGenerator):
    """Target generator of several targets by name, such as pixels and HOG (MaskFeat paper).

    Each target has its own neck and its own head, which :class:`MultiTargetNeck` and :class:`MultiTargetHead` hold
    under the same names.

    Args:
        targets (dict[str, dict]): Configs of the target generators by name.
        init_cfg (dict, optional): Initialization config. Defaults to None.

    Raises:
        ValueError: If ``targets`` is empty.
    """

    def __init__(self, targets: dict[str, dict], init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg=init_cfg)
        if not targets:
            raise ValueError("targets is empty. Give at least one target generator.")
        self.targets = ModuleDict({name: as_target_generator(MODELS.build(cfg)) for name, cfg in targets.items()})
        self._take_places = [n for n, target in self.targets.items() if takes_argument(target.forward, "places")]
        self.num_classes = {name: getattr(target, "num_classes", None) for name, target in self.targets.items()}

    def connect(self, model: nn.Module) -> None:
        """Connect each target to the model, see the parent."""
        for target in self.targets.values():
            if isinstance(target, TargetGenerator):
                target.connect(model)

    @torch.no_grad()
    def forward(  # type: ignore[override]
        self,
        inputs: Tensor,
        mask: Tensor | None = None,
        data_samples: Sequence[BaseDataElement] | None = None,
        places: TokenPlaces | None = None,
    ) -> dict[str, Tensor]:
        """Compute the targets; arguments as in the parent.

        Returns:
            dict[str, Tensor]: The result of each target generator.
        """
        return {
            name: target(inputs, mask, data_samples, **(dict(places=places) if name in self._take_places else {}))
            for name, target in self.targets.items()
        }

    def generate(self, inputs: Tensor, mask: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        """Compute the targets of the masked tokens, see :meth:`forward`."""
        return self.forward(inputs, mask)
