"""Class distributions, one per token, from a classifier or from label maps of the data."""

from collections.abc import Sequence

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from maskfeat_plugin.registry import MODELS

from ..utils import TokenPlaces
from .base import BaseTargetGenerator, TargetGenerator
from .feature_maps import check_input_type, masked_features
from .frozen import FrozenNetwork


@MODELS.register_module()
class PseudoLabelGenerator(BaseTargetGenerator):
    """Target generator of the class distributions that a frozen classifier predicts per masked token (MaskFeat paper).

    The classifier's backbone computes a feature map of the unmasked input, which is resized to the token grid. The
    classifier's linear layer is applied at every position of the map::

        target_generator=dict(
            type='maskfeat.PseudoLabelGenerator',
            num_classes=1000,
            classifier=dict(
                type='mmpretrain.ImageClassifier',
                backbone=dict(type='ResNet', depth=50),
                head=dict(type='LinearClsHead', num_classes=1000, in_channels=2048),
                init_cfg=dict(type='Pretrained', checkpoint='resnet50.pth')))

    Args:
        classifier (dict): Config of an mmpretrain classifier with a ``head``, or of an mmaction2 recognizer whose
            ``cls_head`` has ``fc_cls``. Its backbone must return a feature map (``out_type='featmap'`` for a ViT). Its
            neck, which pools the map, is not used. ``init_cfg`` names the weights.
        num_classes (int): Number K of classes.
        input_type (str): With "image" the classifier gets every token's first frame, with "clip" whole clips. Defaults
            to "image".
        temperature (float): Divisor of the logits. Defaults to 1.0.
        mean (Sequence[float] | float, optional): Mean that the classifier expects, RGB, on the scale 0 to 255. Defaults
            to None: the model's own mean.
        std (Sequence[float] | float, optional): Standard deviation that the classifier expects. Defaults to None.
        in_checkpoint (bool): Whether checkpoints include the classifier. Defaults to False.
        patch_size (int): Side of a token in pixels, for calls without a mask. Defaults to 16.
        temporal_stride (int): Frames that a token covers, for calls without a mask. Defaults to 2.
        init_cfg (dict, optional): Initialization config. Defaults to None.

    Raises:
        ValueError: If an argument is out of range or the classifier has no linear layer that is known.
    """

    def __init__(
        self,
        classifier: dict,
        num_classes: int,
        input_type: str = "image",
        temperature: float = 1.0,
        mean: Sequence[float] | float | None = None,
        std: Sequence[float] | float | None = None,
        in_checkpoint: bool = False,
        patch_size: int = 16,
        temporal_stride: int = 2,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(patch_size, temporal_stride, init_cfg)
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature!r}.")
        self.num_classes = num_classes
        self.input_type = input_type
        self.temperature = temperature
        self.classifier = FrozenNetwork(classifier, "classifier", mean, std, in_checkpoint)
        network = self.classifier.network
        check_input_type(network, input_type, self.classifier.key)
        has_head = getattr(network, "head", None) is not None or hasattr(getattr(network, "cls_head", None), "fc_cls")
        if not hasattr(network, "backbone") or not has_head:
            raise ValueError(
                f"classifier ({type(network).__name__}) must have a backbone and a head (mmpretrain's "
                "ImageClassifier) or a cls_head with fc_cls (mmaction2's recognizers)."
            )

    def connect(self, model: nn.Module) -> None:
        """Read how the model normalises its inputs, see the parent."""
        self.classifier.connect(model.data_preprocessor)

    def init_weights(self) -> None:
        """Load the classifier's weights."""
        super().init_weights()
        self.classifier.load()

    def generate(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Compute the class distributions of the masked tokens.

        Args:
            inputs (Tensor): Normalised images (N, C, H, W) or clips (N, C, T, H, W).
            mask (Tensor): bool (N, T', H', W').

        Returns:
            Tensor: float32 (M, K). Each row sums to 1.

        Raises:
            ValueError: If the mask's grid does not fit the inputs, or the classifier has no feature map or another
                number of classes.
        """
        return self._distributions(inputs, mask, None)

    def generate_at(self, inputs: Tensor, mask: Tensor, places: TokenPlaces) -> Tensor:
        """Compute the class distributions of the masked tokens, see :meth:`generate`."""
        return self._distributions(inputs, mask, places)

    def _distributions(self, inputs: Tensor, mask: Tensor, places: TokenPlaces | None) -> Tensor:
        self.classifier.load()
        network = self.classifier.network
        tokens = masked_features(
            network.backbone,
            self.classifier.normalize(inputs),
            mask,
            "classifier.backbone",
            self.input_type,
            places,
        )
        if getattr(network, "head", None) is not None:
            logits = network.head((tokens,))  # mmpretrain: each token as if it were a pooled image
        else:
            logits = network.cls_head.fc_cls(tokens)
        if logits.shape[-1] != self.num_classes:
            raise ValueError(
                f"classifier has {logits.shape[-1]} classes, but num_classes={self.num_classes}; set "
                f"num_classes={logits.shape[-1]}, and out_channels={logits.shape[-1]} of the neck."
            )
        return (logits.float() / self.temperature).softmax(-1)


@MODELS.register_module()
class LabelMapGenerator(TargetGenerator):
    """Target generator of class distributions that are part of the data, as in token labelling.

    The transform ``maskfeat.LoadLabelMap`` reads them.

    Args:
        num_classes (int): Number K of classes.
        key (str): Field of the data samples with (2, E, T', H', W'), or (M, 2, E, T', H', W') for M clips: E scores and
            their E classes. Defaults to "label_map".
        init_cfg (dict, optional): Initialization config. Defaults to None.
    """

    num_classes: int

    def __init__(self, num_classes: int, key: str = "label_map", init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg=init_cfg)
        self.num_classes = num_classes
        self.key = key
        self._classes_checked = False

    @torch.no_grad()
    def forward(
        self,
        inputs: Tensor,
        mask: Tensor | None = None,
        data_samples: Sequence[BaseDataElement] | None = None,
        places: TokenPlaces | None = None,
    ) -> Tensor:
        """Compute the target from the samples; arguments as in the parent.

        Raises:
            ValueError: If the samples have no label maps, or the maps' grid or classes do not fit.
        """
        if not data_samples or any(self.key not in sample for sample in data_samples):
            raise ValueError(
                f"The samples have no {self.key!r}; add maskfeat.LoadLabelMap to the pipeline, and its key to the "
                f"packing transform (algorithm_keys=('mask', {self.key!r}))."
            )
        maps = torch.stack([torch.as_tensor(sample.get(self.key)) for sample in data_samples]).to(inputs.device)
        maps = maps.reshape(-1, *maps.shape[-5:])  # (N, 2, E, T', H', W')
        return super().forward(maps, mask, places=places)

    def whole_grid(self, inputs: Tensor) -> Tensor:
        """Return a mask of every token of the label maps, see the parent."""
        return inputs.new_ones((len(inputs), *inputs.shape[3:]), dtype=torch.bool)

    def generate(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Compute the class distributions of the masked tokens.

        Args:
            inputs (Tensor): Label maps (N, 2, E, T', H', W').
            mask (Tensor): bool (N, T', H', W').

        Returns:
            Tensor: float32 (M, K). Each row sums to 1, or is 0 where the map has no label, which adds nothing to the
                loss.

        Raises:
            ValueError: If the maps have another grid than the mask, or classes beyond ``num_classes``. On a GPU, only
                the classes of the first batch are checked, because a check waits. Later rows with such classes are NaN.
        """
        return self._distributions(inputs, mask, mask)

    def generate_at(self, inputs: Tensor, mask: Tensor, places: TokenPlaces) -> Tensor:
        """Compute the class distributions of the masked tokens, see :meth:`generate`."""
        return self._distributions(inputs, mask, places.on_grid())

    def _distributions(self, inputs: Tensor, mask: Tensor, masked: Tensor | tuple[Tensor, ...]) -> Tensor:
        if mask.shape != (len(inputs), *inputs.shape[3:]):
            raise ValueError(
                f"The label maps' token grid is {(len(inputs), *inputs.shape[3:])} (N, T', H', W'), but the mask's is "
                f"{tuple(mask.shape)}; set token_grid of maskfeat.LoadLabelMap to the mask generator's token_grid."
            )
        scores, classes = inputs.permute(0, 3, 4, 5, 1, 2)[masked].unbind(1)  # (M, 2, E) -> 2 x (M, E)
        classes = classes.long()
        if classes.numel() and (classes.device.type == "cpu" or not self._classes_checked):
            least, most = torch.stack(classes.aminmax()).tolist()
            if not 0 <= least <= most < self.num_classes:
                raise ValueError(
                    f"The label maps have classes of {least} to {most}, but num_classes={self.num_classes}; set it and "
                    "the neck's out_channels to the number of classes."
                )
            self._classes_checked = True
        elsewhere = (classes < 0) | (classes >= self.num_classes)
        scores, classes = scores.masked_fill(elsewhere, torch.nan), classes.masked_fill(elsewhere, 0)
        target = scores.new_zeros(len(scores), self.num_classes, dtype=torch.float32)
        target.scatter_add_(1, classes, scores.float())
        total = target.sum(1, keepdim=True)
        return torch.where(total <= 0, 0.0, target / total)  # NaN stays NaN
