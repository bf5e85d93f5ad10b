"""Exported parts of models: they normalise frames and compute scores or features."""

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
    """A part of a model that takes frames as float32 values, from 0 to 255, or to 65535 for 16-bit frames.

    The channels are in the order in which the model was trained, after the conversion in its data preprocessor.

    Args:
        model (BaseModel): The model, with a data preprocessor.
        ndim (int): Dimensions of the inputs: 4 for images (N, C, H, W), 5 for clips (N, C, T, H, W).
    """

    outputs: Mapping[str, str]
    """Name of each output -> its description in the file."""
    tolerance = 1e-3
    """Largest difference that is allowed, see :meth:`compare`. Logits are about ten, and rounding grows with depth."""
    takes_batches = True
    """True if the file takes batches of any size, False if it takes single samples only."""
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
        """Normalise frames for the model's backbone."""
        return (inputs - self.mean) / self.std

    @abstractmethod
    def describe(self, shapes: Mapping[str, tuple[int, ...]]) -> str:
        """Return the outputs in words.

        Args:
            shapes (Mapping[str, tuple[int, ...]]): Shape of each output for one sample.
        """

    def remark(self, outputs: Sequence[Sequence[Tensor]]) -> str:
        """Return the reason why a comparison proves little, "" if there is none.

        Args:
            outputs (Sequence[Sequence[Tensor]]): Outputs of the model for each of the compared batches.
        """
        return ""

    @abstractmethod
    def forward(self, inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Compute the outputs."""

    @abstractmethod
    def compare(self, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
        """Compute the largest difference between the outputs of the model and the outputs of the file.

        Args:
            ours (Sequence[Tensor]): Outputs of the model.
            theirs (Sequence[Tensor]): Outputs of the file.
        """


class ScoringModel(ExportedPart):
    """A fine-tuned classifier that takes frames, normalises them, and gives scores.

    Args:
        model (ImageClassifier | Recognizer3D): The model. Its head gives one score per class; the softmax of these
            scores is the output.

    Raises:
        ConfigError: If the model is of another type, or its head gives several labels.
    """

    outputs = dict(scores="float32 N x classes, probabilities")

    def __init__(self, model: nn.Module) -> None:
        if isinstance(model, ImageClassifier):
            head, ndim = model.head, 4
        elif isinstance(model, Recognizer3D):
            head, ndim = model.cls_head, 5
        else:
            raise ConfigError(
                f"model.type={type(model).__name__!r} cannot be exported as a whole. Only ImageClassifier of "
                "mmpretrain, Recognizer3D of mmaction2, Faster and Mask R-CNN of mmdet can. Export its backbone alone "
                "with --backbone."
            )
        super().__init__(model, ndim)
        self.head = head
        if isinstance(self.head, MultiLabelClsHead) or getattr(self.head, "multi_class", False):
            raise ConfigError(
                f"{type(self.head).__name__}: a head that gives several labels cannot be exported. Export the backbone "
                "alone with --backbone."
            )
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
                features = features[0]  # mmaction2's necks also return their losses
        return self.head(features).softmax(-1)

    def describe(self, shapes: Mapping[str, tuple[int, ...]]) -> str:
        """Return the number of classes in words."""
        return f"scores of {shapes['scores'][0]} classes"

    def compare(self, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
        """Compute the largest difference between logarithms of scores, which differ as much as the logits."""
        (ours,), (theirs,) = ours, theirs
        return _largest(*(scores.clamp_min(_LEAST_SCORE).log() for scores in (ours.double(), theirs.double())))


class FeatureModel(ExportedPart):
    """The backbone of any model, without masks and heads. It gives one feature vector for each sample.

    ``maskfeat extract`` gives the same vector, see :func:`.batch_features`: ``extract_feat`` of the model, averaged
    over tokens. For a detector it is the output of the backbone, without the neck.

    Args:
        model (nn.Module): The model, of pre-training or fine-tuning.
        ndim (int): Dimensions of the inputs: 4 for images, 5 for clips.

    Raises:
        ConfigError: If the model has no ``extract_feat``.
    """

    outputs = dict(features="float32 N x channels, the vector of maskfeat extract")

    model: BaseModel

    def __init__(self, model: BaseModel, ndim: int) -> None:
        if not hasattr(model, "extract_feat"):
            raise ConfigError(
                f"model.type={type(model).__name__!r} has no extract_feat, which gives the features. Give the config "
                "of another model."
            )
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
        if isinstance(self.model, BaseRecognizer):  # it takes several clips of each video: (N, clips, C, T, H, W)
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
