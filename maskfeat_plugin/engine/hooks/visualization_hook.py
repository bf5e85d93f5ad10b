"""Pictures of what the model predicts, while it learns."""

from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.dataset import pseudo_collate
from mmengine.hooks import Hook
from mmengine.model import BaseModel, is_model_wrapper
from mmengine.runner import Runner

from maskfeat_plugin.curve_files import say_lost
from maskfeat_plugin.errors import ConfigError, WriteError
from maskfeat_plugin.evaluation.features import preserved_random_state
from maskfeat_plugin.registry import DATASETS, HOOKS
from maskfeat_plugin.visualization import MaskFeatVisualizer, attention_rollout, unnormalize


@HOOKS.register_module()
class MaskFeatVisualizationHook(Hook):
    """Draws the predictions of the same few samples, every so often, before the first step and after the last.

    Each picture has masked input, prediction, target and original, and goes to every backend of the visualizer, which
    has to be :class:`MaskFeatVisualizer`: to ``vis_data/vis_image`` below the work directory, TensorBoard and so on. Of
    clips, an animation is written beside. Samples are read once, with their masks, and kept. Training goes on as if
    nothing had happened: the random state is kept, the model is in training mode again. It goes on without pictures if
    they cannot be written, as on a full disk, and the log says so once.

    Args:
        interval (int): Iterations from one picture to the next. Defaults to 1000.
        indices (Sequence[int]): Which samples of the data set. Defaults to (0, 1, 2, 3).
        dataset (dict, optional): Config of the data set, its pipeline with a mask generator. Defaults to None, that of
            training, whose random crops and masks are drawn once.
        attention (bool): Whether to draw what the masked tokens attend to, see :func:`attention_rollout`. Defaults to
            False.
        animation (str, optional): "gif" or "mp4", for clips; None for no animation. Defaults to "gif".

    Raises:
        ConfigError: If an argument is out of range, the visualizer or the model is another, or a sample is missing.
    """

    priority = "LOW"

    def __init__(
        self,
        interval: int = 1000,
        indices: Sequence[int] = (0, 1, 2, 3),
        dataset: dict | None = None,
        attention: bool = False,
        animation: str | None = "gif",
    ) -> None:
        if interval < 1:
            raise ConfigError(f"MaskFeatVisualizationHook: interval={interval} has to be at least 1.")
        if animation not in ("gif", "mp4", None):
            raise ConfigError(f"MaskFeatVisualizationHook: animation={animation!r} has to be 'gif', 'mp4' or None.")
        self.interval = interval
        self.indices = tuple(indices)
        self.dataset = dataset
        self.attention = attention
        self.animation = animation
        self._batches: list[dict] = []
        self._last_iter = -1

    def before_train(self, runner: Runner) -> None:
        """Read the samples and draw what training begins with."""
        if not isinstance(runner.visualizer, MaskFeatVisualizer):
            raise ConfigError(
                f"MaskFeatVisualizationHook: visualizer.type={type(runner.visualizer).__name__!r} cannot draw "
                "predictions; set visualizer.type='maskfeat.MaskFeatVisualizer'."
            )
        model = _inner(runner.model)
        if not hasattr(model, "target_generator") or not hasattr(model.data_preprocessor, "mean"):
            raise ConfigError(
                f"MaskFeatVisualizationHook: model.type={type(model).__name__!r} with "
                f"{type(model.data_preprocessor).__name__} has no predictions to draw; it needs maskfeat.MaskFeat "
                "with maskfeat.MaskFeatDataPreprocessor."
            )
        with preserved_random_state():
            dataset = runner.train_dataloader.dataset if self.dataset is None else DATASETS.build(self.dataset)
            outside = [index for index in self.indices if not -len(dataset) <= index < len(dataset)]
            if outside:
                raise ConfigError(
                    f"MaskFeatVisualizationHook: indices={outside} are not in the data set of {len(dataset)} samples."
                )
            self._batches = [pseudo_collate([dataset[index]]) for index in self.indices]
        self.draw(runner, runner.iter)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Draw after every ``interval`` iterations."""
        if self.every_n_train_iters(runner, self.interval):
            self.draw(runner, runner.iter + 1)  # the runner counts it afterwards

    def after_train(self, runner: Runner) -> None:
        """Draw what training ends with."""
        if runner.iter != self._last_iter:
            self.draw(runner, runner.iter)

    @torch.no_grad()
    def draw(self, runner: Runner, step: int) -> None:
        """Draw now.

        Args:
            runner (Runner): Its model predicts; of several processes all do, as sharded models need, and the first one
                draws.
            step (int): Iterations that were trained.
        """
        model = _inner(runner.model)
        was_training = runner.model.training
        runner.model.eval()
        try:
            with preserved_random_state():
                for index, batch in zip(self.indices, self._batches, strict=True):
                    self._draw_sample(runner, model, f"prediction_{index}", batch, step)
        finally:
            runner.model.train(was_training)
        self._last_iter = step

    def _draw_sample(self, runner: Runner, model: BaseModel, name: str, batch: dict, step: int) -> None:
        sample = runner.model.val_step(batch)[0]
        data = model.data_preprocessor(batch, False)
        frames = unnormalize(data["inputs"][0], model.data_preprocessor.mean, model.data_preprocessor.std)
        if self.attention:
            mask = data["mask"][:1]
            sample.set_field(attention_rollout(model.backbone, data["inputs"][:1], mask, query=mask)[0], "attention")
        folder = Path(runner.log_dir) / "vis_data" / "vis_image"
        out_file = folder / f"{name}_{step}.{self.animation}" if len(frames) > 1 and self.animation else None
        try:
            runner.visualizer.add_datasample(name, frames, sample, model.target_generator, out_file=out_file, step=step)
        except WriteError as error:
            say_lost(folder, error)


def _inner(model: BaseModel) -> BaseModel:
    return model.module if is_model_wrapper(model) else model
