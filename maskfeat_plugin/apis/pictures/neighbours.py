"""Pictures of an input and its nearest neighbours among the files of a data set, by the features of a backbone."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from maskfeat_plugin.config.input_pipeline import Input, InputDataset, InputPipeline
from maskfeat_plugin.config.origins import named_errors
from maskfeat_plugin.datasets.folders import printable
from maskfeat_plugin.evaluation.features import batch_features
from maskfeat_plugin.evaluation.knn import nearest_neighbours
from maskfeat_plugin.visualization.animation import write_frames
from maskfeat_plugin.visualization.boxes import enlarge_to, shorten

from .model_outputs import frames_of

_COLUMNS = 6
_GAP = 8
_LINE = 20


def write_neighbours(
    cfg: Config,
    model: nn.Module,
    pipeline: Sequence[dict],
    items: Sequence[Input],
    stems: Sequence[str],
    bank: Sequence[Input],
    count: int,
    out: Path,
    batch_size: int = 8,
    clips: str = "gif",
) -> list[Path]:
    """Write a picture of each item with its nearest neighbours and their similarities, and for clips an animation too.

    If the file of an item is in the bank, it is not shown as its own neighbour.

    Args:
        cfg (Config): The config of the model.
        model (nn.Module): A model with ``extract_feat``, see :func:`.load_backbone`.
        pipeline (Sequence[dict]): Configs of the transforms that files go through.
        items (Sequence[Input]): Files whose neighbours are searched.
        stems (Sequence[str]): Name of the files that are written about each item, without their ending.
        bank (Sequence[Input]): Files that may be neighbours.
        count (int): Number of neighbours.
        out (Path): Folder to write to.
        batch_size (int): Number of files that the model takes at once. Defaults to 8.
        clips (str): Format of the animations, "gif" or "mp4". Defaults to "gif".

    Returns:
        list[Path]: The files.

    Raises:
        ConfigError: If a file cannot be read or the model gives no features for it.
    """
    reader = InputPipeline(cfg, pipeline)
    features = features_of(cfg, model, reader, bank, batch_size, "neighbours")
    queries = features_of(cfg, model, reader, items, batch_size, "queries")
    # one more than is shown, because an item may be its own nearest neighbour
    similarity, nearest = nearest_neighbours(queries, features, count + 1)
    written = []
    for row, (item, stem) in enumerate(zip(tqdm(items, "drawing", unit="input"), stems, strict=True)):
        own = Path(item.name).resolve()
        found = [
            (bank[number], value)
            for number, value in zip(nearest[row].tolist(), similarity[row].tolist(), strict=True)
            if Path(bank[number].name).resolve() != own
        ][:count]
        titles = [printable(Path(item.name).name)]
        titles += [f"{value:.3f}  {printable(Path(other.name).name)}" for other, value in found]
        clip = [_frames(reader, other) for other in (item, *(other for other, _ in found))]
        middle = [frames[len(frames) // 2] for frames in clip]
        path = out / f"{stem}_neighbours"
        written.append(write_frames(path.with_name(f"{path.name}.png"), draw_grid(middle, titles)[None]))
        if reader.kind.is_clip:
            pages = np.stack([draw_grid(list(frames), titles) for frames in zip(*clip, strict=True)])
            written.append(write_frames(path.with_name(f"{path.name}.{clips}"), pages))
    return written


def features_of(
    cfg: Config, model: nn.Module, reader: InputPipeline, items: Sequence[Input], batch_size: int = 8, title: str = ""
) -> Tensor:
    """Compute the features of files.

    Args:
        cfg (Config): The config of the model.
        model (nn.Module): See :func:`write_neighbours`.
        reader (InputPipeline): Pipeline of the files.
        items (Sequence[Input]): The files.
        batch_size (int): Number of files that the model takes at once. Defaults to 8.
        title (str): Title of the progress bar; "" for no bar. Defaults to "".

    Returns:
        Tensor: float32 (N, C).

    Raises:
        ConfigError: If a file cannot be read or the model gives no features for it.
    """
    loader = DataLoader(InputDataset(items, reader), batch_size, collate_fn=pseudo_collate)
    rows = []
    for batch in tqdm(loader, title, unit="batch", disable=not title):
        with named_errors(cfg, "gives no features of these inputs", ("model",)):
            rows.append(batch_features(model, batch)[0])
    return torch.cat(rows)


def draw_grid(pictures: Sequence[np.ndarray], titles: Sequence[str]) -> np.ndarray:
    """Draw pictures in rows, each with a line of text below it. The first picture has a frame.

    Args:
        pictures (Sequence[np.ndarray]): RGB, uint8 (H, W, 3), all of one size.
        titles (Sequence[str]): The lines; a line that is too long is cut and ends in dots.

    Returns:
        np.ndarray: RGB, uint8 (height, width, 3).
    """
    pictures = [enlarge_to(picture, 160) for picture in pictures]
    height, width = pictures[0].shape[:2]
    columns = min(len(pictures), _COLUMNS)
    rows = -(-len(pictures) // columns)
    page = Image.new("RGB", (columns * (width + _GAP) + _GAP, rows * (height + _LINE + _GAP) + _GAP), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(14)
    for number, (picture, title) in enumerate(zip(pictures, titles, strict=True)):
        row, column = divmod(number, columns)
        left, top = _GAP + column * (width + _GAP), _GAP + row * (height + _LINE + _GAP)
        if number == 0:
            draw.rectangle((left - 4, top - 4, left + width + 3, top + height + 3), fill=(214, 138, 0))
        page.paste(Image.fromarray(picture), (left, top))
        draw.text((left, top + height + 4), shorten(title, width, font), fill="black", font=font)
    return np.asarray(page)


def _frames(reader: InputPipeline, item: Input) -> np.ndarray:
    return frames_of(reader(item, 0)["inputs"], not reader.kind.is_clip)
