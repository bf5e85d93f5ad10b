"""Transform that loads images."""

import re

import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine import fileio

from maskfeat_plugin.errors import reading
from maskfeat_plugin.registry import TRANSFORMS
from maskfeat_plugin.storage import StorageError

_START_OF_JPEG, _SCAN, _END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
# Between scans: tables, comments, application data, the next scan and the end. No bytes of a scan match this.
_NEXT_SEGMENT = re.compile(rb"\xff+([\xc0-\xcf\xd9-\xfe])")


@TRANSFORMS.register_module()
class LoadWholeImage(LoadImageFromFile):
    """``mmcv.LoadImageFromFile`` that refuses an incomplete JPEG. OpenCV would paint the missing part grey.

    Arguments are as for ``mmcv.LoadImageFromFile``.

    Required key: ``img_path``. Added keys: ``img``, ``img_shape``, ``ori_shape``.
    """

    def transform(self, results: dict) -> dict | None:
        """Load the image.

        Args:
            results (dict): The sample.

        Returns:
            dict | None: The sample with the image, uint8 (H, W, 3) BGR by default; None for a bad image if
            ``ignore_empty=True``.

        Raises:
            ValueError: If the file is no image, or is incomplete.
            StorageError: If the storage of the file cannot be used, also if ``ignore_empty=True``.
        """
        path = results["img_path"]
        try:
            image = self._decode(self._read(path), path)
        except StorageError:
            raise
        except Exception:
            if self.ignore_empty:
                return None
            raise
        results["img"] = image.astype(np.float32) if self.to_float32 else image
        results["img_shape"] = results["ori_shape"] = image.shape[:2]
        return results

    def _read(self, path: str) -> bytes:
        if self.file_client_args is not None:
            return fileio.FileClient.infer_client(self.file_client_args, path).get(path)
        return fileio.get(path, backend_args=self.backend_args)

    def _decode(self, content: bytes, path: str) -> np.ndarray:
        if content.startswith(_START_OF_JPEG) and not _is_whole_jpeg(content):
            raise ValueError(f"{path} is cut short.")
        image = None
        if content:
            with reading(path, "is no image, or a broken one"):  # OpenCV raises an error for very large images
                image = mmcv.imfrombytes(content, flag=self.color_type, backend=self.imdecode_backend)
        if image is None:
            raise ValueError(f"{path} is no image, or a broken one.")
        return image


def _is_whole_jpeg(content: bytes) -> bool:
    """Check whether the end of the image exists. Other data may follow it, such as the video of a motion photo."""
    # Neither marker occurs inside the pixels of a scan. Markers of a thumbnail come before the markers of the image.
    if content.rfind(_END) >= content.rfind(_SCAN):
        return True
    position = len(_START_OF_JPEG)
    while found := _NEXT_SEGMENT.search(content, position):
        if found[1] == _END[1:]:
            return True
        position = found.end() + int.from_bytes(content[found.end() : found.end() + 2], "big")
    return False
