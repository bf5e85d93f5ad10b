"""Networks that help to compute a target and are no part of what is trained."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from maskfeat_plugin.checkpoints import load_network
from maskfeat_plugin.registry import MODELS


class DetachedModule(nn.Module):
    """Holds a network outside the tree of modules, so that nothing that trains the model reaches it.

    ``parameters()`` has none of it, so no optimizer and no gradient synchronisation sees it; ``train()`` and
    ``init_weights()`` of the model do not come to it, so it stays in evaluation mode; ``to()`` moves it.

    Args:
        network (nn.Module): The network.
        in_checkpoint (bool): Whether checkpoints hold it, under this module's name.

    Attributes:
        network (nn.Module): The network.
        loaded (bool): Whether a checkpoint has given it its weights.
    """

    network: BaseModule

    def __init__(self, network: nn.Module, in_checkpoint: bool) -> None:
        super().__init__()
        self.in_checkpoint = in_checkpoint
        self.loaded = False
        # past nn.Module.__setattr__, which would make it a child
        object.__setattr__(self, "network", network)
        self.freeze()

    def freeze(self) -> None:
        """Put the network into evaluation mode, without gradients."""
        self.network.requires_grad_(False)
        self.network.eval()  # not chained: that of mmpretrain's backbones returns None

    def _apply(self, fn: Callable, recurse: bool = True) -> nn.Module:
        self.network._apply(fn)
        return super()._apply(fn, recurse)

    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.in_checkpoint:
            self.network.state_dict(destination=destination, prefix=prefix, keep_vars=keep_vars)

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Tensor],
        prefix: str,
        local_metadata: dict,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        if not self.in_checkpoint:
            return
        state = {k.removeprefix(prefix): v for k, v in state_dict.items() if k.startswith(prefix)}
        try:
            found = self.network.load_state_dict(state, strict=False)
        except RuntimeError as error:  # shapes that differ
            error_msgs.append(str(error))
            return
        missing_keys.extend(prefix + name for name in found.missing_keys)
        unexpected_keys.extend(prefix + name for name in found.unexpected_keys)
        self.loaded = self.loaded or not found.missing_keys


class FrozenNetwork(DetachedModule):
    """A network with weights of its own, see :class:`DetachedModule`.

    Its weights are those of ``init_cfg=dict(type='Pretrained', checkpoint=FILE)`` in its config, every parameter of it,
    or of any other ``init_cfg``, such as ``maskfeat.Pretrained``. ``prefix`` beside ``checkpoint`` reads only the keys
    that begin with it, without it, and ``revise_keys``, a list of (pattern, replacement), renames them before, as
    ``mmengine.runner.load_checkpoint`` does. They are read by :meth:`load` or, at the latest, when the network is first
    used; building it needs no file. Checkpoints leave it out, because it has a file, unless it is asked for.

    Args:
        network (dict): Config of the network, from any OpenMMLab registry by its scope, such as
            ``mmpretrain.VisionTransformer``.
        key (str): Name of the argument that configures it, for messages.
        mean (Sequence[float] | float, optional): Mean of the channels that it wants, RGB, on the scale 0 to 255.
            Defaults to None, the model's own.
        std (Sequence[float] | float, optional): Standard deviation that it wants. Defaults to None, the model's own.
        in_checkpoint (bool): Whether checkpoints hold it. Defaults to False.

    Raises:
        ValueError: If only one of ``mean`` and ``std`` is given, or the network cannot be built.
    """

    wanted_mean: Tensor | None
    wanted_std: Tensor | None

    def __init__(
        self,
        network: dict,
        key: str,
        mean: Sequence[float] | float | None = None,
        std: Sequence[float] | float | None = None,
        in_checkpoint: bool = False,
    ) -> None:
        if (mean is None) != (std is None):
            raise ValueError("mean and std belong together; give both or neither.")
        network = dict(network)
        weights, others = _split_init_cfg(network.pop("init_cfg", None))
        if others is not None:
            network["init_cfg"] = others
        super().__init__(_build(network, key), in_checkpoint)
        self.key = key
        self.weights = weights
        for name, values in (("wanted_mean", mean), ("wanted_std", std)):
            self.register_buffer(name, None if values is None else _channels(values), persistent=False)
        self.register_buffer("scale", None, persistent=False)
        self.register_buffer("shift", None, persistent=False)

    def connect(self, data_preprocessor: BaseModule) -> None:
        """Learn how the inputs are normalised, to normalise them as the network wants.

        Args:
            data_preprocessor (BaseModule): With the buffers ``mean`` and ``std``.

        Raises:
            ValueError: If it has none, and the network wants its own.
        """
        if self.wanted_mean is None or self.wanted_std is None:
            return
        mean, std = (getattr(data_preprocessor, name, None) for name in ("mean", "std"))
        if mean is None or std is None:
            raise ValueError(
                f"{self.key} wants inputs normalised by mean and std, but the data_preprocessor "
                f"({type(data_preprocessor).__name__}) does not tell its own; use maskfeat.MaskFeatDataPreprocessor, "
                "or leave out mean and std."
            )
        mean, std = mean.flatten().to(self.wanted_mean), std.flatten().to(self.wanted_std)
        numbers = {len(values) for values in (mean, std, self.wanted_mean, self.wanted_std)} - {1}
        if len(numbers) > 1:
            raise ValueError(
                f"mean has {len(self.wanted_mean)} numbers and std {len(self.wanted_std)}, those of "
                f"the data_preprocessor {len(mean)} and {len(std)}; give one number a channel, or 1 for all."
            )
        # (x * std + mean - wanted_mean) / wanted_std in one step
        self.scale = (std / self.wanted_std).view(-1, 1, 1)
        self.shift = ((mean - self.wanted_mean) / self.wanted_std).view(-1, 1, 1)

    def normalize(self, inputs: Tensor) -> Tensor:
        """From the model's normalisation to the network's.

        Args:
            inputs (Tensor): Images (N, C, H, W) or clips (N, C, T, H, W).

        Returns:
            Tensor: The same shape.

        Raises:
            ValueError: If the network wants its own and :meth:`connect` was not called.
        """
        if self.wanted_mean is None:
            return inputs
        if self.scale is None:
            raise ValueError(
                f"{self.key} wants inputs normalised by mean and std and does not know how they are; "
                "call connect() of the target generator with a model that has a data_preprocessor, as "
                "maskfeat.MaskFeat does."
            )
        scale, shift = (v if inputs.dim() == 4 else v.unsqueeze(1) for v in (self.scale, self.shift))
        return inputs * scale + shift

    def forward(self, inputs: Tensor) -> Any:
        """Apply the network, its weights read, to inputs that are normalised as it wants."""
        self.load()
        return self.network(inputs)

    def load(self) -> None:
        """Initialize the network and read its weights, once.

        Raises:
            FileNotFoundError: If the file of weights is missing.
            CheckpointError: If it is no checkpoint or lacks weights of the network.
        """
        if self.loaded:
            return
        others = str(getattr(self.network, "init_cfg", None))
        # is_init: the network read weights itself while it was built, as mmpretrain.TIMMBackbone can
        ready = getattr(self.network, "is_init", False)
        if callable(getattr(self.network, "init_weights", None)) and not ready:
            self.network.init_weights()
        if self.weights:
            load_network(self.network, key=f"{self.key}.init_cfg", **self.weights)
        elif not ready and "Pretrained" not in others:
            print_log(
                f"{self.key} has random weights; give it some by {self.key}.init_cfg=dict(type='Pretrained', "
                "checkpoint=FILE).",
                logger="current",
                level=logging.WARNING,
            )
        self.freeze()
        self.loaded = True


def _split_init_cfg(init_cfg: dict | list | None) -> tuple[dict | None, dict | list | None]:
    """``checkpoint`` and the like of mmengine's ``Pretrained``, and what else there is to initialize by."""
    configs = [init_cfg] if isinstance(init_cfg, dict) else list(init_cfg or ())
    ours = [dict(c) for c in configs if c["type"] in ("Pretrained", "PretrainedInit")]
    others = [c for c in configs if c["type"] not in ("Pretrained", "PretrainedInit")]
    weights = {k: ours[-1][k] for k in ("checkpoint", "prefix", "revise_keys") if k in ours[-1]} if ours else None
    return weights, (others or None) if len(others) != 1 else others[0]


def _build(network: dict, key: str) -> nn.Module:
    """Build a network with the parts of its own project, whatever the default scope is."""
    kind = network.get("type")
    scope = kind.rpartition(".")[0] if isinstance(kind, str) else ""
    try:
        with DefaultScope.overwrite_default_scope(scope or None):
            return MODELS.build(network)
    except (RuntimeError, ImportError) as error:
        if "timm" in str(error):
            raise ImportError(
                f"{key}.type={kind!r} needs timm, which is not installed; pip install timm, or choose a network of "
                "mmpretrain."
            ) from error
        raise


def _channels(values: Sequence[float] | float) -> Tensor:
    values = [float(v) for v in (values if isinstance(values, Sequence) else [values])]
    if not values:
        raise ValueError("mean and std need one number a channel, or 1 for all, got none.")
    return torch.tensor(values)
