"""Interfaces of the backbones that take a mask, and checks that a backbone fits its algorithm."""

import inspect
from abc import abstractmethod
from typing import Any, Protocol, runtime_checkable

from mmaction.models.backbones.mvit import MViT
from mmpretrain.models import VisionTransformer
from torch import Tensor, nn

from maskfeat_plugin.ops.grids import Grid

from ..utils import TokenPlaces, is_foreign, select_tokens

_OWN = "a backbone of your own with token_grid(input_size) and forward(inputs, mask)"


@runtime_checkable
class TokenGridBackbone(Protocol):
    """Backbone that knows the grid of its output tokens."""

    @abstractmethod
    def token_grid(self, input_size: tuple[int, ...]) -> Grid:
        """Return the grid of the output tokens.

        Args:
            input_size (tuple[int, ...]): (H, W) in pixels, or (T, H, W) in frames and pixels.

        Returns:
            Grid: (T', H', W'), with T' = 1 for images.

        Raises:
            ValueError: If the size cannot be divided into tokens.
        """


@runtime_checkable
class MaskedBackbone(TokenGridBackbone, Protocol):
    """Backbone for :class:`MaskFeat`: it encodes all tokens, with a learned mask token at the masked positions.

    A user's backbone need not inherit from this class. It needs these two methods. Instead of ``masked_tokens`` it may
    have a ``forward(x, mask)`` that returns all tokens (N, L, C); :func:`select_masked` then keeps the masked tokens.
    """

    @abstractmethod
    def masked_tokens(self, x: Tensor, mask: Tensor, places: TokenPlaces | None = None) -> Tensor:
        """Encode inputs, and return the output tokens in the masked places.

        Args:
            x (Tensor): Normalised images (N, C, H, W) or clips (N, C, T, H, W).
            mask (Tensor): bool (N, T', H', W') on the token grid, True where a token is masked.
            places (TokenPlaces, optional): The masked tokens, if all samples mask equally many. Defaults to None: not
                known. A backbone without this argument is called without it.

        Returns:
            Tensor: (M, C), sample by sample, row by row.

        Raises:
            ValueError: If the mask's grid or the input size does not fit.
        """


@runtime_checkable
class VisibleBackbone(TokenGridBackbone, Protocol):
    """Backbone for :class:`VisibleMaskFeat`: it encodes only the visible tokens.

    Its ``forward(x, mask)`` also returns the visible tokens. A user's backbone needs only ``token_grid`` and this
    ``forward``; it need not inherit from this class.
    """

    @abstractmethod
    def visible_tokens(self, x: Tensor, mask: Tensor, num_masked: int | None = None) -> Tensor:
        """Encode the visible tokens of inputs.

        Args:
            x (Tensor): Normalised images (N, C, H, W) or clips (N, C, T, H, W).
            mask (Tensor): bool (N, T', H', W') on the token grid, True where a token is masked; equally many in each
                sample.
            num_masked (int, optional): Masked tokens of each sample. Defaults to None: not known.

        Returns:
            Tensor: (N, K, C), the K visible tokens row by row, without the class token.

        Raises:
            ValueError: If the mask's grid or the input size does not fit, or the samples mask different numbers of
                tokens.
        """


def has_methods_of(backbone: nn.Module, protocol: Any) -> bool:
    """Check whether a backbone has the methods of a protocol, or forwards them as mmpretrain's ``LoRAModel`` does.

    Wrappers forward methods by ``__getattr__``, which ``isinstance`` ignores from Python 3.12 on.

    Args:
        backbone (nn.Module): The backbone.
        protocol (type): One of the protocols of this file.

    Returns:
        bool: True if it has all methods of the protocol.
    """
    return all(callable(getattr(backbone, name, None)) for name in protocol.__abstractmethods__)


def select_masked(backbone: nn.Module, x: Tensor, mask: Tensor, places: TokenPlaces | None = None) -> Tensor:
    """Encode all tokens, and keep those in the masked places.

    Args:
        backbone (nn.Module): Backbone whose ``forward(x, mask)`` returns all tokens (N, T'*H'*W', C).
        x (Tensor): Normalised images (N, C, H, W) or clips (N, C, T, H, W).
        mask (Tensor): bool (N, T', H', W').
        places (TokenPlaces, optional): The masked tokens, if all samples mask equally many. Defaults to None.

    Returns:
        Tensor: (M, C), sample by sample, row by row.

    Raises:
        ValueError: If the backbone does not return all tokens.
    """
    return select_tokens(all_tokens(backbone, x, mask), mask, places)


def all_tokens(backbone: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    """Encode all tokens.

    Args:
        backbone (nn.Module): Backbone whose ``forward(x, mask)`` returns all tokens.
        x (Tensor): Normalised images (N, C, H, W) or clips (N, C, T, H, W).
        mask (Tensor): bool (N, T', H', W').

    Returns:
        Tensor: (N, T'*H'*W', C).

    Raises:
        ValueError: If the backbone does not return all tokens.
    """
    tokens = backbone(x, mask)  # (N, L, C)
    expected = (len(mask), mask[0].numel())
    if not isinstance(tokens, Tensor) or tokens.dim() != 3 or tuple(tokens.shape[:2]) != expected:
        found = tuple(tokens.shape) if isinstance(tokens, Tensor) else f"a {type(tokens).__name__}"
        raise ValueError(
            f"backbone: forward(inputs, mask) of {_name(backbone)} returns {found} for {expected[1]} tokens. Return "
            f"all tokens, {(*expected, 'C')}, without class token."
        )
    return tokens


def takes_mask(backbone: nn.Module) -> bool:
    """Check whether a backbone can be called with ``(x, mask)``."""
    try:
        inspect.signature(backbone.forward).bind(None, None)
    except TypeError:
        return False
    return True


def check_masked_backbone(backbone: nn.Module) -> None:
    """Raise one error for a backbone that does not fit :class:`MaskFeat`.

    Args:
        backbone (nn.Module): The backbone.

    Raises:
        ValueError: If it is neither a :class:`MaskedBackbone` nor a user's backbone with the methods that are needed.
    """
    if has_methods_of(backbone, MaskedBackbone):
        return
    others = _same_family(backbone, "Masked")
    if has_methods_of(backbone, VisibleBackbone):
        _refuse(
            backbone,
            "maskfeat.MaskFeat: it encodes the visible tokens alone",
            f"Use it in maskfeat.VisibleMaskFeat, or use {others} instead.",
        )
    _check_methods(backbone, "maskfeat.MaskFeat", others, "Put it into maskfeat.MaskableBackbone, or use")


def check_visible_backbone(backbone: nn.Module) -> None:
    """Raise one error for a backbone that does not fit :class:`VisibleMaskFeat`.

    Args:
        backbone (nn.Module): The backbone.

    Raises:
        ValueError: If it is neither a :class:`VisibleBackbone` nor a user's backbone with the methods that are needed.
    """
    if has_methods_of(backbone, VisibleBackbone):
        return
    others = _same_family(backbone, "Visible")
    if has_methods_of(backbone, MaskedBackbone):
        _refuse(
            backbone,
            "maskfeat.VisibleMaskFeat: it encodes all tokens",
            f"Use it in maskfeat.MaskFeat, or use {others} instead.",
        )
    _check_methods(backbone, "maskfeat.VisibleMaskFeat", others, "Use")


def _check_methods(backbone: nn.Module, algorithm: str, others: str, instead: str) -> None:
    """Check the two methods that a user's backbone needs."""
    if not takes_mask(backbone):
        _refuse(backbone, f"{algorithm}: its forward takes no mask", f"Use {others} instead, or {_OWN}.")
    if not has_methods_of(backbone, TokenGridBackbone):
        what = f"{instead} {others} instead." if is_foreign(backbone) else f"Use {others}, or {_OWN}."
        _refuse(backbone, f"{algorithm}: it has no token_grid(input_size)", what)


def _refuse(backbone: nn.Module, why: str, what: str) -> None:
    raise ValueError(f"backbone: {_name(backbone)} does not fit {why}. {what}")


def _same_family(backbone: nn.Module, kind: str) -> str:
    """Return the names of this package's backbones of a kind ("Masked" or "Visible") that are nearest to a backbone."""
    if isinstance(backbone, VisionTransformer):
        return f"maskfeat.{kind}ViT"
    if isinstance(backbone, MViT):
        return f"maskfeat.{kind}MViT"
    return f"maskfeat.{kind}ViT or maskfeat.{kind}MViT"


def _name(backbone: nn.Module) -> str:
    """Return a backbone's name with its scope."""
    package = type(backbone).__module__.partition(".")[0]
    return f"{'maskfeat' if package == 'maskfeat_plugin' else package}.{type(backbone).__name__}"
