"""Volumes are read as clips: windows of values, axes, crops of the depth, and damaged files."""

import io
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope

from maskfeat_plugin.registry import DATASETS, TRANSFORMS

WINDOW = (-100.0, 300.0)


def volume(shape=(12, 20, 30), dtype=np.int16, seed=0):
    return np.random.default_rng(seed).integers(-200, 400, shape).astype(dtype)


def clip_of(path, clip_len=4, test_mode=True, steps=(), short_side=None, **options):
    """Read a clip (M, C, T, H, W) and the numbers of its slices."""
    with DefaultScope.overwrite_default_scope("mmaction"):
        pipeline = Compose(
            [
                dict(type="maskfeat.OpenVolume", **options),
                dict(type="SampleFrames", clip_len=clip_len, out_of_bound_opt="repeat_last", test_mode=test_mode),
                dict(type="maskfeat.DecodeClip", short_side=short_side),
                *steps,
                dict(type="maskfeat.FormatShape", input_format="NCTHW"),
            ]
        )
    found = pipeline(dict(filename=str(path), start_index=0, modality="RGB", label=0))
    return found["imgs"], found["frame_inds"]


def windowed(values, low=WINDOW[0], high=WINDOW[1]):
    return np.round(np.clip((values.astype(float) - low) / (high - low), 0, 1) * 255)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64, ">i2"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_of_a_window(tmp_path, dtype, axis):
    values = volume(dtype=dtype)
    np.save(tmp_path / "a.npy", values)
    clip, numbers = clip_of(tmp_path / "a.npy", window=WINDOW, axis=axis)
    expected = np.moveaxis(values, axis, 0)[numbers]
    start = (values.shape[axis] - 4) // 2
    assert numbers.tolist() == list(range(start, start + 4)) and clip.dtype == np.uint8
    assert clip.shape == (1, 1, *expected.shape)
    assert np.abs(clip[0, 0] - windowed(expected)).max() <= 1  # halves are rounded in float32


def test_columns_first_and_several_channels(tmp_path):
    np.save(tmp_path / "columns.npy", np.asfortranarray(volume()))
    np.save(tmp_path / "rows.npy", volume())
    columns, rows = (clip_of(tmp_path / f"{name}.npy", window=WINDOW)[0] for name in ("columns", "rows"))
    np.testing.assert_array_equal(columns, rows)
    channels = volume((9, 20, 30, 4))
    np.save(tmp_path / "channels.npy", channels)
    clip, numbers = clip_of(tmp_path / "channels.npy", window=WINDOW)
    assert np.abs(clip[0] - windowed(channels[numbers]).transpose(3, 0, 1, 2)).max() <= 1


def test_bytes_need_no_window_and_nan_is_dark(tmp_path):
    values = volume(dtype=np.uint8)
    np.save(tmp_path / "a.npy", values)
    clip, numbers = clip_of(tmp_path / "a.npy")
    np.testing.assert_array_equal(clip[0, 0], values[numbers])
    special = np.array([np.nan, np.inf, -np.inf, 1e38], np.float32) * np.ones((4, 8, 8, 1), np.float32)
    np.save(tmp_path / "b.npy", special[..., :1] * np.ones(1, np.float32))
    assert not clip_of(tmp_path / "b.npy", window=WINDOW)[0].any()
    np.save(tmp_path / "c.npy", special)
    assert clip_of(tmp_path / "c.npy", window=WINDOW)[0][0, :, 0, 0, 0].tolist() == [0, 255, 0, 255]


def test_random_depths_and_thin_volumes(tmp_path):
    np.save(tmp_path / "a.npy", volume())
    starts = {int(clip_of(tmp_path / "a.npy", test_mode=False, window=WINDOW)[1][0]) for _ in range(100)}
    assert starts == set(range(9))
    np.save(tmp_path / "thin.npy", volume((2, 20, 30)))
    clip, numbers = clip_of(tmp_path / "thin.npy", window=WINDOW)
    assert numbers.tolist() == [0, 1, 1, 1] and clip.shape == (1, 1, 4, 20, 30)


@pytest.mark.parametrize("channels", [1, 3])
def test_crops_and_sizes(tmp_path, channels):
    np.save(tmp_path / "a.npy", volume((12, 20, 30, channels)))
    crop = dict(type="maskfeat.RandomResizedCropFlip", scale=(24, 16))
    clip, _ = clip_of(tmp_path / "a.npy", steps=[crop], short_side=32, window=WINDOW)
    assert clip.shape == (1, channels, 4, 16, 24)
    assert clip_of(tmp_path / "a.npy", short_side=40, window=WINDOW)[0].shape == (1, channels, 4, 40, 60)
    assert clip_of(tmp_path / "a.npy", short_side=10, window=WINDOW)[0].shape == (1, channels, 4, 10, 15)


def test_only_the_chosen_slices_are_read(tmp_path):
    large = np.lib.format.open_memmap(tmp_path / "large.npy", "w+", np.int16, (512, 256, 256))  # 64 MiB
    large[250:260] = 100
    del large
    tracemalloc.start()
    clip, _ = clip_of(tmp_path / "large.npy", window=WINDOW)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (clip == 128).all() and peak < 8 << 20


def saved(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def test_damaged_files_are_named(tmp_path):
    whole = saved(volume())
    archive = io.BytesIO()
    np.savez(archive, volume())
    for content, reason in {
        b"": "is no volume, or a broken one",
        b"abc" * 100: "is no volume, or a broken one",
        whole[:60]: "is no volume, or a broken one",
        whole[:-1]: "is no volume, or a broken one",
        saved(np.array([[[{}]]], dtype=object)): "is no volume, or a broken one .*Python objects",
        archive.getvalue(): "is no volume, or a broken one .it is an archive of arrays",
        saved(volume()[0]): r"is int16 \(20, 30\)\. A volume has numbers in the shape",
        saved(volume().astype(complex)): "is complex128",
        saved(volume((0, 4, 4))): "is int16",
    }.items():
        (tmp_path / "a.npy").write_bytes(content)
        with pytest.raises(ValueError, match=rf"a\.npy {reason}"):
            clip_of(tmp_path / "a.npy", window=WINDOW)
    (tmp_path / "a.npy").write_bytes(whole)
    with pytest.raises(ValueError, match=r"a\.npy is int16: set window=\(low, high\) of maskfeat\.OpenVolume"):
        clip_of(tmp_path / "a.npy")
    with pytest.raises(FileNotFoundError, match=r"b\.npy does not exist"):
        clip_of(tmp_path / "b.npy")


@settings(max_examples=100, deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(0, 127), st.integers(0, 255)), min_size=1, max_size=4),
    length=st.one_of(st.just(1000), st.integers(0, 1000)),
)
def test_any_header(tmp_path_factory, changes, length):
    """A damaged header gives slices or an error that names the file, and never another error."""
    content = bytearray(saved(volume((6, 8, 9))))
    for place, value in changes:
        content[place] = value
    path = tmp_path_factory.mktemp("fuzz") / "broken.npy"
    path.write_bytes(bytes(content[:length]))
    try:
        clip, _ = clip_of(path, window=WINDOW)
    except ValueError as error:
        assert "broken.npy" in str(error)
    else:
        assert clip.dtype == np.uint8 and clip.ndim == 5


def test_damaged_files_are_left_out(tmp_path):
    for name in ("good", "bad"):
        np.save(tmp_path / f"{name}.npy", volume())
    content = (tmp_path / "bad.npy").read_bytes()
    (tmp_path / "bad.npy").write_bytes(content[: len(content) // 2])
    (tmp_path / "list.txt").write_text("good.npy\nbad.npy\n")
    with DefaultScope.overwrite_default_scope("mmaction"):
        dataset = DATASETS.build(
            dict(
                type="maskfeat.SkipBadFiles",
                dataset_type="maskfeat.VideoDataset",
                ann_file=str(tmp_path / "list.txt"),
                data_prefix=dict(video=str(tmp_path)),
                limit=0.5,
                list_file=str(tmp_path / "bad_files.txt"),
                pipeline=[
                    dict(type="maskfeat.OpenVolume", window=WINDOW),
                    dict(type="SampleFrames", clip_len=4),
                    dict(type="maskfeat.DecodeClip"),
                    dict(type="maskfeat.FormatShape", input_format="NCTHW"),
                    dict(type="PackActionInputs"),
                ],
            )
        )
        shapes = [dataset[i]["inputs"].shape for i in (0, 1)]
    assert shapes == [(1, 1, 4, 20, 30)] * 2
    assert "bad.npy is no volume, or a broken one" in (tmp_path / "bad_files.txt").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(window=(3, 3)), r"window=\(3, 3\) must be two ascending numbers"),
        (dict(window=(1,)), "must be two ascending numbers"),
        (dict(axis=3), "axis=3 must be 0, 1 or 2"),
    ],
)
def test_wrong_settings(options, message):
    with pytest.raises(ValueError, match=f"OpenVolume: .*{message}"):
        TRANSFORMS.build(dict(type="maskfeat.OpenVolume", **options))
