"""Initialization with ``init_cfg=dict(type='maskfeat.Pretrained', ...)`` from a checkpoint of any known format."""

import copy
import inspect
from collections.abc import Sequence

from mmengine.logging import print_log
from mmengine.model import BaseModule, update_init_info

from maskfeat_plugin.registry import WEIGHT_INITIALIZERS

from .errors import CheckpointError
from .fitting import LoadReport, load_into
from .reader import read_checkpoint


@WEIGHT_INITIALIZERS.register_module(name="Pretrained")
class PretrainedInit:
    """Initializer of a backbone or a whole model from a checkpoint of any format in :data:`formats.FORMATS`.

    Parameters that the checkpoint lacks are initialized as without ``init_cfg``. Further weights in the checkpoint are
    ignored. The log shows a summary. It works in configs of mmpretrain, mmaction2 and mmdet::

        backbone=dict(..., init_cfg=dict(type='maskfeat.Pretrained', checkpoint='k400_MVIT_S.pyth'))

    Args:
        checkpoint (str): Path or URL.
        min_found (float): Smallest allowed share of the backbone's parameters, by the number of their values, that
            were found. Defaults to 0.95.
        inflate (str): How an image model's patch embedding is extended over time for clips, "mean" or "center".
            Defaults to "mean".
        prefix (str, optional): Only the checkpoint's keys with this prefix are read, and the prefix is removed, for a
            model inside a larger one. The prefix ``backbone.`` need not be given. Defaults to None.
        position_grid (Sequence[int], optional): Grid (H, W) or (T, H, W) of the checkpoint's absolute positions if it
            is neither square nor known. Defaults to None.

    Raises:
        CheckpointError: If an argument is out of range; when loading, see :func:`read_checkpoint`, :func:`load_into`.
    """

    def __init__(
        self,
        checkpoint: str,
        min_found: float = 0.95,
        inflate: str = "mean",
        prefix: str | None = None,
        position_grid: Sequence[int] | None = None,
    ) -> None:
        if not 0 <= min_found <= 1:
            raise CheckpointError(f"init_cfg.min_found must be between 0 and 1, got {min_found!r}.")
        if position_grid is not None and len(position_grid) not in (2, 3):
            raise CheckpointError(f"init_cfg.position_grid must be (H, W) or (T, H, W), got {position_grid!r}.")
        self.checkpoint = checkpoint
        self.min_found = min_found
        self.inflate = inflate
        self.prefix = prefix
        self.position_grid = None if position_grid is None else tuple(position_grid)

    def __call__(self, module: BaseModule) -> LoadReport:
        """Initialize a module.

        mmengine loads its own ``Pretrained`` after the children are initialized, but all other types before that, so
        the children's initialization would overwrite the loaded weights. So this method first initializes the whole
        module, then loads, and marks the module as initialized and its ``init_cfg`` as ``Pretrained``, which the
        ``init_weights`` of upstream backbones check.

        Args:
            module (BaseModule): A backbone, or a model with a ``backbone``.

        Returns:
            LoadReport: The report that is also in the log.
        """
        checkpoint = read_checkpoint(self.checkpoint, self.prefix)
        self._initialize_otherwise(module)
        report = load_into(
            module,
            checkpoint,
            min_found=self.min_found,
            inflate=self.inflate,
            position_grid=self.position_grid,
        )
        for child in module.modules():
            if callable(getattr(child, "init_weights", None)):
                child.is_init = True
        module.init_cfg = dict(type="Pretrained", checkpoint=self.checkpoint)
        if hasattr(module, "_params_init_info"):
            update_init_info(module, init_info=f"maskfeat.Pretrained: {self.checkpoint}")
        print_log(str(report), logger="current")
        return report

    @staticmethod
    def _initialize_otherwise(module: BaseModule) -> None:
        """Initialize a module as if it had no ``maskfeat.Pretrained``."""
        if not callable(getattr(module, "init_weights", None)) or getattr(module, "is_init", False):
            return
        configs = getattr(module, "init_cfg", None) or []
        configs = [configs] if isinstance(configs, dict) else list(configs)
        ours = [i for i, cfg in enumerate(configs) if _is_this(cfg["type"])]
        if ours and ours != [len(configs) - 1]:
            raise CheckpointError(
                f"init_cfg of {type(module).__name__}: maskfeat.Pretrained must stand last and only once, because "
                "later entries overwrite the weights."
            )
        others = [cfg for cfg in configs if not _is_this(cfg["type"])]
        module.init_cfg = others or _default_init_cfg(type(module))
        module.init_weights()


def _is_this(kind: str | type) -> bool:
    # the bare name too: under ``default_scope = 'maskfeat'`` it means this class
    return kind is PretrainedInit or kind in ("maskfeat.Pretrained", "Pretrained")


def _default_init_cfg(cls: type) -> dict | list | None:
    """Return the default ``init_cfg`` of a class."""
    for base in cls.__mro__:
        init = base.__dict__.get("__init__")
        parameter = init and inspect.signature(init).parameters.get("init_cfg")
        if parameter:
            default = parameter.default
            return None if default is inspect.Parameter.empty else copy.deepcopy(default)
    return None
