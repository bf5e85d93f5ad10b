"""Tests of the actions over a whole video: frames, boxes at given times, boxes of a detector, and errors."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from mmdet.apis import inference_detector
from mmengine.registry import DefaultScope

from maskfeat_plugin.apis import ConfigError, load_config
from maskfeat_plugin.apis.pictures import Choice, ClassNames, Wishes, build_fine_tuned, visualize
from maskfeat_plugin.apis.pictures.action_inputs import ActionInputs
from maskfeat_plugin.apis.pictures.fine_tuned import Samples
from maskfeat_plugin.apis.pictures.persons import PersonDetector, read_boxes
from maskfeat_plugin.apis.pictures.video_actions import Video, write_actions
from maskfeat_plugin.datasets.transforms import OpenVideo
from maskfeat_plugin.registry import MODELS

DEMO = Path(__file__).parents[2] / "configs" / "demo"
AVA, COCO = DEMO / "mvit-tiny_moving-digits-ava.py", DEMO / "vit-tiny_moving-digits-coco.py"
RATE = Fraction(30000, 1001)
HEIGHT, WIDTH, FRAMES = 240, 320, 75
LEFT, RIGHT = (0.1, 0.5, 0.3, 0.8), (0.6, 0.5, 0.9, 0.8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Write a checkpoint for each demo config. Random noise on every weight gives all of them an effect."""
    folder = tmp_path_factory.mktemp("weights")
    for config in (AVA, COCO):
        cfg = load_config(config)
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            model = MODELS.build(cfg.model)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
        torch.save(dict(state_dict=model.state_dict()), folder / f"{config.stem}.pth")
    return {config: str(folder / f"{config.stem}.pth") for config in (AVA, COCO)}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Write a video whose frames become brighter."""
    path = tmp_path_factory.mktemp("videos") / "clip.mp4"
    write_clip(path, np.arange(FRAMES) + 60)
    return path


def write_clip(path, levels, size=(HEIGHT, WIDTH), kind="libx264"):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(kind, rate=RATE)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        for level in levels:
            frame = av.VideoFrame.from_ndarray(np.full((*size, 3), level, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def read_video(path):
    with av.open(str(path)) as container:
        rate = container.streams.video[0].average_rate
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]), rate


def outlined(frames, box):
    """Check for each grey frame whether the lower edge of a box is drawn in amber. Texts are at its upper edge."""
    x1, _, x2, y2 = (np.array(box) * [WIDTH, HEIGHT, WIDTH, HEIGHT]).round().astype(int)
    edge = frames[:, y2 - 2 : y2, x1 + 4 : x2 - 4].mean((1, 2))
    return (edge[:, 0] - edge[:, 2] > 60).tolist()


def test_boxes_follow_their_times(weights, clip, tmp_path, caplog):
    table = tmp_path / "boxes.csv"
    rows = [(0, *LEFT), (0.5, *LEFT), (1, *RIGHT), (9, *LEFT)]  # seconds
    table.write_text("time,x1,y1,x2,y2\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))
    wishes = Wishes(inputs=[str(clip)], boxes=str(table))
    (written,) = visualize(load_config(AVA), weights[AVA], tmp_path / "out", wishes)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["clip_actions.mp4"] == [written.name]
    frames, rate = read_video(written)
    assert frames.shape == (FRAMES, HEIGHT, WIDTH, 3) and rate == RATE
    # each box is drawn for a second or until the next key frame; second 0.5 lies between two key frames
    assert outlined(frames, LEFT) == [True] * 30 + [False] * 45
    assert outlined(frames, RIGHT) == [False] * 30 + [True] * 30 + [False] * 15
    np.testing.assert_allclose(frames[:, -20:].mean((1, 2, 3)), np.arange(FRAMES) + 60, atol=3)
    assert "1 of 4 times are beyond its end at 2.50 s" in caplog.text and "2 of 3 times are used" in caplog.text
    # the text is above the box, in white
    assert (frames[5, 60 : int(0.5 * HEIGHT), 32:150] > 200).all(-1).sum() > 100
    # with shorter steps, more times become key frames
    (written,) = visualize(load_config(AVA), weights[AVA], tmp_path / "half", Wishes(**vars(wishes) | {"every": 0.5}))
    frames, _ = read_video(written)
    assert outlined(frames, LEFT) == [True] * 30 + [False] * 45
    assert outlined(frames, RIGHT) == [False] * 30 + [True] * 15 + [False] * 30


def test_the_model_gets_what_the_data_set_gives(digits, monkeypatch):
    """ActionInputs gives the same clip around the key frame and the same boxes as the data set."""
    monkeypatch.chdir(digits)
    cfg = load_config(AVA)
    (sample,) = Samples(cfg, (), Choice("test", (2,)))
    packed = sample.read()
    boxes = packed["data_samples"].proposals.bboxes / 32
    name = packed["data_samples"].video_id
    video, inputs = Video(f"data/moving_digits/videos/test/{name}"), ActionInputs(cfg)
    assert (len(video), video.rate) == (16, 8)
    (frames,) = video.clips([inputs.frames_around(8, 16, 8.0)], inputs.short_side)
    own = inputs.pack(frames, boxes.numpy())
    assert torch.equal(own["inputs"], packed["inputs"])
    torch.testing.assert_close(own["data_samples"].proposals.bboxes, packed["data_samples"].proposals.bboxes)
    # pictures of samples of a data set show the frames of the file
    np.testing.assert_array_equal(sample.read_frames(), np.stack(frames))
    assert sample.read_frames().shape[1:] != (32, 32, 3)


def test_the_first_and_the_last_frame_are_repeated_at_the_ends(clip):
    video, inputs = Video(str(clip)), ActionInputs(load_config(AVA))
    around = [inputs.frames_around(key, len(video), float(video.rate)).tolist() for key in (0, 30, 74)]
    assert around == [
        [0, 0, 0, 0, 0, 2, 4, 6],
        [22, 24, 26, 28, 30, 32, 34, 36],
        [66, 68, 70, 72, 74, 74, 74, 74],
    ]
    for numbers, frames in zip(around, video.clips([np.array(n) for n in around], None), strict=True):
        np.testing.assert_allclose([frame.mean() for frame in frames], np.array(numbers) + 60, atol=2)


def test_clips_that_overlap_are_read_once(clip):
    video = Video(str(clip))
    clips = [np.arange(start, start + 20, 2) for start in range(0, 50, 3)]
    for numbers, frames in zip(clips, video.clips(clips, None), strict=True):
        np.testing.assert_allclose([frame.mean() for frame in frames], numbers + 60, atol=2)
    assert [frame.shape for frame in next(video.clips(clips, 120))] == [(120, 160, 3)] * 10


def test_a_detector_of_mmdet_finds_the_boxes(weights):
    cfg = load_config(COCO)
    frame = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    model = build_fine_tuned(cfg, weights[COCO])
    model.cfg = cfg
    with DefaultScope.overwrite_default_scope("mmdet"):
        theirs = inference_detector(model, frame[..., ::-1].copy()).pred_instances
    boxes = (theirs.bboxes.numpy() / [90, 60, 90, 60]).clip(0, 1)
    area = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    for least_score, kind in ((0.0, None), (float(theirs.scores.median()), None), (0.0, str(int(theirs.labels[0])))):
        wanted = area & (theirs.scores >= least_score).numpy()
        if kind is not None:
            wanted &= (theirs.labels == int(kind)).numpy()
        found = PersonDetector(cfg, weights[COCO], "cpu", kind, least_score)(frame)
        assert 0 < len(found) and (least_score == 0 or len(found) < len(boxes))
        np.testing.assert_allclose(found, boxes[wanted], atol=1e-5)


def test_a_video_with_a_detector(weights, clip, tmp_path):
    wishes = Wishes(
        inputs=[str(clip.parent)], detector=str(COCO), detector_checkpoint=weights[COCO], least_score=0.0, every=1.3
    )
    (written,) = visualize(load_config(AVA), weights[AVA], tmp_path, wishes)
    frames, rate = read_video(written)
    assert frames.shape == (FRAMES, HEIGHT, WIDTH, 3) and rate == RATE
    assert (frames[..., 0].astype(int) - frames[..., 2] > 60).any((1, 2)).all()  # amber boxes at all times
    # if nothing is found, the video does not change
    nothing = Wishes(**vars(wishes) | {"least_score": 1.0})
    (written,) = visualize(load_config(AVA), weights[AVA], tmp_path, nothing)
    np.testing.assert_allclose(read_video(written)[0].mean((1, 2, 3)), np.arange(FRAMES) + 60, atol=3)


def test_a_small_source_in_another_container(weights, tmp_path):
    """An MPEG-4 video of 64 x 50 pixels in Matroska is enlarged by an integer factor."""
    write_clip(tmp_path / "small.mkv", [90] * 12, (50, 64), "mpeg4")
    cfg = load_config(AVA)
    model, inputs = build_fine_tuned(cfg, weights[AVA]), ActionInputs(cfg)
    out = write_actions(
        model, inputs, str(tmp_path / "small.mkv"), {0.0: np.array([LEFT])}, ClassNames(), tmp_path / "a.mp4"
    )
    frames, _ = read_video(out)
    assert frames.shape == (12, 250, 320, 3)


def test_frames_of_different_lengths_become_equal_steps_of_time(tmp_path):
    """The video has the same frames as the transforms of a config read."""
    path = str(tmp_path / "phone.mp4")
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 64, "yuv420p"
        for number in range(30):  # the last 10 frames are 5 times as long
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 60 + 4 * number, np.uint8), format="rgb24")
            frame.pts = number if number < 20 else 20 + 5 * (number - 20)
            frame.time_base = Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    opened = OpenVideo()(dict(filename=path))
    video = Video(path)
    assert len(video) == 30 and float(video.rate) == pytest.approx(opened["avg_fps"], abs=1e-3)
    expected = opened["video_reader"].read(range(30))
    np.testing.assert_array_equal(list(video.frames()), expected)
    (clip,) = video.clips([np.array([4, 4, 20, 28])], None)
    np.testing.assert_array_equal(clip, [expected[i] for i in (4, 4, 20, 28)])


def test_an_error_in_the_middle_leaves_no_file(weights, clip, tmp_path):
    def detect(frame):
        if frame.mean() > 80:
            raise ConfigError("out of order")
        return np.array([LEFT])

    cfg = load_config(AVA)
    model, inputs = build_fine_tuned(cfg, weights[AVA]), ActionInputs(cfg)
    with pytest.raises(ConfigError, match="out of order"):
        write_actions(model, inputs, str(clip), detect, ClassNames(), tmp_path / "out.mp4")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0,32,120,96,192\n", "line 1: the box .* pixels have to be divided by its width and height"),
        ("0,0.1,0.5,0.3,0.8\n1,0.1,0.5,0.3\n", "line 2: '1,0.1,0.5,0.3' is not a box. Write the time in seconds"),
        ("0,0.1,0.5,0.3,0.8,90\n", "line 1: the score is '90'"),
        ("-1,0.1,0.5,0.3,0.8\n", "line 1: .* is not a box"),
        ("clip.mp4,0001,0.1,0.5,0.3,0.8,,0.9\n", "line 1: .* is not a box"),
        ("time,x1,y1,x2,y2\n", "the file has no boxes"),
        ("0,0.1,0.5,0.3,0.8,0.1\n", "none of its 1 boxes has a score of at least 0.3"),
        ("60,0.1,0.5,0.3,0.8\n", "1 of 1 times are beyond its end at 2.50 s.*boxes of this video"),
        (None, "there is no file"),
    ],
)
def test_tables_that_cannot_be_used(weights, clip, tmp_path, text, says):
    table = tmp_path / "boxes.csv"
    if text is not None:
        table.write_text(text)
    with pytest.raises(ConfigError, match=says):
        visualize(load_config(AVA), weights[AVA], tmp_path / "out", Wishes(inputs=[str(clip)], boxes=str(table)))
    assert not list((tmp_path / "out").iterdir())


def test_a_table_of_any_system(tmp_path):
    table = tmp_path / "boxes.csv"
    table.write_bytes(b"\xef\xbb\xbftime, x1, y1, x2, y2, score\r\n\r\n1.5, 0, 0, 1, 1, 0.9\r\n0.5,0,0,.5,.5,0.4\r\n")
    boxes = read_boxes(table, 0.3)
    assert list(boxes) == [0.5, 1.5]
    np.testing.assert_array_equal(boxes[0.5], [[0, 0, 0.5, 0.5]])


@pytest.mark.parametrize(
    ("config", "wishes", "says"),
    [
        (AVA, dict(boxes="b.csv", detector="d.py"), "--boxes FILE or --detector CONFIG, one of them"),
        (AVA, dict(every=2.0), "give the boxes of persons in the video"),
        (AVA, dict(detector=str(COCO)), "--detector CONFIG and --detector-checkpoint FILE belong together"),
        (AVA, dict(boxes="b.csv", detector_class="3"), "--detector-class is a class of the detector"),
        (AVA, dict(boxes="b.csv", clips="gif"), "a whole video is written as mp4"),
        (AVA, dict(boxes="b.csv", neighbours=2), "leave out --neighbours"),
        (COCO, dict(boxes="b.csv"), "--boxes needs a config of action detection"),
        (AVA, dict(boxes="b.csv", inputs=["sound.wav"]), "sound.wav is a sound, and .* takes videos"),
        (AVA, dict(boxes="b.csv", inputs=["cut.mp4"]), "cut.mp4 is"),
        (
            AVA,
            dict(boxes="b.csv", inputs=["clip.mp4", "clip.mp4"]),
            "has the boxes of one video, but 2 videos are given",
        ),
        (AVA, dict(detector=str(AVA), detector_checkpoint="WEIGHTS"), "takes videos. Give a config of mmdet"),
        (AVA, dict(detector=str(COCO), detector_checkpoint="WEIGHTS", detector_class="cat"), "has no class 'cat'"),
    ],
)
def test_wishes_that_do_not_fit(weights, clip, tmp_path, monkeypatch, config, wishes, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip.mp4").symlink_to(clip)
    (tmp_path / "cut.mp4").write_bytes(clip.read_bytes()[:2000])
    (tmp_path / "sound.wav").write_bytes(
        b"RIFF$\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0@\x1f\0\0\x80>\0\0\2\0\x10\0data\0\0\0\0"
    )
    wishes = {name: weights[COCO] if value == "WEIGHTS" else value for name, value in wishes.items()}
    with pytest.raises(ConfigError, match=says):
        visualize(load_config(config), weights[config], tmp_path / "out", Wishes(**{"inputs": ["clip.mp4"], **wishes}))
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
