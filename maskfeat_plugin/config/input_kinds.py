"""Kinds of files that pipelines read: images, videos, sounds and volumes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import cv2
import numpy as np
from PIL import Image

from maskfeat_plugin.datasets.folders import IMAGE_ENDINGS, SOUND_ENDINGS, VIDEO_ENDINGS, VOLUME_ENDINGS, printable
from maskfeat_plugin.datasets.sound_reader import check_sound
from maskfeat_plugin.datasets.video_reader import VideoReader
from maskfeat_plugin.datasets.volume_reader import check_volume
from maskfeat_plugin.errors import ConfigError, reading

from .sample_sizes import class_name


@dataclass(frozen=True)
class InputKind:
    """Kind of the files that a pipeline reads.

    Args:
        name (str): A noun, such as "image". Its plural ends in s.
        readers (tuple[str, ...]): Names of the transforms that read or open such a file.
        endings (tuple[str, ...]): Endings of the files, in lower case. Folders are searched for them.
        is_clip (bool): Whether a sample is a clip and not an image.
        open_file (Callable[[Path, str], object]): Function that opens a file, given its path and its name for messages.
            It raises a ``ValueError`` if the file is of another kind or broken, as far as this is visible without
            decoding it.
    """

    name: str
    readers: tuple[str, ...]
    endings: tuple[str, ...]
    is_clip: bool
    open_file: Callable[[Path, str], object]

    def __str__(self) -> str:
        return f"{'an' if self.name[0] in 'aeiou' else 'a'} {self.name}"

    @property
    def plural(self) -> str:
        """Return the plural of the name."""
        return f"{self.name}s"

    def check_name(self, path: PurePath, title: str, name: str | None = None) -> None:
        """Check by its ending that a file may be of this kind. A file with an unknown ending may be of any kind.

        Args:
            path (PurePath): The file.
            title (str): Name of the config that expects this kind.
            name (str, optional): Name of the file in the message. Defaults to None: its path.

        Raises:
            ConfigError: If the file is of another kind.
        """
        ending = path.suffix.lower()
        found = next((kind for kind in (self, *KINDS) if ending in kind.endings), self)
        if found is not self:
            raise self.other_kind(name or path, found, title)

    def other_kind(self, name: PurePath | str, found: "InputKind", title: str) -> ConfigError:
        """Build the error for an input of another kind.

        Args:
            name (PurePath | str): The input.
            found (InputKind): Its kind.
            title (str): Name of the config that expects this kind.

        Returns:
            ConfigError: The error.
        """
        return ConfigError(
            f"{name} is {found}, and {title} takes {self.plural}; give {self.plural}, or a config that takes "
            f"{found.plural}."
        )

    def check_file(self, path: Path, name: str) -> None:
        """Open a file to check it.

        Args:
            path (Path): The file.
            name (str): Its name in messages.

        Raises:
            ConfigError: If the file is empty, of another kind or broken, as far as this is visible without decoding it.
        """
        if not path.stat().st_size:
            raise ConfigError(f"{name} is empty.")
        try:
            self.open_file(path, name)
        except ValueError as error:
            raise ConfigError(str(error)) from error


def _open_video(path: Path, name: str) -> VideoReader:
    return VideoReader(str(path), name)


def _open_image(path: Path, name: str) -> None:
    if not _is_image(path):
        raise ConfigError(f"{name} is no image that OpenCV reads.")


def _is_image(path: Path) -> bool:
    """Check whether a file is an image; ``cv2.haveImageReader`` crashes with names that are not UTF-8."""
    try:
        with Image.open(path):  # reads the header
            return True
    except Exception:  # OpenCV reads a few more formats
        pass
    with reading(printable(path), "is no image that OpenCV reads"):
        return cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR) is not None


OPEN_VIDEO = ("DecordInit", "OpenVideo", "PyAVInit", "OpenCVInit", "PIMSInit")
"""Transforms that open a video."""

IMAGES = InputKind("image", ("LoadImageFromFile", "LoadWholeImage"), IMAGE_ENDINGS, False, _open_image)
VIDEOS = InputKind("video", OPEN_VIDEO, VIDEO_ENDINGS, True, _open_video)
SOUNDS = InputKind("sound", ("LoadSpectrogram",), SOUND_ENDINGS + VIDEO_ENDINGS, False, check_sound)
VOLUMES = InputKind("volume", ("OpenVolume",), VOLUME_ENDINGS, True, check_volume)
KINDS = (IMAGES, VIDEOS, SOUNDS, VOLUMES)
"""All kinds. If several kinds have the ending of a file, messages name the first of them."""


def input_kind(pipeline: Sequence[dict], title: str) -> InputKind:
    """Return the kind of the files that a pipeline reads.

    Args:
        pipeline (Sequence[dict]): Configs of the transforms.
        title (str): Name of the config, for the message.

    Returns:
        InputKind: The kind.

    Raises:
        ConfigError: If the pipeline reads no files of a known kind, but for example folders of frames.
    """
    steps = {class_name(transform) for transform in expand(pipeline)}
    for kind in KINDS:
        if steps.intersection(kind.readers):
            return kind
    known = ", ".join(reader for kind in KINDS for reader in kind.readers)
    raise ConfigError(
        f"the pipeline of {title} reads no files of images, videos, sounds or volumes: it has none of {known}."
    )


def expand(pipeline: Sequence[dict]) -> list[dict]:
    """Replace ``maskfeat.Cached`` by the transforms inside it, and several views by the first kind of view.

    Args:
        pipeline (Sequence[dict]): Configs of the transforms.

    Returns:
        list[dict]: Configs of the transforms.
    """
    steps = []
    for transform in pipeline:
        kind = class_name(transform)
        if kind == "Cached":
            steps += expand(transform["transforms"])
        elif kind == "MultiView":
            steps += expand(transform["transforms"][0])
        else:
            steps.append(transform)
    return steps
