"""Tests of features over time: a row for each window of a video, from the clip in its middle, at any frame rate."""

import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from mmcv.transforms import BaseTransform
from mmengine.config import Config
from mmengine.registry import TRANSFORMS

from maskfeat_plugin.apis import load_config
from maskfeat_plugin.apis.features.clip_windows import ClipReader
from maskfeat_plugin.apis.features.extraction import extract_features
from maskfeat_plugin.apis.features.files import read_features
from maskfeat_plugin.apis.features.sources import FileSource
from maskfeat_plugin.errors import ConfigError

DEMO = Path(__file__).parents[2] / "configs" / "demo"
CLIP, IMAGE = "maskfeat_mvit-tiny_moving-digits", "maskfeat_vit-tiny_moving-digits"
UNIFORM = "mvit-small-u16_k400-pre_16xb16-amp-coslr-100e_sthv2"


@TRANSFORMS.register_module()
class NoteOpenedFiles(BaseTransform):
    """Transform that writes down the name of each file before the next transform opens it."""

    def __init__(self, note):
        self.note = note

    def transform(self, results):
        with open(self.note, "a") as file:
            file.write(f"{results['filename']}\n")
        return results


def write_video(path, times, level=lambda number: 4 * (number % 60)):
    """Write a video of grey frames, shown at ``times`` (milliseconds). The level of a frame depends on its number."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options=dict(qp="0", g="10", bf="0"))
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), level(number), np.uint8), format="rgb24")
            frame.pts, frame.time_base = int(time), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def config(**sampling):
    """Build a config with clips of 4 frames, which are only resized."""
    cfg = Config.fromfile(DEMO / f"{CLIP}.py")
    sampling = dict(dict(type="SampleFrames", clip_len=4, frame_interval=2, num_clips=1, test_mode=True), **sampling)
    pipeline = [dict(type="DecordInit"), sampling, dict(type="DecordDecode")]
    pipeline += [dict(type="Resize", scale=(8, 8), keep_ratio=False), dict(type="FormatShape", input_format="NCTHW")]
    cfg.train_dataloader.dataset.pipeline = [*pipeline, dict(type="PackActionInputs")]
    return cfg


def numbers(packed):
    """Return the numbers of the frames of a clip, modulo 60, from their grey levels."""
    return np.rint(packed["inputs"].float().numpy().mean(axis=(0, 1, 3, 4)) / 4).astype(int).tolist()


def windows_of(cfg, path, seconds):
    return [(*window, numbers(packed)) for packed, window in ClipReader(cfg).read_windows(str(path), seconds)]


def test_windows_of_a_constant_rate(tmp_path):
    path = write_video(tmp_path / "a.mkv", np.arange(100) * 100)  # 10 s at 10 a second
    found = windows_of(config(), path, 2.0)
    assert [(round(start, 6), round(end, 6)) for start, end, _ in found] == [(0, 2), (2, 4), (4, 6), (6, 8), (8, 10)]
    # a clip spans 7 frames in the middle of the 20 frames of a window
    assert [clip for *_, clip in found] == [[b, b + 2, b + 4, b + 6] for b in (6, 26, 46, 6, 26)]


@pytest.mark.parametrize("rate", [None, 5, 10, 15])
def test_the_window_of_a_whole_file_is_the_clip_of_the_pipeline(rate, tmp_path):
    path = write_video(tmp_path / "a.mp4", np.arange(50) * 100)
    cfg = config(target_fps=rate)
    (packed,) = [row.packed for row in FileSource(cfg, str(path)).read(0)]
    clip, expected = windows_of(cfg, path, 60.0)[0][-1], numbers(packed)
    # with target_fps the numbers may differ by one: the pipeline rounds the rate and the first frame
    assert np.abs(np.subtract(clip, expected)).max() <= (0 if rate is None else 1)


def test_windows_of_a_variable_rate(tmp_path):
    """2 s at 20 frames per second, then 4 s at 5: with target_fps a clip is 0.8 s long in both parts."""
    times = [*range(0, 2000, 50), *range(2000, 6000, 200)]
    path = write_video(tmp_path / "a.mp4", times)
    found = windows_of(config(target_fps=10), path, 2.0)
    assert [start for start, *_ in found] == [0, 2, 4] and found[-1][1] == pytest.approx(6, abs=0.2)
    shown = [[times[number] / 1000 for number in clip] for *_, clip in found]
    for clip, centre in zip(shown, (1.0, 3.0, 5.0), strict=True):
        assert clip[0] == pytest.approx(centre - 0.4, abs=0.2) and 0.55 <= clip[-1] - clip[0] <= 0.8
    assert len(set(shown[0])) == 4 and np.diff(shown[0]).max() < 0.3


def test_windows_shorter_than_a_clip_and_files_shorter_than_a_window(tmp_path):
    path = write_video(tmp_path / "a.mp4", np.arange(30) * 100)
    clips = [clip for *_, clip in windows_of(config(), path, 0.25)]
    assert len(clips) == 12
    assert clips[0] == [0, 2, 4, 6] and clips[-1] == [23, 25, 27, 29]  # moved into the file
    assert all(first[0] <= second[0] for first, second in zip(clips, clips[1:], strict=False))
    ((start, end, clip),) = windows_of(config(), path, 60.0)
    assert start == 0 and end == pytest.approx(3.0, abs=0.05) and clip == [11, 13, 15, 17]
    short = write_video(tmp_path / "b.mp4", np.arange(3) * 100)
    assert [clip for *_, clip in windows_of(config(), short, 60.0)] == [[0, 2, 2, 2]]


def test_many_windows_are_those_that_are_read_alone(tmp_path):
    path = write_video(tmp_path / "a.mp4", np.arange(400) * 50)
    reader = ClipReader(config(target_fps=15))
    found = list(reader.read_windows(str(path), 0.25))
    assert len(found) == 80
    for packed, (start, end) in found[::9]:
        assert (packed["inputs"] == reader.read_clip(str(path), (start + end) / 2)["inputs"]).all()


@pytest.mark.parametrize("ending", ["npz", "parquet", "lmdb"])
def test_extraction_of_windows(ending, digits, tmp_path, monkeypatch):
    monkeypatch.chdir(digits)
    folder = tmp_path / "files"
    folder.mkdir()
    for name, length in (("a", 100), ("b", 25), ("c", 60), ("d", 10)):
        write_video(folder / f"{name}.mp4", np.arange(length) * 100, level=lambda number: 5 * number % 251)
    content = (folder / "c.mp4").read_bytes()
    (folder / "c.mp4").write_bytes(content[:200] + bytes(len(content) - 400) + content[-200:])

    def extract(out, inputs=folder, batch_size=4, **settings):
        cfg = Config.fromfile(DEMO / f"{CLIP}.py")
        pipeline = cfg.train_dataloader.dataset.pipeline
        pipeline.insert(0, dict(type="NoteOpenedFiles", note=str(tmp_path / "opened.txt")))
        weights, path = DEMO / "weights" / f"{CLIP}.pth", tmp_path / out
        return extract_features(cfg, weights, path, str(inputs), batch_size=batch_size, **settings), path

    done, once = extract(f"once.{ending}", every=2.0, dtype="float16")
    assert (done.rows, done.bad_files) == (8, 1)
    assert done.bad_list.read_text().startswith(f"{folder / 'c.mp4'}\t")
    opened = (tmp_path / "opened.txt").read_text().splitlines()
    assert [opened.count(str(folder / f"{name}.mp4")) for name in "abd"][:1] == [1]
    table = read_features(once)
    assert [Path(name).stem for name in table.names] == ["a"] * 5 + ["b"] * 2 + ["d"]
    np.testing.assert_allclose(table.times[:, 0], [0, 2, 4, 6, 8, 0, 2, 0], atol=1e-6)
    np.testing.assert_allclose(table.times[:, 1], [2, 4, 6, 8, 10, 2, 2.5, 1], atol=0.1)
    for index in (1, 0):
        _, shards = extract(f"shards.{ending}", every=2.0, dtype="float16", workers=2, share=(index, 2), part_size=1)
    assert shards.read_bytes() == once.read_bytes()
    _, long = extract(f"long.{ending}", folder / "a.mp4", every=60.0)
    _, whole = extract(f"whole.{ending}", folder / "a.mp4")
    np.testing.assert_allclose(read_features(long).features, read_features(whole).features, rtol=1e-4, atol=1e-5)
    assert read_features(whole).times is None


def test_what_has_no_windows(digits, tmp_path, monkeypatch):
    monkeypatch.chdir(digits)
    cases = [
        (IMAGE, dict(inputs="data/moving_digits/frames/val"), "takes no clips from video files"),
        (UNIFORM, dict(inputs="data/moving_digits/videos/val"), "UniformSample spreads a clip over a whole file"),
        (CLIP, dict(inputs=[np.zeros((20, 40, 40, 3), np.uint8)]), "array 0 has no times"),
        (CLIP, dict(split="train"), "not with the data set 'train'"),
    ]
    for name, inputs, message in cases:
        cfg, weights = load_config(name), DEMO / "weights" / f"{CLIP}.pth"
        with pytest.raises(ConfigError, match=re.escape(message)):
            extract_features(cfg, weights, tmp_path / "f.npz", every=1.0, **inputs)
