"""Real unreadable files among readable ones: left out, listed and replaced, and too many of them are an error."""

import copy
import gc
import multiprocessing
import os
import pickle
import random
import shutil
import struct
import threading
import time

import av
import cv2
import numpy as np
import pytest
import torch
from long_variants import long_except
from mmengine.dataset import default_collate, pseudo_collate
from mmengine.registry import DefaultScope
from torch.utils.data import DataLoader

from maskfeat_plugin.datasets import SkipBadFiles, TooManyBadFiles, VideoReader
from maskfeat_plugin.datasets.bad_file_list import BadFile, BadFileList, parse_list
from maskfeat_plugin.registry import DATASETS, TRANSFORMS

SAMPLED = dict(type="SampleFrames", clip_len=4, frame_interval=2)
PACKED = [
    dict(type="maskfeat.RandomResizedCropFlip", scale=(32, 32)),
    dict(type="FormatShape", input_format="NCTHW"),
    dict(type="PackActionInputs"),
]
OURS = [dict(type="maskfeat.OpenVideo"), SAMPLED, dict(type="maskfeat.DecodeClip"), *PACKED]
DECORDS = [dict(type="DecordInit"), SAMPLED, dict(type="DecordDecode"), *PACKED]
GOOD = 5


def write(path, count=12, size=(48, 64), codec="libx264", pix_fmt="yuv420p", seed=0, **options):
    """Write a video of noise that moves."""
    noise = np.random.default_rng(seed).integers(0, 256, (count + size[0], size[1], 3), dtype=np.uint8)
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=25, options={"threads": "1"} if codec == "libx264" else {})
        stream.height, stream.width = size
        stream.pix_fmt = pix_fmt
        for i in range(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise[i : i + size[0]], format="rgb24")))
        container.mux(stream.encode())
    return path


def cut(path, share, **options):
    content = write(path, **options).read_bytes()
    path.write_bytes(content[: int(share * len(content))])


def damaged(path):
    """Write a complete file whose pictures are damaged."""
    content = bytearray(write(path, movflags="faststart").read_bytes())
    start = content.find(b"mdat") + 4
    content[start:] = bytes(len(content) - start)
    path.write_bytes(content)


def sound(path, cover=False):
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=44100)
        if cover:
            picture = container.add_stream("mjpeg", options={})
            picture.width = picture.height = 64
            picture.pix_fmt = "yuvj420p"
            picture.disposition = av.stream.Disposition.attached_pic
        for _ in range(20):
            frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
            frame.rate = 44100
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if cover:
            image = np.zeros((64, 64, 3), np.uint8)
            container.mux(picture.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(picture.encode())


def picture(path):
    path.write_bytes(cv2.imencode(".jpg", np.zeros((64, 64, 3), np.uint8))[1].tobytes())


BAD = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("no video\n" * 500),
    "noise": lambda path: path.write_bytes(np.random.default_rng(0).bytes(20000)),
    "without-its-end": lambda path: cut(path, 0.6),
    "cut-short": lambda path: cut(path, 0.6, movflags="faststart"),
    "cut-fragments": lambda path: cut(path, 0.6, movflags="frag_keyframe+empty_moov"),
    "damaged": damaged,
    "sound": sound,
    "sound-with-cover": lambda path: sound(path, cover=True),
    "picture": picture,
    "missing": lambda path: None,
    "folder": lambda path: path.mkdir(),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """Return a folder of good videos."""
    folder = tmp_path_factory.mktemp("good")
    for i in range(GOOD):
        write(folder / f"{i}.mp4", seed=i)
    return folder


@pytest.fixture
def videos(good, tmp_path):
    """Return a folder of good videos and a function that builds a data set of it. Tests add bad or missing files."""
    shutil.copytree(good, tmp_path, dirs_exist_ok=True)

    def build(names, pipeline=OURS, dataset_type="maskfeat.VideoDataset", **settings):
        (tmp_path / "videos.txt").write_text("".join(f"{name} {i}\n" for i, name in enumerate(names)))
        place = dict(ann_file="videos.txt", data_root=str(tmp_path), data_prefix=dict(video=""))
        settings = dict(limit=0.5, list_file=str(tmp_path / "lists" / "bad.txt"), **place) | settings
        with DefaultScope.overwrite_default_scope("mmaction"):
            return DATASETS.build(
                dict(type="maskfeat.SkipBadFiles", dataset_type=dataset_type, pipeline=pipeline, **settings)
            )

    build.folder, build.list = tmp_path, tmp_path / "lists" / "bad.txt"
    return build


def listed(videos):
    return {path: file.reason for path, file in parse_list(videos.list.read_text()).items()}


def seed(number=0):
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)


NAMES = [f"{i}.mp4" for i in range(GOOD)]


@pytest.mark.parametrize("pipeline", [OURS, DECORDS], ids=["ours", "decord"])
@pytest.mark.parametrize("kind", BAD)
def test_bad_file_is_replaced_and_listed_once(videos, kind, pipeline):
    BAD[kind](videos.folder / "bad.mp4")
    data = videos([*NAMES[:2], "bad.mp4", *NAMES[2:]], pipeline)
    for _ in range(2):
        samples = [data[i] for i in range(len(data))]
        assert [sample["inputs"].shape for sample in samples] == [(1, 3, 4, 32, 32)] * len(data)
        labels = [int(sample["data_samples"].gt_label) for sample in samples]
        assert labels[:2] + labels[3:] == [0, 1, 3, 4, 5] and labels[2] != 2
    found = listed(videos)
    assert list(found) == [str(videos.folder / "bad.mp4")]
    assert len(videos.list.read_text().splitlines()) == 1
    assert len(found[str(videos.folder / "bad.mp4")]) > 10


def test_list_that_cannot_be_written_does_not_end_the_training(videos):
    (videos.folder / "file").touch()
    names, place = [*NAMES, "missing.mp4"], str(videos.folder / "file" / "bad.txt")
    data = videos(names, list_file=place)
    assert data[GOOD]["inputs"].shape == data[0]["inputs"].shape
    with pytest.raises(TooManyBadFiles, match="1 of 6 files cannot be read"):
        videos(names, list_file=place, limit=0.1)[GOOD]


def test_the_reason_is_that_of_the_file(videos):
    kinds = ("missing", "sound", "picture", "cut-short")
    for kind in kinds:
        BAD[kind](videos.folder / f"{kind}.mp4")
    data = videos([*NAMES, *(f"{kind}.mp4" for kind in kinds)])
    for i in range(len(data)):
        data[i]
    reasons = {os.path.basename(path): reason for path, reason in listed(videos).items()}
    assert "is not there" in reasons["missing.mp4"]
    assert "no video" in reasons["sound.mp4"] and "holds a picture and no video" in reasons["picture.mp4"]
    assert "is cut short" in reasons["cut-short.mp4"]


def turned(path):
    """Set the display matrix of a video, which shows it upright."""
    content = bytearray(write(path).read_bytes())
    one, end = 1 << 16, 1 << 30
    place = content.find(struct.pack(">9i", one, 0, 0, 0, one, 0, 0, 0, end), content.find(b"tkhd"))
    content[place : place + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, end)
    path.write_bytes(content)


ODD = {
    "one-frame": lambda path: write(path, count=1),
    "odd-sized": lambda path: write(path, size=(49, 67), codec="mpeg4"),
    "ten-bits": lambda path: write(path, pix_fmt="yuv420p10le"),
    "turned": turned,
    "tiny": lambda path: write(path, size=(16, 16)),
    "wide": lambda path: write(path, count=2, size=(16, 4096)),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_files_are_good(videos, kind):
    ODD[kind](videos.folder / "odd.mp4")
    data = videos(["odd.mp4", *NAMES])
    sample = data[0]
    assert int(sample["data_samples"].gt_label) == 0 and sample["inputs"].shape == (1, 3, 4, 32, 32)
    assert not videos.list.exists()


@pytest.mark.parametrize("dataset_type", ["mmaction.VideoDataset", "maskfeat.VideoDataset"])
def test_video_datasets(videos, dataset_type):
    data = videos([*NAMES, "missing.mp4"], dataset_type=dataset_type)
    assert [int(data[i]["data_samples"].gt_label) for i in range(GOOD)] == list(range(GOOD))
    assert data[GOOD]["inputs"].shape == (1, 3, 4, 32, 32)


@pytest.mark.parametrize("pipeline", [OURS, DECORDS], ids=["ours", "decord"])
def test_repeated_augmentation(videos, pipeline):
    data = videos(["missing.mp4", *NAMES], pipeline, dataset_type="maskfeat.RepeatAugDataset", num_repeats=3)
    assert [clip["inputs"].shape for clip in data[0]] == [(1, 3, 4, 32, 32)] * 3
    assert list(listed(videos)) == [str(videos.folder / "missing.mp4")]


def images(folder, broken):
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c", "d"):
        cv2.imwrite(str(folder / f"{name}.png"), rng.integers(0, 256, (40, 40, 3), dtype=np.uint8))
    (folder / "broken.jpg").write_bytes(broken)
    (folder / "images.txt").write_text("a.png 0\nb.png 1\nbroken.jpg 2\nc.png 3\nd.png 4\n")
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        return DATASETS.build(
            dict(
                type="maskfeat.SkipBadFiles",
                dataset_type="CustomDataset",
                limit=0.2,
                list_file=str(folder / "bad.txt"),
                data_root=str(folder),
                ann_file="images.txt",
                pipeline=[
                    dict(type="maskfeat.LoadWholeImage"),
                    dict(type="RandomResizedCrop", scale=32),
                    dict(type="PackInputs"),
                ],
            )
        )


def jpeg(quality=95):
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


@pytest.mark.parametrize("kind", ["empty", "text", "cut-short", "cut-in-the-header"])
def test_image_datasets(tmp_path, kind):
    whole = jpeg()
    broken = dict(
        [("empty", b""), ("text", b"no image"), ("cut-short", whole[:-400]), ("cut-in-the-header", whole[:200])]
    )
    data = images(tmp_path, broken[kind])
    batch = default_collate([data[i] for i in range(len(data))])
    assert batch["inputs"].shape == (5, 3, 32, 32)
    assert (tmp_path / "bad.txt").read_text().startswith(str(tmp_path / "broken.jpg") + "\t")


def test_whole_images_are_loaded_as_mmcv_does(tmp_path):
    """The data that follow the end of a JPEG make no difference, nor does a camera's thumbnail in its header."""
    whole = jpeg()
    thumbnail = whole[:2] + b"\xff\xe1" + struct.pack(">H", len(whole) + 2) + whole + whole[2:]
    for content in (whole, whole + b"\n" * 300, thumbnail):
        (tmp_path / "a.jpg").write_bytes(content)
        ours, theirs = (
            TRANSFORMS.build(dict(type=kind))(dict(img_path=str(tmp_path / "a.jpg")))
            for kind in ("maskfeat.LoadWholeImage", "mmpretrain.LoadImageFromFile")
        )
        assert ours.keys() == theirs.keys()
        np.testing.assert_array_equal(ours["img"], theirs["img"])
    (tmp_path / "a.jpg").write_bytes(thumbnail[:-400])
    with pytest.raises(ValueError, match="a.jpg is cut short"):
        TRANSFORMS.build(dict(type="maskfeat.LoadWholeImage"))(dict(img_path=str(tmp_path / "a.jpg")))


def test_the_same_numbers_whoever_met_the_file_first(videos):
    names = [*NAMES[:2], "missing.mp4", *NAMES[2:]]
    order = [0, 2, 4, 2, 1]
    runs = []
    for _ in range(2):  # the second run has the list of the first, as a resumed training has
        data = videos(names)
        for _ in range(2):  # in the second pass the file is known
            seed()
            runs.append([data[i]["inputs"] for i in order])
    for run in runs[1:]:
        assert all(torch.equal(x, y) for x, y in zip(run, runs[0], strict=True))
    # the same numbers as if the bad file's sample had always been the other one
    data = videos(names)
    stand_in = int(data[2]["data_samples"].gt_label)
    names[2] = names[stand_in]
    data = videos(names, list_file=str(videos.folder / "other.txt"))
    seed()
    for i, x in zip(order, runs[0], strict=True):
        assert torch.equal(data[i]["inputs"], x)
    assert not (videos.folder / "other.txt").exists()


def load(data, workers, epochs=1, **settings):
    loader = DataLoader(data, batch_size=4, num_workers=workers, collate_fn=pseudo_collate, **settings)
    return [x for _ in range(epochs) for batch in loader for x in batch["inputs"]]


@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.long)])
def test_limit_over_all_workers(videos, context):
    bad = [f"missing-{i}.mp4" for i in range(4)]
    names = [name for i in range(4) for name in (*NAMES, *NAMES[:4], bad[i])]  # one bad file among every ten
    settings = dict(multiprocessing_context=context, persistent_workers=True)
    assert len(load(videos(names, limit=0.1), workers=2, epochs=2, **settings)) == 80
    assert sorted(os.path.basename(path) for path in listed(videos)) == bad
    assert len(videos.list.read_text().splitlines()) == 4
    videos.list.unlink()
    with pytest.raises(TooManyBadFiles) as stop:
        load(videos(names, limit=0.099), workers=2, **settings)
    message = str(stop.value)
    assert message.startswith("4 of 40 files cannot be read") and "allows 3" in message
    assert all(name in message for name in bad) and str(videos.list) in message
    assert "Traceback" not in message and "\n" not in message


def test_same_batches_from_the_same_seed_in_workers(videos):
    names = [*NAMES, "missing.mp4", *NAMES]
    runs = []
    for i in range(2):
        seed()
        data = videos(names, list_file=str(videos.folder / f"{i}.txt"))
        runs.append(load(data, workers=2, generator=torch.Generator().manual_seed(0)))
    assert all(torch.equal(x, y) for x, y in zip(*runs, strict=True))


def add(file, start):
    for i in range(60):
        BadFileList(file).add({f"/data/{start + i}.mp4": BadFile(f"reason {start}", str(start))})


def test_processes_share_the_list(tmp_path):
    file = tmp_path / "new" / "bad.txt"
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=add, args=(file, 20 * i)) for i in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    lines = file.read_text().splitlines()
    # if a file was found in another state later, the last line of the list counts
    assert {int(line.split("\t")[0][6:-4]) for line in lines} == set(range(120))
    assert len(set(lines)) == len(lines) and len(parse_list(file.read_text())) == 120


def test_tiny_data_set_stops_at_the_first(videos):
    data = videos([*NAMES, "missing.mp4"], limit=0.01)
    with pytest.raises(TooManyBadFiles, match=r"1 of 6 files cannot be read, .* allows 0: .*missing.mp4 \("):
        data[GOOD]
    assert len(listed(videos)) == 1


def test_all_that_fail_are_not_the_files_fault(videos):
    """A pipeline that accepts no file raises an error at once, and no file is listed."""
    broken = [*OURS[:3], dict(type="RandomCrop", size=500), *OURS[3:]]
    data = videos(NAMES * 4, broken, limit=1.0)
    with pytest.raises(TooManyBadFiles, match="10 files one after the other cannot be read, so the pipeline may be"):
        data[0]
    data = videos(["missing-0.mp4", "missing-1.mp4"], limit=1.0)
    with pytest.raises(TooManyBadFiles, match="2 files one after the other"):
        data[0]
    assert not videos.list.exists()


@pytest.mark.parametrize("pipeline", [OURS, DECORDS], ids=["ours", "decord"])
@pytest.mark.parametrize("workers", long_except([0, 1], 1))
def test_a_decoder_that_hangs(videos, workers, pipeline):
    """Opening a named pipe that no process writes to never ends."""
    os.mkfifo(videos.folder / "pipe.mp4")
    data = videos([*NAMES[:3], "pipe.mp4"], pipeline, timeout=5.0)  # enough for the other files on a busy machine
    assert len(load(data, workers, epochs=2)) == 8
    assert listed(videos) == {str(videos.folder / "pipe.mp4"): "TimeoutError: it was not read in 5 s"}
    # free the threads that still wait
    os.close(os.open(videos.folder / "pipe.mp4", os.O_RDWR))


def test_a_file_that_hangs_is_found_once(videos):
    """It is found once by another process, by a process that runs at the same time, and by a resumed training."""
    os.mkfifo(videos.folder / "pipe.mp4")
    names = [*NAMES, "pipe.mp4"]
    beside = videos(names, timeout=600)
    assert beside[0]
    assert videos(names, timeout=1.0)[GOOD]
    start = time.monotonic()
    assert beside[GOOD] and videos(names, timeout=600)[GOOD]
    assert time.monotonic() - start < 60 and len(videos.list.read_text().splitlines()) == 1
    os.close(os.open(videos.folder / "pipe.mp4", os.O_RDWR))


def label(sample):
    return int(sample["data_samples"].gt_label)


def list_as_bad(videos, *names):
    status = [os.stat(videos.folder / name) for name in names]
    rows = (f"{videos.folder / n}\tgone\t{s.st_size} {s.st_mtime_ns}\n" for n, s in zip(names, status, strict=True))
    videos.list.parent.mkdir(exist_ok=True)
    videos.list.write_text("".join(rows))


def test_a_listed_file_is_left_out_until_the_list_is_deleted(videos):
    data = videos(NAMES)
    assert label(data[1]) == 1
    list_as_bad(videos, "1.mp4")
    stand_in = label(data[1])
    assert stand_in != 1 and label(videos(NAMES)[1]) == stand_in
    videos.list.unlink()
    assert label(data[1]) == 1
    list_as_bad(videos, "1.mp4", "2.mp4")
    assert label(data[1]) != 1 and label(data[2]) != 2
    list_as_bad(videos, "2.mp4")  # a line is removed from the list
    assert label(data[1]) == 1 and label(data[2]) != 2


def test_a_file_that_was_mended_is_read_again(videos):
    names = [*NAMES, "late.mp4"]
    data = videos(names)
    assert label(data[GOOD]) != GOOD
    cut(videos.folder / "late.mp4", 0.6, movflags="faststart")
    assert label(data[GOOD]) != GOOD  # found bad in a new state, which is listed
    write(videos.folder / "late.mp4")
    assert label(data[GOOD]) == GOOD and label(videos(names)[GOOD]) == GOOD
    states = [line.split("\t")[2] for line in videos.list.read_text().splitlines()]
    assert states[0] == "missing" and len(states) == 2 and len(listed(videos)) == 1


def test_lists_of_earlier_versions(videos):
    """Such lists have no states, so their files count as bad and are tried again."""
    videos.list.parent.mkdir()
    videos.list.write_text(f"{videos.folder / '1.mp4'}\tgone\n")
    assert label(videos(NAMES)[1]) == 1
    with pytest.raises(TooManyBadFiles, match="1 of 5 files cannot be read"):
        videos(NAMES, limit=0.1)[0]


def test_the_limit_counts_what_was_listed_before_and_is_still_bad(videos):
    names = [*NAMES, "a.mp4", "b.mp4"]
    data = videos(names)
    assert data[GOOD] and data[GOOD + 1]
    with pytest.raises(TooManyBadFiles, match="2 of 7 files cannot be read, and limit=0.2"):
        videos(names, limit=0.2)[0]
    write(videos.folder / "a.mp4")
    assert label(videos(names, limit=0.2)[GOOD]) == GOOD


def test_a_file_that_is_damaged_in_places_is_read_in_others(videos):
    """The same seed gives the same numbers, no matter which worker finds the damage, also with another run's list."""
    content = bytearray(write(videos.folder / "half.mp4", count=60, g="10", movflags="faststart").read_bytes())
    content[2 * len(content) // 3 :] = bytes(len(content) - 2 * len(content) // 3)
    (videos.folder / "half.mp4").write_bytes(content)
    runs = []
    for _ in range(2):
        data = videos([*NAMES, "half.mp4"])
        seed()
        samples = [data[GOOD] for _ in range(16)]
        assert len({label(sample) for sample in samples}) == 2
        runs.append([sample["inputs"] for sample in samples])
    assert all(torch.equal(x, y) for x, y in zip(*runs, strict=True))
    assert len(listed(videos)) == 1 and videos.list.read_text().count("\t") == 1


def readers():
    return {thread for thread in threading.enumerate() if thread.name == "maskfeat-reader"}


def test_its_thread_ends_with_it(videos):
    before = readers()
    data = videos(NAMES)
    assert data[0] and data[1]
    (reader,) = readers() - before
    del data
    gc.collect()
    reader.join(60)
    assert not reader.is_alive()


def test_a_thread_that_was_left_behind_ends_when_it_has_read(videos):
    os.mkfifo(videos.folder / "pipe.mp4")
    before = readers()
    data = videos([*NAMES, "pipe.mp4"])
    try:
        assert data._reader.read(data.dataset.__getitem__, GOOD, 0.5)[0] is None
        (reader,) = readers() - before
    finally:
        os.close(os.open(videos.folder / "pipe.mp4", os.O_RDWR))
    reader.join(60)
    assert not reader.is_alive() and data[0]


def test_without_a_time_limit(videos):
    data = videos([*NAMES, "missing.mp4"], timeout=None)
    assert len(load(data, workers=0)) == GOOD + 1 and len(listed(videos)) == 1


def test_is_the_data_set_in_all_else(videos):
    data = videos(NAMES, metainfo=dict(classes=("a", "b")))
    assert len(data) == GOOD and data.metainfo == dict(classes=("a", "b"))
    assert data.get_data_info(1)["filename"].endswith("1.mp4")
    data.full_init()
    for other in (copy.deepcopy(data), pickle.loads(pickle.dumps(data))):
        seed()
        x = data[2]["inputs"]
        seed()
        assert torch.equal(other[2]["inputs"], x)
    with pytest.raises(AttributeError):
        data.nothing  # noqa: B018


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(limit=1.5), "limit=1.5 is a share"),
        (dict(limit=-0.1), "limit=-0.1 is a share"),
        (dict(timeout=0), "timeout=0 has to be"),
        (dict(test_mode=True), "would falsify"),
    ],
)
def test_wrong_settings(videos, settings, message):
    with pytest.raises(ValueError, match=message):
        videos(NAMES, **settings)


def test_the_list_is_beside_the_log_of_another_runner(videos):
    data = videos(NAMES, list_file=None)
    assert isinstance(data, SkipBadFiles) and data.list_file.name == "bad_files.txt"
    assert data.list_file.parent != videos.list.parent


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_huge_files_are_not_held_in_memory(tmp_path):
    path, size, count = tmp_path / "huge.mov", (720, 1280), 80  # 220 MB
    with av.open(str(path), "w") as container:
        stream = container.add_stream("rawvideo", rate=25)
        stream.height, stream.width = size
        stream.pix_fmt = "rgb24"
        for i in range(count):
            frame = av.VideoFrame.from_ndarray(np.full((*size, 3), i, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    before = resident()
    reader = VideoReader(str(path), path.name)
    images = reader.read([70, 3, 71])
    assert resident() - before < 60 << 20
    assert [int(image[0, 0, 0]) for image in images] == [70, 3, 71]


@pytest.mark.parametrize(
    ("name", "options"), [("a.mp4", {}), ("a.mkv", {}), ("fragments.mp4", dict(movflags="frag_keyframe+empty_moov"))]
)
def test_huge_files_read_twice_give_the_same_frames(tmp_path, monkeypatch, name, options):
    """The files are mp4 with its index, mkv with its times, and mp4 in fragments, which has to be read."""
    path = str(write(tmp_path / name, count=600, codec="libx264", **options))  # two key frames and more
    wanted = [599, 0, 301, 299, 300, 302, 10]
    frames = VideoReader(path, name).read(wanted)
    monkeypatch.setattr("maskfeat_plugin.datasets.video_packets._KEPT_BYTES", 0)
    reader = VideoReader(path, name)
    monkeypatch.setattr(reader, "_decode_all", lambda indices: pytest.fail("decoded all"))
    for _ in range(2):
        np.testing.assert_array_equal(reader.read(wanted), frames)
