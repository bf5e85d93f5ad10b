"""Data set of images from a manifest, a list or a folder."""

from mmpretrain.datasets import CustomDataset

from maskfeat_plugin.registry import DATASETS

from .manifest import IMAGE, is_manifest, read_files


@DATASETS.register_module()
class ImageDataset(CustomDataset):
    """``mmpretrain.CustomDataset`` that can also read a manifest of ``maskfeat index``.

    With a manifest as ``ann_file``, the data set has all its readable images, without labels. The images are below
    ``data_prefix`` if ``data_prefix`` or ``data_root`` is set, otherwise in the folder that the manifest names.

    Args:
        data_root (str): The root of ``data_prefix`` and ``ann_file``. Defaults to "".
        data_prefix (str | dict): The folder of the images. Defaults to "".
        ann_file (str): A list, or a manifest, whose name ends in ``.parquet``. Defaults to "", none.
        with_label (bool): Whether there are labels, in the list or as class folders. Defaults to True.
        **kwargs: Further arguments of ``mmpretrain.CustomDataset``.

    Raises:
        ValueError: If there is neither a folder nor a list, or if labels are requested from a manifest.
    """

    def __init__(
        self,
        data_root: str = "",
        data_prefix: str | dict = "",
        ann_file: str = "",
        with_label: bool = True,
        **kwargs: object,
    ) -> None:
        if not (data_root or data_prefix or ann_file):
            raise ValueError("ImageDataset: without ann_file, data_root has to be the folder of the images.")
        if with_label and is_manifest(ann_file):
            raise ValueError(f"ImageDataset: the manifest {ann_file} has no labels. Set with_label=False.")
        super().__init__(data_root, data_prefix, ann_file, with_label, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Read the manifest or the list, or search the folder.

        Returns:
            list[dict]: ``img_path`` of each image and, if there are labels, ``gt_label``.
        """
        if not is_manifest(self.ann_file):
            return super().load_data_list()
        return [dict(img_path=path) for path in read_files(self.ann_file, IMAGE, self.img_prefix, "bytes")[0]]
