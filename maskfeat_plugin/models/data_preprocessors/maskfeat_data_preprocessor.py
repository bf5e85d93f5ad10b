"""The data preprocessor: it turns packed samples into a normalised batch with masks."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseDataPreprocessor
from mmengine.structures import BaseDataElement
from torch import Tensor

from maskfeat_plugin.registry import MODELS

from ..utils import masked_places, stack_masks

# Types that hold values beyond float16; such values, or their squares, become infinite. No picture has such values
_WIDE = (torch.int32, torch.int64, torch.bfloat16, torch.float32, torch.float64)
_LARGEST = torch.finfo(torch.float16).max


@MODELS.register_module()
class MaskFeatDataPreprocessor(BaseDataPreprocessor):
    """Data preprocessor that normalises images or clips on the device and stacks the masks.

    The batch is copied to the device as uint8 or uint16. It may come from ``mmpretrain.PackInputs`` or
    ``mmaction.PackActionInputs``, collated by mmengine's ``pseudo_collate`` (lists) or ``default_collate`` (stacked).
    A sample with M clips, or with M views of an image, becomes M consecutive rows of the batch. Values beyond the range
    of float16, +-65504, are clipped to this range; uint16 values are clipped after they are normalised.

    Args:
        mean (Sequence[float] | float): Mean of each channel on the scale of the inputs: 0 to 255, or 0 to 65535 for 16
            bits. The order is RGB if ``to_rgb``. One number holds for any number of channels. Defaults to ImageNet's
            values, as in the authors' image recipe; their video recipe has 114.75 for all channels.
        std (Sequence[float] | float): Standard deviation of each channel. Defaults to ImageNet's values; 57.375 in the
            video recipe.
        to_rgb (bool): Whether to reverse the three channels of images that mmcv decodes to BGR. Images with another
            number of channels keep their order. Decord and PyAV return RGB. Defaults to False.
        non_blocking (bool): Whether the copy to the device may overlap with computation. Defaults to True.
        input_scale (float): Number by which inputs, ``mean`` and ``std`` are divided first. With 255 the operations are
            in the order of the authors' code. Only the rounding differs, which changes HOG in flat areas. Defaults to
            1.0.

    Raises:
        ValueError: If ``mean`` or ``std`` is empty, their lengths differ and neither is 1, or ``std`` or
            ``input_scale`` is not positive.
    """

    def __init__(
        self,
        mean: Sequence[float] | float = (123.675, 116.28, 103.53),
        std: Sequence[float] | float = (58.395, 57.12, 57.375),
        to_rgb: bool = False,
        non_blocking: bool = True,
        input_scale: float = 1.0,
    ) -> None:
        super().__init__(non_blocking=non_blocking)
        if not 0 < input_scale < float("inf"):
            raise ValueError(f"input_scale must be positive, got {input_scale}; 255 for 8 bits.")
        self.to_rgb = to_rgb
        self.input_scale = input_scale
        for key, values in (("mean", mean), ("std", std)):
            values = [float(v) for v in (values if isinstance(values, Sequence) else [values])]
            if not values:
                raise ValueError(f"{key} needs one number a channel, or 1 for all, got none.")
            if key == "std" and min(values) <= 0:
                raise ValueError(f"std must be positive, got {values}.")
            self.register_buffer(key, torch.tensor(values).view(-1, 1, 1), persistent=False)
            # divided in double precision: 123.675 / 255 then is the authors' 0.485
            scaled = torch.tensor([v / input_scale for v in values]).view(-1, 1, 1)
            self.register_buffer(f"scaled_{key}", scaled, persistent=False)
        lengths = {len(self.mean), len(self.std)} - {1}
        if len(lengths) > 1:
            raise ValueError(
                f"mean has {len(self.mean)} numbers, std has {len(self.std)}; give "
                "both one number per channel, or one number for all channels."
            )
        self._channels = lengths.pop() if lengths else None

    @torch.no_grad()
    def forward(self, data: dict, training: bool = False) -> dict:
        """Prepare a batch.

        Args:
            data (dict): ``inputs``, a tensor or a list of N tensors, integers or float: images (C, H, W), clips (C, T,
                H, W) or several clips (M, C, T, H, W); or a list of M views of images, each a tensor or a list of N
                tensors, if the samples hold masks (M, 1, H', W') as :class:`MultiView` makes them. And
                ``data_samples``, a list of N samples or None.
            training (bool): Unused: training and testing need the same batch.

        Returns:
            dict: ``inputs``, float32 (N*M, C, H, W) or (N*M, C, T, H, W), the M views or clips of a sample in
                consecutive rows; ``data_samples`` as they came; and, if the samples hold masks, ``mask``, bool
                (N*M, T', H', W'). If the masks are on the host and
                mask equally many tokens, also ``masked_index``, int64 (N, K), their places, see
                :class:`MaskFeat`.

        Raises:
            ValueError: If the inputs differ in size, are neither images nor clips, have a wrong number of channels, or
                there is not one mask per row.
        """
        masks = _masks_on_host(data.get("data_samples"))
        data = self.cast_data(data)
        samples = data.get("data_samples")
        inputs = self._stack(_merged_views(data["inputs"], samples))
        shape = (-1, 1, 1) if inputs.dim() == 4 else (-1, 1, 1, 1)
        dtype = inputs.dtype
        if dtype == torch.uint16:  # few operations support it
            inputs = inputs.float()
        if self.to_rgb and inputs.shape[1] == 3:
            inputs = inputs.flip(1)
        inputs = inputs.float()
        if dtype in _WIDE:
            inputs.clamp_(-_LARGEST, _LARGEST)
        if self.input_scale != 1:
            inputs.div_(self.input_scale)
        inputs = inputs.sub_(self.scaled_mean.view(shape)).div_(self.scaled_std.view(shape))
        if dtype == torch.uint16:
            inputs.clamp_(-_LARGEST, _LARGEST)
        batch = dict(inputs=inputs, data_samples=samples)
        if masks is not None:
            batch.update(self._copy_masks(stack_masks(masks, inputs), inputs.device))
        elif samples and "mask" in samples[0]:
            batch["mask"] = stack_masks([s.mask for s in samples], inputs).to(inputs.device)
        return batch

    def _copy_masks(self, mask: Tensor, device: torch.device) -> dict[str, Tensor]:
        """Copy masks to the device, with the places of the masked tokens, which the host finds without waiting."""
        found = dict(mask=mask)
        places = masked_places(mask)
        if places is not None:
            found["masked_index"] = places.index
        if device.type == "cuda":  # only copies of pinned memory do not block
            found = {key: value.pin_memory() for key, value in found.items()}
        return {key: value.to(device, non_blocking=self._non_blocking) for key, value in found.items()}

    def _stack(self, inputs: Tensor | Sequence[Tensor]) -> Tensor:
        """Stack inputs to one tensor (N, C, H, W) or (N*M, C, T, H, W)."""
        if not isinstance(inputs, Tensor):
            if len({x.shape for x in inputs}) > 1:
                raise ValueError(
                    f"The batch holds samples of several sizes, {sorted({tuple(x.shape) for x in inputs})}. "
                    "Crop or resize them to one size in the pipeline (RandomResizedCrop, Resize)."
                )
            inputs = torch.stack(tuple(inputs))
        if inputs.dim() == 6:
            inputs = inputs.flatten(0, 1)  # (N, M, C, T, H, W) -> (N*M, C, T, H, W)
        channels = self._channels or "C"
        fits = inputs.dim() in (4, 5) and inputs.shape[1] in (self._channels or inputs.shape[1],)
        if not fits or inputs.shape[-1] <= 4 < inputs.shape[1]:  # the last dimension then is the channels
            hint = f" mean and std have {channels} channels." if self._channels else ""
            raise ValueError(
                f"Inputs must be images (N, {channels}, H, W) or clips (N, {channels}, T, H, W), got "
                f"{tuple(inputs.shape)}.{hint} Pack clips after FormatShape(input_format='NCTHW')."
            )
        # float() returns a float tensor itself, which belongs to the caller and must not be changed in place
        return inputs.clone() if inputs.is_floating_point() else inputs


def _merged_views(inputs: Tensor | Sequence, samples: Sequence[BaseDataElement] | None) -> Tensor | Sequence[Tensor]:
    """Put the views of each image into consecutive rows (N*M, C, H, W), if images have several views."""
    if isinstance(inputs, Tensor) or not samples or "mask" not in samples[0]:
        return inputs
    listed = not isinstance(inputs[0], Tensor)  # by pseudo_collate
    # a list of clips has such tensors too, but masks (T', H', W')
    if not listed and (inputs[0].dim() != 4 or samples[0].mask.ndim != 4):
        return inputs
    views = [torch.stack(tuple(view)) if listed else view for view in inputs]
    return torch.stack(views, dim=1).flatten(0, 1)


def _masks_on_host(samples: Sequence[BaseDataElement] | None) -> list[Tensor] | None:
    """Return the masks of samples; None if there are none, or if they are on a device already."""
    if not samples or "mask" not in samples[0]:
        return None
    masks = [torch.as_tensor(sample.mask) for sample in samples]
    return None if any(mask.device.type != "cpu" for mask in masks) else masks
