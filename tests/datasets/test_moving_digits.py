"""MovingDigits: the same bytes for the same seed, disjoint splits, and labels that the frameworks' own classes read."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tool_modules import TOOLS, load_tool

import maskfeat_plugin  # noqa: F401  (repairs mmaction2 before its models are imported)
from maskfeat_plugin.datasets import VideoReader
from maskfeat_plugin.datasets.moving_digits import (
    ATTRIBUTES,
    BACKGROUNDS,
    DIGITS,
    MOTIONS,
    PAIR_MOTIONS,
    SPLITS,
    TURNING,
    MovingDigitsConfig,
    action_names,
    build_moving_digits,
    read_metadata,
    render_clip,
    sources,
)
from maskfeat_plugin.datasets.moving_digits import build as build_module
from maskfeat_plugin.datasets.moving_digits.backgrounds import draw_background, photo_part
from maskfeat_plugin.datasets.moving_digits.motions import REVERSED, draw_trajectory
from maskfeat_plugin.datasets.moving_digits.plan import draw_subset, plan_clips, split_digits
from maskfeat_plugin.datasets.moving_digits.video import check_video, write_video

SMALL = MovingDigitsConfig(num_train=60, num_val=20, num_test=20, labelled=(20,))


@pytest.fixture(scope="session")
def digits():
    return sources.load_digits()


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    return build_moving_digits(tmp_path_factory.mktemp("data") / "moving_digits", SMALL, workers=1, progress=False)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def lines(path: Path) -> list[list[str]]:
    return [line.split() for line in path.read_text().splitlines()]


class TestBuild:
    def test_same_bytes_with_more_workers(self, root, tmp_path):
        other = build_moving_digits(tmp_path / "other", SMALL, workers=2, progress=False)
        assert contents(other) == contents(root)

    def test_another_seed_gives_another_data_set(self, root, tmp_path):
        config = replace(SMALL, seed=1)
        other = build_moving_digits(tmp_path / "other", config, workers=1, progress=False)
        ours, theirs = contents(root), contents(other)
        videos = [name for name in ours if name.endswith(".mp4")]
        assert len(videos) == 100
        assert not any(ours[name] == theirs[name] for name in videos)
        assert read_metadata(root)["content_sha256"] != read_metadata(other)["content_sha256"]

    def test_is_left_alone_when_it_is_there(self, root, capsys):
        before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
        assert build_moving_digits(root, SMALL) == root
        assert "up to date" in capsys.readouterr().out
        assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before

    def test_other_settings_replace_it_only_when_asked(self, tmp_path):
        tiny = MovingDigitsConfig(num_train=10, num_val=2, num_test=2, labelled=())
        root = build_moving_digits(tmp_path / "data", tiny, workers=1, progress=False)
        before = contents(root)
        other = replace(tiny, num_train=4, background="plain")
        with pytest.raises(FileExistsError, match=r"data holds .*background, num_train.*overwrite=True"):
            build_moving_digits(root, other, workers=1, progress=False)
        assert contents(root) == before
        build_moving_digits(root, other, workers=1, overwrite=True, progress=False)
        assert read_metadata(root)["config"]["background"] == "plain"
        assert len(list((root / "videos" / "train").iterdir())) == 4
        assert [path.name for path in tmp_path.iterdir()] == ["data"]

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_never_replaces_what_is_not_its_own(self, tmp_path, overwrite):
        (tmp_path / "notes.txt").write_text("keep me")
        with pytest.raises(FileExistsError, match="is no MovingDigits data set"):
            build_moving_digits(tmp_path, SMALL, overwrite=overwrite, progress=False)
        assert contents(tmp_path) == {"notes.txt": b"keep me"}

    @pytest.mark.parametrize("workers", [1, 2])
    def test_an_interrupted_build_leaves_nothing(self, tmp_path, monkeypatch, workers):
        written = build_module.write_labels

        def interrupt(folder, split, *args):
            written(folder, split, *args)
            if split == "val":
                raise KeyboardInterrupt

        monkeypatch.setattr(build_module, "write_labels", interrupt)
        tiny = MovingDigitsConfig(num_train=10, num_val=2, num_test=2, labelled=())
        with pytest.raises(KeyboardInterrupt):
            build_moving_digits(tmp_path / "data", tiny, workers=workers, progress=False)
        assert not list(tmp_path.iterdir())

    def test_shows_progress_and_an_estimate(self, tmp_path, capsys):
        tiny = MovingDigitsConfig(num_train=10, num_val=2, num_test=2, labelled=())
        build_moving_digits(tmp_path / "data", tiny, workers=1)
        shown = capsys.readouterr().err
        assert "MovingDigits: 100%" in shown
        assert "14/14 [00:" in shown  # finished clips, and elapsed < remaining time

    def test_names_the_extra_when_a_package_is_missing(self, tmp_path, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "av", None)
        with pytest.raises(ImportError, match=r"'av': pip install maskfeat_plugin\[demo\]"):
            build_moving_digits(tmp_path / "data", SMALL, progress=False)
        assert not list(tmp_path.iterdir())

    def test_refuses_no_workers(self, tmp_path):
        with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
            build_moving_digits(tmp_path / "data", SMALL, workers=0)

    def test_metadata_of_nothing(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=f"python {TOOLS}/data/moving_digits.py {tmp_path}"):
            read_metadata(tmp_path)


class TestSplits:
    def test_no_digit_is_in_two_splits(self, root):
        metadata = read_metadata(root)
        pools = {split: set(metadata["digit_indices"][split]) for split in SPLITS}
        assert {split: len(pool) for split, pool in pools.items()} == {"train": 3500, "val": 500, "test": 1000}
        assert len(set.union(*pools.values())) == 5000
        for split in SPLITS:
            used = {digit for clip in metadata["clips"][split] for digit in clip["digits"]}
            assert used and used <= pools[split]

    def test_splits_hold_every_class_alike(self, digits):
        _, labels = digits
        for indices, per_class in zip(split_digits(labels, 5).values(), (350, 50, 100), strict=True):
            assert np.bincount(labels[indices]).tolist() == [per_class] * 10

    def test_the_recorded_digits_are_those_of_the_labels(self, root, digits):
        _, labels = digits
        clips = read_metadata(root)["clips"]["train"]
        rows = lines(root / "annotations" / "image_train.txt")
        for name, label in rows:
            (digit,) = clips[int(name[:6])]["digits"]
            assert labels[digit] == int(label)

    def test_photographs_are_cropped_from_disjoint_parts(self):
        photo = np.arange(640, dtype=np.uint16)[None, :, None].repeat(3, axis=2)
        columns = [set(photo_part(photo, split).ravel().tolist()) for split in SPLITS]
        assert sum(map(len, columns)) == len(set.union(*columns)) == 640

    def test_motions_are_balanced_and_meetings_have_two_digits(self, digits):
        config = MovingDigitsConfig()
        for split, clips in plan_clips(config, digits[1]).items():
            motions = [clip.motion for clip in clips]
            assert {motions.count(motion) for motion in MOTIONS} == {config.num_clips(split) // 10}
            assert all(len(clip.digits) == 2 for clip in clips if clip.motion in PAIR_MOTIONS)
            assert {len(clip.digits) for clip in clips} == {1, 2, 3}


class TestMotions:
    @pytest.mark.parametrize("background", BACKGROUNDS)
    @pytest.mark.parametrize("motion", REVERSED)
    def test_pairs_are_one_clip_played_backwards(self, digits, motion, background):
        config = MovingDigitsConfig(background=background)
        photos = sources.load_photos()
        for seed, count in enumerate((1, 2, 3)):
            glyphs = digits[0][seed : seed + count]
            forwards, backwards = (
                render_clip(glyphs, name, config, np.random.default_rng(seed), photos)
                for name in (motion, REVERSED[motion])
            )
            np.testing.assert_array_equal(forwards.frames[::-1], backwards.frames)
            np.testing.assert_array_equal(forwards.boxes[::-1], backwards.boxes)
            assert not np.array_equal(forwards.frames, backwards.frames)

    def test_bounce_and_pass_part_at_the_meeting(self):
        for seed in range(20):
            bounce, onward = (
                draw_trajectory(name, 2, 16, (0.4, 0.9), np.random.default_rng(seed)) for name in PAIR_MOTIONS
            )
            np.testing.assert_array_equal(bounce.centre[:, :8], onward.centre[:, :8])
            # After the meeting, the same places are taken by the other digit.
            np.testing.assert_allclose(bounce.centre[:, 8:], onward.centre[::-1, 8:], atol=1e-12)
            np.testing.assert_array_equal(bounce.scale, onward.scale)
            assert len(np.unique(bounce.scale)) == 1

    def test_a_frame_does_not_tell_before_from_after_the_meeting(self):
        # The line has all directions: in each class, a given digit is on the left half of the time.
        for motion in PAIR_MOTIONS:
            left = [
                draw_trajectory(motion, 2, 16, (0.4, 0.9), np.random.default_rng(seed)).centre[0, :, 0]
                < draw_trajectory(motion, 2, 16, (0.4, 0.9), np.random.default_rng(seed)).centre[1, :, 0]
                for seed in range(1000)
            ]
            assert np.abs(np.mean(left, axis=0) - 0.5).max() < 0.08  # five standard deviations

    @pytest.mark.parametrize(
        ("motion", "axis", "sign"), [("left", 0, -1), ("right", 0, 1), ("up", 1, -1), ("down", 1, 1)]
    )
    def test_directions_are_those_of_the_screen(self, digits, motion, axis, sign):
        boxes = render_clip(digits[0][:1], motion, MovingDigitsConfig(scale=(0.3, 0.4)), rng()).boxes[:, 0]
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2
        steps = sign * np.diff(centre[:, axis])
        assert (steps >= 0).all() and 0.2 * 64 < steps.sum() < 0.5 * 64

    @pytest.mark.parametrize(("motion", "sign"), [("approach", 1), ("recede", -1)])
    def test_approaching_digits_grow(self, digits, motion, sign):
        areas = render_clip(digits[0][:1], motion, MovingDigitsConfig(scale=(0.3, 0.4)), rng()).areas[:, 0]
        assert sign * (areas[-1] - areas[0]) > 0.5 * areas.min()

    @pytest.mark.parametrize(("motion", "sign"), [("clockwise", 1), ("counter_clockwise", -1)])
    def test_turning_goes_the_way_it_is_called(self, motion, sign):
        glyph = np.zeros((1, 28, 28), np.float32)
        glyph[:, 4:14, 12:16] = 1  # a shape that points up from the middle
        clip = render_clip(glyph, motion, MovingDigitsConfig(background="plain", scale=(0.5, 0.5)), rng())
        trajectory = draw_trajectory(motion, 1, 16, (0.5, 0.5), rng())
        centre = (clip.boxes[:, 0, :2] + clip.boxes[:, 0, 2:]) / 2 - trajectory.centre[0] * 64
        # With y down, the angle from the x axis grows clockwise.
        turn = np.unwrap(np.arctan2(centre[:, 1], centre[:, 0]))
        assert 50 < sign * np.degrees(turn[-1] - turn[0]) < 130

    def test_wrong_number_of_digits(self):
        with pytest.raises(ValueError, match="'pass' needs two digits, got 3"):
            draw_trajectory("pass", 3, 16, (0.4, 0.9), rng())
        with pytest.raises(ValueError, match="motion must be one of left, .*'sideways'"):
            draw_trajectory("sideways", 1, 16, (0.4, 0.9), rng())


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


class TestRendering:
    @settings(max_examples=40, deadline=None)
    @given(data=st.data())
    def test_any_settings(self, digits, data):
        low = data.draw(st.floats(0.1, 1), label="low")
        config = MovingDigitsConfig(
            size=2 * data.draw(st.integers(16, 56), label="half size"),
            num_frames=2 * data.draw(st.integers(4, 12), label="half num_frames"),
            background=data.draw(st.sampled_from(BACKGROUNDS), label="background"),
            scale=(low, data.draw(st.floats(low, 1), label="high")),
        )
        motion = data.draw(st.sampled_from(MOTIONS), label="motion")
        count = 2 if motion in PAIR_MOTIONS else data.draw(st.integers(1, 3), label="digits")
        chosen = data.draw(st.lists(st.integers(0, 4999), min_size=count, max_size=count), label="glyphs")
        seed = data.draw(st.integers(0, 2**32), label="seed")
        clip = render_clip(digits[0][chosen], motion, config, rng(seed), sources.load_photos())

        size, num_frames = config.size, config.num_frames
        assert clip.frames.dtype == np.uint8 and clip.frames.shape == (num_frames, size, size, 3)
        assert clip.boxes.shape == (num_frames, count, 4)
        assert clip.boxes.min() >= 0 and clip.boxes.max() <= size
        extent = clip.boxes[..., 2:] - clip.boxes[..., :2]
        assert ((extent > 0).all(axis=-1) == (clip.areas > 0)).all()
        assert (clip.areas <= extent.prod(axis=-1)).all()
        assert (clip.visible >= 0).all() and (clip.visible <= 1).all()
        # In the middle of the clip every digit is at least partly there (a later one may cover it).
        assert clip.areas[num_frames // 2].all()

    @pytest.mark.parametrize("motion", MOTIONS)
    def test_boxes_are_tight_around_the_digits(self, digits, motion):
        # On a plain background, all other pixels are ink.
        config = MovingDigitsConfig(background="plain", size=96)
        count = 2 if motion in PAIR_MOTIONS else 1
        clip = render_clip(digits[0][7 : 7 + count], motion, config, rng(3))
        background = draw_background_after(motion, count, config, rng(3))
        for frame, boxes in zip(clip.frames, clip.boxes, strict=True):
            ink = np.abs(frame.astype(int) - background).max(axis=-1) > 0.25 * 255  # clearly ink
            faint = np.abs(frame.astype(int) - background).max(axis=-1) > 1
            rows, columns = np.nonzero(ink)
            x1, y1 = boxes[:, :2].min(axis=0)
            x2, y2 = boxes[:, 2:].max(axis=0)
            assert x1 <= columns.min() and columns.max() < x2
            assert y1 <= rows.min() and rows.max() < y2
            for column in (faint[:, x1], faint[:, x2 - 1], faint[y1], faint[y2 - 1]):
                assert column.any()

    def test_a_digit_stands_out_from_the_mean_background(self, digits):
        for seed in range(20):
            config = MovingDigitsConfig(background="plain")
            clip = render_clip(digits[0][[seed * 200]], "left", config, rng(seed))
            background = draw_background_after("left", 1, config, rng(seed))
            assert np.abs(clip.frames[8].astype(int) - background).max() > 0.4 * 255

    @pytest.mark.parametrize("kind", BACKGROUNDS)
    def test_backgrounds(self, kind):
        drawn = [draw_background(kind, 48, rng(seed), sources.load_photos()) for seed in range(20)]
        for background in drawn:
            assert background.shape == (48, 48, 3) and background.dtype == np.float32
            assert background.min() >= 0 and background.max() <= 1
        spread = np.mean([np.ptp(background, axis=(0, 1)).mean() for background in drawn])
        assert spread == 0 if kind in ("plain", "dark") else spread > 0.25
        assert not np.array_equal(drawn[0], drawn[1])

    def test_digits_are_lighter_than_a_dark_background(self, digits):
        config = MovingDigitsConfig(background="dark")
        clips = [render_clip(digits[0][[seed * 40]], "left", config, rng(seed)) for seed in range(100)]
        assert sum(clip.light.item() for clip in clips) >= 95

    def test_bad_backgrounds(self):
        with pytest.raises(ValueError, match="background must be one of plain, dark, gradient, photo"):
            draw_background("forest", 48, rng())
        with pytest.raises(ValueError, match="needs at least one photograph"):
            draw_background("photo", 48, rng())


def draw_background_after(motion, count, config, generator):
    """Draw the background as render_clip does: after the trajectory, from the same stream."""
    draw_trajectory(motion, count, config.num_frames, config.scale, generator)
    return np.round(draw_background(config.background, config.size, generator) * 255)


class TestImageLabels:
    def test_mmpretrain_reads_them(self, root):
        from mmpretrain.datasets import CustomDataset

        for split in SPLITS:
            dataset = CustomDataset(
                data_root=str(root),
                ann_file=f"annotations/image_{split}.txt",
                data_prefix=f"frames/{split}",
                classes=str(root / "annotations" / "image_classes.txt"),
                pipeline=[dict(type="mmpretrain.LoadImageFromFile"), dict(type="mmpretrain.PackInputs")],
            )
            assert dataset.metainfo["classes"] == DIGITS
            assert len(dataset) == len(lines(root / "annotations" / f"image_{split}.txt")) > 0
            for sample in dataset:
                assert sample["inputs"].shape == (3, 64, 64)
                assert 0 <= sample["data_samples"].gt_label.item() <= 9

    def test_only_lone_upright_digits_have_one(self, root):
        clips = read_metadata(root)["clips"]["train"]
        named = {int(name[:6]) for name, _ in lines(root / "annotations" / "image_train.txt")}
        expected = {
            number for number, clip in enumerate(clips) if len(clip["digits"]) == 1 and clip["motion"] not in TURNING
        }
        assert named == expected

    def test_turning_clips_give_no_frames(self, root):
        clips = read_metadata(root)["clips"]["train"]
        shown = {int(path.name[:6]) for path in (root / "frames" / "train").iterdir()}
        assert shown == {number for number, clip in enumerate(clips) if clip["motion"] not in TURNING}


@pytest.fixture(scope="module")
def motion_dataset(root):
    from mmaction.datasets import VideoDataset

    return VideoDataset(
        ann_file=str(root / "annotations" / "motion_train.txt"),
        data_prefix=dict(video=str(root / "videos" / "train")),
        pipeline=[
            dict(type="mmaction.DecordInit", num_threads=1),
            dict(type="mmaction.SampleFrames", clip_len=8, frame_interval=2, num_clips=1, test_mode=True),
            dict(type="mmaction.DecordDecode"),
            dict(type="mmaction.FormatShape", input_format="NCTHW"),
            dict(type="mmaction.PackActionInputs"),
        ],
    )


class TestMotionLabels:
    def test_mmaction_decodes_them(self, root, motion_dataset):
        clips = read_metadata(root)["clips"]["train"]
        assert len(motion_dataset) == 60
        for sample, clip in zip(motion_dataset, clips, strict=True):
            assert sample["inputs"].shape == (1, 3, 8, 64, 64)
            assert MOTIONS[sample["data_samples"].gt_label.item()] == clip["motion"]

    def test_the_videos_show_what_was_drawn(self, root, digits):
        clips = plan_clips(SMALL, digits[1])["test"]
        for clip in clips:
            drawn = render_clip(digits[0][list(clip.digits)], clip.motion, SMALL, clip.rng(SMALL.seed)).frames
            path = root / "videos" / "test" / f"{clip.name}.mp4"
            video = VideoReader(str(path), path.name)
            assert video.get_avg_fps() == SMALL.fps == 8
            decoded = np.stack(video.read(range(16)))
            assert np.abs(decoded.astype(int) - drawn).mean() < 6
            # Every frame is closer to its own drawing than to the one two steps on.
            ahead = np.abs(decoded[:-2].astype(int) - drawn[2:]).mean()
            assert np.abs(decoded[:-2].astype(int) - drawn[:-2]).mean() < ahead

    def test_classes_follow_the_order_asked_for(self, tmp_path):
        config = MovingDigitsConfig(
            num_train=6, num_val=2, num_test=2, labelled=(4,), motions=("up", "clockwise"), num_digits=(2, 3)
        )
        root = build_moving_digits(tmp_path / "data", config, workers=1, progress=False)
        assert (root / "annotations" / "motion_classes.txt").read_text().split() == ["up", "clockwise"]
        names = [clip["motion"] for clip in read_metadata(root)["clips"]["train"]]
        labels = [int(label) for _, label in lines(root / "annotations" / "motion_train.txt")]
        assert [config.motions[label] for label in labels] == names
        # There is no single digit, so there are no image classes, but all other labels.
        assert (root / "annotations" / "image_train.txt").read_text() == ""
        assert json.loads((root / "annotations" / "detection_train.json").read_text())["annotations"]


class TestPixelLabels:
    @pytest.mark.parametrize("split", ["test", "train", "train_20_seed0"])
    def test_mmseg_reads_them(self, root, split):
        from mmseg.datasets import BaseSegDataset

        folder = split.partition("_")[0]
        dataset = BaseSegDataset(
            data_root=str(root),
            ann_file=f"annotations/segmentation_{split}.txt",
            data_prefix=dict(img_path=f"frames/{folder}", seg_map_path=f"masks/{folder}"),
            img_suffix=".png",
            metainfo=dict(classes=("background", *DIGITS)),
            pipeline=[dict(type=f"mmseg.{name}") for name in ("LoadImageFromFile", "LoadAnnotations", "PackSegInputs")],
        )
        boxes = json.loads((root / "annotations" / f"detection_{split}.json").read_text())
        assert [Path(sample["img_path"]).name for sample in map(dataset.get_data_info, range(len(dataset)))] == [
            image["file_name"] for image in boxes["images"]
        ]
        for sample, image in zip(dataset, boxes["images"], strict=True):
            labels = sample["data_samples"].gt_sem_seg.data.numpy()
            assert labels.shape == (1, 64, 64)
            found = [box for box in boxes["annotations"] if box["image_id"] == image["id"]]
            assert set(np.unique(labels)) - {0} <= {box["category_id"] for box in found} or len(found) > 1
            if len(found) == 1:  # nothing covers the only digit
                (x, y, width, height), number = found[0]["bbox"], found[0]["category_id"]
                assert (labels == number).sum() == found[0]["area"]
                assert (labels[0, y : y + height, x : x + width] == number).sum() == found[0]["area"]

    def test_the_last_digit_is_on_top(self, digits):
        glyphs = np.zeros((2, 28, 28), np.float32)
        glyphs[0, 4:24, 4:24] = glyphs[1, 10:18, 10:18] = 1
        clip = render_clip(glyphs, "pass", MovingDigitsConfig(scale=(0.9, 0.9)), rng())
        below, above = clip.areas[8]  # where they meet
        assert (clip.owners[8] == 1).sum() == above > 0
        assert 0 < (clip.owners[8] == 0).sum() < below


class TestSubsets:
    @pytest.mark.parametrize(("task", "classes"), [("motion", 10), ("image", 10)])
    def test_are_balanced_and_differ(self, root, task, classes):
        every = lines(root / "annotations" / f"{task}_train.txt")
        subsets = [lines(root / "annotations" / f"{task}_train_20_seed{number}.txt") for number in range(3)]
        for subset in subsets:
            assert len({name for name, _ in subset}) == 20
            assert all(row in every for row in subset)
            assert np.bincount([int(label) for _, label in subset]).tolist() == [20 // classes] * classes
        assert subsets[0] != subsets[1] != subsets[2] != subsets[0]

    @pytest.mark.parametrize("number", range(3))
    def test_of_boxes_and_actions_are_the_same_samples(self, root, number):
        annotations = root / "annotations"
        clips = [name for name, _ in lines(annotations / f"motion_train_20_seed{number}.txt")]
        actions = (annotations / f"ava_train_20_seed{number}.csv").read_text().splitlines()
        assert sorted({row.split(",")[0] for row in actions}) == sorted(clips)
        every = (annotations / "ava_train.csv").read_text().splitlines()
        assert actions == [row for row in every if row.split(",")[0] in clips]

        images = [name for name, _ in lines(annotations / f"image_train_20_seed{number}.txt")]
        boxes = json.loads((annotations / f"detection_train_20_seed{number}.json").read_text())
        whole = json.loads((annotations / "detection_train.json").read_text())
        assert [image["file_name"] for image in boxes["images"]] == images
        assert boxes["categories"] == whole["categories"]

        def named(coco):
            names = {image["id"]: image["file_name"] for image in coco["images"]}
            return [(names[a["image_id"]], a["category_id"], a["bbox"], a["area"]) for a in coco["annotations"]]

        assert named(boxes) == [row for row in named(whole) if row[0] in images]

    def test_take_a_clip_twice_only_when_they_must(self):
        labels, groups = [0] * 6, [0, 0, 1, 1, 2, 2]
        for number in range(5):
            assert {groups[sample] for sample in draw_subset(labels, groups, 1, 3, 0, number)} == {0, 1, 2}

    def test_uneven_counts(self):
        labels = list(range(4)) * 5
        chosen = draw_subset(labels, range(20), 4, 10, 0, 0)
        assert sorted(np.bincount([labels[sample] for sample in chosen])) == [2, 2, 3, 3]
        with pytest.raises(ValueError, match="class 1 has 1 samples, 2 are needed"):
            draw_subset([0, 0, 1], range(3), 2, 4, 0, 0)

    def test_too_many_labelled_frames(self, tmp_path):
        config = MovingDigitsConfig(num_train=60, labelled=(60,))
        with pytest.raises(ValueError, match="labelled asks for 60 frames, .* raise num_train or frames_per_clip"):
            build_moving_digits(tmp_path / "data", config, progress=False)
        assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def action_dataset(root):
    from mmaction.datasets import AVADataset

    annotations = root / "annotations"
    return AVADataset(
        ann_file=str(annotations / "ava_train.csv"),
        exclude_file=str(annotations / "ava_excluded_timestamps_train.csv"),
        label_file=str(annotations / "ava_action_list.pbtxt"),
        data_prefix=dict(img=str(root / "videos" / "train")),
        num_classes=1 + len(action_names(SMALL)),
        timestamp_start=0,
        timestamp_end=2,
        fps=SMALL.fps,
        use_frames=False,
        start_index=0,
        test_mode=True,
        pipeline=[
            dict(type="mmaction.DecordInit", num_threads=1),
            dict(type="mmaction.SampleAVAFrames", clip_len=8, frame_interval=2, test_mode=True),
            dict(type="mmaction.DecordDecode"),
        ],
    )


class TestActionLabels:
    def test_mmaction_reads_them(self, root, action_dataset):
        clips = read_metadata(root)["clips"]["train"]
        assert len(action_dataset) == 60
        for sample, clip in zip(action_dataset, clips, strict=True):
            assert sample["timestamp"] == 1
            assert sample["frame_inds"].tolist() == list(range(0, 16, 2))  # the whole clip
            assert sample["gt_bboxes"].shape == (len(clip["digits"]), 4)
            # The decoder has scaled them to pixels.
            assert sample["gt_bboxes"].min() >= 0 and 1 < sample["gt_bboxes"].max() <= 64
            for labels in sample["gt_labels"]:
                names = {action_names(SMALL)[number - 1] for number in np.flatnonzero(labels)}
                assert clip["motion"] in names
                assert len(names & {"small", "large"}) == len(names & {"darker", "lighter"}) == 1
                assert len(names) == 3

    def test_every_action_is_named(self, root):
        from mmaction.evaluation.functional.ava_utils import read_labelmap

        with (root / "annotations" / "ava_action_list.pbtxt").open() as file:
            names, ids = read_labelmap(file)
        assert [entry["name"] for entry in names] == [*MOTIONS, *ATTRIBUTES]
        used = {int(row.split(",")[6]) for row in (root / "annotations" / "ava_train.csv").read_text().splitlines()}
        assert used == ids == set(range(1, 15))

    def test_boxes_are_those_of_the_key_frame(self, root, digits):
        clips = plan_clips(SMALL, digits[1])["val"]
        rows = [row.split(",") for row in (root / "annotations" / "ava_val.csv").read_text().splitlines()]
        for clip in clips:
            drawn = render_clip(digits[0][list(clip.digits)], clip.motion, SMALL, clip.rng(SMALL.seed))
            boxes = {int(row[7]): np.array(row[2:6], float) for row in rows if row[0] == f"{clip.name}.mp4"}
            for entity, box in boxes.items():
                np.testing.assert_allclose(box * 64, drawn.boxes[SMALL.key_frame, entity], atol=0.01)


class TestDetectionLabels:
    def test_pycocotools_and_mmdet_read_them(self, root):
        from mmdet.datasets import CocoDataset
        from mmengine.registry import DefaultScope
        from pycocotools.coco import COCO

        coco = COCO(str(root / "annotations" / "detection_train.json"))
        assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == list(DIGITS)
        # mmdet has no LoadImageFromFile of its own; mmcv's is found under mmdet's scope
        with DefaultScope.overwrite_default_scope("mmdet"):
            dataset = CocoDataset(
                ann_file=str(root / "annotations" / "detection_train.json"),
                data_prefix=dict(img=str(root / "frames" / "train")),
                metainfo=dict(classes=DIGITS),
                pipeline=[dict(type="LoadImageFromFile"), dict(type="LoadAnnotations", with_bbox=True)],
            )
        assert len(dataset) == len(coco.getImgIds()) == len(list((root / "frames" / "train").iterdir()))
        count = 0
        for sample in dataset:
            assert sample["img"].shape == (64, 64, 3)
            boxes = sample["gt_bboxes"].tensor.numpy()
            assert (boxes[:, 2:] > boxes[:, :2]).all() and boxes.min() >= 0 and boxes.max() <= 64
            count += len(boxes)
        assert count == len(coco.getAnnIds())

    def test_boxes_and_classes_are_those_of_the_drawn_frame(self, root, digits):
        glyphs, labels = digits
        coco = json.loads((root / "annotations" / "detection_test.json").read_text())
        clips = {clip.name: clip for clip in plan_clips(SMALL, labels)["test"]}
        for image in coco["images"]:
            name, frame = image["file_name"][:-4].split("_")
            clip = clips[name]
            drawn = render_clip(glyphs[list(clip.digits)], clip.motion, SMALL, clip.rng(SMALL.seed))
            written = cv2.imread(str(root / "frames" / "test" / image["file_name"]))[..., ::-1]
            np.testing.assert_array_equal(written, drawn.frames[int(frame)])
            expected = [
                (labels[digit] + 1, *box[:2], *(box[2:] - box[:2]), area)
                for digit, box, area, seen in zip(
                    clip.digits,
                    drawn.boxes[int(frame)],
                    drawn.areas[int(frame)],
                    drawn.visible[int(frame)],
                    strict=True,
                )
                if seen >= 0.1
            ]
            found = [
                (entry["category_id"], *entry["bbox"], entry["area"])
                for entry in coco["annotations"]
                if entry["image_id"] == image["id"]
            ]
            assert found == expected


class TestConfig:
    @pytest.mark.parametrize(
        ("setting", "value"),
        [
            ("seed", -1),
            ("size", 30),
            ("size", 65),
            ("size", 64.0),
            ("num_frames", 6),
            ("num_frames", 17),
            ("num_train", 0),
            ("num_val", -3),
            ("num_test", True),
            ("num_digits", (0, 2)),
            ("num_digits", (3, 2)),
            ("num_digits", (1, 4)),
            ("num_digits", 2),
            ("num_digits", ("1", "2")),
            ("background", "forest"),
            ("motions", ()),
            ("motions", ("left", "left")),
            ("motions", ("sideways",)),
            ("motions", "left"),
            ("scale", (0.5,)),
            ("scale", (0.9, 0.5)),
            ("scale", (0.05, 0.5)),
            ("scale", ("small", "large")),
            ("frames_per_clip", 0),
            ("frames_per_clip", 17),
            ("labelled", (0,)),
            ("labelled", (3001,)),
            ("labelled", (20, 20)),
        ],
    )
    def test_refuses_bad_settings_by_name(self, setting, value):
        with pytest.raises(ValueError, match=f"MovingDigits: {setting} "):
            MovingDigitsConfig(**{setting: value})

    def test_meetings_need_room_for_two(self):
        with pytest.raises(ValueError, match="bounce and pass need two digits"):
            MovingDigitsConfig(num_digits=(1, 1))
        assert MovingDigitsConfig(num_digits=(1, 1), motions=MOTIONS[:8]).num_digits == (1, 1)

    def test_survives_json(self):
        config = MovingDigitsConfig(seed=3, motions=("up", "down"), labelled=())
        assert MovingDigitsConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
        with pytest.raises(ValueError, match=r"unknown settings \['sizes'\]"):
            MovingDigitsConfig.from_dict({"sizes": 3})


class TestVideo:
    def test_a_broken_video_is_named(self, root, tmp_path):
        broken = tmp_path / "broken.mp4"
        broken.write_bytes((root / "videos" / "test" / "000000.mp4").read_bytes()[:200])
        with pytest.raises(RuntimeError, match="broken.mp4 does not decode"):
            check_video(broken, 16, 64)
        with pytest.raises(RuntimeError, match=r"decodes to \(16, 64, 64, 3\) instead of \(20, 64, 64, 3\)"):
            check_video(root / "videos" / "test" / "000000.mp4", 20, 64)

    def test_bytes_depend_on_the_frames_only(self, tmp_path, digits):
        # Other clips in between: with the encoder's default options, its memory of them changed the bytes.
        clips = [render_clip(digits[0][[k]], "left", SMALL, rng(k)).frames for k in range(20)]
        seen = [set() for _ in clips]
        for _ in range(15):
            for frames, bytes_seen in zip(clips, seen, strict=True):
                write_video(tmp_path / "clip.mp4", frames, 8)
                bytes_seen.add((tmp_path / "clip.mp4").read_bytes())
        assert [len(bytes_seen) for bytes_seen in seen] == [1] * 20

    def test_a_size_that_decord_misreads_is_refused_first(self, tmp_path):
        pytest.importorskip("decord")
        config = MovingDigitsConfig(size=48)
        with pytest.raises(ValueError, match="decoder cannot read videos of size 48.* such as 64"):
            build_moving_digits(tmp_path / "data", config, progress=False)
        assert not list(tmp_path.iterdir())


class TestTool:
    def test_builds(self, tmp_path, capsys):
        arguments = "--num-train 10 --num-val 2 --num-test 2 --size 96 --num-frames 8 --background photo --labelled"
        status = load_tool("data/moving_digits").main(
            [str(tmp_path / "data"), *arguments.split(), "--workers", "1", "--quiet"]
        )
        assert status == 0
        assert "10 training, 2 validation and 2 test clips" in capsys.readouterr().out
        config = read_metadata(tmp_path / "data")["config"]
        assert (config["size"], config["num_frames"], config["background"]) == (96, 8, "photo")
        check_video(tmp_path / "data" / "videos" / "val" / "000001.mp4", 8, 96)

    def test_says_what_is_wrong(self, tmp_path, capsys):
        assert load_tool("data/moving_digits").main([str(tmp_path / "data"), "--size", "33"]) == 1
        assert "error: MovingDigits: size must be even and at least 32, got 33" in capsys.readouterr().err
        assert not list(tmp_path.iterdir())

    def test_help_has_an_example(self, capsys):
        with pytest.raises(SystemExit, match="0"):
            load_tool("data/moving_digits").main(["--help"])
        assert "example:\n  python tools/data/moving_digits.py" in capsys.readouterr().out


@pytest.mark.long
def test_a_killed_build_leaves_nothing_to_the_next(tmp_path):
    """The folder of a killed build is removed, the folder of a running build is not."""
    code = (
        "import sys; from maskfeat_plugin.datasets.moving_digits import MovingDigitsConfig, build_moving_digits\n"
        "build_moving_digits(sys.argv[1], MovingDigitsConfig(num_train=5000), workers=1, progress=False)"
    )
    root = tmp_path / "[d]"
    builds = []
    for _ in range(2):
        before = len(list(tmp_path.iterdir()))
        command = [sys.executable, "-W", "ignore", "-c", code, str(root)]
        builds.append(subprocess.Popen(command, start_new_session=True))
        deadline = time.monotonic() + 200
        while len(list(tmp_path.iterdir())) == before or not list(tmp_path.glob("*/lock")):
            assert time.monotonic() < deadline and builds[-1].poll() is None
            time.sleep(0.1)
    try:
        folders = set(tmp_path.iterdir())
        assert len(folders) == 2
        builds[0].kill()
        builds[0].wait()
        build_moving_digits(root, SMALL, workers=1, progress=False)
        left = set(tmp_path.iterdir()) - {root}
        assert len(left) == 1 and left < folders
    finally:
        for build in builds:
            with suppress(ProcessLookupError):
                os.killpg(build.pid, signal.SIGKILL)
            build.wait()
    build_moving_digits(root, replace(SMALL, seed=3), workers=1, overwrite=True, progress=False)
    assert set(tmp_path.iterdir()) == {root}
