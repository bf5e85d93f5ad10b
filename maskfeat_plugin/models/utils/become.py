"""Another class for a layer of a built model."""

from torch import nn


def become(module: nn.Module, kind: type[nn.Module]) -> None:
    """Give a module a subclass of its class, in place: parameters, hooks and names stay.

    Upstream's backbones build their layers without a way to name another class.

    Args:
        module (nn.Module): A module that is built already.
        kind (type[nn.Module]): A subclass without state of its own: only methods differ.

    Raises:
        TypeError: If ``kind`` is no subclass of the module's class.
    """
    if not issubclass(kind, type(module)):
        raise TypeError(
            f"{type(module).__name__} cannot become {kind.__name__}, which is no subclass of it. Build the backbone "
            "with the layers of the tested release (see docs/installation.md)."
        )
    module.__class__ = kind
