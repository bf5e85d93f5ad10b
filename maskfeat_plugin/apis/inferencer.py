"""Inferencer of pre-trained models: predicts the features of the masked parts of images and clips."""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from math import prod
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmpretrain.apis import BaseInferencer
from mmpretrain.structures import DataSample
from PIL import Image
from tqdm import tqdm

from maskfeat_plugin.config.checks import mask_grid
from maskfeat_plugin.config.given_arrays import sample_bits
from maskfeat_plugin.config.input_kinds import input_kind
from maskfeat_plugin.config.input_pipeline import (
    Input,
    InputDataset,
    InputPipeline,
    list_inputs,
    title_of,
    training_pipeline,
    without_randomness,
)
from maskfeat_plugin.config.origins import named_errors
from maskfeat_plugin.config.sample_sizes import sample_channels
from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.evaluation.features import one_vector_each
from maskfeat_plugin.models.selfsup.maskfeat import MaskFeat
from maskfeat_plugin.visualization import MaskFeatVisualizer

from .model_loading import build_model, list_models, read_model
from .notebook_results import NotebookResult, NotebookResults

# Parameters that a prediction needs besides those in the backbone
_PREDICTING = ("neck.", "decoder.", "backbone.mask_token")


class MaskFeatInferencer(BaseInferencer):
    """Inferencer that masks parts of images or clips and predicts the features of the masked tokens.

    It is used like the inferencers of mmpretrain::

        inferencer = MaskFeatInferencer("maskfeat_vit-tiny_moving-digits")
        result = inferencer("frame.png", mask_ratio=0.6)[0]

    Inputs go through the training pipeline of the config without its random transforms. So resizing, clip length and
    masks are the same as in pre-training.

    Args:
        model (str | Path | Config): A name of :meth:`list_models`, a config file of pre-training, the work directory of
            a training, or a config.
        weights (str | Path, optional): Path or URL of a checkpoint in any format of docs/checkpoints.md. It must
            contain the prediction layer. Defaults to None: the newest checkpoint of the work directory, or the weights
            shipped with the config.
        device (str | torch.device, optional): Device that the model runs on. Defaults to None: the GPU, if there is
            one.
        show_progress (bool): Whether to show a progress bar. Defaults to True.

    Raises:
        ConfigError: If the config does not exist or is not a config of MaskFeat, or if no weights fit.
    """

    preprocess_kwargs = {"mask_ratio", "mask", "seed", "batch_size"}
    forward_kwargs = {"return_features"}
    visualize_kwargs = {"show", "out_dir"}
    postprocess_kwargs = {"return_datasamples"}

    def __init__(
        self,
        model: str | Path | Config,
        weights: str | Path | None = None,
        device: str | torch.device | None = None,
        show_progress: bool = True,
    ) -> None:
        cfg, found = read_model(model)
        weights = found if weights is None else weights
        title = title_of(cfg)
        if weights is None:
            raise ConfigError(f"no weights come with {title}. Give weights=FILE, a checkpoint of its pre-training.")
        built, initial = build_model(cfg, weights)
        if not isinstance(built, MaskFeat):
            raise ConfigError(
                f"the model of {title} is a {type(built).__name__}; give a config of pre-training with MaskFeat, such "
                "as a config of configs/pretrain."
            )
        lacking = [name for name in initial if name.startswith(_PREDICTING)]
        if lacking:
            raise ConfigError(
                f"{weights} has no {lacking[0]}, which predictions need: it is not a checkpoint of this pre-training. "
                "Give a checkpoint of it. If you only need features, use maskfeat extract."
            )
        self.title = title
        self.weights = str(weights)
        self.show_progress = show_progress
        super().__init__(built, None, device or ("cuda" if torch.cuda.is_available() else "cpu"))

    def __repr__(self) -> str:
        generator, backbone = (type(part).__name__ for part in (self.model.target_generator, self.model.backbone))
        device = next(self.model.parameters()).device.type
        grid = " x ".join(map(str, self._token_grids()[0]))
        kind = "clips" if self.kind.is_clip else "images"
        return (
            f"MaskFeatInferencer({Path(self.title).stem!r}, {self.weights!r}, {device!r}): {backbone} predicts the "
            f"targets of {generator} for the masked ones of {grid} tokens of {kind}"
        )

    def __call__(
        self,
        inputs: str | Path | np.ndarray | torch.Tensor | Image.Image | Sequence,
        return_datasamples: bool = False,
        batch_size: int = 8,
        mask_ratio: float | None = None,
        mask: np.ndarray | Sequence[np.ndarray] | None = None,
        seed: int = 0,
        return_features: bool = False,
        show: bool = False,
        out_dir: str | Path | None = None,
    ) -> list[dict] | list[DataSample]:
        """Predict the features of the masked parts of inputs.

        Args:
            inputs (str | Path | np.ndarray | Tensor | Image | Sequence): One of the following, or a list of them:

                - path or URL of an image, a video, a sound or a volume, of the kind that the config was trained on;
                - path of a folder with such files at any depth;
                - an array, RGB, uint8 (H, W, 3) or (T, H, W, 3), a tensor or a PIL image. :func:`.to_array` describes
                  other types, shapes and channels.

                If a video or an array has more frames than a clip, its middle clip is used.
            return_datasamples (bool): Whether to return data samples with tensors instead of dicts with arrays.
                Defaults to False.
            batch_size (int): Number of inputs that the model takes at once. Defaults to 8.
            mask_ratio (float, optional): Share of the tokens to mask. Defaults to None, the mask ratio of the config.
            mask (np.ndarray | Sequence[np.ndarray], optional): Mask to use instead of a random one, bool on the token
                grid, (H', W') or (T', H', W'): one for all inputs, or a list with one mask for each. Defaults to None.
            seed (int): Seed of the masks. The mask of an input depends only on the seed and on the number of the
                input. Defaults to 0.
            return_features (bool): Whether to return the features of the unmasked inputs too. Defaults to False.
            show (bool): Whether to show pictures of the predictions in a window. Defaults to False.
            out_dir (str | Path, optional): Folder to write these pictures to: PNG for images, GIF for clips. Defaults
                to None.

        Returns:
            list[dict] | list[DataSample]: One result for each input, in their order. In a notebook the dicts and their
            list are shown as pictures. Each result has

            - ``name`` (str): the path, the URL, or "array 3", "tensor 3", "image 3";
            - ``mask``: bool (T', H', W'), T' = 1 for an image, True where masked;
            - ``pred_features``, ``target_features``: float32 (M, D) of the M masked tokens, row-major. Some target
              generators give classes instead, and several targets give a dict;
            - ``loss`` (float): the training loss of this input, a dict for several targets;
            - ``features``, with ``return_features``: float32 (C,), the vector of :func:`.compute_features`;
            - ``picture`` (str), with ``out_dir``: the file.

        Raises:
            ConfigError: If an input is missing, of the wrong kind or broken, as far as this is visible before any work;
                or if an argument does not fit.
        """
        items = self._inputs_to_list(inputs)
        batches = self.preprocess(items, batch_size, mask_ratio, mask, seed)
        drawing = self._start_drawing(items, out_dir) if show or out_dir is not None else None
        results: list[DataSample | NotebookResult] = []
        with tqdm(total=len(items), desc="Inference", unit="input", disable=not self.show_progress) as bar:
            for batch in batches:
                samples = self.forward(batch, return_features)
                for sample in samples:
                    sample.set_field(items[len(results)].name, "name", field_type="metainfo")
                    if drawing is not None:
                        self.visualize(sample, drawing[len(results)], show)
                    sample.pop("frames")
                    if return_datasamples:
                        results.append(sample)
                    else:
                        draw = partial(self._draw_again, items[len(results)], sample.mask.numpy())
                        results.append(NotebookResult(self.postprocess(sample), draw))
                bar.update(len(samples))
        return results if return_datasamples else NotebookResults(results)

    def preprocess(
        self,
        inputs: Sequence[Input],
        batch_size: int = 8,
        mask_ratio: float | None = None,
        mask: np.ndarray | Sequence[np.ndarray] | None = None,
        seed: int = 0,
    ) -> Iterator[dict]:
        """Return batches for :meth:`forward`. The arguments are the same as in :meth:`__call__`; check them at once."""
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ConfigError(f"batch_size={batch_size!r} has to be a whole number of at least 1.")
        if not isinstance(seed, int) or not 0 <= seed < 2**32:
            raise ConfigError(f"seed={seed!r} has to be a whole number from 0 to 2**32 - 1.")
        if mask is not None and mask_ratio is not None:
            raise ConfigError("mask and mask_ratio are both given. Give only one: a mask defines its own ratio.")
        masks = None if mask is None else self._one_each(mask, len(inputs))
        pipeline = InputPipeline(self.config, self.pipeline, seed, mask_ratio, masks, needs_masks=True)
        dataset = InputDataset(inputs, pipeline)
        samples = (dataset[index] for index in range(len(dataset)))
        return map(pseudo_collate, self._get_chunk_data(samples, batch_size))

    @torch.no_grad()
    def forward(self, inputs: dict, return_features: bool = False) -> list[DataSample]:
        """Predict for a batch.

        Args:
            inputs (dict): A batch of :meth:`preprocess`.
            return_features (bool): See :meth:`__call__`. Defaults to False.

        Returns:
            list[DataSample]: The samples of :meth:`.MaskFeat.predict`, on the CPU, with ``loss``, ``features`` and
            ``frames`` added.
        """
        with named_errors(self.config, "fails on these inputs", ("model", "train_dataloader.dataset")):
            data = self.model.data_preprocessor(inputs, False)
            samples = self.model(**data, mode="predict")
            for sample, frames in zip(samples, self._frames(inputs["inputs"]), strict=True):
                sample.set_field(self.model.head.loss(sample.pred_features, sample.target_features), "loss")
                sample.set_field(frames, "frames")
            if return_features:
                vectors = one_vector_each(self.model.extract_feat(data["inputs"]), len(samples))
                for sample, vector in zip(samples, vectors, strict=True):
                    sample.set_field(vector.float(), "features")
        return [_to_cpu(sample) for sample in samples]

    visualizer: MaskFeatVisualizer | None

    def visualize(self, sample: DataSample, out_file: Path | None = None, show: bool = False) -> None:
        """Draw a sample of :meth:`forward`, and store the path of the file in its field ``picture``."""
        if self.visualizer is None:
            self.visualizer = MaskFeatVisualizer()
        with named_errors(self.config, "cannot be drawn", ("model.target_generator",)):
            self.visualizer.add_datasample(
                sample.name, sample.frames, sample, self.model.target_generator, show=show, out_file=out_file
            )
        if out_file is not None:
            sample.set_field(str(out_file), "picture", field_type="metainfo")

    def postprocess(self, sample: DataSample) -> dict:
        """Convert a sample of :meth:`forward` to a dict of arrays and numbers."""
        result = dict(name=sample.name)
        for key in ("mask", "pred_features", "target_features", "loss", "features", "picture"):
            if key in sample:
                result[key] = _to_numpy(sample.get(key))
        return result

    @staticmethod
    def list_models(pattern: str | None = None) -> list[str]:
        """Return the names of the plugin's pre-training configs.

        Args:
            pattern (str, optional): Beginning of the names; ``*`` stands for any characters. Defaults to None.

        Returns:
            list[str]: The names.
        """
        return [name for name in list_models(pattern) if name.startswith("maskfeat")]

    def _init_pipeline(self, cfg: Config) -> list[dict]:
        """Return the configs of the transforms, see :func:`without_randomness`."""
        pipeline = without_randomness(training_pipeline(cfg), cfg.get("default_scope"))
        self.kind = input_kind(pipeline, title_of(cfg))
        InputPipeline(cfg, pipeline, needs_masks=True)  # raises an error of the config here
        return pipeline

    def _start_drawing(self, items: Sequence[Input], out_dir: str | Path | None) -> list[Path | None]:
        """Make the folder and return the path of each picture, None if pictures are only shown."""
        if out_dir is None:
            return [None] * len(items)
        folder = Path(out_dir)
        try:
            folder.mkdir(parents=True, exist_ok=True)  # before any work
        except OSError as error:
            raise ConfigError(
                f"out_dir={str(out_dir)!r}: cannot write there ({error.strerror}). Name another folder."
            ) from error
        stems = [Path(item.name).stem.replace(" ", "_") for item in items]
        counts = Counter(stems)
        ending = ".gif" if self.kind.is_clip else ".png"
        unique = [stem if counts[stem] == 1 else f"{stem}_{i:06d}" for i, stem in enumerate(stems)]
        return [folder / f"{name}{ending}" for name in unique]

    def _draw_again(self, item: Input, mask: np.ndarray) -> np.ndarray:
        """Predict one input again and draw it: results do not keep their frames, which would fill the memory."""
        (batch,) = self.preprocess([item], mask=mask)
        (sample,) = self.forward(batch)
        return MaskFeatVisualizer().add_datasample(item.name, sample.frames, sample, self.model.target_generator)

    def _inputs_to_list(self, inputs: object) -> list[Input]:
        channels, bits = sample_channels(self.config), sample_bits(self.config)
        return list_inputs(inputs, self.kind, self.title, channels, bits)

    def _token_grids(self) -> list[tuple[int, ...]]:
        return [found[1] for found in map(mask_grid, self.pipeline) if found is not None]

    def _one_each(self, mask: np.ndarray | Sequence[np.ndarray], count: int) -> list[np.ndarray]:
        """Return one mask for each input, bool on the token grid."""
        try:
            masks = np.stack([np.asarray(m) for m in mask]) if isinstance(mask, list | tuple) else np.array(mask)
        except ValueError as error:
            raise ConfigError(f"the masks have different shapes: {error}. Give masks of the same shape.") from error
        grid = self._token_grids()[0]
        fits = masks.size and masks.size % prod(grid) == 0 and masks.shape[-len(grid) :] == grid
        masks = masks.astype(bool).reshape(-1, *grid) if fits else np.zeros((0, *grid), bool)
        if len(masks) not in (1, count):
            raise ConfigError(
                f"mask has the shape {np.shape(mask)}, but the token grid is {grid}. Give one mask of the shape {grid} "
                f"for all inputs, or one for each of the {count}."
            )
        empty = [i for i, m in enumerate(masks) if not m.any()]
        if empty:
            raise ConfigError(f"mask number {empty[0]} masks no token. Set at least one of its values to True.")
        return list(masks) * (count if len(masks) == 1 else 1)

    def _frames(self, inputs: Sequence[torch.Tensor]) -> list[np.ndarray]:
        """Return the frames of each input before normalisation, (T, H, W, C); RGB, if there are three channels."""
        to_rgb = getattr(self.model.data_preprocessor, "to_rgb", False)
        frames = []
        for tensor in inputs:
            clip = tensor.unsqueeze(1) if tensor.ndim == 3 else tensor[0]  # (C, T, H, W)
            clip = clip.permute(1, 2, 3, 0).numpy()  # (T, H, W, C)
            frames.append(np.ascontiguousarray(clip[..., ::-1] if to_rgb and clip.shape[-1] == 3 else clip))
        return frames


def _to_cpu(sample: DataSample) -> DataSample:
    """Move all tensors of a sample to the CPU, including tensors in dicts."""
    for key, value in sample.items():
        if isinstance(value, dict):
            sample.set_field({name: tensor.cpu() for name, tensor in value.items()}, key)
    return sample.cpu()


def _to_numpy(value: object) -> object:
    """Convert a tensor, or each tensor in a dict, to an array, and a tensor with a single value to a number."""
    if isinstance(value, dict):
        return {name: _to_numpy(part) for name, part in value.items()}
    if not isinstance(value, torch.Tensor):
        return value
    return value.item() if value.ndim == 0 else value.numpy()
