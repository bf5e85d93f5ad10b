"""Networks that help to compute a target and are not trained themselves."""

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
    """Module that holds a network outside the tree of modules, so that training does not change the network.

    ``parameters()`` does not return its parameters, so optimizers and gradient synchronisation skip the network.
    ``train()`` and ``init_weights()`` of the model do not reach it, so it stays in evaluation mode. ``to()`` moves it.

    Args:
        network (nn.Module): The network.
        in_checkpoint (bool): Whether checkpoints include the network, under this module's name.
        on_host (Sequence[str]): Names of buffers that the network's code reads in each step. ``to()`` leaves them on
            the host, which would wait for a device. Defaults to ().

    Attributes:
        network (nn.Module): The network.
        loaded (bool): Whether a checkpoint has given it its weights.
    """

    network: BaseModule

    def __init__(self, network: nn.Module, in_checkpoint: bool, on_host: Sequence[str] = ()) -> None:
        super().__init__()
        self.on_host = on_host
        self.in_checkpoint = in_checkpoint
        self.loaded = False
        # not by nn.Module.__setattr__, which would make the network a child
        object.__setattr__(self, "network", network)
        self.freeze()

    def freeze(self) -> None:
        """Put the network into evaluation mode and turn off its gradients."""
        self.network.requires_grad_(False)
        self.network.eval()  # not chained: train() of mmpretrain's backbones returns None

    def _apply(self, fn: Callable, recurse: bool = True) -> nn.Module:
        buffers = [module._buffers for module in self.network.modules()]
        kept = [(of, name, of[name]) for of in buffers for name in self.on_host if name in of]
        self.network._apply(fn)
        for of, name, value in kept:
            of[name] = value
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
        except RuntimeError as error:  # different shapes
            error_msgs.append(str(error))
            return
        missing_keys.extend(prefix + name for name in found.missing_keys)
        unexpected_keys.extend(prefix + name for name in found.unexpected_keys)
        self.loaded = self.loaded or not found.missing_keys


class FrozenNetwork(DetachedModule):
    """Frozen network with its own weights, see :class:`DetachedModule`.

    The network's config names its weights with ``init_cfg=dict(type='Pretrained', checkpoint=FILE)``, which must hold
    every parameter, or with any other ``init_cfg``, such as ``maskfeat.Pretrained``. With ``prefix`` beside
    ``checkpoint``, only the keys with this prefix are read, and the prefix is removed. ``revise_keys``, a list of
    (pattern, replacement), renames the keys before that, as ``mmengine.runner.load_checkpoint`` does. Building the
    network needs no file: :meth:`load` reads the weights, at the latest when the network is first used. Because the
    weights have a file of their own, checkpoints do not include them by default.

    Args:
        network (dict): Config of the network, from any OpenMMLab registry by its scope, such as
            ``mmpretrain.VisionTransformer``.
        key (str): Name of the argument that configures the network, for messages.
        mean (Sequence[float] | float, optional): Mean of the channels that the network expects, RGB, on the scale 0 to
            255. Defaults to None: the model's own mean.
        std (Sequence[float] | float, optional): Standard deviation that the network expects. Defaults to None: the
            model's own.
        in_checkpoint (bool): Whether checkpoints include the network. Defaults to False.
        on_host (Sequence[str]): See :class:`DetachedModule`. Defaults to ().

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
        on_host: Sequence[str] = (),
    ) -> None:
        if (mean is None) != (std is None):
            raise ValueError("mean and std belong together. Give both or neither.")
        network = dict(network)
        weights, others = _split_init_cfg(network.pop("init_cfg", None))
        if others is not None:
            network["init_cfg"] = others
        super().__init__(_build(network, key), in_checkpoint, on_host)
        self.key = key
        self.weights = weights
        for name, values in (("wanted_mean", mean), ("wanted_std", std)):
            self.register_buffer(name, None if values is None else _channels(values), persistent=False)
        self.register_buffer("scale", None, persistent=False)
        self.register_buffer("shift", None, persistent=False)

    def connect(self, data_preprocessor: BaseModule) -> None:
        """Read how the model normalises its inputs, to be able to normalise them for the network.

        Args:
            data_preprocessor (BaseModule): The data preprocessor with the buffers ``mean`` and ``std``.

        Raises:
            ValueError: If it has no such buffers, but the network has its own ``mean`` and ``std``.
        """
        if self.wanted_mean is None or self.wanted_std is None:
            return
        mean, std = (getattr(data_preprocessor, name, None) for name in ("mean", "std"))
        if mean is None or std is None:
            raise ValueError(
                f"{self.key} needs inputs normalised by its own mean and std, but the data_preprocessor "
                f"({type(data_preprocessor).__name__}) has no mean and std to convert from. Use "
                "maskfeat.MaskFeatDataPreprocessor, or leave out mean and std."
            )
        mean, std = mean.flatten().to(self.wanted_mean), std.flatten().to(self.wanted_std)
        numbers = {len(values) for values in (mean, std, self.wanted_mean, self.wanted_std)} - {1}
        if len(numbers) > 1:
            raise ValueError(
                f"mean has {len(self.wanted_mean)} numbers and std {len(self.wanted_std)}, but mean and std of the "
                f"data_preprocessor {len(mean)} and {len(std)}; give one number per channel, or one for all channels."
            )
        # (x * std + mean - wanted_mean) / wanted_std in one step
        self.scale = (std / self.wanted_std).view(-1, 1, 1)
        self.shift = ((mean - self.wanted_mean) / self.wanted_std).view(-1, 1, 1)

    def normalize(self, inputs: Tensor) -> Tensor:
        """Convert inputs from the model's normalisation to the network's.

        Args:
            inputs (Tensor): Images (N, C, H, W) or clips (N, C, T, H, W).

        Returns:
            Tensor: The inputs in the same shape.

        Raises:
            ValueError: If the network has its own ``mean`` and ``std`` and :meth:`connect` was not called.
        """
        if self.wanted_mean is None:
            return inputs
        if self.scale is None:
            raise ValueError(
                f"{self.key} needs inputs normalised by its own mean and std, but does not know their normalisation. "
                "Call connect() of the target generator with a model that has a data_preprocessor, as "
                "maskfeat.MaskFeat does."
            )
        scale, shift = (v if inputs.dim() == 4 else v.unsqueeze(1) for v in (self.scale, self.shift))
        return inputs * scale + shift

    def forward(self, inputs: Tensor) -> Any:
        """Load the weights if necessary, and apply the network to inputs that are normalised for it."""
        self.load()
        return self.network(inputs)

    def load(self) -> None:
        """Initialize the network and read its weights, once.

        Raises:
            FileNotFoundError: If the file of weights does not exist.
            CheckpointError: If the file is not a checkpoint or lacks weights of the network.
        """
        if self.loaded:
            return
        others = str(getattr(self.network, "init_cfg", None))
        # is_init: the network read its weights while it was built, as mmpretrain.TIMMBackbone can
        ready = getattr(self.network, "is_init", False)
        if callable(getattr(self.network, "init_weights", None)) and not ready:
            self.network.init_weights()
        if self.weights:
            load_network(self.network, key=f"{self.key}.init_cfg", **self.weights)
        elif not ready and "Pretrained" not in others:
            print_log(
                f"{self.key} has random weights. Give it weights with {self.key}.init_cfg=dict(type='Pretrained', "
                "checkpoint=FILE).",
                logger="current",
                level=logging.WARNING,
            )
        self.freeze()
        self.loaded = True


def _split_init_cfg(init_cfg: dict | list | None) -> tuple[dict | None, dict | list | None]:
    """Split an ``init_cfg`` into the arguments of mmengine's ``Pretrained`` and the other initializations."""
    configs = [init_cfg] if isinstance(init_cfg, dict) else list(init_cfg or ())
    ours = [dict(c) for c in configs if c["type"] in ("Pretrained", "PretrainedInit")]
    others = [c for c in configs if c["type"] not in ("Pretrained", "PretrainedInit")]
    weights = {k: ours[-1][k] for k in ("checkpoint", "prefix", "revise_keys") if k in ours[-1]} if ours else None
    return weights, (others or None) if len(others) != 1 else others[0]


def _build(network: dict, key: str) -> nn.Module:
    """Build a network with components of its own project, regardless of the default scope."""
    kind = network.get("type")
    scope = kind.rpartition(".")[0] if isinstance(kind, str) else ""
    try:
        with DefaultScope.overwrite_default_scope(scope or None):
            return MODELS.build(network)
    except (RuntimeError, ImportError) as error:
        if "timm" in str(error):
            raise ImportError(
                f"{key}.type={kind!r} needs timm, which is not installed. Run pip install timm, or choose a network of "
                "mmpretrain."
            ) from error
        raise


def _channels(values: Sequence[float] | float) -> Tensor:
    values = [float(v) for v in (values if isinstance(values, Sequence) else [values])]
    if not values:
        raise ValueError("mean and std need one number per channel, or one number for all channels, but got none.")
    return torch.tensor(values)
