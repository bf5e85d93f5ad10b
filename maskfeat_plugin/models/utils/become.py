"""A function that changes the class of a layer in a built model."""

from torch import nn


def become(module: nn.Module, kind: type[nn.Module]) -> None:
    """Change the class of a module to a subclass, in place: parameters, hooks and names stay.

    This is necessary because upstream's backbones build their layers without an option for another class.

    Args:
        module (nn.Module): A built module.
        kind (type[nn.Module]): A subclass that changes methods only and adds no state.

    Raises:
        TypeError: If ``kind`` is not a subclass of the module's class.
    """
    if not issubclass(kind, type(module)):
        raise TypeError(
            f"{type(module).__name__} cannot become {kind.__name__}, which is no subclass of it. Build the backbone "
            "with the layers of the tested release (see docs/installation.md)."
        )
    module.__class__ = kind
