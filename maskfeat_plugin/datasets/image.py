"""Images of a manifest."""

from mmpretrain.datasets import CustomDataset

from maskfeat_plugin.registry import DATASETS

from .manifest import IMAGE, is_manifest, read_files


@DATASETS.register_module()
class ImageDataset(CustomDataset):
    """``mmpretrain.CustomDataset`` that reads a manifest of ``maskfeat index`` as well.

    A manifest as ``ann_file`` gives all its images that can be read, without labels. They are below ``data_prefix`` if
    it or ``data_root`` is set, or else where they were.

    Args:
        data_root (str): The root of ``data_prefix`` and ``ann_file``. Defaults to "".
        data_prefix (str | dict): The folder of the images. Defaults to "".
        ann_file (str): A list, or a manifest, which ends in ``.parquet``. Defaults to "", none.
        with_label (bool): Whether there are labels, in the list or as folders. Defaults to True.
        **kwargs: Further arguments of ``mmpretrain.CustomDataset``.

    Raises:
        ValueError: If there is neither a folder nor a list, or labels are asked of a manifest.
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
        """Read the manifest or list, or look into the folder.

        Returns:
            list[dict]: ``img_path`` of each image and, if there are labels, ``gt_label``.
        """
        if not is_manifest(self.ann_file):
            return super().load_data_list()
        return [dict(img_path=path) for path in read_files(self.ann_file, IMAGE, self.img_prefix, "bytes")[0]]
