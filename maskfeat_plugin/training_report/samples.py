"""Search for the pictures and clips of a training, and choice of those for the page."""

import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
from PIL import Image

from maskfeat_plugin.visualization import Media, Picture

from .damage import left_out

_MIME = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".mp4": "video/mp4",
    ".webm": "video/webm",
}
_STEP = re.compile(r"(.*?)_?(\d+)")
# Limits of a page: bytes of all pictures, bytes of one picture, pixels of its longer side, steps of one sample
_ALL_BYTES = 4_000_000
_BYTES = 1_000_000
_SIDE = 1600
_STEPS = 3
# A picture with more pixels needs more than 400 MB of memory, here or in a browser
_PIXELS = 100_000_000


@dataclass(frozen=True)
class _File:
    path: Path
    name: str
    step: int | None


def find_samples(work_dir: Path, run_folders: Sequence[Path]) -> list[Path]:
    """Find the pictures and videos that the runs of a training have written.

    Args:
        work_dir (Path): The work directory. Folders in it whose names begin with "vis" are searched too.
        run_folders (Sequence[Path]): Folders of the runs, in the order of their starts.

    Returns:
        list[Path]: The files.
    """
    folders = [*sorted(path for path in work_dir.glob("vis*") if path.is_dir()), *run_folders]
    files = (path for folder in folders for path in sorted(folder.rglob("*")) if path.suffix.lower() in _MIME)
    return [path for path in files if path.is_file()]


def make_pictures(files: Sequence[Path]) -> tuple[list[Picture], int]:
    """Choose pictures of a training for a page of a few MB.

    mmengine's backends name files NAME_STEP.png or similar; files with the same NAME show the same sample. The last
    step of each name is chosen first. If there is room, the first and the middle step follow, to show the progress.

    Args:
        files (Sequence[Path]): Files of :func:`find_samples`.

    Returns:
        tuple[list[Picture], int]: The pictures, and the number of files that are left out. Pictures of one name are
        together, in the order of the steps.
    """
    by_name: dict[str, dict[int, _File]] = {}
    for path in files:
        found = _STEP.fullmatch(path.stem)
        name, step = (found[1], int(found[2])) if found else (path.stem, None)
        of_name = by_name.setdefault(f"{name}{path.suffix.lower()}", {})
        # the file of a later run replaces the file of an earlier run
        of_name[-1 if step is None else step] = _File(path, name or path.parent.name, step)
    ranked: list[list[_File]] = [[] for _ in range(_STEPS)]
    for steps in by_name.values():
        ordered = [steps[step] for step in sorted(steps)]
        for rank, file in enumerate(dict.fromkeys((ordered[-1], ordered[0], ordered[len(ordered) // 2]))):
            ranked[rank].append(file)
    shown: dict[str, list[tuple[_File, Media]]] = {}
    room = _ALL_BYTES
    for file in (file for rank in ranked for file in rank):
        media = read_media(file.path)
        if media is None or len(media.data) > room:
            continue
        room -= len(media.data)
        shown.setdefault(f"{file.name} ({file.path.suffix[1:].lower()})", []).append((file, media))
    pictures = []
    for title, items in shown.items():
        items.sort(key=lambda item: item[0].step or 0)
        media = {file.path.name if file.step is None else f"step {file.step}": found for file, found in items}
        pictures.append(Picture(title, media))
    return pictures, len(files) - sum(map(len, shown.values()))


def read_media(path: Path) -> Media | None:
    """Read a picture or a video. A large picture is made smaller.

    Args:
        path (Path): The file.

    Returns:
        Media | None: The picture or video; None if it is too large or cannot be read. A training may still be writing
        the file.
    """
    mime = _MIME[path.suffix.lower()]
    with left_out(path, "cannot be shown"):
        is_large = path.stat().st_size > _BYTES
        if mime.startswith("video/"):
            return None if is_large else Media(path.read_bytes(), mime, *_video_size(path))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # _PIXELS is the limit here
            image = Image.open(path)
        with image:
            size = image.size
            if size[0] * size[1] > _PIXELS:
                raise ValueError(f"{size[0]} x {size[1]} pixels are too many")
            image.load()
            if mime in ("image/png", "image/jpeg") and (max(size) > _SIDE or is_large):
                return _make_smaller(image)
        return None if is_large else Media(path.read_bytes(), mime, *size)
    return None


def _make_smaller(image: Image.Image) -> Media:
    image = image.convert("RGB")
    image.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    image.save(buffer, format="WEBP", quality=85)
    return Media(buffer.getvalue(), "image/webp", *image.size)


def _video_size(path: Path) -> tuple[int, int]:
    """Return the size of a video's frames.

    Raises:
        ValueError: If the video has no frames.
    """
    video = cv2.VideoCapture(str(path))
    try:
        size = int(video.get(cv2.CAP_PROP_FRAME_WIDTH)), int(video.get(cv2.CAP_PROP_FRAME_HEIGHT))
    finally:
        video.release()
    if min(size) < 1:
        raise ValueError("it has no frames")
    return size
