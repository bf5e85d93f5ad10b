"""Hook that draws the model's predictions during training."""

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
    """Hook that draws the predictions for the same few samples: at intervals, before the first and after the last step.

    Each picture shows the masked input, the prediction, the target and the original. It goes to every backend of the
    visualizer, which has to be :class:`MaskFeatVisualizer`: to ``vis_data/vis_image`` below the work directory,
    TensorBoard and so on. For clips, an animation is written there too. The samples are read once, with their masks,
    and kept. The hook does not change the training: it restores the random state and the training mode. If pictures
    cannot be written, for example on a full disk, training continues without them and the log says so once.

    Args:
        interval (int): Number of iterations between two pictures. Defaults to 1000.
        indices (Sequence[int]): Indices of the samples in the data set. Defaults to (0, 1, 2, 3).
        dataset (dict, optional): Config of the data set; its pipeline needs a mask generator. Defaults to None: the
            training data set, whose random crops and masks are drawn once.
        attention (bool): Whether to draw the tokens to which the masked tokens attend, see :func:`attention_rollout`.
            Defaults to False.
        animation (str, optional): "gif" or "mp4", for clips; None for no animation. Defaults to "gif".

    Raises:
        ConfigError: If an argument is out of range, if the visualizer or the model has another type, or if a sample
            does not exist.
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
        """Read the samples and draw the predictions before the first step."""
        if not isinstance(runner.visualizer, MaskFeatVisualizer):
            raise ConfigError(
                f"MaskFeatVisualizationHook: visualizer.type={type(runner.visualizer).__name__!r} cannot draw "
                "predictions. Set visualizer.type='maskfeat.MaskFeatVisualizer'."
            )
        model = _inner(runner.model)
        if not hasattr(model, "target_generator") or not hasattr(model.data_preprocessor, "mean"):
            raise ConfigError(
                f"MaskFeatVisualizationHook: model.type={type(model).__name__!r} with "
                f"{type(model.data_preprocessor).__name__} has no predictions to draw. The hook needs "
                "maskfeat.MaskFeat with maskfeat.MaskFeatDataPreprocessor."
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
            self.draw(runner, runner.iter + 1)  # the runner counts the iteration after its hooks

    def after_train(self, runner: Runner) -> None:
        """Draw the predictions of the final model, unless they were drawn already."""
        if runner.iter != self._last_iter:
            self.draw(runner, runner.iter)

    @torch.no_grad()
    def draw(self, runner: Runner, step: int) -> None:
        """Draw the predictions now.

        Args:
            runner (Runner): The runner whose model predicts. All of several processes predict, because sharded models
                need that; only the first one draws.
            step (int): Number of trained iterations.
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
