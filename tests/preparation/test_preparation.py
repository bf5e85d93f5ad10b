"""Parts of the data preparation: work in processes that can die, archives, links, frames at a fixed rate."""

import io
import multiprocessing
import os
import tarfile
import time
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.preparation.archives import join_parts, read_member, unpack
from maskfeat_plugin.preparation.files import Tree, place, write_file
from maskfeat_plugin.preparation.frames import FrameJob, extract_frames, frames_shown
from maskfeat_plugin.preparation.parallel import run_parallel
from maskfeat_plugin.preparation.readable import check_video


def double_or_die(number):
    if number in (3, 50):
        os._exit(1)
    return 2 * number


@pytest.mark.parametrize("workers", [1, 2])
def test_an_item_that_ends_its_process_stops_no_other(workers):
    results = list(
        run_parallel(double_or_die, range(60), crashed=-1, workers=workers, title="", chunk=4, progress=False)
    )
    assert len(results) == 60
    assert dict(results) == {n: -1 if n in (3, 50) else 2 * n for n in range(60)}


def raise_on_two(number):
    if number == 2:
        raise OSError("no space left")
    return number


def test_errors_of_the_work_are_raised():
    with pytest.raises(OSError, match="no space left"):
        list(run_parallel(raise_on_two, range(5), crashed=None, workers=2, title="", progress=False))


def tar_of(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@given(
    st.dictionaries(st.text("abcü ", min_size=1, max_size=5), st.binary(max_size=300), max_size=5),
    st.lists(st.integers(0, 800), max_size=4),
)
def test_parts_of_an_archive_are_one_archive(tmp_path_factory, files, cuts):
    folder = tmp_path_factory.mktemp("parts")
    packed = tar_of(files)
    bounds = [0, *sorted(min(cut, len(packed)) for cut in cuts), len(packed)]
    parts = [folder / f"archive-{i:02d}" for i in range(len(bounds) - 1)]
    for part, start, end in zip(parts, bounds, bounds[1:], strict=False):
        part.write_bytes(packed[start:end])
    archive = join_parts(parts[::-1])
    unpack([archive], folder / "out", progress=False)
    assert {path.name: path.read_bytes() for path in (folder / "out").iterdir()} == files
    assert all(read_member(archive, name) == content for name, content in files.items())
    assert read_member(archive, "other") is None


def test_nothing_is_unpacked_outside_of_the_folder(tmp_path):
    (tmp_path / "evil.tar.gz").write_bytes(tar_of({"../../up.txt": b"1", "/tmp/absolute.txt": b"2", "a/..": b"3"}))
    unpack([[tmp_path / "evil.tar.gz"]], tmp_path / "a" / "b" / "out", progress=False)
    assert sorted(p.name for p in (tmp_path / "a" / "b" / "out").iterdir()) == ["absolute.txt", "up.txt"]
    assert [p.name for p in tmp_path.rglob("up.txt")] == ["up.txt"]


def test_two_files_of_one_name_are_refused(tmp_path):
    (tmp_path / "double.tar.gz").write_bytes(tar_of({"a/1.jpg": b"1", "b/1.jpg": b"2"}))
    with pytest.raises(ConfigError, match="two files 1.jpg"):
        unpack([[tmp_path / "double.tar.gz"]], tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_tree_follows_links_once(tmp_path):
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "real" / "deep" / "a.mp4").touch()
    (tmp_path / "real" / "loop").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "a.mp4").symlink_to("deep/a.mp4")
    (tmp_path / "real" / "b.mp4").symlink_to("deep/a.mp4")
    (tmp_path / "real" / "broken.mp4").symlink_to("nothing")
    (tmp_path / "real" / ".hidden.mp4").touch()
    tree = Tree([tmp_path / "real", tmp_path / "real" / "deep"])
    assert sorted(path.name for path in tree.ending((".mp4",))) == ["a.mp4", "b.mp4"]
    assert tree.folders["deep"] == [tmp_path / "real" / "deep"]


def test_place_replaces_links_and_nothing_else(tmp_path):
    for name in ("one", "two", "taken"):
        (tmp_path / name).write_text(name)
    target = tmp_path / "folder" / "target"
    place(tmp_path / "one", target, move=False)
    place(tmp_path / "two", target, move=False)
    assert target.read_text() == "two" and target.is_symlink()
    with pytest.raises(ConfigError, match="taken is there already and is not"):
        place(tmp_path / "one", tmp_path / "taken", move=True)
    place(tmp_path / "two", target, move=True)
    assert not target.is_symlink() and target.read_text() == "two" and not (tmp_path / "two").exists()
    assert (tmp_path / "taken").read_text() == "taken"


def test_write_replaces_a_link_and_not_what_it_leads_to(tmp_path):
    (tmp_path / "official").write_text("all")
    (tmp_path / "list").symlink_to("official")
    write_file(tmp_path / "list", b"some", [tmp_path / "official"])
    assert (tmp_path / "official").read_text() == "all" and (tmp_path / "list").read_text() == "some"


def write_numbered(path, count, rate, codec):
    """Write a video whose frames show their numbers in black and white squares."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=rate)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for number in range(count):
            bits = ((number >> np.arange(16)) & 1).reshape(4, 4)
            image = np.repeat(np.kron(bits, np.ones((16, 16)))[..., None], 3, axis=-1).astype(np.uint8) * 255
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        file.mux(stream.encode())


def read_numbers(folder):
    import cv2

    images = [cv2.imread(str(path)).mean(-1) for path in sorted(folder.glob("img_*.jpg"))]
    return [sum(1 << b for b in range(16) if image[b // 4 * 16 + 8, b % 4 * 16 + 8] > 128) for image in images]


@pytest.mark.parametrize(
    "name, rate, codec",
    [
        ("a.mp4", 30, "libx264"),
        ("b.mkv", Fraction(30000, 1001), "libx264"),  # its times are rounded to milliseconds
        ("c.mp4", 25, "libx264"),
        ("d.webm", 24, "libvpx-vp9"),
        ("e.avi", 60, "mpeg4"),
    ],
)
def test_frames_are_what_the_video_shows(tmp_path, name, rate, codec):
    write_numbered(tmp_path / name, int(4 * rate), rate, codec)
    job = FrameJob(str(tmp_path / name), str(tmp_path / "frames"), last_key=2, start=1, end=3, margin=1)
    result = extract_frames(job)
    assert (result.reason, result.repeated) == (None, 0)
    begins = np.array(read_numbers(tmp_path / "frames")) / float(rate)
    # 2 ms of tolerance, plus or minus half a millisecond of rounding
    slots = 1 + np.arange(60) / 30
    assert (begins <= slots + 0.0026).all() and (begins + 1 / float(rate) > slots + 0.0014).all()


@given(st.integers(10, 60), st.integers(0, 3))
def test_frames_follow_the_clock(rate, start):
    begins = np.round(np.arange(5 * rate) / rate, 3)  # rounded as in Matroska
    times = np.stack([begins, begins + 1 / rate], axis=1)
    shown = frames_shown(times, FrameJob("", "", last_key=start, start=start, end=4))
    assert len(shown) == (4 - start) * 30
    assert (np.diff(shown) >= 0).all()
    slots = start + np.arange(len(shown)) / 30
    assert (begins[shown] <= slots + 0.002).all() and (begins[shown + 1] > slots).all()
    if rate == 30:
        assert (shown == start * 30 + np.arange(len(shown))).all()


def test_a_video_that_is_cut_off_is_unreadable(tmp_path):
    write_numbered(tmp_path / "whole.mkv", 200, 25, "mpeg4")
    content = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "head.mp4").write_bytes(content[:60])
    assert check_video(str(tmp_path / "whole.mkv"), "full") is None
    for name in ("empty.mp4", "head.mp4", "missing.mp4"):
        reason = check_video(str(tmp_path / name), "fast")
        assert reason and "\n" not in reason


def test_an_item_that_takes_too_long_counts_as_crashed():
    found = run_parallel(time.sleep, [60.0], crashed="crashed", workers=1, title="", progress=False, timeout=0.2)
    assert list(found) == [(60.0, "crashed")]


def test_progress_has_an_estimate(capsys):
    list(run_parallel(time.sleep, [0.01] * 4, crashed=None, workers=1, title="clips", unit="clip", chunk=1))
    text = capsys.readouterr().err
    assert "clips: 100%" in text and "4/4" in text and "clip" in text


def test_an_interruption_ends_the_processes():
    results = run_parallel(time.sleep, [0.0, 60.0, 60.0], crashed=None, workers=2, title="", chunk=1, progress=False)
    start = time.monotonic()
    running = [next(results)]
    with pytest.raises(KeyboardInterrupt):
        results.throw(KeyboardInterrupt)
    assert running == [(0.0, None)] and time.monotonic() - start < 30 and not multiprocessing.active_children()
