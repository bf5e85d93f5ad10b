"""Parts of models as they are exported: from frames to scores or to features, normalisation inside."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import torch
from mmaction.models import BaseRecognizer, Recognizer3D
from mmdet.models.detectors import BaseDetector
from mmengine.model import BaseModel
from mmpretrain.models import ImageClassifier, MultiLabelClsHead
from torch import Tensor, nn

from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.evaluation.features import one_vector_each

_LEAST_SCORE = 1e-30


class ExportedPart(nn.Module):
    """A part of a model that takes frames, float32 values 0 to 255, or 0 to 65535 of 16 bits.

    Channels are as the model was trained with them, after its data preprocessor's conversion.

    Args:
        model (BaseModel): The model, with a data preprocessor.
        ndim (int): Dimensions of the inputs: 4 of images (N, C, H, W), 5 of clips (N, C, T, H, W).
    """

    outputs: Mapping[str, str]
    """Name of each output -> what it is, in the file's description."""
    tolerance = 1e-3
    """Largest difference that is allowed, see :meth:`compare`. Logits are some ten, and rounding grows with depth."""
    takes_batches = True
    """True if the file takes batches of any size, False if of one."""
    mean: Tensor
    std: Tensor

    def __init__(self, model: BaseModel, ndim: int) -> None:
        super().__init__()
        self.ndim = ndim
        mean, std = (getattr(model.data_preprocessor, name, None) for name in ("mean", "std"))
        shape = (-1,) + (1,) * (ndim - 2)
        self.register_buffer("mean", torch.zeros(1).view(shape) if mean is None else mean.clone().view(shape))
        self.register_buffer("std", torch.ones(1).view(shape) if std is None else std.clone().view(shape))

    def normalize(self, inputs: Tensor) -> Tensor:
        """Return what the model's backbone takes."""
        return (inputs - self.mean) / self.std

    @abstractmethod
    def describe(self, shapes: Mapping[str, tuple[int, ...]]) -> str:
        """Return the outputs in words.

        Args:
            shapes (Mapping[str, tuple[int, ...]]): Shape of each output, of one sample.
        """

    def remark(self, outputs: Sequence[Sequence[Tensor]]) -> str:
        """Return why a comparison says little, "" if it does not.

        Args:
            outputs (Sequence[Sequence[Tensor]]): What the model gave for each of the compared batches.
        """
        return ""

    @abstractmethod
    def forward(self, inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Compute the outputs."""

    @abstractmethod
    def compare(self, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
        """Compute the largest difference between the outputs of the model and those of the file.

        Args:
            ours (Sequence[Tensor]): What the model gives.
            theirs (Sequence[Tensor]): What the file gives.
        """


class ScoringModel(ExportedPart):
    """From frames to scores: a fine-tuned model with its normalisation, without what reads and packs data.

    Args:
        model (ImageClassifier | Recognizer3D): The model. Its head gives one score a class, of which the softmax is
            taken.

    Raises:
        ConfigError: If it is of another type, or its head gives several labels.
    """

    outputs = dict(scores="float32 N x classes, probabilities")

    def __init__(self, model: nn.Module) -> None:
        if isinstance(model, ImageClassifier):
            head, ndim = model.head, 4
        elif isinstance(model, Recognizer3D):
            head, ndim = model.cls_head, 5
        else:
            raise ConfigError(
                f"model.type={type(model).__name__!r} is not exported as a whole; ImageClassifier of mmpretrain, "
                "Recognizer3D of mmaction2, Faster and Mask R-CNN of mmdet are. Export its backbone alone with "
                "--backbone."
            )
        super().__init__(model, ndim)
        self.head = head
        if isinstance(self.head, MultiLabelClsHead) or getattr(self.head, "multi_class", False):
            raise ConfigError(f"a head that gives several labels is not exported: {type(self.head).__name__}.")
        self.backbone = model.backbone
        self.neck = model.neck if model.with_neck else None
        self.eval()

    def forward(self, inputs: Tensor) -> Tensor:
        """Score samples.

        Args:
            inputs (Tensor): Images (N, C, H, W) or clips (N, C, T, H, W).

        Returns:
            Tensor: Probabilities (N, classes).
        """
        features = self.backbone(self.normalize(inputs))
        if self.neck is not None:
            features = self.neck(features)
            if isinstance(features, tuple) and isinstance(features[-1], dict):
                features = features[0]  # mmaction2's necks give their losses too
        return self.head(features).softmax(-1)

    def describe(self, shapes: Mapping[str, tuple[int, ...]]) -> str:
        """Return the number of classes in words."""
        return f"scores of {shapes['scores'][0]} classes"

    def compare(self, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
        """Compute the largest difference between logarithms of scores, which are those of logits."""
        (ours,), (theirs,) = ours, theirs
        return _largest(*(scores.clamp_min(_LEAST_SCORE).log() for scores in (ours.double(), theirs.double())))


class FeatureModel(ExportedPart):
    """From frames to one vector each: the backbone of any model, without masks and heads.

    The vector is that of ``maskfeat extract``, see :func:`.batch_features`: ``extract_feat`` of the model, averaged
    over tokens. Of a detector it is that of the backbone, without the neck.

    Args:
        model (nn.Module): The model, of pre-training or fine-tuning.
        ndim (int): Dimensions of the inputs: 4 of images, 5 of clips.

    Raises:
        ConfigError: If it has no ``extract_feat``.
    """

    outputs = dict(features="float32 N x channels, the vector of maskfeat extract")

    model: BaseModel

    def __init__(self, model: BaseModel, ndim: int) -> None:
        if not hasattr(model, "extract_feat"):
            raise ConfigError(f"model.type={type(model).__name__!r} has no extract_feat, which gives the features.")
        super().__init__(model, ndim)
        self.model = model
        self.eval()

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute features.

        Args:
            inputs (Tensor): Images (N, C, H, W) or clips (N, C, T, H, W).

        Returns:
            Tensor: Features (N, channels).
        """
        frames = self.normalize(inputs)
        if isinstance(self.model, BaseRecognizer):  # it takes several clips of a video
            frames = frames[:, None]
        # a checkpoint of pre-training has no neck for a detector
        extract = self.model.backbone if isinstance(self.model, BaseDetector) else self.model.extract_feat
        return one_vector_each(extract(frames), inputs.shape[0])

    def describe(self, shapes: Mapping[str, tuple[int, ...]]) -> str:
        """Return the number of channels in words."""
        return f"features of {shapes['features'][0]} channels"

    def compare(self, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
        """Compute the largest difference as a share of the largest feature."""
        (ours,), (theirs,) = ours, theirs
        return _largest(ours, theirs) / float(ours.abs().max())


def _largest(ours: Tensor, theirs: Tensor) -> float:
    return float((ours.double() - theirs.double()).abs().max())
