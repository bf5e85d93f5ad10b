"""Tests of the visualizer, which writes panels to every backend and to files: pictures, animated GIFs and videos."""

import av
import cv2
import numpy as np
import pytest
from pictures import IS_OLD_MATPLOTLIB
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import maskfeat_plugin  # noqa: F401 (registers the visualizer)
from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.registry import VISUALIZERS
from maskfeat_plugin.visualization import attention_rollout, compose, draw_prediction, strip
from maskfeat_plugin.visualization.animation import write_frames

IMAGE, CLIP = "demo/maskfeat_vit-tiny_moving-digits.py", "demo/maskfeat_mvit-tiny_moving-digits.py"


@pytest.fixture
def visualizer(tmp_path):
    backends = [dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")]
    name = str(tmp_path)  # visualizers with equal names are the same object
    config = dict(type="maskfeat.MaskFeatVisualizer", name=name, vis_backends=backends, save_dir=str(tmp_path))
    visualizer = VISUALIZERS.build(config)
    yield visualizer
    visualizer.close()


@pytest.mark.parametrize("path", [IMAGE, CLIP])
def test_panels_go_to_every_backend(predict, visualizer, tmp_path, path):
    found = predict(path)
    arguments = dict(target_generator=found.model.target_generator)
    page = visualizer.add_datasample("first", found.frames[0], found.samples[0], step=7, **arguments)
    other = visualizer.add_datasample("second", found.frames[1], found.samples[1], **arguments)
    assert page.dtype == np.uint8 and page.shape == other.shape and not np.array_equal(page, other)
    errors = [np.abs(visualizer.get_image().astype(int) - drawn).mean() for drawn in (other, page)]
    assert errors[0] < 0.7 * errors[1] if IS_OLD_MATPLOTLIB else errors[0] == 0
    files = sorted(p.name for p in tmp_path.glob("vis_data/vis_image/*"))
    assert files == ["first_7.png", "second_0.png"]
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "vis_data/vis_image/first_7.png")), page)
    visualizer.close()
    events = EventAccumulator(str(tmp_path / "vis_data")).Reload()
    assert set(events.Tags()["images"]) == {"first", "second"}
    event = events.Images("first")[0]
    decoded = cv2.imdecode(np.frombuffer(event.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert event.step == 7
    np.testing.assert_array_equal(decoded, page)


def test_a_clip_is_a_strip_of_frames_and_an_image_a_row(predict, visualizer):
    pages = []
    for path in (IMAGE, CLIP):
        found = predict(path)
        pages.append(visualizer.add_datasample("x", found.frames[0], found.samples[0], found.model.target_generator))
    image, clip = pages
    assert image.shape[1] > 4 * 224 > 2 * image.shape[0]
    assert clip.shape[0] > 4 * 224 and clip.shape[1] > 4 * 224
    few = VISUALIZERS.build(dict(type="maskfeat.MaskFeatVisualizer", name="few frames", max_frames=2))
    page = few.add_datasample("x", found.frames[0], found.samples[0], found.model.target_generator)
    assert page.shape[0] == clip.shape[0] and 2 * 224 < page.shape[1] < 3 * 224


def test_all_time_steps_of_a_clip_are_shown_with_the_numbers_of_their_frames(predict, visualizer):
    found = predict(CLIP)
    clip, sample, generator = found.frames[0], found.samples[0], found.model.target_generator
    assert len(clip) == 8
    page = visualizer.add_datasample("x", clip, sample, generator)
    shown = {title: strip(steps, None) for title, steps in draw_prediction(clip, sample, generator).items()}
    columns = [f"frame {i}" for i in (0, 2, 4, 6)]
    np.testing.assert_array_equal(page, compose(shown, columns=columns))


def test_attention_is_a_picture_more(predict, visualizer):
    found = predict(IMAGE)
    sample = found.samples[0].clone()
    plain = visualizer.add_datasample("x", found.frames[0], sample, found.model.target_generator)
    inputs, mask = (found.batch[key][:1] for key in ("inputs", "mask"))
    sample.attention = attention_rollout(found.model.backbone, inputs, mask, query=mask)[0]
    page = visualizer.add_datasample("x", found.frames[0], sample, found.model.target_generator)
    assert page.shape[0] == plain.shape[0] and page.shape[1] == plain.shape[1] + 248
    np.testing.assert_array_equal(page[:, :744], plain[:, :744])  # three pictures
    np.testing.assert_array_equal(page[:, -248:], plain[:, -248:])  # the original last


@pytest.mark.parametrize("ending", [".png", ".jpg", ".gif", ".mp4"])
def test_the_ending_of_a_file_says_what_it_is(predict, visualizer, tmp_path, ending):
    found = predict(CLIP)
    file = tmp_path / "new folder" / f"clip{ending}"
    page = visualizer.add_datasample(
        "x", found.frames[0], found.samples[0], found.model.target_generator, out_file=str(file)
    )
    assert [p.name for p in file.parent.iterdir()] == [file.name]  # no temporary file is left
    if ending == ".mp4":
        with av.open(str(file)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    else:
        picture = Image.open(file)
        frames = []
        for i in range(getattr(picture, "n_frames", 1)):
            picture.seek(i)
            frames.append(np.asarray(picture.convert("RGB")))
    if ending in (".png", ".jpg"):
        assert len(frames) == 1
        assert np.abs(frames[0].astype(float) - page).mean() < 3
        return
    assert len(frames) == 4
    originals = draw_prediction(found.frames[0], found.samples[0], found.model.target_generator)["original"]
    for frame, original in zip(frames, originals, strict=True):
        assert frame.shape[0] < 300 < 4 * 224 < frame.shape[1]  # in a row
        shown = frame[34 : 34 + 224, 8 + 3 * 232 : 8 + 3 * 232 + 224]
        assert np.abs(shown.astype(float) - original).mean() < 6


def test_odd_sizes_become_videos(tmp_path):
    frames = np.zeros((3, 33, 41, 3), np.uint8)
    frames[1] = 200
    file = write_frames(tmp_path / "odd.mp4", frames, fps=2)
    with av.open(str(file)) as container:
        assert container.streams.video[0].average_rate == 2
        decoded = [frame.to_ndarray(format="rgb24")[:33, :41] for frame in container.decode(video=0)]
    np.testing.assert_allclose([frame[10:20].mean() for frame in decoded], [0, 200, 0], atol=8)


def test_files_of_unknown_endings_are_refused_before_any_work(predict, visualizer, tmp_path):
    found = predict(IMAGE)
    for name in ("clip.avi", "clip"):
        with pytest.raises(ConfigError, match=r"Use \.png, .* for a picture, \.gif or \.mp4 for an animation"):
            visualizer.add_datasample("x", None, None, found.model.target_generator, out_file=tmp_path / name)
    with pytest.raises(ValueError, match="still picture and needs one frame, got 2 frames"):
        write_frames(tmp_path / "still.png", np.zeros((2, 8, 8, 3), np.uint8))
    assert not list(tmp_path.glob("*.*"))
