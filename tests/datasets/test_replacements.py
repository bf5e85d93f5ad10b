"""Data sets, transforms and metrics that replace upstream ones have the same arguments in the same order."""

import inspect

import cv2
import mmaction.registry as mmaction
import mmcv.transforms
import mmpretrain.registry as mmpretrain
import numpy as np
import pytest
from mmaction.datasets.transforms import DecordDecode, DecordInit, SampleFrames
from mmengine.registry import DefaultScope

import maskfeat_plugin.registry as ours
from maskfeat_plugin.registry import DATASETS, TRANSFORMS

BOX = "0.1,0.2,0.5,0.6"
# Subclasses of upstream classes that have arguments of their own
OTHERS = {"CentralCrop", "ClipsByDuration", "ImageDataset", "OpenVideoByTorchCodec", "OpenVolume"}
# (class, argument) with another default: None instead of a mutable default of upstream, or upstream's own name for None
DEFAULTS = {("AVADataset", "proposal_file"), ("RepeatAugDataset", "data_prefix")}


def replaced():
    """Return our classes with the registered upstream classes that they are subclasses of."""
    for kind in ("DATASETS", "TRANSFORMS", "METRICS"):
        getattr(ours, kind).import_from_location()
        known = [getattr(package, kind).module_dict.values() for package in (mmaction, mmpretrain)]
        known = {cls for classes in (*known, mmcv.transforms.TRANSFORMS.module_dict.values()) for cls in classes}
        for name, cls in getattr(ours, kind).module_dict.items():
            parents = cls.__mro__[1:] if isinstance(cls, type) else ()
            parent = next((p for p in parents if p in known and not p.__module__.startswith("maskfeat")), None)
            # if there are several parents, the one with the same name is replaced
            parent = next((p for p in parents if p in known and p.__name__ == name), parent)
            if parent is not None and name not in OTHERS and cls.__module__.startswith("maskfeat_plugin"):
                yield cls, parent


REPLACED = list(replaced())


def test_all_replacements_are_tested():
    assert sorted(cls.__name__ for cls, _ in REPLACED) == [
        "AVADataset",
        "AVAMetric",
        "DecodeClip",
        "FormatShape",
        "LoadWholeImage",
        "MovingResizedCrop",
        "MultiView",
        "OpenVideo",
        "RepeatAugDataset",
        "SampleAVAFrames",
        "VideoDataset",
    ]


@pytest.mark.parametrize(("cls", "parent"), REPLACED, ids=lambda cls: f"{cls.__module__.split('.')[0]}.{cls.__name__}")
def test_arguments_are_upstreams_in_upstreams_order(cls, parent):
    found, expected = (list(inspect.signature(c).parameters.values()) for c in (cls, parent))
    for place, theirs in enumerate(expected):
        if theirs.kind is theirs.VAR_KEYWORD:
            assert any(parameter.kind is theirs.kind for parameter in found)
            continue
        mine = found[place]
        if mine.kind is mine.VAR_POSITIONAL:  # the remaining arguments are passed to the parent
            assert any(parameter.kind is parameter.VAR_KEYWORD for parameter in found)
            return
        assert (mine.name, mine.kind) == (theirs.name, theirs.kind)
        if theirs.default is not theirs.empty and (cls.__name__, mine.name) not in DEFAULTS:
            assert mine.default == theirs.default
    assert all(p.default is not p.empty or p.kind is p.VAR_KEYWORD for p in found[len(expected) :])


def build(kind, *arguments, **options):
    with DefaultScope.overwrite_default_scope("mmaction"):
        return DATASETS.get(kind)(*arguments, **options)


@pytest.fixture
def ava(tmp_path):
    """Write annotations of the actions 3, 12 and 80, excluded timestamps and a label map."""
    (tmp_path / "ann.csv").write_text(
        f"a,902,{BOX},12,0\na,902,{BOX},80,0\na,903,{BOX},12,0\nb,902,{BOX},3,1\nb,903,{BOX},80,1\n"
    )
    (tmp_path / "out.csv").write_text("b,0903\n")
    (tmp_path / "map.pbtxt").write_text("".join(f'item {{\n  name: "{i}"\n  id: {i}\n}}\n' for i in (3, 12, 80)))
    return tmp_path


def infos(data):
    """Return the samples without the proposals, which only our class adds."""
    found = [data.get_data_info(i) for i in range(len(data))]
    return [
        {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in info.items()}
        for info in ({k: v for k, v in info.items() if k != "proposals"} for info in found)
    ]


def test_ava_of_custom_classes(ava):
    """The requested actions are numbered again from 1, and other actions are ignored."""
    options = dict(num_classes=3, custom_classes=[12, 80], label_file=str(ava / "map.pbtxt"))
    data, theirs = (build(f"{scope}.AVADataset", str(ava / "ann.csv"), [], **options) for scope in SCOPES)
    assert infos(data) == infos(theirs)
    assert [info["gt_labels"] for info in infos(data)] == [[[0, 1, 1]], [[0, 1, 0]], [[0, 0, 1]]]
    with pytest.raises(ValueError, match="custom_classes needs label_file"):
        build("maskfeat.AVADataset", str(ava / "ann.csv"), [], num_classes=3, custom_classes=[12, 80])


SCOPES = ("maskfeat", "mmaction")


def test_ava_by_position(ava):
    arguments = [str(ava / "ann.csv"), [], str(ava / "out.csv"), str(ava / "map.pbtxt"), "{:03}.png", 0, None, 0.5, 3]
    arguments += [[12, 80], dict(img="frames"), "RGB", True, 7, 901, 950, False, 25, True]
    data, theirs = (build(f"{scope}.AVADataset", *arguments) for scope in SCOPES)
    assert infos(data) == infos(theirs) and len(data) == 2
    assert {"timestamp_end": 950, "fps": 25}.items() <= infos(data)[0].items()
    assert data.num_max_proposals == 7 and data.person_det_score_thr == 0.5 and data.test_mode
    np.testing.assert_array_equal(data.get_data_info(0)["proposals"], data.get_data_info(0)["gt_bboxes"])


def test_ava_below_a_data_root(ava):
    """A relative list is searched below the data root, as everywhere in mmengine, and read only when it is needed."""
    data, theirs = (build(f"{scope}.AVADataset", "ann.csv", [], data_root=str(ava)) for scope in SCOPES)
    assert infos(data) == infos(theirs) and len(data) == 4
    lazy = build("maskfeat.AVADataset", "no.csv", [], data_root=str(ava), lazy_init=True)
    with pytest.raises(FileNotFoundError, match="ann_file: there is no file"):
        lazy.full_init()


def test_videos_by_position(tmp_path):
    (tmp_path / "list.txt").write_text("a.mp4,1,3\nb.mp4,2\n")
    arguments = [str(tmp_path / "list.txt"), [], dict(video="videos"), True, 5, 1, "RGB", True, ","]
    data, theirs = (build(f"{scope}.VideoDataset", *arguments) for scope in SCOPES)
    for i in range(2):
        (mine, label), (other, expected) = (
            (info, info.pop("label").tolist()) for info in (data.get_data_info(i), theirs.get_data_info(i))
        )
        assert mine == other and label == expected
    assert data.test_mode


@pytest.mark.parametrize(
    "pipeline",
    [
        [dict(type="DecordInit"), dict(type="SampleFrames", clip_len=2), dict(type="DecordDecode")],
        [DecordInit(), SampleFrames(2), DecordDecode()],
        [dict(type=DecordInit), dict(type=SampleFrames, clip_len=2), dict(type=DecordDecode)],
    ],
    ids=["names", "transforms", "classes"],
)
def test_repeated_augmentation_by_position(tmp_path, pipeline):
    (tmp_path / "list.txt").write_text("a.mp4 1\nb.mp4 2\n")
    arguments = [str(tmp_path / "list.txt"), pipeline, dict(video="videos"), 3, True, False, 5, 1, "RGB"]
    data = build("maskfeat.RepeatAugDataset", *arguments)
    assert (data.num_repeats, data.sample_once, data.num_classes, data.start_index) == (3, True, 5, 1)
    expected = build("mmaction.VideoDataset", str(tmp_path / "list.txt"), [], dict(video="videos"), start_index=1)
    assert [data.get_data_info(i) for i in range(2)] == [expected.get_data_info(i) for i in range(2)]


def test_decoding_by_position():
    assert TRANSFORMS.get("maskfeat.OpenVideo")("disk", 2).num_threads == 2
    assert TRANSFORMS.get("maskfeat.DecodeClip")("accurate").short_side is None
    with pytest.raises(ValueError, match="mode='efficient' is not supported.*mmaction.DecordDecode"):
        TRANSFORMS.get("maskfeat.DecodeClip")("efficient")


def test_images_through_a_file_client(tmp_path):
    path = str(tmp_path / "a.png")
    cv2.imwrite(path, np.random.default_rng(0).integers(0, 256, (8, 6, 3), np.uint8))
    with pytest.warns(DeprecationWarning, match="file_client_args"):
        data, theirs = (
            TRANSFORMS.get(kind)(True, "grayscale", "cv2", dict(backend="disk"), True)(dict(img_path=path))
            for kind in ("maskfeat.LoadWholeImage", "mmcv.LoadImageFromFile")
        )
    np.testing.assert_array_equal(data["img"], theirs["img"])
    assert data["img_shape"] == theirs["img_shape"] == (8, 6)
