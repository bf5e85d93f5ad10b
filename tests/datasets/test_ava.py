"""AVA-like data of a user: the config of the page, trained on MovingDigits, and timestamps that do not fit."""

import multiprocessing
import re
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from mmaction.evaluation.functional import ava_utils
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import DATASETS, DefaultScope
from PIL import Image

import maskfeat_plugin  # noqa: F401
from maskfeat_plugin.datasets.moving_digits import MovingDigitsConfig, build_moving_digits
from maskfeat_plugin.registry import TRANSFORMS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "action_detection.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
OWN = next(block for block in BLOCKS if block.startswith("_base_"))
LOOK = next(block for block in BLOCKS if "draw_boxes" in block)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("own") / "moving_digits"
    settings = MovingDigitsConfig(num_train=16, num_val=8, num_test=8, labelled=())
    build_moving_digits(root, settings, workers=1)
    return root


@pytest.fixture(scope="module")
def page_config(data, tmp_path_factory):
    """Return the config of the page, saved beside its base, with the root and the actions of the data set."""
    actions = (data / "annotations" / "ava_action_list.pbtxt").read_text().count("name:")
    text = OWN.replace('"./', f'"{ROOT}/configs/action_detection/')
    assert text.count('"data/moving_digits/"') == 1 and text.count("num_classes = 13") == 1
    text = text.replace('"data/moving_digits/"', f'"{data}/"').replace(
        "num_classes = 13", f"num_classes = {actions + 1}"
    )
    path = tmp_path_factory.mktemp("config") / "mine.py"
    path.write_text(text)
    return path


def test_config_of_the_page_reads_clips(page_config):
    cfg = Config.fromfile(page_config)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        train, val = (DATASETS.build(cfg[f"{split}_dataloader"].dataset) for split in ("train", "val"))
        sample, tested = train[0], val[0]
    assert (len(train), len(val)) == (16, 8)
    assert sample["inputs"].shape == (3, 16, 224, 224)
    assert tested["inputs"].shape == (3, 16, 224, 224)
    boxes, labels = (getattr(tested["data_samples"].gt_instances, name) for name in ("bboxes", "labels"))
    assert labels.shape == (len(boxes), cfg.num_classes) and (labels.sum(1) == 3).all()
    assert cfg.model.roi_head.bbox_head.num_classes == cfg.num_classes
    torch.testing.assert_close(tested["data_samples"].proposals.bboxes, boxes)
    assert cfg.test_dataloader.dataset.ann_file == cfg.test_evaluator.ann_file


def test_metric_of_the_page_is_1_for_the_truth(page_config):
    cfg = Config.fromfile(page_config)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        dataset = DATASETS.build(cfg.test_dataloader.dataset)
        evaluator = Evaluator(cfg.test_evaluator)
    for sample in dataset:
        info = sample["data_samples"]
        size = torch.tensor(info.img_shape[::-1] * 2)
        true = dict(bboxes=info.gt_instances.bboxes / size, scores=info.gt_instances.labels)
        evaluator.process([dict(pred_instances=true, video_id=info.video_id, timestamp=info.timestamp)])
    assert evaluator.evaluate(len(dataset))["mAP/overall"] == 1.0


def test_processes_of_the_metric_end_with_their_work(page_config, monkeypatch):
    """The processes of mmaction2's metric run while the measures are computed, and sometimes forever after that."""
    cfg = Config.fromfile(page_config)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        dataset = DATASETS.build(cfg.test_dataloader.dataset)
        evaluator = Evaluator(cfg.test_evaluator)
    torch.manual_seed(0)
    predictions = []
    for sample in dataset:
        info = sample["data_samples"]
        boxes = info.gt_instances.bboxes / torch.tensor(info.img_shape[::-1] * 2)
        guess = dict(bboxes=boxes + 0.05 * torch.randn_like(boxes), scores=torch.rand(info.gt_instances.labels.shape))
        predictions.append(dict(pred_instances=guess, video_id=info.video_id, timestamp=info.timestamp))
    compute, running = ava_utils.metrics.compute_precision_recall, []

    def look(*args):
        running.append(len(multiprocessing.active_children()))
        return compute(*args)

    monkeypatch.setattr(ava_utils.metrics, "compute_precision_recall", look)
    before, found = len(multiprocessing.active_children()), []
    for module in (ava_utils.multiprocessing, multiprocessing):
        monkeypatch.setattr(ava_utils, "multiprocessing", module)
        evaluator.process(predictions)
        found.append(evaluator.evaluate(len(dataset)))
    count = len(running) // 2
    assert running == [before] * count + [before + 32] * count and count > 0
    np.testing.assert_equal(found[0], found[1])  # groups without an action of these data are nan
    assert 0 < found[0]["mAP/overall"] < 1


def test_boxes_of_the_page_are_drawn(page_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with DefaultScope.overwrite_default_scope("mmaction"):
        exec(LOOK.replace("configs/action_detection/mine.py", str(page_config)), {})
    picture = np.asarray(Image.open(tmp_path / "boxes.png"))
    assert picture.shape[1] == 224 and picture.shape[0] > 224


def sampled(**changes):
    """Return the frames of an 8-frame clip at second 1 of a video file of 2 s with 8 frames per second."""
    sample = dict(filename="a.mp4", fps=8, timestamp=1, timestamp_start=0, start_index=0, total_frames=16, avg_fps=8.0)
    sampler = TRANSFORMS.build(dict(type="maskfeat.SampleAVAFrames", clip_len=8, frame_interval=1, test_mode=True))
    return sampler({**sample, **changes})


def test_key_frame_is_in_the_middle():
    assert sampled()["frame_inds"].tolist() == list(range(4, 12))
    raw = sampled(start_index=1, total_frames=None, shot_info=(0, 16), avg_fps=None)
    assert raw["frame_inds"].tolist() == list(range(5, 13))
    assert (raw["fps"], raw["timestamp"], raw["start_index"]) == (8, 1, 1)


def test_frames_stay_within_the_video():
    late = sampled(timestamp=15, fps=1)
    assert late["frame_inds"].tolist() == [11, 12, 13, 14, 15, 15, 15, 15]
    first = sampled(timestamp=0, start_index=1)
    assert first["frame_inds"].tolist() == [1, 1, 1, 1, 1, 2, 3, 4]


def test_a_rate_that_is_not_whole():
    sample = sampled(fps=29.97, avg_fps=29.97, timestamp=100, total_frames=6000)
    assert sample["frame_inds"][4] == 2997


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(timestamp=2), "a.mp4: timestamp 2 is frame 16 of 16"),
        (dict(timestamp_start=900), "timestamp_start=900"),
        (dict(avg_fps=25.0, total_frames=50), "has 25 frames per second, the data set fps=8.*off by 0.7 s. Set fps=25"),
        (dict(fps=30, avg_fps=29.97, timestamp=900, total_frames=54000), "fps=30.*off by 0.9 s. Set fps=29.97"),
    ],
)
def test_timestamps_outside_of_the_video(changes, message):
    with pytest.raises(ValueError, match=message):
        sampled(**changes)


def test_the_clock_may_be_a_little_off():
    assert sampled(fps=30, avg_fps=29.97, timestamp=100, total_frames=54000)["frame_inds"][4] == 3000


def write_seconds(path, rate, seconds=5):
    """Write a video whose frames show the time as a grey value: 40 per second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"threads": "1", "qp": "1"})
        stream.height, stream.width, stream.pix_fmt = 32, 32, "yuv420p"
        for i in range(seconds * rate):
            image = np.full((32, 32, 3), round(40 * i / rate), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def files_of_two_rates(folder, **changes):
    write_seconds(folder / "slow.mp4", 5)
    write_seconds(folder / "fast.mp4", 60)
    (folder / "ava.csv").write_text("".join(f"{name}.mp4,2,0.1,0.1,0.9,0.9,1,0\n" for name in ("slow", "fast")))
    sampler = dict(type="maskfeat.SampleAVAFrames", clip_len=5, frame_interval=6, test_mode=True, target_fps=30)
    settings = dict(
        type="maskfeat.AVADataset",
        ann_file=str(folder / "ava.csv"),
        data_prefix=dict(img=str(folder)),
        pipeline=[dict(type="maskfeat.OpenVideo"), sampler, dict(type="maskfeat.DecodeClip")],
        use_frames=False,
        start_index=0,
        timestamp_start=0,
        fps=None,
        num_classes=3,
    )
    with DefaultScope.overwrite_default_scope("mmaction"):
        return DATASETS.build({**settings, **changes})


def test_videos_of_several_rates(tmp_path):
    """With the rate of each file, all clips are centred on their second and span the same time."""
    for sample in files_of_two_rates(tmp_path):
        shown = np.array([image.mean() / 40 for image in sample["imgs"]])
        np.testing.assert_allclose(shown, [1.6, 1.8, 2.0, 2.2, 2.4], atol=0.06)  # seconds; 8-bit colours are rounded


def test_one_rate_for_files_of_several_is_an_error(tmp_path):
    dataset = files_of_two_rates(tmp_path, fps=5)
    assert len(dataset[0]["imgs"]) == 5
    with pytest.raises(ValueError, match="fast.mp4 has 60 frames per second, the data set fps=5"):
        dataset[1]


def test_random_clips_stay_near_the_second(tmp_path):
    sampler = dict(type="maskfeat.SampleAVAFrames", clip_len=5, frame_interval=6, target_fps=30)
    pipeline = [dict(type="maskfeat.OpenVideo"), sampler, dict(type="maskfeat.DecodeClip")]
    dataset = files_of_two_rates(tmp_path, pipeline=pipeline)
    clips = np.array([[image.mean() / 40 for image in dataset[1]["imgs"]] for _ in range(8)])
    assert np.ptp(clips, axis=0).min() > 0.02
    assert np.abs(clips - [1.6, 1.8, 2.0, 2.2, 2.4]).max() < 0.17


@pytest.mark.parametrize("changes", [dict(fps=None, use_frames=True), dict(custom_classes=[1])])
def test_settings_that_do_not_fit(tmp_path, changes):
    with pytest.raises(ValueError, match="AVADataset: (fps|custom_classes)"):
        files_of_two_rates(tmp_path, **changes)


def test_a_rate_that_no_file_tells():
    with pytest.raises(ValueError, match="a.mp4 does not contain its frame rate. Set fps of the data set"):
        sampled(fps=None, avg_fps=None)
    with pytest.raises(ValueError, match="target_fps=0 must be a number above 0"):
        TRANSFORMS.build(dict(type="maskfeat.SampleAVAFrames", clip_len=8, target_fps=0))
