"""Loading of every parameter of any network from a file with the same names."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.logging import print_log
from torch import Tensor, nn

from .errors import CheckpointError
from .reader import read_state


def load_network(
    network: nn.Module,
    checkpoint: str | Path,
    key: str,
    prefix: str | None = None,
    revise_keys: Sequence[tuple[str, str]] = (),
) -> None:
    """Load every parameter of a network from a file.

    Args:
        network (nn.Module): The network. It is changed in place.
        checkpoint (str | Path): Path or URL of a state dict, in one of the places where :func:`read_state` looks.
        key (str): Config key of the ``init_cfg``, for messages.
        prefix (str, optional): Only the keys with this prefix are read, and the prefix is removed. Defaults to None.
        revise_keys (Sequence[tuple[str, str]]): Patterns and their replacements in the file's keys. They are applied in
            this order, before ``prefix``. Defaults to ().

    Raises:
        FileNotFoundError: If the file does not exist.
        CheckpointError: If the file is not a checkpoint, lacks parameters, or has parameters of other shapes.
    """
    try:
        whole = read_state(checkpoint)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{key}.checkpoint: {error}") from None
    whole = {name.removeprefix("module."): value for name, value in whole.items()}
    for pattern, replacement in revise_keys:
        whole = {re.sub(pattern, replacement, name): value for name, value in whole.items()}
    prefix = prefix or ""
    state = {name.removeprefix(prefix): value for name, value in whole.items() if name.startswith(prefix)}
    names = [name for name, _ in network.named_parameters()]
    missing = [name for name in names if name not in state]
    if missing:
        raise CheckpointError(
            f"{key}.checkpoint={str(checkpoint)!r} lacks {len(missing)} of the {len(names)} parameters of "
            f"{type(network).__name__}, such as {missing[0]!r}; it has {len(whole)} tensors, such as "
            f"{next(iter(whole))!r}. {_advice(names, whole, prefix)}"
        )
    own = network.state_dict()
    for name, value in state.items():
        if name in own and own[name].shape != value.shape:
            raise CheckpointError(
                f"{key}.checkpoint={str(checkpoint)!r} has {name!r} of the shape {tuple(value.shape)}, "
                f"but {type(network).__name__} needs {tuple(own[name].shape)}; give the network the settings that the "
                "weights were trained with."
            )
    found = network.load_state_dict(state, strict=False)
    print_log(
        f"{key}: {len(names)} parameters of {type(network).__name__} loaded from {checkpoint}; "
        f"buffers that the file lacks: {found.missing_keys or 'none'}; tensors not needed: "
        f"{len(found.unexpected_keys)}.",
        logger="current",
    )


def _advice(names: Sequence[str], state: Mapping[str, Tensor], prefix: str) -> str:
    """Advise how to make a file fit, as far as its keys show."""
    for key in state:
        if key.endswith(f".{names[0]}"):
            candidate = key.removesuffix(names[0])
            if candidate != prefix and all(candidate + name in state for name in names):
                return f"Set prefix={candidate!r} beside the checkpoint."
    return "Give the weights of this network, or another network."
