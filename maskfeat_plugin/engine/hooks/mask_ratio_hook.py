"""Hook that changes the mask ratio with the progress of training."""

from collections.abc import Iterator

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import EpochBasedTrainLoop, Runner

from maskfeat_plugin.datasets.transforms import BaseMaskGenerator, Cached
from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.models import VisibleMaskFeat
from maskfeat_plugin.registry import HOOKS

from ..ratio_schedules import build_schedule

# Attributes in which data sets, wrappers of data sets and wrappers of transforms keep the wrapped objects
_INNER = ("dataset", "datasets", "pipeline", "transforms")


@HOOKS.register_module()
class MaskRatioHook(Hook):
    """Hook that changes the ratio of the training pipeline's mask generators, and logs it as ``mask_ratio``.

    The first ratio is the ``mask_ratio`` of the mask generators. The ratio is shared with the dataloader's workers,
    including persistent ones. After a resumption, it is the ratio of the resumed epoch or iteration.

    With ``by_epoch=True``, the ratio is set before the first batch of an epoch is drawn, so all samples of an epoch
    have it. With ``by_epoch=False``, it is exact only with ``num_workers=0``. Workers draw ahead: a batch then has the
    ratio of up to ``prefetch_factor * num_workers`` iterations before (2 batches per worker by default). A batch during
    which the ratio changes may have two ratios.

    Args:
        schedule (dict): The schedule of the ratio: ``type``, which is "constant", "linear", "cosine" or "steps", and
            the arguments of :class:`ConstantRatio`, :class:`LinearRatio`, :class:`CosineRatio` or :class:`StepRatio`.
        by_epoch (bool): Whether the schedule counts epochs instead of iterations. Defaults to True.

    Raises:
        ValueError: If the schedule is invalid. Before the first iteration, a :class:`ConfigError` if the schedule does
            not fit the training, or if the pipeline has no mask generator.
    """

    def __init__(self, schedule: dict, by_epoch: bool = True) -> None:
        try:
            self.schedule = build_schedule(schedule)
        except ValueError as error:
            raise ValueError(f"MaskRatioHook: {error}.") from error
        self.by_epoch = by_epoch
        self._generators: list[BaseMaskGenerator] = []
        self._first = self._ratio = 0.0

    def before_train(self, runner: Runner) -> None:
        """Find the mask generators and set the first ratio."""
        if not self._generators:
            self._generators = list(find_mask_generators(runner.train_dataloader.dataset))
            self._check(runner)
            self._first = self._generators[0].mask_ratio
        self._set(runner)

    def before_train_epoch(self, runner: Runner) -> None:
        """Set the ratio before the first batch of the epoch is drawn."""
        self._set(runner)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Log the ratio."""
        runner.message_hub.update_scalar("train/mask_ratio", self._ratio)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Set the ratio of the next iteration, whose batch is drawn before any hook is called again."""
        if not self.by_epoch:
            self._set(runner, done=1)

    def _set(self, runner: Runner, done: int = 0) -> None:
        step, total = (runner.epoch, runner.max_epochs) if self.by_epoch else (runner.iter + done, runner.max_iters)
        self._ratio = self.schedule(self._first, step, total)
        for generator in self._generators:
            generator.mask_ratio = self._ratio

    def _check(self, runner: Runner) -> None:
        if not self._generators:
            raise ConfigError(
                "MaskRatioHook: train_dataloader.dataset.pipeline has no mask generator of maskfeat's outside "
                "maskfeat.Cached. Add one, for example dict(type='maskfeat.BlockMaskGenerator', ...)."
            )
        ratios = sorted({generator.mask_ratio for generator in self._generators})
        if len(ratios) > 1:
            raise ConfigError(
                f"MaskRatioHook: the pipelines of train_dataloader.dataset start with several mask ratios, {ratios}. "
                "Set the same mask_ratio in all of them."
            )
        if self.by_epoch and not isinstance(runner.train_loop, EpochBasedTrainLoop):
            raise ConfigError(
                f"MaskRatioHook: by_epoch=True, but {type(runner.train_loop).__name__} counts no epochs. Set "
                "by_epoch=False and a schedule in iterations."
            )
        try:
            self.schedule.check(runner.max_epochs if self.by_epoch else runner.max_iters)
            for ratio in self.schedule.values():
                for generator in self._generators:
                    generator.check_ratio(ratio)
        except ValueError as error:
            raise ConfigError(f"MaskRatioHook: schedule: {str(error).rstrip('.')}.") from error
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if isinstance(model, VisibleMaskFeat) and not self.by_epoch and runner.train_dataloader.num_workers:
            raise ConfigError(
                "MaskRatioHook: with by_epoch=False the ratio changes while workers draw, so a batch can have two "
                "ratios, but an encoder of the visible tokens needs a single one. Set train_dataloader.num_workers=0 "
                "(and persistent_workers=False), or by_epoch=True with EpochBasedTrainLoop."
            )


def find_mask_generators(owner: object) -> Iterator[BaseMaskGenerator]:
    """Find the mask generators of a data set, including those inside wrappers of data sets and of transforms.

    Mask generators inside ``maskfeat.Cached`` are left out, because their masks are drawn only once.

    Args:
        owner (object): A data set, a transform, or a list of either.

    Yields:
        BaseMaskGenerator: Each mask generator once.
    """
    seen: set[int] = set()
    stack = [owner]
    while stack:
        node = stack.pop()
        if id(node) in seen or isinstance(node, Cached):
            continue
        seen.add(id(node))
        if isinstance(node, BaseMaskGenerator):
            yield node
        elif isinstance(node, list | tuple):
            stack.extend(reversed(node))
        else:
            stack.extend(getattr(node, name) for name in _INNER if hasattr(node, name))
