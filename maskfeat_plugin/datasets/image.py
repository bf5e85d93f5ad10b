"""Data set of images from a manifest, tar shards, a list or a folder."""

from collections.abc import Sequence

from mmpretrain.datasets import CustomDataset

from maskfeat_plugin.registry import DATASETS

from .manifest import IMAGE, is_manifest, read_files
from .tar_shards import CountsShards, as_pattern, is_shards, read_samples


@DATASETS.register_module()
class ImageDataset(CountsShards, CustomDataset):
    """``mmpretrain.CustomDataset`` that can also read a manifest of ``maskfeat index``, and tar shards.

    With a manifest as ``ann_file``, the data set has all its readable images, without labels. The images are below
    ``data_prefix`` if ``data_prefix`` or ``data_root`` is set, otherwise in the folder that the manifest names.

    With tar shards, ``ann_file="shard-{000000..000127}.tar"``, the data set has all their images, in their order. The
    shards are on a disk or in object storage. The label of an image is ``gt_label`` or ``label`` of its json member, or
    its cls member. Other values of the json member become keys of the sample.

    Args:
        data_root (str): The root of ``data_prefix`` and ``ann_file``. Defaults to "".
        data_prefix (str | dict): The folder of the images. Defaults to "".
        ann_file (str | Sequence[str]): A list; a manifest, whose name ends in ``.parquet``; or the tar shards, as a
            pattern with braces or a list of names. Defaults to "", none.
        with_label (bool): Whether there are labels, in the list, in the shards or as class folders. Defaults to True.
        **kwargs: Further arguments of ``mmpretrain.CustomDataset``.

    Raises:
        ValueError: If there is neither a folder nor a list, or if labels are requested from a manifest.
    """

    def __init__(
        self,
        data_root: str = "",
        data_prefix: str | dict = "",
        ann_file: str | Sequence[str] = "",
        with_label: bool = True,
        **kwargs: object,
    ) -> None:
        if not (data_root or data_prefix or ann_file):
            raise ValueError("ImageDataset: without ann_file, data_root has to be the folder of the images.")
        ann_file = as_pattern(ann_file)
        if with_label and is_manifest(ann_file):
            raise ValueError(f"ImageDataset: the manifest {ann_file} has no labels. Set with_label=False.")
        super().__init__(data_root, data_prefix, ann_file, with_label, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Read the manifest, the indexes of the shards or the list, or search the folder.

        Returns:
            list[dict]: ``img_path`` of each image and, if there are labels, ``gt_label``.
        """
        if is_shards(self.ann_file):
            return read_samples(self.ann_file, image=True, with_label=self.with_label)
        if not is_manifest(self.ann_file):
            return super().load_data_list()
        return [dict(img_path=path) for path in read_files(self.ann_file, IMAGE, self.img_prefix, "bytes")[0]]
