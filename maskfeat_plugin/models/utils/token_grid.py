"""Functions on the token grid (T', H', W'), where T' = 1 for an image."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


def check_arch(arch: str | dict, choices: Iterable[str]) -> None:
    """Raise one clear error for an architecture name that does not exist.

    Args:
        arch (str | dict): The argument ``arch`` of a backbone. The backbone itself checks a dict.
        choices (Iterable[str]): The known names.

    Raises:
        ValueError: If ``arch`` is a string that is not among ``choices``.
    """
    choices = sorted(choices)
    if isinstance(arch, str) and arch.lower() not in choices:
        raise ValueError(f"arch={arch!r} is unknown; choose one of {choices} or give a dict of settings.")


def check_divisible(size: Sequence[int], stride: Sequence[int], what: str) -> tuple[int, ...]:
    """Divide an input size by the stride of the tokens.

    Args:
        size (Sequence[int]): Input size in pixels and frames, (H, W) or (T, H, W).
        stride (Sequence[int]): Stride of one token in the same order.
        what (str): Name of the caller, for the message.

    Returns:
        tuple[int, ...]: ``size / stride``.

    Raises:
        ValueError: If a size is not a positive multiple of its stride, or there are more or fewer sizes than strides.
    """
    size, stride = tuple(size), tuple(stride)
    if len(size) != len(stride):
        raise ValueError(
            f"{what}: the input size {size} does not fit the token stride {stride}: a backbone for clips takes "
            "(T, H, W), so the pipeline must sample frames; a backbone for images takes (H, W)."
        )
    if any(s < d or s % d for s, d in zip(size, stride, strict=True)):
        raise ValueError(
            f"{what}: the input size {size} is not a multiple of the token stride {stride}; "
            "change the crop size (or the number of frames) in the pipeline."
        )
    return tuple(s // d for s, d in zip(size, stride, strict=True))


def check_mask(mask: Tensor, num_samples: int, grid: Sequence[int]) -> None:
    """Raise one clear error for a mask that is not on the backbone's token grid.

    Args:
        mask (Tensor): The mask.
        num_samples (int): Samples N of the batch.
        grid (Sequence[int]): The token grid (T', H', W'), T' = 1 for images.

    Raises:
        ValueError: If the mask is not (N, T', H', W').
    """
    if mask.dim() == 2:
        raise ValueError(
            f"The mask is flat, {tuple(mask.shape)}, as in mmpretrain.MaskFeat, but this backbone needs (N, T', H', "
            "W') and fits maskfeat.MaskFeat. In mmpretrain.MaskFeat use maskfeat.MaskedViT with its class token."
        )
    if tuple(mask.shape) != (num_samples, *grid):
        wanted = tuple(grid[1:]) if grid[0] == 1 else tuple(grid)
        raise ValueError(
            f"The mask is {tuple(mask.shape)}, but the backbone's tokens are {(num_samples, *grid)} (N, T', H', W'); "
            f"set the mask generator's token_grid={wanted}."
        )


def stack_masks(masks: Sequence, inputs: Tensor) -> Tensor:
    """Stack the masks of the samples of a batch.

    Args:
        masks (Sequence): Masks of any packing transform, (H', W'), (T', H', W') or (M, T', H', W') each.
        inputs (Tensor): The batch, with one row per image or clip.

    Returns:
        Tensor: bool (rows, T', H', W') on the device of the masks, T' = 1 for images.

    Raises:
        ValueError: If the masks have several grids, or there is not one mask per row.
    """
    masks = [torch.as_tensor(m) for m in masks]
    if len({m.shape for m in masks}) > 1:
        raise ValueError(
            f"The masks of a batch must have one grid, but have {sorted({tuple(m.shape) for m in masks})}."
        )
    mask = torch.stack(masks).bool()
    if mask.dim() == 5:
        mask = mask.flatten(0, 1)  # (N, M, T', H', W') -> (N*M, T', H', W')
    elif mask.dim() == 3:
        mask = mask.unsqueeze(1)  # (N, H', W') -> (N, 1, H', W')
    if mask.dim() != 4 or len(mask) != len(inputs):
        raise ValueError(
            f"There are masks of the shape {tuple(mask.shape)} for {len(inputs)} inputs. Put the mask generator "
            "after FormatShape, so that it draws one mask for each clip."
        )
    return mask


def token_size(inputs: Tensor, mask: Tensor) -> tuple[int, int, int]:
    """Compute the size of one token of a mask's grid, in frames and pixels of the inputs.

    Args:
        inputs (Tensor): Images (N, C, H, W) or clips (N, C, T, H, W).
        mask (Tensor): (N, T', H', W'), with T' = 1 for images.

    Returns:
        tuple[int, int, int]: ``(T / T', H / H', W / W')``.

    Raises:
        ValueError: If the mask's batch or grid does not fit the inputs.
    """
    size = tuple(inputs.shape[2:]) if inputs.dim() == 5 else (1, *inputs.shape[2:])
    if mask.dim() != 4 or mask.shape[0] != inputs.shape[0]:
        raise ValueError(f"The mask must be (N, T', H', W') with N={inputs.shape[0]}, got {tuple(mask.shape)}.")
    grid = tuple(mask.shape[1:])
    if any(s % g for s, g in zip(size, grid, strict=True)):
        raise ValueError(
            f"The mask's token grid {grid} does not divide the input size {size} (T, H, W); "
            "set the mask generator's token_grid to the backbone's."
        )
    frames, height, width = (s // g for s, g in zip(size, grid, strict=True))
    return frames, height, width


def frames_of_tokens(inputs: Tensor, temporal_stride: int) -> Tensor:
    """Separate time from the channels, and keep the first frame of each token.

    The target of a token of a clip is computed on every ``temporal_stride``-th frame (MaskFeat paper).

    Args:
        inputs (Tensor): (N, C, H, W) or (N, C, T, H, W).
        temporal_stride (int): Frames that one token covers.

    Returns:
        Tensor: A view (N, T', C, H, W).
    """
    if inputs.dim() == 4:
        return inputs.unsqueeze(1)
    return inputs[:, :, ::temporal_stride].transpose(1, 2)


def expand_mask(mask: Tensor, grid: Sequence[int]) -> Tensor:
    """Repeat a mask on the token grid of the output to the finer grid of the patch embedding.

    Args:
        mask (Tensor): (N, T', H', W'), True or non-zero where masked.
        grid (Sequence[int]): The finer grid (T, H, W).

    Returns:
        Tensor: bool (N, T*H*W), row-major.

    Raises:
        ValueError: If ``grid`` is not a multiple of the mask's grid.
    """
    mask_grid = tuple(mask.shape[1:])
    if mask.dim() != 4 or any(g % m for g, m in zip(grid, mask_grid, strict=False)):
        raise ValueError(
            f"The mask's token grid {mask_grid} does not fit the backbone's embedding grid "
            f"{tuple(grid)}; set the mask generator's token_grid accordingly."
        )
    mask = mask.bool()
    for dim, (g, m) in enumerate(zip(grid, mask_grid, strict=True), start=1):
        if g != m:
            mask = mask.repeat_interleave(g // m, dim=dim)
    return mask.flatten(1)


def group_tokens(tokens: Tensor, grid: Sequence[int], coarse: Sequence[int]) -> Tensor:
    """Group the tokens of a fine grid by the token of a coarse grid in which they lie.

    It carries a mask of the coarse grid to the fine one, as :func:`expand_mask` does: the groups of the masked tokens
    hold the masked tokens of the fine grid.

    Args:
        tokens (Tensor): (N, L, C), row by row, on the fine grid.
        grid (Sequence[int]): The fine grid (T, H, W).
        coarse (Sequence[int]): The coarse grid (T', H', W').

    Returns:
        Tensor: (N, L', S, C): for each of the L' tokens of the coarse grid the S tokens in it, both row by row.

    Raises:
        ValueError: If ``grid`` is not a multiple of ``coarse``.
    """
    if any(g % c for g, c in zip(grid, coarse, strict=True)):
        raise ValueError(f"The token grid {tuple(grid)} is not a multiple of the grid {tuple(coarse)} of the mask.")
    sizes = [n for g, c in zip(grid, coarse, strict=True) for n in (c, g // c)]
    x = tokens.unflatten(1, sizes)  # (N, T', t, H', h, W', w, C)
    return x.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(4, 6).flatten(1, 3)


def replace_masked(tokens: Tensor, mask: Tensor, mask_token: Tensor) -> Tensor:
    """Replace the masked tokens by the learned mask token, before the transformer (MaskFeat paper).

    Args:
        tokens (Tensor): Embedded patches (N, L, C).
        mask (Tensor): bool (N, L).
        mask_token (Tensor): (1, 1, C).

    Returns:
        Tensor: (N, L, C), of the dtype of ``tokens``.
    """
    return torch.where(mask.unsqueeze(-1), mask_token.to(tokens.dtype), tokens)
