"""Clips decoded from real files: bit for bit the frames of a decoder that decodes all frames, and mmaction2's crops."""

import random
import struct
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.dataset import Compose, pseudo_collate
from mmengine.fileio import BaseStorageBackend, FileClient
from mmengine.registry import DefaultScope

from maskfeat_plugin.datasets import VideoReader
from maskfeat_plugin.registry import DATASETS, MODELS, TRANSFORMS

FRAMES = 48
# x264 on one thread; without mbtree=0 the bytes of small clips vary from run to run
SMALL = {"x264-params": "mbtree=0", "threads": "1"}
GOPS = {
    "default": {},
    "no-b-frames": {"bf": "0"},
    "short-gops": {"g": "10"},
    "open-gops": {"g": "10", "x264-params": "mbtree=0:open-gop=1:scenecut=0:bframes=5:b-adapt=0"},
    "no-pyramid": {"x264-params": "mbtree=0:b-pyramid=none"},
    "many-b-frames": {"bf": "8", "x264-params": "mbtree=0:b-adapt=0:ref=5"},
    "slices": {"x264-params": "mbtree=0:slices=3"},
    "intra-refresh": {"g": "10", "x264-params": "mbtree=0:intra-refresh=1"},
    "interlaced": {"x264-params": "mbtree=0:interlaced=1:bframes=3"},
    "no-cabac": {"profile": "baseline"},
}


def draw(count, height, width):
    """Return frames (H, W, 3) of smooth moving colours, with a square and some noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    for i in range(count):
        waves = np.sin((x + 3 * i) / 17 + y / 23), np.cos((y - 2 * i) / 13), np.sin((x + y) / (9 + i))
        frame = 128 + 100 * np.stack(waves, -1) + rng.normal(0, 4, (height, width, 3))
        top, left = 5 * i % (height - 20), 7 * i % (width - 20)
        frame[top : top + 20, left : left + 20] = rng.integers(0, 256, 3)
        yield np.clip(frame, 0, 255).astype(np.uint8)


def write(path, count=FRAMES, size=(96, 128), codec="libx264", pix_fmt="yuv420p", options=None, times=None, form=None):
    with av.open(str(path), "w", options=form or {}) as container:
        stream = container.add_stream(
            codec, rate=30, options={**SMALL, **(options or {})} if codec == "libx264" else {}
        )
        stream.height, stream.width = size
        stream.pix_fmt = pix_fmt
        if times is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for i, image in enumerate(draw(count, *size)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = int(times[i]), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def decode_all(path):
    """Decode all frames with PyAV's plain loop."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def decode_by_decord(path):
    """Decode all frames with decord. The rest of the test is skipped if there is no decord for this machine."""
    decord = pytest.importorskip("decord")
    video = decord.VideoReader(str(path), num_threads=1)
    return video.get_batch(range(len(video))).asnumpy()


@pytest.fixture(scope="module", params=GOPS)
def video(request, tmp_path_factory):
    """Return a file and all of its frames."""
    path = write(tmp_path_factory.mktemp("video") / f"{request.param}.mp4", options=GOPS[request.param])
    return str(path), decode_all(path)


@settings(max_examples=25)
@given(indices=st.lists(st.integers(0, FRAMES - 1), min_size=1, max_size=16))
def test_any_frames_in_any_order(video, indices):
    path, frames = video
    images = VideoReader(path, path).read(indices)
    assert len(images) == len(indices)
    for index, image in zip(indices, images, strict=True):
        np.testing.assert_array_equal(image, frames[index])


@settings(max_examples=10)
@given(start=st.integers(0, FRAMES), interval=st.integers(1, 6))
def test_clips(video, start, interval):
    """The indices are the ones of SampleFrames, including the ends of the video and loops over it."""
    path, frames = video
    indices = (start + interval * np.arange(16)) % FRAMES
    np.testing.assert_array_equal(VideoReader(path, path).read(indices.astype(np.int32)), frames[indices])


def test_the_fast_path_is_the_one_that_is_tested(video, monkeypatch):
    """No file needs the decoder that decodes all frames, except the file whose key frames are not whole pictures."""
    path, frames = video
    reader = VideoReader(path, path)
    monkeypatch.setattr(reader, "_decode_all", lambda *args: pytest.fail("decoded all"))
    if "intra-refresh" in path:
        assert not list(reader._decode([FRAMES - 1], None))
        return
    np.testing.assert_array_equal(reader.read(range(FRAMES)), frames)
    np.testing.assert_array_equal(reader.read([FRAMES - 1, 0]), frames[[-1, 0]])


def test_a_reader_reads_again(video):
    path, frames = video
    reader = VideoReader(path, path)
    for start in (30, 0, 30):
        np.testing.assert_array_equal(reader.read([start, start + 7]), frames[[start, start + 7]])


def test_equal_to_decord(video):
    path, frames = video
    decord = pytest.importorskip("decord")
    reader = VideoReader(path, path)
    theirs = decode_by_decord(path)
    assert len(reader) == len(theirs) == FRAMES
    assert reader.get_avg_fps() == pytest.approx(decord.VideoReader(path).get_avg_fps())
    times = decord.VideoReader(path).get_frame_timestamp(range(FRAMES))
    np.testing.assert_allclose(reader.get_frame_times(), times, atol=1e-6)  # decord's times have 32 bits
    if "interlaced" in path:  # today's swscale converts the colours of each field separately
        assert np.abs(frames.astype(int) - theirs).mean() < 4  # measured: 3.0
    else:
        np.testing.assert_array_equal(reader.read(range(FRAMES)), theirs)


def test_frames_one_after_the_other(video):
    """If a reader's frames were not all taken, the next call still starts correctly."""
    path, frames = video
    reader = VideoReader(path, path)
    for _, image in zip(range(3), reader.stream(range(10, 40)), strict=False):
        last = image
    np.testing.assert_array_equal(last, frames[12])
    np.testing.assert_array_equal(list(reader.stream(range(5, FRAMES, 7))), frames[5::7])


def test_skipped_frames_are_not_decoded(tmp_path):
    """Between two requested frames are ten others. Frames that no other frame needs are not decoded."""
    path = str(write(tmp_path / "a.mp4"))
    reader = VideoReader(path, path)
    decoded = []
    context = reader._stream.codec_context

    class Counted:
        def __getattr__(self, name):
            return getattr(context, name)

        def __setattr__(self, name, value):
            setattr(context, name, value)

        def decode(self, packet):
            frames = context.decode(packet)
            decoded.extend(frames)
            return frames

    class Stream:
        codec_context = Counted()

    reader._stream = Stream()
    reader.read([0, 40])
    assert len(decoded) < 0.7 * 41
    decoded.clear()
    reader.read([0, 1])
    assert len(decoded) < 8


@pytest.mark.parametrize(
    ("size", "pix_fmt"),
    [((98, 130), "yuv420p"), ((48, 72), "yuv420p"), ((97, 131), "yuv444p"), ((96, 128), "yuv422p")],
)
def test_sizes_and_formats(tmp_path, size, pix_fmt):
    path = str(write(tmp_path / "a.mp4", 12, size, pix_fmt=pix_fmt))
    ours = np.stack(VideoReader(path, path).read(range(12)))
    assert ours.shape == (12, *size, 3)
    np.testing.assert_array_equal(ours, decode_all(path))
    if size != (48, 72):  # decord fails for this size
        np.testing.assert_array_equal(ours, decode_by_decord(path))


@pytest.mark.parametrize(
    ("codec", "size", "pix_fmt"), [("mpeg4", (97, 131), "yuv420p"), ("libx264", (96, 128), "yuv420p10le")]
)
def test_where_decord_differs(tmp_path, codec, size, pix_fmt):
    """Today's swscale converts an odd number of colour rows, and pixels of 10 bits, differently from decord's."""
    path = str(write(tmp_path / "a.mp4", 12, size, codec=codec, pix_fmt=pix_fmt))
    ours = np.stack(VideoReader(path, path).read(range(12)))
    np.testing.assert_array_equal(ours, decode_all(path))
    difference = np.abs(ours.astype(int) - decode_by_decord(path))
    assert difference.mean() < 4  # measured: 2.6 and 2.3, at the edges of colours


def test_ten_bits_are_right_to_rounding(tmp_path):
    """Compare a lossless file with the formula of ITU-R BT.601, limited range."""
    path = tmp_path / "a.mp4"
    height, width = 48, 64
    rng = np.random.default_rng(0)
    y = rng.integers(64, 941, (height, width))
    cb, cr = rng.integers(400, 625, (2, height, width))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={**SMALL, "qp": "0"})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv444p10le"
        frame = av.VideoFrame(width, height, "yuv444p10le")
        for plane, values in zip(frame.planes, (y, cb, cr), strict=True):
            padded = np.zeros((height, plane.line_size // 2), np.uint16)
            padded[:, :width] = values
            plane.update(padded.tobytes())
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    luma, blue, red = 1.164384 * (y / 4 - 16), cb / 4 - 128, cr / 4 - 128
    expected = np.stack([luma + 1.596027 * red, luma - 0.391762 * blue - 0.812968 * red, luma + 2.017232 * blue], -1)
    ours = VideoReader(str(path), "a").read([0])[0]
    assert np.abs(ours - expected.clip(0, 255)).max() < 1.5


@pytest.mark.parametrize("name", ["a.mkv", "a.avi", "a.ts", "a.mov"])
def test_containers(tmp_path, name):
    path = str(write(tmp_path / name))
    reader = VideoReader(path, path)
    assert len(reader) == FRAMES
    assert reader.get_avg_fps() == pytest.approx(30)
    np.testing.assert_allclose(reader.get_frame_times()[:, 0], np.arange(FRAMES) / 30, atol=5.1e-4)  # rounded to 1 ms
    np.testing.assert_array_equal(reader.read([40, 3, 3, 47]), decode_all(path)[[40, 3, 3, 47]])


@pytest.mark.parametrize(("codec", "name"), [("libvpx-vp9", "a.webm"), ("libx265", "a.mp4"), ("mpeg4", "a.mp4")])
def test_other_codecs(tmp_path, codec, name):
    path = str(write(tmp_path / name, 20, codec=codec))
    ours = VideoReader(path, path).read([19, 4, 11])
    np.testing.assert_array_equal(ours, decode_all(path)[[19, 4, 11]])
    np.testing.assert_array_equal(ours, decode_by_decord(path)[[19, 4, 11]])


def repeat(source, path, times):
    """Copy a file several times in a row."""
    with av.open(str(path), "w") as long:
        stream, offset = None, 0
        for _ in range(times):
            with av.open(str(source)) as short:
                video = short.streams.video[0]
                stream = stream or long.add_stream_from_template(video)
                for packet in short.demux(video):
                    if packet.dts is not None:
                        packet.pts, packet.dts, packet.stream = packet.pts + offset, packet.dts + offset, stream
                        long.mux(packet)
                offset += round(video.frames / video.average_rate / video.time_base)
    return str(path)


@pytest.fixture(scope="module", params=["a.mp4", "a.mov", "a.mkv", "a.ts"])
def long_video(request, tmp_path_factory):
    """Return a file that repeats a short one, and the frames of the short one."""
    folder = tmp_path_factory.mktemp("long")
    short = write(folder / "short.mp4", options=GOPS["open-gops"])
    return repeat(short, folder / request.param, 60), decode_all(short)


def take_for_long(patch):
    for limit in ("_KEPT_BYTES", "_COUNTED_BYTES"):
        patch.setattr(f"maskfeat_plugin.datasets.video_packets.{limit}", 0)


def open_as_long(path):
    """Open a file with a reader that treats it as a file above 64 MiB."""
    with pytest.MonkeyPatch.context() as patch:
        take_for_long(patch)
        return VideoReader(path, path)


@settings(max_examples=15)
@given(indices=st.lists(st.integers(0, 60 * FRAMES - 1), min_size=1, max_size=16))
def test_any_frames_of_a_long_file(long_video, indices):
    path, frames = long_video
    reader = open_as_long(path)
    assert len(reader) == 60 * FRAMES
    for index, image in zip(indices, reader.read(indices), strict=True):
        np.testing.assert_array_equal(image, frames[index % FRAMES])


def test_all_frames_of_a_long_file(long_video):
    path, frames = long_video
    for index, image in enumerate(open_as_long(path).stream(range(60 * FRAMES))):
        np.testing.assert_array_equal(image, frames[index % FRAMES])


def test_little_of_a_long_file_is_read(long_video):
    path, _ = long_video

    def bytes_read():
        return int(Path("/proc/self/io").read_text().split()[1])

    before = bytes_read()
    reader = open_as_long(path)
    reader.read(range(1000, 1064, 4))
    read = bytes_read() - before
    with av.open(path) as file:
        tells_rate = file.streams.video[0].average_rate == 30
    # PyAV before 18 writes a duration of 33 ms for mkv instead
    assert tells_rate or path.endswith(".mkv") and av.__version__ < "18"
    # libavformat looks once at up to 250 kB at the end of a ts file for its duration
    bound = 0.15 * Path(path).stat().st_size + 400_000
    assert bound < 0.7 * Path(path).stat().st_size
    assert read < bound or not tells_rate
    assert not reader.has_variable_rate()
    np.testing.assert_array_equal(reader.numbers_at(np.array([-1, 0, 1, 2.5, 1e6])), [0, 0, 30, 75, 60 * FRAMES - 1])


def test_an_index_that_does_not_fit_is_not_used(tmp_path):
    """All packets of a file with a wrong index are read, and the error comes from their content."""
    path = write(tmp_path / "a.mp4", 12)
    content = bytearray(path.read_bytes())
    place = content.find(b"stco") + 12
    content[place : place + 4] = struct.pack(">i", struct.unpack(">i", content[place : place + 4])[0] + 7)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="a.mp4"):
        VideoReader(str(path), "a.mp4").read(range(12))


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "long.mkv", "long.ts"])
def test_a_variable_rate_is_sampled_by_time(tmp_path, name, monkeypatch):
    """The video has two seconds of 20 frames and two of 4. Each second gives the same number of frames of a clip."""
    if name.startswith("long"):
        take_for_long(monkeypatch)
    times = np.concatenate([np.arange(0, 2000, 50), np.arange(2000, 4000, 250)])
    path = str(write(tmp_path / name, len(times), times=times))
    frames = decode_all(path)
    opened = TRANSFORMS.build(dict(type="maskfeat.OpenVideo"))(dict(filename=path))
    seconds = np.arange(0.1, 3.9, 0.25)
    numbers = np.minimum(np.floor(seconds * opened["avg_fps"]), opened["total_frames"] - 1).astype(int)
    done = TRANSFORMS.build(dict(type="maskfeat.DecodeClip"))(dict(opened, frame_inds=numbers))
    # the times in the middle of these frame numbers
    assert opened["total_frames"] / opened["avg_fps"] == pytest.approx(4, abs=0.3)
    shown = np.searchsorted(times, (numbers + 0.5) / opened["avg_fps"] * 1000 + 1e-6, side="right") - 1
    assert (shown[-1] - shown[8]) < 0.3 * (shown[7] - shown[0])
    for image, index in zip(done["imgs"], shown, strict=True):
        np.testing.assert_array_equal(image, frames[index])


def test_variable_frame_rate(tmp_path):
    times = np.cumsum(np.random.default_rng(1).integers(10, 90, FRAMES))
    path = str(write(tmp_path / "a.mp4", times=times - times[0]))
    reader = VideoReader(path, path)
    np.testing.assert_array_equal(reader.read(range(FRAMES)), decode_all(path))
    shown = reader.get_frame_times()[:, 0]
    np.testing.assert_allclose(shown, (times - times[0]) / 1000, atol=1e-9)
    np.testing.assert_array_equal(reader.read(range(FRAMES)), decode_by_decord(path))
    decord = pytest.importorskip("decord")
    assert reader.get_avg_fps() == pytest.approx(decord.VideoReader(path).get_avg_fps(), rel=1e-3)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation(tmp_path, degrees):
    path = tmp_path / "a.mp4"
    content = bytearray(write(path, 6).read_bytes())
    one, end = 1 << 16, 1 << 30
    place = content.find(struct.pack(">9i", one, 0, 0, 0, one, 0, 0, 0, end), content.find(b"tkhd"))
    x, y = {90: (0, one), 180: (-one, 0), 270: (0, -one)}[degrees]
    content[place : place + 36] = struct.pack(">9i", x, y, 0, -y, x, 0, 0, 0, end)
    path.write_bytes(content)
    ours = np.stack(VideoReader(str(path), "a").read([0, 5]))
    assert ours.shape[1:3] == ((96, 128) if degrees == 180 else (128, 96))
    np.testing.assert_array_equal(ours, decode_by_decord(path)[[0, 5]])


def test_an_edit_list_hides_frames(tmp_path):
    """Frames before time 0 are decoded, because other frames need them, but not returned."""
    source, path = write(tmp_path / "whole.mp4"), tmp_path / "cut.mp4"
    with av.open(str(source)) as whole, av.open(str(path), "w") as cut:
        stream = whole.streams.video[0]
        copy = cut.add_stream_from_template(stream)
        step = int(1 / stream.average_rate / stream.time_base)
        for packet in whole.demux(stream):
            if packet.dts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts - 10 * step, packet.dts - 10 * step, copy
                cut.mux(packet)
    frames = decode_all(source)
    reader = VideoReader(str(path), "cut")
    assert len(reader) == FRAMES - 10
    np.testing.assert_array_equal(reader.read(range(len(reader))), frames[10:])
    np.testing.assert_array_equal(reader.read([3])[0], decode_by_decord(path)[3])


def test_wrong_times_are_noticed(tmp_path):
    """If the times follow the order of decoding, frames are counted in the order of the pictures, as in decord."""
    source, path = write(tmp_path / "right.mp4"), tmp_path / "wrong.mp4"
    with av.open(str(source)) as right, av.open(str(path), "w") as wrong:
        stream = right.streams.video[0]
        copy = wrong.add_stream_from_template(stream)
        step = int(1 / stream.average_rate / stream.time_base)
        for i, packet in enumerate(right.demux(stream)):
            if packet.size:
                packet.pts = packet.dts = i * step
                packet.stream = copy
                wrong.mux(packet)
    ours = VideoReader(str(path), "wrong").read(range(20))
    np.testing.assert_array_equal(ours, decode_all(source)[:20])


def test_memory_is_not_shared(tmp_path):
    """mmaction2's Flip works in place: a frame that occurs twice must not be flipped twice."""
    path = str(write(tmp_path / "a.mp4", 6))
    first, second = VideoReader(path, path).read([2, 2])
    first[:] = 0
    np.testing.assert_array_equal(second, decode_all(path)[2])


class Shelf(BaseStorageBackend):
    """Storage backend that files are fetched from."""

    def __init__(self, root):
        self.root = Path(root)

    def get(self, filepath):
        return (self.root / Path(filepath).name).read_bytes()

    def get_text(self, filepath):
        raise NotImplementedError


def test_bytes_and_other_backends(tmp_path):
    path = write(tmp_path / "a.mp4", 6)
    np.testing.assert_array_equal(VideoReader(path.read_bytes(), "a").read([5, 1]), decode_all(path)[[5, 1]])
    FileClient.register_backend("shelf", Shelf, force=True)
    for settings_ in (dict(), dict(io_backend="shelf", root=str(tmp_path))):
        opened = TRANSFORMS.build(dict(type="maskfeat.OpenVideo", **settings_))(dict(filename=str(tmp_path / "a")))
        assert isinstance(opened["video_reader"], VideoReader)
        assert (opened["total_frames"], opened["avg_fps"]) == (6, 30)
        done = TRANSFORMS.build(dict(type="maskfeat.DecodeClip"))(dict(opened, frame_inds=np.array([[0, 3]])))
        assert done["original_shape"] == done["img_shape"] == (96, 128)
        assert len(done["imgs"]) == 2 and done["video_reader"] is None


@pytest.mark.parametrize("times", [None, np.concatenate([np.arange(0, 400, 50), np.arange(400, 2400, 250)])])
def test_mmactions_decoder_takes_our_reader(tmp_path, times):
    """mmaction2's inferencer puts its own decoder into the pipeline of a config."""
    path = str(write(tmp_path / "a.mp4", 16, times=times))
    opened = TRANSFORMS.build(dict(type="maskfeat.OpenVideo"))(dict(filename=path, frame_inds=np.array([0, 9, 12])))
    expected = opened["video_reader"].read([0, 9, 12])
    done = TRANSFORMS.build(dict(type="mmaction.DecordDecode"))(opened)
    np.testing.assert_array_equal(done["imgs"], expected)


def test_boxes_become_pixels(tmp_path):
    path = str(write(tmp_path / "a.mp4", 6))
    boxes = np.array([[0.0, 0.5, 1.0, 1.0]])
    results = dict(filename=path, frame_inds=np.array([0]), gt_bboxes=boxes, proposals=None)
    pipeline = [TRANSFORMS.build(dict(type=f"maskfeat.{name}")) for name in ("OpenVideo", "DecodeClip")]
    np.testing.assert_array_equal(Compose(pipeline)(results)["gt_bboxes"], [[0, 48, 128, 96]])


@pytest.mark.parametrize("kept", [0.5, 0.95])
def test_a_truncated_file(tmp_path, kept):
    path = write(tmp_path / "short.mp4", form=dict(movflags="faststart"))
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ValueError, match=r"short.mp4 is cut short: it holds \d+ of 48 frames"):
        VideoReader(str(path), path.name)


def test_a_file_without_its_end(tmp_path):
    path = write(tmp_path / "half.mp4")  # the index is at the end
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match="half.mp4 is no video file, or a broken one"):
        VideoReader(str(path), path.name)


def test_a_damaged_file(tmp_path):
    path = write(tmp_path / "damaged.mp4")
    content = bytearray(path.read_bytes())
    start = content.find(b"mdat") + 3000
    content[start : start + 400] = bytes(byte ^ 0x5A for byte in content[start : start + 400])
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged.mp4 does not decode"):
        VideoReader(str(path), path.name).read(range(FRAMES))


def test_other_files(tmp_path):
    text, sound = tmp_path / "text.mp4", tmp_path / "sound.mp4"
    text.write_text("no video " * 1000)
    with pytest.raises(ValueError, match="text.mp4 is no video file"):
        VideoReader(str(text), text.name)
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(ValueError, match="sound.mp4 holds no video"):
        VideoReader(str(sound), sound.name)
    with pytest.raises(FileNotFoundError, match="nowhere.mp4 is not there"):
        VideoReader(str(tmp_path / "nowhere.mp4"), "nowhere.mp4")


@pytest.mark.parametrize("index", [-1, 6])
def test_no_such_frame(tmp_path, index):
    path = str(write(tmp_path / "a.mp4", 6))
    with pytest.raises(ValueError, match=f"a.mp4 has 6 frames, there is no frame {index}"):
        VideoReader(path, "a.mp4").read([0, index])


def crops(**changes):
    """Return our crop, and mmaction2's transforms for the same crop."""
    given = dict(area_range=(0.3, 1.0), aspect_ratio_range=(0.7, 1.5), scale=(64, 48), interpolation="bilinear")
    given.update(changes)
    ours = TRANSFORMS.build(dict(type="maskfeat.RandomResizedCropFlip", flip_ratio=0.5, **given))
    theirs = Compose(
        [
            dict(
                type="mmaction.RandomResizedCrop",
                area_range=given["area_range"],
                aspect_ratio_range=given["aspect_ratio_range"],
            ),
            dict(type="mmaction.Resize", scale=given["scale"], keep_ratio=False, interpolation=given["interpolation"]),
            dict(type="mmaction.Flip", flip_ratio=0.5),
        ]
    )
    return ours, theirs


def sample(frames):
    height, width = frames[0].shape[:2]
    boxes = np.array([[4, 6, width // 2, height // 2]], np.float32)
    shape = dict(original_shape=(height, width), img_shape=(height, width))
    return dict(imgs=[f.copy() for f in frames], modality="RGB", gt_bboxes=boxes, proposals=boxes + 1, **shape)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 1000),
    height=st.integers(20, 90),
    width=st.integers(20, 90),
    scale=st.tuples(st.integers(8, 70), st.integers(8, 70)),
    interpolation=st.sampled_from(["bilinear", "bicubic", "area"]),
)
def test_equal_to_the_transforms_of_mmaction2(seed, height, width, scale, interpolation):
    frames = np.random.default_rng(seed).integers(0, 256, (3, height, width, 3), dtype=np.uint8)
    done = []
    for transform in crops(scale=scale, interpolation=interpolation):
        np.random.seed(seed)
        random.seed(seed)
        done.append((transform(sample(frames)), np.random.rand(), random.random()))
    (ours, *our_state), (theirs, *their_state) = done
    assert our_state == their_state  # both drew equally many random numbers
    assert ours.keys() == theirs.keys()
    assert isinstance(ours["imgs"], np.ndarray) and ours["imgs"].flags.c_contiguous
    for key in ours:
        np.testing.assert_array_equal(ours[key], theirs[key], err_msg=key)


def test_the_frames_stay_as_they_are():
    frames = list(np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3), dtype=np.uint8))
    before = [frame.copy() for frame in frames]
    ours, _ = crops(area_range=(1.0, 1.0), aspect_ratio_range=(1.0, 1.0), scale=(40, 40))
    np.random.seed(0)
    flipped = [bool(ours(dict(sample(frames), imgs=frames))["flip"]) for _ in range(8)]
    assert any(flipped) and not all(flipped)
    np.testing.assert_array_equal(frames, before)


@pytest.mark.parametrize("changes", [dict(scale=(0, 4)), dict(scale=(4, 4, 4)), dict(interpolation="cubic")])
def test_wrong_settings_of_the_crop(changes):
    with pytest.raises(ValueError, match="RandomResizedCropFlip"):
        TRANSFORMS.build(dict(type="maskfeat.RandomResizedCropFlip", **{"scale": (8, 8), **changes}))


def test_only_rgb_is_cropped():
    ours, _ = crops()
    with pytest.raises(ValueError, match="RGB"):
        ours(dict(sample(np.zeros((2, 40, 40, 3), np.uint8)), modality="Flow"))


OURS = [
    dict(type="maskfeat.OpenVideo"),
    dict(type="mmaction.SampleFrames", clip_len=8, frame_interval=3),
    dict(type="maskfeat.DecodeClip"),
    dict(type="maskfeat.RandomResizedCropFlip", scale=(64, 64), area_range=(0.5, 1.0)),
    dict(type="mmaction.FormatShape", input_format="NCTHW"),
    dict(type="maskfeat.CubeMaskGenerator", token_grid=(4, 8, 8)),
    dict(type="mmaction.PackActionInputs", algorithm_keys=("mask",)),
]
THEIRS = [
    dict(type="mmaction.DecordInit"),
    OURS[1],
    dict(type="mmaction.DecordDecode"),
    dict(type="mmaction.RandomResizedCrop", area_range=(0.5, 1.0)),
    dict(type="mmaction.Resize", scale=(64, 64), keep_ratio=False),
    dict(type="mmaction.Flip", flip_ratio=0.5),
    *OURS[4:],
]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Return the root of a data set of two videos."""
    root = tmp_path_factory.mktemp("videos")
    write(root / "0.mp4")
    write(root / "1.mp4", 30, (120, 100))
    (root / "videos.txt").write_text("0.mp4 0\n1.mp4 1\n")
    return root


def dataset(root, pipeline, **settings_):
    place = dict(data_root=str(root), ann_file="videos.txt", data_prefix=dict(video=""))
    # mmaction2 compares the names of the transforms, and knows them without a scope only
    pipeline = [dict(t, type=t["type"].removeprefix("mmaction.")) for t in pipeline]
    with DefaultScope.overwrite_default_scope("mmaction"):
        return DATASETS.build(dict(pipeline=pipeline, **place, **settings_))


def batch_of(data):
    np.random.seed(3)
    random.seed(3)
    return [data[i] for i in (0, 1, 0)]


def test_whole_pipeline_in_mmaction2s_dataset(videos):
    """Both pipelines give the same batch: pixels, masks, and values after normalisation."""
    ours, theirs = (pseudo_collate(batch_of(dataset(videos, p, type="mmaction.VideoDataset"))) for p in (OURS, THEIRS))
    for x, y in zip(ours["inputs"], theirs["inputs"], strict=True):
        assert x.dtype == torch.uint8 and x.shape == (1, 3, 8, 64, 64)
        assert torch.equal(x, y)
    for x, y in zip(ours["data_samples"], theirs["data_samples"], strict=True):
        np.testing.assert_array_equal(x.mask, y.mask)
        assert int(x.gt_label) == int(y.gt_label) and x.img_shape == y.img_shape
    prepare = MODELS.build(dict(type="maskfeat.MaskFeatDataPreprocessor", mean=114.75, std=57.375))
    ours, theirs = prepare(ours), prepare(theirs)
    assert ours["inputs"].shape == (3, 3, 8, 64, 64)
    assert torch.equal(ours["inputs"], theirs["inputs"]) and torch.equal(ours["mask"], theirs["mask"])


@pytest.mark.parametrize("sample_once", [False, True])
def test_repeated_augmentation(videos, sample_once, monkeypatch):
    """The clips equal the clips of mmaction2's data set with decord's transforms, and each video is read once."""
    reads = []
    read = VideoReader.read

    def counted(reader, indices, *args):
        reads.append(len(indices))
        return read(reader, indices, *args)

    monkeypatch.setattr(VideoReader, "read", counted)
    settings_ = dict(num_repeats=3, sample_once=sample_once)
    ours = batch_of(dataset(videos, OURS, type="maskfeat.RepeatAugDataset", **settings_))
    assert reads == [24] * 3
    theirs = batch_of(dataset(videos, THEIRS, type="mmaction.RepeatAugDataset", **settings_))
    for clips, others in zip(ours, theirs, strict=True):
        assert len(clips) == len(others) == 3
        for x, y in zip(clips, others, strict=True):
            assert torch.equal(x["inputs"], y["inputs"])
            np.testing.assert_array_equal(x["data_samples"].mask, y["data_samples"].mask)


def test_repeated_augmentation_of_decords_transforms(videos):
    ours, theirs = (
        batch_of(dataset(videos, THEIRS, type=f"{scope}.RepeatAugDataset", num_repeats=2))
        for scope in ("maskfeat", "mmaction")
    )
    assert all(torch.equal(x[1]["inputs"], y[1]["inputs"]) for x, y in zip(ours, theirs, strict=True))


def test_repeated_clips_span_the_time_that_is_asked_for(videos):
    """With 10 frames per second in a video of 30, a clip has every third of the first 48 frames."""
    sampler = dict(type="mmaction.SampleFrames", clip_len=8, frame_interval=1, target_fps=10)
    steps = [OURS[0], sampler, OURS[2], dict(type="mmaction.FormatShape", input_format="NCTHW")]
    pack = dict(type="mmaction.PackActionInputs", meta_keys=("frame_inds",))
    for sample in dataset(videos, [*steps, pack], type="maskfeat.RepeatAugDataset", num_repeats=2)[0]:
        chosen = sample["data_samples"].frame_inds[:8]
        assert np.diff(chosen).mean() == pytest.approx(3, abs=0.35)


def test_repeated_augmentation_needs_a_decoder_in_third_place(videos):
    with pytest.raises(ValueError, match="must begin with"):
        dataset(videos, OURS[1:], type="maskfeat.RepeatAugDataset")


def test_in_worker_processes(videos):
    """Views of (T, H, W, C) memory reach the main process unchanged."""
    from torch.utils.data import DataLoader

    data = dataset(videos, OURS, type="mmaction.VideoDataset")
    batch = next(iter(DataLoader(data, batch_size=2, num_workers=1, collate_fn=pseudo_collate)))
    assert [tuple(x.shape) for x in batch["inputs"]] == [(1, 3, 8, 64, 64)] * 2


def test_names():
    for transform in OURS[0], OURS[2], OURS[3]:
        assert repr(TRANSFORMS.build(transform)).startswith(transform["type"].rpartition(".")[2])


def test_opencv_is_bit_exact_on_views():
    """Check the assumption of the crop: OpenCV resizes a part of a frame into a part of a clip bit for bit."""
    rng = np.random.default_rng(0)
    padded = rng.integers(0, 256, (50, 70, 3), dtype=np.uint8)
    clip = np.empty((2, 32, 32, 3), np.uint8)
    cv2.resize(padded[3:40, 5:61], (32, 32), dst=clip[1])
    np.testing.assert_array_equal(clip[1], cv2.resize(padded[3:40, 5:61].copy(), (32, 32)))
