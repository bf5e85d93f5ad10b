"""JSON that is nested too deep or has very long numbers, and pictures too large to decode: one error names the file."""

import struct
import zlib

import pytest
import torch
from mmengine.config import Config

from maskfeat_plugin.apis import load_config
from maskfeat_plugin.checkpoints.formats import last_scale_of
from maskfeat_plugin.config.classes import check_class_files
from maskfeat_plugin.config.input_kinds import IMAGES
from maskfeat_plugin.config.input_pipeline import list_inputs
from maskfeat_plugin.datasets.categories import read_categories
from maskfeat_plugin.datasets.transforms.loading import LoadWholeImage
from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.preparation.readable import check_image
from projects.benchmark.result_tables import read_run
from projects.demo.train import read_json

DEEP = 100_000
EXTREME = ["[" * DEEP, '{"a":' * DEEP, f'{{"rows": [1{"0" * 5000}]}}', "null", "\0", "", b"\xff\xfe"]


@pytest.fixture(params=EXTREME, ids=lambda content: ascii(content)[:12])
def extreme(request, tmp_path):
    """Write a file that is no valid JSON, or too extreme to be read."""
    path = tmp_path / "file.json"
    path.write_bytes(request.param if isinstance(request.param, bytes) else request.param.encode())
    return path


@pytest.mark.parametrize("read", [read_run, read_json, load_config])
def test_json_that_cannot_be_read(extreme, read):
    with pytest.raises(ConfigError) as error:
        read(extreme)
    assert str(extreme) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "list_", ["[" * DEEP, "[1" + "0" * 5000 + "]", '[{"id": 1, "name": 1' + "0" * 5000 + "}]", "[}"]
)
def test_categories_that_cannot_be_read(tmp_path, list_):
    path = tmp_path / "coco.json"
    path.write_text(f'{{"categories": {list_}')
    with pytest.raises(ValueError, match='has no "categories"') as error:
        read_categories(path)
    assert str(path) in str(error.value)


def test_a_list_of_classes_that_is_no_text(tmp_path):
    (tmp_path / "coco.json").write_text('{"categories": [{"id": 1, "name": "a"}]}')
    names = tmp_path / "names.txt"
    names.write_bytes(b"\xff\xfea")
    dataset = dict(type="mmdet.CocoDataset", ann_file=str(tmp_path / "coco.json"), metainfo=dict(classes=str(names)))
    with pytest.raises(ConfigError, match=rf"{names} is no list of names .*train_dataloader.dataset.metainfo.classes"):
        check_class_files(Config(dict(train_dataloader=dict(dataset=dataset))), ("train_dataloader",))


@pytest.mark.parametrize(
    "text", ["[" * 5000, "{a: " * 5000, "&a [*a]", "MVIT: 3", "!!python/object/apply:os.system [x]"]
)
def test_configs_in_checkpoints_that_are_none(text):
    state = {f"blocks.{i}.attn.rel_pos_h": torch.zeros(8 if i < 2 else 4, 1) for i in range(3)}
    assert last_scale_of(state, text) == 1  # the scale follows from the weights


def png(width, height):
    """Return bytes of a PNG whose header claims so many pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(50_000, 50_000), (2**31 - 1, 5), (0, 0)])
def test_pictures_that_nothing_decodes(tmp_path, size):
    path = tmp_path / "picture.png"
    path.write_bytes(png(*size))
    with pytest.raises(ConfigError, match=f"{path} is no image that OpenCV reads"):
        list_inputs(str(path), IMAGES, "the config")
    with pytest.raises(ValueError, match=f"{path} is no image, or a broken one"):
        LoadWholeImage().transform(dict(img_path=str(path)))
    assert check_image(str(path)) and check_image(str(path), "full")
