"""``maskfeat shrink``: small copies with the times and pictures of the originals, complete or absent."""

import os
import shutil
import signal
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from moving_scenes import cut, write_video
from tool_modules import load_tool

from maskfeat_plugin.apis import ConfigError
from maskfeat_plugin.datasets import VideoReader
from maskfeat_plugin.datasets.folders import VIDEO_ENDINGS, find_files
from maskfeat_plugin.preparation.shrinking import ShrinkSettings, shrink_archive, shrink_video

IRREGULAR = [0, 40, 80, 200, 240, 1000, 1033, 1500, 1900, 2000]


def frames_of(path):
    reader = VideoReader(str(path), str(path))
    return np.stack(reader.read(range(len(reader)))), reader.get_frame_times()[:, 0]


def check_same_pictures(frames, small):
    """Check that frames equal the frames of twice the size: light and dark, and the mean colours of the picture."""
    count, height, width = small.shape[:3]
    means = frames.reshape(count, height, 2, width, 2, 3).mean((2, 4))
    luma = np.array([0.299, 0.587, 0.114])
    assert np.abs((means - small) @ luma).mean() < 3
    np.testing.assert_allclose(means.mean((1, 2)), small.mean((1, 2)), atol=3)


def shrink(source, out, settings=None, **options):
    return shrink_archive(source, out, settings, **dict(dict(workers=2, progress=False), **options))


def files_of(folder):
    return sorted(str(path.relative_to(folder)) for path in find_files(folder, VIDEO_ENDINGS).files)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    root = tmp_path_factory.mktemp("archive")
    write_video(root / "cam 1" / "a.mp4", size=(192, 144), seconds=2)
    write_video(root / "cam 1" / "a.mkv", size=(192, 144), seconds=7)
    write_video(root / "small.mp4", size=(64, 48), seconds=1)
    cut(root / "cam 1" / "a.mp4", root / "bad.mp4")
    shutil.copy(root / "small.mp4", os.fsencode(root) + b"/\xff\n.mp4")
    return root


SETTINGS = ShrinkSettings(short_side=72, max_seconds=3)
COPIES = ["cam 1/a.mkv.part000.mp4", "cam 1/a.mkv.part001.mp4", "cam 1/a.mkv.part002.mp4", "cam 1/a.mp4", "small.mp4"]


def test_an_archive_of_small_copies(archive, tmp_path):
    report = shrink(archive, tmp_path / "out", SETTINGS)
    assert files_of(tmp_path / "out") == [*COPIES, "\udcff\n.mp4"]
    assert report.problems.keys() == {"bad.mp4"} and (report.read, len(report.pieces)) == (5, 4)
    assert report.after == sum(path.stat().st_size for path in (tmp_path / "out").rglob("*.mp4"))
    left_out = (tmp_path / "out" / "left_out.txt").read_text()
    assert left_out.startswith("bad.mp4\t") and len(left_out.splitlines()) == 1
    text = report.summary()
    assert (
        text.startswith("4 videos in 6 files, 5 read now")
        and "decoding a clip of the first" in text
        and "  bad.mp4: " in text
    )


def test_pieces_together_are_the_video(archive, tmp_path):
    assert shrink_video(str(archive / "cam 1" / "a.mkv"), tmp_path / "a.mp4", SETTINGS) == 3
    whole, times = frames_of(archive / "cam 1" / "a.mkv")
    begin = 0
    for path in sorted(tmp_path.iterdir()):
        frames, seconds = frames_of(path)
        assert 2.2 < len(frames) / 25 <= 3 and frames.shape[1:3] == (72, 96)
        np.testing.assert_allclose(seconds, times[begin : begin + len(frames)] - times[begin], atol=1e-3)
        check_same_pictures(whole[begin : begin + len(frames)], frames)
        begin += len(frames)
    assert begin == len(whole) == 175


def test_irregular_times_are_kept(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for i, milliseconds in enumerate(IRREGULAR):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 * i, np.uint8), "rgb24")
            frame.pts, frame.time_base = milliseconds, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert shrink_video(str(tmp_path / "a.mkv"), tmp_path / "small.mp4", ShrinkSettings(short_side=24)) == 1
    frames, times = frames_of(tmp_path / "small.mp4")
    np.testing.assert_allclose(times * 1000, IRREGULAR, atol=0.6)
    np.testing.assert_allclose(frames.mean((1, 2, 3)), 20 * np.arange(10), atol=3)


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_turned_videos_become_upright(tmp_path, turn):
    write_video(tmp_path / "a.mp4", size=(192, 144), seconds=0.4, turn=turn)
    shrink_video(str(tmp_path / "a.mp4"), tmp_path / "small.mp4", ShrinkSettings(short_side=72))
    (frames, _), (small, _) = frames_of(tmp_path / "a.mp4"), frames_of(tmp_path / "small.mp4")
    assert small.shape[1:3] == ((72, 96) if turn == 180 else (96, 72))
    with av.open(str(tmp_path / "small.mp4")) as container:
        assert next(container.decode(video=0)).rotation == 0
    check_same_pictures(frames, small)


@pytest.mark.parametrize("size, shrunk", [((322, 242), (94, 70)), ((64, 48), (64, 48)), ((480, 64), (480, 64))])
def test_sizes_are_even_and_never_larger(tmp_path, size, shrunk):
    write_video(tmp_path / "a.mp4", size=size, seconds=0.2)
    shrink_video(str(tmp_path / "a.mp4"), tmp_path / "small.mp4", ShrinkSettings(short_side=70))
    frames, _ = frames_of(tmp_path / "small.mp4")
    assert frames.shape[1:3] == shrunk[::-1]


def test_codecs_and_key_frames(tmp_path):
    write_video(tmp_path / "a.mp4", size=(96, 72), seconds=6)
    for codec, decoder in dict(h264="h264", av1="libdav1d").items():
        shrink_video(str(tmp_path / "a.mp4"), tmp_path / f"{codec}.mp4", ShrinkSettings(short_side=36, codec=codec))
        with av.open(str(tmp_path / f"{codec}.mp4")) as container:
            stream = container.streams.video[0]
            keys = [float(p.pts * p.time_base) for p in container.demux(stream) if p.is_keyframe and p.size]
            assert stream.codec_context.name == decoder and len(container.streams) == 1
            assert len(keys) >= 3 and max(np.diff([*keys, 6])) <= 2.1


def test_the_same_call_goes_on(archive, tmp_path):
    source, out = tmp_path / "archive", tmp_path / "out"
    shutil.copytree(archive, source)
    shrink(source, out, SETTINGS)
    assert shrink(source, out, SETTINGS).read == 0
    before = (out / "cam 1" / "a.mp4").stat().st_mtime_ns
    shutil.copy(source / "small.mp4", source / "cam 1" / "a.mkv")  # the video has become short
    report = shrink(source, out, SETTINGS)
    assert report.read == 1 and "cam 1/a.mkv.mp4" in files_of(out) and not list(out.rglob("*.part*"))
    assert (out / "cam 1" / "a.mp4").stat().st_mtime_ns == before
    assert shrink(source, out, SETTINGS, retry=True).read == 1
    with pytest.raises(ConfigError, match="has copies with another short_side. Give the same, or another folder"):
        shrink(source, out, ShrinkSettings(short_side=36, max_seconds=3))


def test_what_is_killed_leaves_whole_files_and_goes_on(archive, tmp_path):
    out = tmp_path / "out"
    process = os.fork()
    if not process:
        try:
            os.setsid()
            shrink(archive, out, SETTINGS, workers=1)
        finally:
            os._exit(1)
    deadline = time.monotonic() + 30
    while not files_of(out):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
    assert all(len(frames_of(out / name)[0]) for name in files_of(out))
    shrink(archive, out, SETTINGS)
    assert files_of(out) == [*COPIES, "\udcff\n.mp4"] and not list(out.rglob("*.unfinished"))


def test_a_video_that_breaks_off_leaves_no_piece(archive, tmp_path):
    source = tmp_path / "archive"
    source.mkdir()
    write_video(source / "a.mp4", seconds=6, movflags="faststart", codec="mpeg4")
    content = (source / "a.mp4").read_bytes()
    (source / "a.mp4").write_bytes(content[: len(content) // 2])
    write_video(source / "b.mp4", seconds=1)
    report = shrink(source, tmp_path / "out", SETTINGS)
    assert files_of(tmp_path / "out") == ["b.mp4"] and set(report.problems) == {"a.mp4"}


def test_errors_say_what_to_do(archive, tmp_path):
    with pytest.raises(ConfigError, match="is inside of"):
        shrink(archive, archive / "small")
    with pytest.raises(ConfigError, match="is not there"):
        shrink(tmp_path / "absent", tmp_path / "out")
    (tmp_path / "names").mkdir()
    for name in ("a.mkv", "a.mkv.mp4"):
        shutil.copy(archive / "small.mp4", tmp_path / "names" / name)
    with pytest.raises(ConfigError, match="would both become a.mkv.mp4. Rename one"):
        shrink(tmp_path / "names", tmp_path / "out")
    (tmp_path / "names" / "a.mkv").rename(tmp_path / "names" / "a.mkv.part000.mp4")
    with pytest.raises(ConfigError, match="a.mkv.part000.mp4 may be the name of a piece of a.mkv.mp4. Rename one"):
        shrink(tmp_path / "names", tmp_path / "out")
    with pytest.raises(ConfigError, match="Give one of h264"):
        ShrinkSettings(codec="hevc")
    with pytest.raises(ConfigError, match="Give 0 to 51"):
        ShrinkSettings(quality=60)


def test_the_command_takes_a_manifest(archive, tmp_path, capsys):
    manifest, out = str(tmp_path / "files.parquet"), str(tmp_path / "out")
    assert load_tool("index_archive").main([str(archive), "--out", manifest, "--quiet"]) == 0
    options = ["--short-side", "72", "--max-seconds", "3", "--workers", "1"]
    assert load_tool("shrink_archive").main([manifest, out, *options]) == 0
    found = capsys.readouterr()
    assert "4 videos in 6 files, 4 read now" in found.out and "Shrink: 100%" in found.err
    assert files_of(Path(out)) == [*COPIES, "\udcff\n.mp4"] and not Path(out, "left_out.txt").exists()
    assert load_tool("shrink_archive").main([str(archive), str(archive / "out")]) == 1
    assert capsys.readouterr().err.startswith("error: OUT")
