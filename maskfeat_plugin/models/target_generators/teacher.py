"""Deep features of a frozen teacher network."""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from maskfeat_plugin.registry import MODELS

from .base import BaseTargetGenerator
from .feature_maps import check_input_type, masked_features
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

    The teacher is any registered backbone that returns a feature map or the tokens of a square grid. Backbones of timm
    are available as ``mmpretrain.TIMMBackbone``. The features are resized to the token grid, and each token's features
    are divided by their length. The loss is ``maskfeat.MaskedLoss`` of the kind ``cosine``, ``mse`` or ``smooth_l1``.
    The teacher sees whole images, or the first frame of each token of a clip, one by one. With ``input_type='clip'`` it
    sees whole clips::

        target_generator=dict(
            type='maskfeat.TeacherGenerator',
            teacher=dict(
                type='mmpretrain.VisionTransformer', arch='deit-small', out_type='featmap',
                init_cfg=dict(type='Pretrained', checkpoint='dino.pth', prefix='backbone.')))

    Args:
        teacher (dict): Config of the backbone. ``init_cfg`` names its weights.
        input_type (str): With "image" the teacher gets every token's first frame, with "clip" whole clips. Defaults to
            "image".
        layer (int): Index of the output to use if the teacher returns several (``out_indices``, ``out_scales``).
            Defaults to -1, the last.
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
        ValueError: If ``input_type`` or ``norm`` is unknown, or ``input_type`` does not fit the teacher.
    """

    def __init__(
        self,
        teacher: dict,
        input_type: str = "image",
        layer: int = -1,
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
        self.norm = norm
        self.input_type = input_type
        self.layer = layer
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
            Tensor: float32 (M, D). With the norm "l2" each row has length 1.

        Raises:
            ValueError: If the mask's grid does not fit the inputs, or the teacher lacks the layer or a feature map.
        """
        features = masked_features(
            self.teacher, self.teacher.normalize(inputs), mask, self.teacher.key, self.input_type, self.layer
        )
        return FEATURE_NORMS[self.norm](features)
