"""From the losses of the masked tokens to one number: the only place where they are averaged."""

from mmengine.dist import all_reduce, get_world_size
from torch import Tensor


def mean_over_tokens(losses: Tensor) -> Tensor:
    """Average over the masked tokens of a batch, on several processes over those of all.

    Every token weighs the same, whichever sample it is of, as the authors take it. Of several processes each divides
    the sum of its losses by the mean number of tokens of a process; data parallel training averages their gradients,
    which then are those of the mean over all tokens, though processes may have more or fewer of them. Gradient
    accumulation averages batches: of equally many tokens, as the mask generators hide, that is the mean over all.

    Args:
        losses (Tensor): One loss a token, (M,).

    Returns:
        Tensor: A scalar; zero, with a gradient of zero, where no token is masked.
    """
    if get_world_size() == 1:
        return losses.sum() / max(len(losses), 1)
    count = losses.new_tensor(len(losses))
    all_reduce(count, "mean")
    return losses.sum() / count.clamp(min=1 / get_world_size())
