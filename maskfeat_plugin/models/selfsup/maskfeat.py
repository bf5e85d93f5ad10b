"""MaskFeat: predict the features of what is hidden."""

from collections.abc import Sequence

import torch
from mmengine.structures import BaseDataElement
from mmpretrain.models import BaseSelfSupervisor
from mmpretrain.structures import DataSample
from torch import Tensor

from maskfeat_plugin.registry import MODELS


@MODELS.register_module()
class MaskFeat(BaseSelfSupervisor):
    """Masked feature prediction for images and clips alike (MaskFeat paper).

    Masked tokens are replaced by a learned one, the backbone sees all of them, and the neck predicts the target
    features of the masked ones. An image is a clip with a token grid of one time step.

    Args:
        backbone (dict): Config of a backbone with ``forward(inputs, mask)`` that returns tokens (N, L, C).
        target_generator (dict): Config of what is to be predicted.
        neck (dict): Config of the layer(s) from tokens to predicted features.
        head (dict): Config of the module whose ``loss(pred, target)`` compares (M, D) with (M, D).
        data_preprocessor (dict, optional): Defaults to :class:`MaskFeatDataPreprocessor` with its defaults.
        init_cfg (dict, optional): Initialization config. Defaults to None.
    """

    def __init__(
        self,
        backbone: dict,
        target_generator: dict,
        neck: dict,
        head: dict,
        data_preprocessor: dict | None = None,
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

    def forward(
        self,
        inputs: Tensor,
        data_samples: Sequence[BaseDataElement] | None = None,
        mask: Tensor | None = None,
        mode: str = "tensor",
    ) -> dict[str, Tensor] | list[DataSample] | tuple[Tensor, ...]:
        """Dispatch to :meth:`loss`, :meth:`predict` or :meth:`extract_feat`.

        Args:
            inputs (Tensor): Normalised images (N, C, H, W) or clips (N, C, T, H, W).
            data_samples (Sequence[BaseDataElement], optional): Samples of the batch. Defaults to None.
            mask (Tensor, optional): bool (N, T', H', W'); needed by "loss" and "predict". Defaults to None.
            mode (str): "loss", "predict" or "tensor". Defaults to "tensor".

        Returns:
            What the method of that mode returns.

        Raises:
            ValueError: If the mode is unknown, or the mask is missing or empty.
        """
        if mode == "tensor":
            return self.extract_feat(inputs)
        if mode == "loss":
            return self.loss(inputs, data_samples, mask)
        if mode == "predict":
            return self.predict(inputs, data_samples, mask)
        raise ValueError(f"mode={mode!r} is unknown; choose one of 'loss', 'predict', 'tensor'.")

    def extract_feat(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Features of unmasked inputs, as the plain backbone gives them."""
        return self.backbone(inputs)

    def loss(
        self,
        inputs: Tensor,
        data_samples: Sequence[BaseDataElement] | None = None,
        mask: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Compute the training loss.

        Args: as in :meth:`forward`.

        Returns:
            dict[str, Tensor]: ``loss``, and beside it ``baseline``: the loss of predicting this batch's mean target for
            every token, which a model has to fall below to have learned anything of the input.
        """
        pred, target = self._masked_features(inputs, mask)
        with torch.no_grad():
            baseline = self.head.loss(target.mean(0, keepdim=True).expand_as(target), target)
        return dict(loss=self.head.loss(pred, target), baseline=baseline)

    @torch.no_grad()
    def predict(
        self,
        inputs: Tensor,
        data_samples: Sequence[BaseDataElement] | None = None,
        mask: Tensor | None = None,
    ) -> list[DataSample]:
        """Predicted and true features of the masked tokens, sample by sample.

        Args: as in :meth:`forward`.

        Returns:
            list[DataSample]: N samples with ``mask`` (T', H', W'), ``pred_features`` and ``target_features``, both
            (M_i, D) with the sample's masked tokens in row-major order, and the metainfo of the given samples.
        """
        pred, target = self._masked_features(inputs, mask)
        counts = mask.flatten(1).sum(1).tolist()
        metas = [s.metainfo for s in data_samples] if data_samples else [{}] * len(counts)
        return [
            DataSample(mask=m, pred_features=p, target_features=t, metainfo=meta)
            for m, p, t, meta in zip(mask, pred.split(counts), target.split(counts), metas, strict=True)
        ]

    def _masked_features(self, inputs: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Predicted and true features (M, D) of the masked tokens."""
        if mask is None:
            raise ValueError(
                "The batch has no masks; add a mask generator (e.g. maskfeat.BlockMaskGenerator) to the "
                "pipeline, and its key to the packing transform (PackActionInputs: algorithm_keys=('mask',))."
            )
        target = self.target_generator(inputs, mask)  # (M, D)
        tokens = self.backbone(inputs, mask)  # (N, L, C)
        pred = self.neck(tokens[mask.flatten(1)])  # (M, C) -> (M, D)
        return pred, target
