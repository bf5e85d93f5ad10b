"""Deep features of a frozen teacher network."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskfeat_plugin.registry import MODELS

from ..utils import TokenPlaces
from .base import BaseTargetGenerator
from .feature_maps import check_input_type, masked_layers
from .frozen import FrozenNetwork

# Normalisations of the features (M, D) of each token
FEATURE_NORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda features: features,
    "l2": lambda features: F.normalize(features, dim=-1),
    "layer": lambda features: F.layer_norm(features, features.shape[-1:]),
}


@MODELS.register_module()
class TeacherGenerator(BaseTargetGenerator):
    """Target generator of features that a frozen teacher computes from the unmasked input (MaskFeat paper).

    The teacher is any registered backbone that returns a feature map or the tokens of a grid. Backbones of timm are
    available as ``mmpretrain.TIMMBackbone``, backbones of transformers as ``maskfeat.TransformersBackbone``. The
    features are resized to the token grid, and each token's features are divided by their length. The loss is
    ``maskfeat.MaskedLoss`` of the kind ``cosine``, ``mse`` or ``smooth_l1``. The teacher sees whole images, or the
    first frame of each token of a clip, one by one. With ``input_type='clip'`` it sees whole clips::

        target_generator=dict(
            type='maskfeat.TeacherGenerator',
            teacher=dict(
                type='mmpretrain.VisionTransformer', arch='deit-small', out_type='featmap',
                init_cfg=dict(type='Pretrained', checkpoint='dino.pth', prefix='backbone.')))

    Args:
        teacher (dict): Config of the backbone. ``init_cfg`` names its weights.
        input_type (str): With "image" the teacher gets every token's first frame, with "clip" whole clips. Defaults to
            "image".
        layer (int | Sequence[int]): Index of the output to use if the teacher returns several (``out_indices``,
            ``out_scales``), or several indices. Defaults to -1, the last.
        combine (str): With "concat" the features of several layers are joined, with "mean" they are averaged, after
            ``norm`` was applied to each layer. Defaults to "concat".
        stride (int, optional): Side of the teacher's tokens in pixels. Images are resized so that the teacher's grid is
            the token grid: with 14, a teacher of 14-pixel patches sees 196 x 196 pixels of images with 14 x 14 tokens.
            Defaults to None: the teacher sees images of the model's size.
        norm (str): With "l2" each token's features are divided by their length; with "layer" they are shifted and
            scaled to mean 0 and variance 1; "none" leaves them unchanged. Defaults to "l2".
        mean (Sequence[float] | float, optional): Mean that the teacher expects, RGB, on the scale 0 to 255. Defaults to
            None: the model's own mean.
        std (Sequence[float] | float, optional): Standard deviation that the teacher expects. Defaults to None.
        in_checkpoint (bool): Whether checkpoints include the teacher. Defaults to False.
        patch_size (int): Side of a token in pixels, for calls without a mask. Defaults to 16.
        temporal_stride (int): Frames that a token covers, for calls without a mask. Defaults to 2.
        init_cfg (dict, optional): Initialization config. Defaults to None.

    Raises:
        ValueError: If ``input_type``, ``norm`` or ``combine`` is unknown, ``stride`` is not positive,
            ``input_type`` does not fit the teacher, or a teacher of clips has a ``stride``.
    """

    def __init__(
        self,
        teacher: dict,
        input_type: str = "image",
        layer: int | Sequence[int] = -1,
        combine: str = "concat",
        stride: int | None = None,
        norm: str = "l2",
        mean: Sequence[float] | float | None = None,
        std: Sequence[float] | float | None = None,
        in_checkpoint: bool = False,
        patch_size: int = 16,
        temporal_stride: int = 2,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(patch_size, temporal_stride, init_cfg)
        if norm not in FEATURE_NORMS:
            raise ValueError(f"norm={norm!r} is unknown; choose one of {sorted(FEATURE_NORMS)}.")
        if combine not in ("concat", "mean"):
            raise ValueError(f"combine={combine!r} is unknown; choose 'concat' or 'mean'.")
        if stride is not None and stride < 1:
            raise ValueError(f"stride must be positive, got {stride!r}.")
        if stride is not None and input_type == "clip":
            raise ValueError("stride resizes images, but input_type='clip'. Leave it out.")
        layers = (layer,) if isinstance(layer, int) else tuple(layer)
        if not layers:
            raise ValueError("layer must name at least one output of the teacher.")
        self.norm = norm
        self.combine = combine
        self.stride = stride
        self.input_type = input_type
        self.layers = layers
        self.teacher = FrozenNetwork(teacher, "teacher", mean, std, in_checkpoint)
        check_input_type(self.teacher.network, input_type, self.teacher.key)

    def connect(self, model: nn.Module) -> None:
        """Read how the model normalises its inputs, see the parent."""
        self.teacher.connect(model.data_preprocessor)

    def init_weights(self) -> None:
        """Load the teacher's weights."""
        super().init_weights()
        self.teacher.load()

    def generate(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Compute the teacher's features of the masked tokens.

        Args:
            inputs (Tensor): Normalised images (N, C, H, W) or clips (N, C, T, H, W).
            mask (Tensor): bool (N, T', H', W').

        Returns:
            Tensor: float32 (M, D), or (M, layers x D) if several layers are joined. With the norm "l2" the features of
                each layer have length 1.

        Raises:
            ValueError: If the mask's grid does not fit the inputs, or the teacher lacks the layer or a feature map.
        """
        return self._features(inputs, mask, None)

    def generate_at(self, inputs: Tensor, mask: Tensor, places: TokenPlaces) -> Tensor:
        """Compute the teacher's features of the masked tokens, see :meth:`generate`."""
        return self._features(inputs, mask, places)

    def _features(self, inputs: Tensor, mask: Tensor, places: TokenPlaces | None) -> Tensor:
        features = masked_layers(
            self.teacher,
            self.teacher.normalize(inputs),
            mask,
            self.teacher.key,
            self.input_type,
            self.layers,
            self.stride,
            places,
        )
        normed = [FEATURE_NORMS[self.norm](of_layer) for of_layer in features]
        if self.combine == "concat":
            return torch.cat(normed, -1)
        if len({of_layer.shape for of_layer in normed}) > 1:
            raise ValueError(
                f"The layers {self.layers} have {[of_layer.shape[-1] for of_layer in normed]} channels and cannot be "
                "averaged; set combine='concat', or choose layers of equal width."
            )
        return torch.stack(normed).mean(0)
