"""Call of a neck, one of this package or of others, as MaskFeat and each of its several targets make it."""

from typing import Any

from torch import Tensor, nn

from ..utils import foreign_call, is_foreign

_NECKS = (
    "MaskFeat calls it with the masked tokens (M, C) and needs their features (M, D). Use maskfeat.RegressionNeck or "
    "mmpretrain.LinearNeck."
)


def predict_features(neck: nn.Module, tokens: Tensor, key: str = "neck") -> Any:
    """Predict the features of the masked tokens.

    Args:
        neck (nn.Module): A neck of this package or the user, called with the tokens, or of OpenMMLab, called with a
            tuple of them. It may return a tuple, whose last element is taken.
        tokens (Tensor): The masked tokens (M, C).
        key (str): The neck's config key, for messages. Defaults to "neck".

    Returns:
        Tensor | dict[str, Tensor]: (M, D), of several targets by name.

    Raises:
        ValueError: If the neck does not fit.
    """
    with foreign_call(key, neck, _NECKS):
        pred = neck((tokens,) if is_foreign(neck) else tokens)
    return pred[-1] if isinstance(pred, tuple) else pred
