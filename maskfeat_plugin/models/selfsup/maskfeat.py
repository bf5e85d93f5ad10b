"""MaskFeat: predict the features of masked tokens."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from mmengine.structures import BaseDataElement
from mmpretrain.models import BaseSelfSupervisor
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from maskfeat_plugin.registry import MODELS

from ..backbones import MaskedBackbone, all_tokens, check_masked_backbone, select_masked
from ..target_generators import TargetGenerator, as_target_generator
from ..utils import (
    ONLY,
    HeadWithBaseline,
    TokenPlaces,
    by_name,
    compute_loss,
    loss_settings,
    masked_places,
    mean_visible,
    predict_features,
    select_tokens,
    stack_masks,
    takes_argument,
    unnamed,
)

# Features (M, D) or classes (M,), by the names of the targets
Features = dict[str, Tensor]


@MODELS.register_module()
class MaskFeat(BaseSelfSupervisor):
    """Masked feature prediction for images and clips (MaskFeat paper).

    Masked tokens are replaced by a learned mask token and the backbone encodes all tokens. The neck predicts the
    target features of the masked tokens. An image is handled as a clip with a token grid of one time step.

    Args:
        backbone (dict): Config of a :class:`MaskedBackbone`, or of your own backbone with ``token_grid`` and a
            ``forward(inputs, mask)`` that returns all tokens (N, L, C).
        target_generator (dict): Config of the target generator. A generator of mmpretrain takes images only and is
            wrapped in a :class:`WholeGridGenerator`.
        neck (dict): Config of the layer or layers that predict features from tokens. The neck may return the features
            in a tuple, as ``mmpretrain.LinearNeck`` does.
        head (dict): Config of the module whose ``loss(pred, target)`` compares (M, D) with (M, D) or classes (M,).
        data_preprocessor (dict, optional): Config of the data preprocessor. Defaults to None: a
            :class:`MaskFeatDataPreprocessor` with its defaults.
        global_loss (dict, optional): Config of a loss on two views of each sample, :class:`MomentumContrast`, which is
            added to the loss of the masked tokens. Then the pipeline of training makes two views with
            :class:`MultiView`. Defaults to None: no such loss. A ``loss_weight`` of 0 is the same.
        init_cfg (dict, optional): Initialization config. Defaults to None.

    Raises:
        ValueError: If the backbone does not fit, or neck and target have different numbers of classes.
    """

    target_generator: BaseModule  # it may come from another package
    global_loss: BaseModule | None

    def __init__(
        self,
        backbone: dict,
        target_generator: dict,
        neck: dict,
        head: dict,
        data_preprocessor: dict | None = None,
        global_loss: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        data_preprocessor = dict(data_preprocessor or {})
        data_preprocessor.setdefault("type", "maskfeat.MaskFeatDataPreprocessor")
        super().__init__(
            backbone=backbone,
            neck=neck,
            head=head,
            target_generator=target_generator,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
        )
        self._check_backbone()
        self.target_generator = as_target_generator(self.target_generator)
        _check_classes(self.target_generator, self.neck)
        if isinstance(self.target_generator, TargetGenerator):
            self.target_generator.connect(self)
        self.global_loss = None
        if global_loss is not None and global_loss.get("loss_weight") != 0:
            self.global_loss = MODELS.build(global_loss)
            self.global_loss.connect(self.backbone)
        self._target_takes_places = takes_argument(self.target_generator.forward, "places")

    def forward(
        self,
        inputs: Tensor,
        data_samples: Sequence[BaseDataElement] | None = None,
        mask: Tensor | None = None,
        mode: str = "tensor",
        masked_index: Tensor | None = None,
    ) -> dict[str, Tensor] | list[DataSample] | tuple[Tensor, ...]:
        """Call :meth:`loss`, :meth:`predict` or :meth:`extract_feat`, depending on the mode.

        Args:
            inputs (Tensor): Normalised images (N, C, H, W) or clips (N, C, T, H, W).
            data_samples (Sequence[BaseDataElement], optional): Samples of the batch. Defaults to None.
            mask (Tensor, optional): bool (N, T', H', W'); needed by "loss" and "predict". Defaults to None: use the
                masks in the samples, where data preprocessors of other packages leave them.
            mode (str): "loss", "predict" or "tensor". Defaults to "tensor".
            masked_index (Tensor, optional): int64 (N, K), the places of the K masked tokens of each sample on its token
                grid, row by row, in ascending order. :class:`MaskFeatDataPreprocessor` gives them if all samples mask
                equally many tokens. With them, no shape depends on the values of the mask: the host does not wait for
                the device, and ``torch.compile`` makes one graph. Defaults to None: the places are read from the mask.

        Returns:
            The result of the method of that mode.

        Raises:
            ValueError: If the mode is unknown, the mask is missing or empty, the inputs are a list, or a component of
                another package does not fit.
        """
        if not isinstance(inputs, Tensor):
            raise ValueError(
                f"The data_preprocessor ({type(self.data_preprocessor).__name__}) gives a {type(inputs).__name__} of "
                "inputs, but MaskFeat needs one tensor. Set the dataloader's collate_fn=dict(type='default_collate'), "
                "or use maskfeat.MaskFeatDataPreprocessor."
            )
        if inputs.dim() == 6:
            inputs = inputs.flatten(0, 1)  # (N, M, C, T, H, W) -> (N*M, C, T, H, W)
        if mode == "tensor":
            return self.extract_feat(inputs)
        if mode == "loss":
            return self.loss(inputs, data_samples, mask, masked_index)
        if mode == "predict":
            return self.predict(inputs, data_samples, mask, masked_index)
        raise ValueError(f"mode={mode!r} is unknown; choose one of 'loss', 'predict', 'tensor'.")

    def extract_feat(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Compute the features of unmasked inputs with the plain backbone."""
        return self.backbone(inputs)

    def loss(
        self,
        inputs: Tensor,
        data_samples: Sequence[BaseDataElement] | None = None,
        mask: Tensor | None = None,
        masked_index: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Compute the training loss.

        Args: as in :meth:`forward`.

        Returns:
            dict[str, Tensor]: ``loss``, and for comparison ``baseline``: the loss of predicting the mean target of this
            batch for every token. A model has learned something from the input only if its loss is below the baseline.
            With several targets the keys are ``loss_<name>`` and ``baseline_<name>``. With a global loss they are
            ``loss_maskfeat``, ``baseline_maskfeat`` and ``loss_global``.

        Raises:
            ValueError: If there is a global loss, but not two views of each sample.
        """
        mask = _masks(mask, data_samples, inputs)
        places = _places(mask, masked_index)
        target = self._target(inputs, mask, places, data_samples)
        if self.global_loss is None:
            tokens, more, only = self._masked_tokens(inputs, mask, places), {}, ONLY
        else:
            _check_views(inputs, data_samples)
            tokens, pooled = self._masked_and_pooled_tokens(inputs, mask, places)
            more, only = {"loss_global": self.global_loss(pooled, inputs, mask)}, "maskfeat"
        pred, target = unnamed(self._predict(tokens, target, inputs)), unnamed(target)
        losses = _logged("loss", compute_loss(self.head, pred, target), only)
        if isinstance(self.head, HeadWithBaseline):
            with torch.no_grad():
                losses.update(_logged("baseline", self.head.baseline(pred, target), only))
        return losses | more

    @torch.no_grad()
    def predict(
        self,
        inputs: Tensor,
        data_samples: Sequence[BaseDataElement] | None = None,
        mask: Tensor | None = None,
        masked_index: Tensor | None = None,
    ) -> list[DataSample]:
        """Compute predicted and true features of the masked tokens, and true features of the visible tokens.

        Args: as in :meth:`forward`.

        Returns:
            list[DataSample]: N samples with these fields. ``mask`` (T', H', W'). ``pred_features`` and
            ``target_features``, both (M_i, D), hold the sample's masked tokens in row-major order; classes are (M_i,),
            several targets a dict of tensors. ``visible_features`` holds the target of the other tokens. The metainfo
            of the given samples is kept, with ``loss_settings`` of the head, from which :class:`MaskedLossMetric`
            computes the loss.
        """
        mask = _masks(mask, data_samples, inputs)
        places = _places(mask, masked_index)
        target = self._target(inputs, mask, places, data_samples)
        pred = self._predict(self._masked_tokens(inputs, mask, places), target, inputs)
        visible = by_name(self.target_generator(inputs, ~mask.bool(), data_samples))
        counts = mask.flatten(1).sum(1).tolist()
        others = [mask[0].numel() - count for count in counts]
        metas = [s.metainfo for s in data_samples] if data_samples else [{}] * len(counts)
        metas = [dict(meta, loss_settings=loss_settings(self.head)) for meta in metas]
        parts = zip(mask, _split(pred, counts), _split(target, counts), _split(visible, others), metas, strict=True)
        return [
            DataSample(mask=m, pred_features=p, target_features=t, visible_features=v, metainfo=meta)
            for m, p, t, v, meta in parts
        ]

    def _target(
        self,
        inputs: Tensor,
        mask: Tensor,
        places: TokenPlaces | None,
        data_samples: Sequence[BaseDataElement] | None,
    ) -> Features:
        """Compute the true features (M, D) of the masked tokens."""
        known = {"places": places} if self._target_takes_places else {}
        return by_name(self.target_generator(inputs, mask, data_samples, **known))

    def _predict(self, tokens: Tensor | tuple[Tensor, ...], target: Features, inputs: Tensor) -> Features:
        """Predict the features (M, D) of the masked tokens from their encoding (M, C), of one layer or of several."""
        return _keep_nan(by_name(predict_features(self.neck, tokens)), target, inputs)

    def _check_backbone(self) -> None:
        """Raise one error for a backbone that does not fit this algorithm."""
        check_masked_backbone(self.backbone)
        masked_tokens = getattr(self.backbone, MaskedBackbone.masked_tokens.__name__, None)
        self._backbone_takes_places = masked_tokens is not None and takes_argument(masked_tokens, "places")

    def _masked_tokens(self, inputs: Tensor, mask: Tensor, places: TokenPlaces | None) -> Tensor | tuple[Tensor, ...]:
        """Encode the inputs, and return the tokens (M, C) in the masked places, of one layer or of several."""
        # by name: from Python 3.12 on, a protocol does not see the methods of a model in mmpretrain's LoRAModel
        masked_tokens = getattr(self.backbone, MaskedBackbone.masked_tokens.__name__, None)
        if masked_tokens is None:
            return select_masked(self.backbone, inputs, mask, places)
        if not self._backbone_takes_places:
            return masked_tokens(inputs, mask)
        return masked_tokens(inputs, mask, places)

    def _masked_and_pooled_tokens(
        self, inputs: Tensor, mask: Tensor, places: TokenPlaces | None
    ) -> tuple[Tensor, Tensor]:
        """Encode the inputs, and return the tokens (M, C) in the masked places and the means (N, C) of the others."""
        tokens = all_tokens(self.backbone, inputs, mask)  # (N, L, C)
        return select_tokens(tokens, mask, places), mean_visible(tokens, mask)


def _masks(mask: Tensor | None, data_samples: Sequence[BaseDataElement] | None, inputs: Tensor) -> Tensor:
    """Return the masks of a batch; data preprocessors of other packages leave them in the samples."""
    if mask is not None:
        return mask
    if data_samples and all("mask" in sample for sample in data_samples):
        return stack_masks([sample.mask for sample in data_samples], inputs).to(inputs.device)
    raise ValueError(
        "The batch has no masks; add a mask generator (e.g. maskfeat.BlockMaskGenerator) to the pipeline, and its key "
        "to the packing transform (PackActionInputs: algorithm_keys=('mask',))."
    )


def _places(mask: Tensor, masked_index: Tensor | None) -> TokenPlaces | None:
    """Return the places of the masked tokens, None if the samples mask different numbers of tokens."""
    return masked_places(mask) if masked_index is None else TokenPlaces(tuple(mask.shape[1:]), masked_index)


def _logged(what: str, values: Tensor | dict[str, Tensor], only: str = ONLY) -> dict[str, Tensor]:
    """Return losses under the names of the log, for several targets or one, whose name is ``only``."""
    named = {name or only: value for name, value in by_name(values).items()}
    return {f"{what}_{name}" if name else what: value for name, value in named.items()}


def _check_views(inputs: Tensor, data_samples: Sequence[BaseDataElement] | None) -> None:
    """Raise one clear error if a batch does not have two views of each sample."""
    count = len(inputs) / 2 if data_samples is None else len(data_samples)
    if len(inputs) != 2 * count or count != int(count):
        raise ValueError(
            f"global_loss needs two views of each sample, but the batch has {len(inputs)} inputs of {count:g} samples. "
            "Put the random transforms of train_dataloader.dataset.pipeline into maskfeat.MultiView with num_views=2."
        )


def _keep_nan(pred: Any, target: Any, inputs: Tensor) -> Any:
    """Make the predictions of classes NaN if the inputs are not finite; a class cannot be NaN, but the loss must be."""
    classes = {name for name, value in target.items() if not value.is_floating_point()}
    return {
        name: value + inputs.sum().mul(0).to(value.dtype) if name in classes else value for name, value in pred.items()
    }


def _split(features: Features, counts: list[int]) -> list[Tensor | dict[str, Tensor]]:
    """Split features by sample; leave out the name of a single target."""
    parts = {name: value.split(counts) for name, value in features.items()}
    return [unnamed({name: part[i] for name, part in parts.items()}) for i in range(len(counts))]


def _check_classes(target_generator: nn.Module, neck: nn.Module) -> None:
    """Raise one clear error if the neck has another number of classes than the target."""
    channels = by_name(getattr(neck, "out_channels", None))
    for name, number in by_name(getattr(target_generator, "num_classes", None)).items():
        found = channels.get(name)
        if number and found and number != found:
            key = f"neck.necks.{name}.out_channels" if name else "neck.out_channels"
            raise ValueError(
                f"`{key}` is {found}, but the target{name and f' {name!r}'} has {number} classes. Set `{key}={number}`."
            )
