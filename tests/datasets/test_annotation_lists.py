"""Lists in the forms that editors, spreadsheets and other systems write: read, or refused with the line number."""

import codecs

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmengine.config import Config
from mmengine.registry import DefaultScope

from maskfeat_plugin.apis import ConfigError, check_config
from maskfeat_plugin.datasets.video import read_list
from maskfeat_plugin.registry import DATASETS

VIDEO = [
    dict(type="maskfeat.OpenVideo"),
    dict(type="SampleFrames", clip_len=2),
    dict(type="maskfeat.DecodeClip"),
    dict(type="FormatShape", input_format="NCTHW"),
    dict(type="PackActionInputs"),
]
NAMES = ["plain.mp4", "with some spaces.mp4", "Größe 東京 🎬.mp4", "folder/2 in 1.mp4"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with one video for each name."""
    folder = tmp_path_factory.mktemp("videos")
    (folder / "folder").mkdir()
    for name in NAMES:
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.height = stream.width = 32
            stream.pix_fmt = "yuv420p"
            for _ in range(4):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")))
            container.mux(stream.encode())
    return folder


def videos(folder, content, dataset_type="maskfeat.VideoDataset", **settings):
    (folder / "list.txt").write_bytes(content)
    place = dict(ann_file="list.txt", data_root=str(folder), data_prefix=dict(video=""))
    with DefaultScope.overwrite_default_scope("mmaction"):
        return DATASETS.build(dict(type=dataset_type, pipeline=VIDEO, **place, **settings))


LINES = [f"{name} {i}" for i, name in enumerate(NAMES)]
FORMS = {
    "as-it-should-be": "\n".join(LINES).encode() + b"\n",
    "without-the-last-line-end": "\n".join(LINES).encode(),
    "windows": "\r\n".join(LINES).encode() + b"\r\n",
    "old-mac": "\r".join(LINES).encode(),
    "byte-order-mark": codecs.BOM_UTF8 + "\n".join(LINES).encode(),
    "trailing-spaces": "".join(f"  {line} \t \n" for line in LINES).encode(),
    "several-spaces": "".join(f"{name}   {i}\n" for i, name in enumerate(NAMES)).encode(),
    "tabs": "".join(f"{name}\t{i}\n" for i, name in enumerate(NAMES)).encode(),
    "blank-lines": ("\n\n" + "\n  \n".join(LINES) + "\n\n").encode(),
}


@pytest.mark.parametrize("dataset_type", ["maskfeat.VideoDataset", "maskfeat.RepeatAugDataset"])
@pytest.mark.parametrize("form", FORMS)
def test_forms_of_a_list(folder, form, dataset_type):
    data = videos(folder, FORMS[form], dataset_type)
    found = [data.get_data_info(i) for i in range(len(data))]
    assert [info["filename"] for info in found] == [str(folder / name) for name in NAMES]
    assert [info["label"] for info in found] == [0, 1, 2, 3]


def test_files_with_these_names_are_read(folder):
    data = videos(folder, FORMS["windows"])
    for i in range(len(NAMES)):
        assert data[i]["inputs"].shape == (1, 3, 2, 32, 32) and int(data[i]["data_samples"].gt_label) == i


def test_equal_to_upstream_where_that_reads_a_list(folder):
    for content in (b"a.mp4 3\nb.mp4 -1\n", b"a.mp4\nb.mp4\n"):
        ours, theirs = (videos(folder, content, f"{scope}.VideoDataset") for scope in ("maskfeat", "mmaction"))
        assert [ours.get_data_info(i) for i in (0, 1)] == [theirs.get_data_info(i) for i in (0, 1)]
    settings = dict(multi_class=True, num_classes=5)
    ours, theirs = (
        videos(folder, b"a.mp4 3 1\nb.mp4 2\n", f"{scope}.VideoDataset", **settings)
        for scope in ("maskfeat", "mmaction")
    )
    for i in (0, 1):
        assert ours.get_data_info(i)["label"].tolist() == theirs.get_data_info(i)["label"].tolist()


def test_other_delimiters(folder):
    data = videos(folder, b"with some spaces.mp4, 1\nplain.mp4,0\n", delimiter=",")
    assert [data.get_data_info(i)["label"] for i in (0, 1)] == [1, 0]
    assert data[0]["inputs"].shape == (1, 3, 2, 32, 32)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a.mp4 0\n\nb c.mp4\n", "line 3: 'b c.mp4' is no name of a file and its label"),
        (b"a.mp4 0\nb.mp4 1.5\n", "line 2: 'b.mp4 1.5'"),
        (b"a.mp4 0\n\nb.mp4\n", "line 3 has no label and line 1 has one"),
        (b"a.mp4\nb.mp4 1\n", "line 1 has no label and line 2 has one"),
        ("a.mp4 0\nGröße.mp4 1\n".encode("latin-1"), "line 2: this is not UTF-8"),
        ("a.mp4 0\n".encode("utf-16"), "line 1: this is not UTF-8"),
    ],
)
def test_wrong_lines_are_named(folder, content, message):
    with pytest.raises(ValueError, match="list.txt") as error:
        videos(folder, content)
    assert message in str(error.value)


@pytest.mark.parametrize("dataset_type", ["maskfeat.VideoDataset", "maskfeat.RepeatAugDataset"])
def test_videos_without_a_label_among_several(folder, dataset_type):
    content = f"{NAMES[0]} 3 1\n\nb.mp4\n{NAMES[1]} 2\n{NAMES[2].replace(' ', '')}\n".encode()
    data = videos(folder, content, dataset_type, multi_class=True, num_classes=5)
    found = [data.get_data_info(i)["label"].tolist() for i in range(4)]
    assert found == [[0, 1, 0, 1, 0], [0] * 5, [0, 0, 1, 0, 0], [0] * 5]


def test_equal_to_upstream_without_labels(folder):
    settings = dict(multi_class=True, num_classes=5)
    for content in (b"a.mp4 3 1\nb.mp4\n", b"b.mp4\na.mp4 4\n", b"a.mp4\nb.mp4\n"):
        ours, theirs = (
            videos(folder, content, f"{scope}.VideoDataset", **settings) for scope in ("maskfeat", "mmaction")
        )
        for i in (0, 1):
            assert ours.get_data_info(i)["filename"] == theirs.get_data_info(i)["filename"]
            assert ours.get_data_info(i)["label"].tolist() == theirs.get_data_info(i)["label"].tolist()


def test_a_clip_without_a_label_is_read(folder):
    data = videos(folder, f"{NAMES[0]}\n{NAMES[1]} 1\n".encode(), multi_class=True, num_classes=3)
    assert data[0]["inputs"].shape == (1, 3, 2, 32, 32)
    assert [data[i]["data_samples"].gt_label.tolist() for i in (0, 1)] == [[0, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize("content", [b"a.mp4,0,2\nb.mp4\n", b"a.mp4,0,2\nb.mp4,,\n", b"a.mp4, 0, 2 ,\r\n b.mp4 ,\r\n"])
def test_empty_columns_of_a_spreadsheet(folder, content):
    data = videos(folder, content, delimiter=",", multi_class=True, num_classes=3)
    assert [data.get_data_info(i)["label"].tolist() for i in (0, 1)] == [[1, 0, 1], [0, 0, 0]]
    assert [data.get_data_info(i)["filename"] for i in (0, 1)] == [str(folder / n) for n in ("a.mp4", "b.mp4")]


@pytest.mark.parametrize("label", [-1, 3, 99])
def test_labels_of_several_that_are_no_class(folder, label):
    with pytest.raises(ValueError, match=r"list.txt, line 2: the labels of 'b.mp4' .* has 0 to 2"):
        videos(folder, f"a.mp4 0\nb.mp4 1 {label}\n".encode(), multi_class=True, num_classes=3)


@given(
    names=st.lists(
        st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1).map(
            lambda name: f"{name.strip()}.mp4"
        ),
        min_size=1,
        max_size=5,
    ),
    end=st.sampled_from(["\n", "\r\n", "\n\n", " \n"]),
)
def test_any_names(tmp_path_factory, names, end):
    path = tmp_path_factory.getbasetemp() / "any.txt"
    path.write_bytes("".join(f"{name} {i}{end}" for i, name in enumerate(names)).encode())
    assert [(file.name, *file.labels) for file in read_list(str(path))] == [(n, i) for i, n in enumerate(names)]


def check(folder, content, **dataset):
    (folder / "list.txt").write_bytes(content)
    dataset = dict(data_root=str(folder), ann_file="list.txt", pipeline=[], **dataset)
    check_config(Config(dict(train_dataloader=dict(dataset=dataset))), ("train_dataloader",))


@pytest.mark.parametrize(
    ("settings", "content", "message"),
    [
        (dict(type="VideoDataset"), b"a.mp4 0\nb c.mp4 1\n", "line 2: 'b c.mp4 1' .*type='maskfeat.VideoDataset'"),
        (dict(type="VideoDataset"), b"a.mp4 0\n\nb.mp4 1\n", "line 2: ''"),
        (dict(type="VideoDataset"), FORMS["byte-order-mark"], "line 1: it begins with a byte order mark"),
        (dict(type="ImageNet"), b"a.jpg 0\nb.jpg\n", "line 2: 'b.jpg' is not a name, a space and a label"),
        (dict(type="CustomDataset"), b"a.jpg 0\n\n", "line 2: ''"),
        (dict(type="CustomDataset"), codecs.BOM_UTF8 + b"a.jpg 0\n", "line 1: it begins with"),
        (dict(type="CustomDataset"), b"a.jpg 0\n\xff.jpg 0\n", "line 2: this is not UTF-8"),
        (dict(type="maskfeat.SkipBadFiles", dataset_type="ImageNet"), b"a.jpg\n", "line 1: 'a.jpg'"),
    ],
)
def test_lists_that_upstream_does_not_take_are_refused_before(tmp_path, settings, content, message):
    with pytest.raises(ConfigError, match=rf"train_dataloader.dataset.ann_file='list.txt': .*list.txt, {message}"):
        check(tmp_path, content, **settings)


@pytest.mark.parametrize(
    ("settings", "content"),
    [
        (dict(type="VideoDataset"), b"a.mp4 0\r\nb.mp4 1 \r\n"),
        (dict(type="VideoDataset"), b"a.mp4\nb.mp4\n"),
        (dict(type="VideoDataset", multi_class=True), b"a.mp4 0 1\n"),
        (dict(type="VideoDataset", delimiter=","), b"a b.mp4,0\n"),
        (dict(type="maskfeat.VideoDataset"), FORMS["byte-order-mark"]),
        (dict(type="CustomDataset"), "a b ö.jpg 0\r\n".encode()),
        (dict(type="CustomDataset", with_label=False), b"a.jpg\n"),
        (dict(type="SomeonesDataset"), b"anything\n\n"),
    ],
)
def test_lists_that_are_taken_pass(tmp_path, settings, content):
    check(tmp_path, content, **settings)


def test_image_lists_with_spaces_and_windows_line_ends(tmp_path):
    names = ["a b.png", "Größe 東京.png"]
    for name in names:
        (tmp_path / name).write_bytes(cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    (tmp_path / "list.txt").write_bytes("".join(f"{name} {i} \r\n" for i, name in enumerate(names)).encode())
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        data = DATASETS.build(
            dict(
                type="CustomDataset",
                data_root=str(tmp_path),
                ann_file="list.txt",
                pipeline=[dict(type="maskfeat.LoadWholeImage"), dict(type="PackInputs")],
            )
        )
    assert [data[i]["inputs"].shape for i in (0, 1)] == [(3, 8, 8)] * 2
