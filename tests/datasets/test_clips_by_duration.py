"""Clips in proportion to the durations of real files, built through the registry, samplers and dataloaders."""

from collections import Counter

import av
import numpy as np
import pytest
import torch
from mmaction.datasets import repeat_pseudo_collate
from mmengine.config import ConfigDict
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.registry import DefaultScope
from torch.utils.data import BatchSampler, DataLoader

from maskfeat_plugin.apis.knn_evaluation import each_once
from maskfeat_plugin.datasets import ClipsByDuration
from maskfeat_plugin.datasets.manifest import VIDEO, as_table, name_columns, write_manifest
from maskfeat_plugin.engine.batches import make_resumable, seed_random
from maskfeat_plugin.registry import DATASETS

RATE = 10
SECONDS = [2, 4, 1, 13]
PIPELINE = [
    dict(type="maskfeat.OpenVideo"),
    dict(type="SampleFrames", clip_len=2, frame_interval=2, out_of_bound_opt="repeat_last"),
    dict(type="maskfeat.DecodeClip"),
    dict(type="FormatShape", input_format="NCTHW"),
    dict(type="PackActionInputs", meta_keys=("filename", "frame_inds", "num_clips", "clip_len")),
]


@DATASETS.register_module()
class ClipsOfList(ClipsByDuration):
    """Data set with durations from a list of names and seconds instead of a manifest."""

    def load_data_list(self):
        with open(self.ann_file) as file:
            rows = [line.split() for line in file]
        folder = self.data_prefix["video"]
        return [dict(filename=f"{folder}/{name}", label=-1, duration=float(seconds)) for name, seconds in rows]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder of grey videos whose grey values are their numbers."""
    folder = tmp_path_factory.mktemp("videos")
    for seconds in SECONDS:
        with av.open(str(folder / f"{seconds}.mp4"), "w") as container:
            stream = container.add_stream("mpeg4", rate=RATE)
            stream.height = stream.width = 16
            stream.pix_fmt = "yuv420p"
            for i in range(seconds * RATE):
                image = np.full((16, 16, 3), i, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())
    return folder


@pytest.fixture
def build(folder, tmp_path):
    """Return a function that builds a data set of files with given durations."""

    def build(durations=tuple((f"{seconds}.mp4", seconds) for seconds in SECONDS), **settings):
        (tmp_path / "list.txt").write_text("".join(f"{name} {seconds}\n" for name, seconds in durations))
        settings = dict(type="maskfeat.ClipsOfList", pipeline=PIPELINE, clips_per_file=2) | settings
        place = dict(ann_file=str(tmp_path / "list.txt"), data_prefix=dict(video=str(folder)))
        with DefaultScope.overwrite_default_scope("mmaction"):
            return DATASETS.build(settings | place)

    return build


def skipping(tmp_path, **settings):
    own = dict(type="maskfeat.SkipBadFiles", dataset_type="maskfeat.ClipsOfList", list_file=str(tmp_path / "bad.txt"))
    return own | settings


def epoch(data, number):
    """Return the files that an epoch draws with the random states of its samples."""
    files = Counter()
    for i in range(len(data)):
        seed_random(0, number, i)
        files[data.draw_file(i)] += 1
    return files


def test_number_of_clips(build):
    """The videos have 20 s in total."""
    assert len(build(clips_per_minute=600)) == 100
    assert len(build(clips_per_minute=600, clips_per_file=4)) == 50
    assert len(build(clips_per_epoch=30)) == 15
    assert len(build(clips_per_minute=0.01)) == 1


def test_files_are_opened_in_proportion_to_their_durations(build):
    data = build(clips_per_epoch=100)  # 50 openings for 20 s: 2.5 per second
    totals = Counter()
    for number in range(200):
        files = epoch(data, number)
        for file, seconds in enumerate(SECONDS):
            assert abs(files[file] - 2.5 * seconds) < 2
        totals += files
    # 1 s of 2.5 openings per second; the part of the first one begins in another file, so 2 or 3, on average 2.5
    for file, seconds in enumerate(SECONDS):
        assert totals[file] / 200 == pytest.approx(2.5 * seconds, abs=0.15)


def test_short_files_are_opened_with_their_probability(build):
    """An epoch has one opening, and each file gets it with the probability of its share."""
    data = build(clips_per_epoch=2)
    totals = sum((epoch(data, number) for number in range(4000)), Counter())
    for file, seconds in enumerate(SECONDS):
        assert totals[file] / 4000 == pytest.approx(seconds / 20, abs=0.03)  # four standard deviations


def test_clips_cover_the_whole_file(build):
    """One clip is from the first half and one from the second, and the frames are the ones at the given indices."""
    data = build([("13.mp4", 13)], clips_per_epoch=2)
    starts = []
    for number in range(150):
        seed_random(0, number, 0)
        first, second = data[0]
        for clip in (first, second):
            sample = clip["data_samples"]
            assert sample.num_clips == 1 and len(sample.frame_inds) == sample.clip_len == 2
            assert clip["inputs"].shape == (1, 3, 2, 16, 16)
            np.testing.assert_allclose(clip["inputs"].float().mean((0, 1, 3, 4)), sample.frame_inds, atol=4)
            starts.append(int(sample.frame_inds[0]))
        assert starts[-2] < 64 <= starts[-1] + 1
    counts, _ = np.histogram(starts, bins=9, range=(0, 126))  # the last start is at frame 127 of 130
    assert counts.min() > 14 and counts.max() < 60  # 33 expected in each


def batches(data, sampler, workers, seed=0):
    loader = DataLoader(
        data,
        batch_sampler=BatchSampler(sampler, 2, drop_last=False),
        num_workers=workers,
        collate_fn=repeat_pseudo_collate,
    )
    make_resumable(loader, lambda: seed)
    return loader


def names(batch):
    return [(sample.filename, int(sample.frame_inds[0])) for sample in batch["data_samples"]]


def test_same_numbers_with_and_without_workers_and_others_in_the_next_epoch(build, tmp_path):
    data = build(**skipping(tmp_path, clips_per_epoch=20))
    runs = []
    for workers in (0, 2):
        loader, run = batches(data, DefaultSampler(data, seed=0), workers), []
        for number in range(2):
            loader.batch_sampler.begin(0, 5 * number)
            run.append([names(batch) for batch in loader])
        runs.append(run)
    assert runs[0] == runs[1] and runs[0][0] != runs[0][1]
    assert [len(batch) for batch in runs[0][0]] == [4] * 5  # clips of two files
    # resumed in the second epoch, before its last two batches
    loader = batches(data, DefaultSampler(data, seed=0), 0)
    loader.batch_sampler.begin(3, 8)
    assert [names(batch) for batch in loader] == runs[0][1][3:]
    other = batches(data, DefaultSampler(data, seed=0), 0, seed=1)
    other.batch_sampler.begin(0, 0)
    assert [names(batch) for batch in other] != runs[0][0]


def test_an_infinite_sampler(build):
    data = build(clips_per_epoch=8)
    loader = batches(data, InfiniteSampler(data, seed=0), 0)
    loader.batch_sampler.begin(0, 0)
    taken = iter(loader)
    assert all(len(names(next(taken))) == 4 for _ in range(6))


def test_a_bad_file_is_listed_by_its_name(build, tmp_path):
    durations = [("gone.mp4", 10), *((f"{seconds}.mp4", seconds) for seconds in SECONDS)]
    data = build(durations, **skipping(tmp_path, clips_per_epoch=60, limit=0.2))
    runs = []
    for _ in range(2):  # in the second pass the file is known
        run = []
        for i in range(len(data)):
            seed_random(0, 0, i)
            run.append([(clip["data_samples"].filename, clip["data_samples"].frame_inds[0]) for clip in data[i]])
        runs.append(run)
    assert runs[0] == runs[1] and len({name for clips in runs[0] for name, _ in clips}) == 4
    (line,) = (tmp_path / "bad.txt").read_text().splitlines()
    assert "gone.mp4\t" in line


def test_files_without_a_duration_are_left_out(build):
    data = build([("2.mp4", "nan"), ("4.mp4", 4)], clips_per_epoch=40)
    assert epoch(data, 0) == {1: 20} and data.count_files() == 2
    unserialized = build([("2.mp4", 2), ("4.mp4", 0)], clips_per_epoch=40, serialize_data=False)
    assert epoch(unserialized, 0) == {0: 20}


@pytest.mark.parametrize(("clips", "samples"), [(4, 2), (40, 20)])  # fewer and more samples than files
def test_a_manifest_has_durations(folder, tmp_path, clips, samples):
    rows = [
        dict(name_columns(f"{seconds}.mp4"), kind=VIDEO, duration=float(seconds), bytes=1, modified=1)
        for seconds in SECONDS
    ]
    write_manifest(tmp_path / "archive.parquet", folder, [as_table(rows)])
    settings = dict(type="maskfeat.SkipBadFiles", dataset_type="maskfeat.ClipsByDuration", clips_per_file=2)
    place = dict(ann_file=str(tmp_path / "archive.parquet"), list_file=str(tmp_path / "bad.txt"), pipeline=PIPELINE)
    with DefaultScope.overwrite_default_scope("mmaction"):
        data = DATASETS.build(dict(settings, clips_per_epoch=clips, **place))
    assert len(data) == samples and data.count_files() == len(SECONDS)
    assert [len(data[i]) for i in range(len(data))] == [2] * samples and not (tmp_path / "bad.txt").exists()


def test_a_folder_has_no_durations(folder):
    data = dict(type="maskfeat.ClipsByDuration", pipeline=PIPELINE, clips_per_minute=2)
    with DefaultScope.overwrite_default_scope("mmaction"):
        with pytest.raises(ValueError, match="no file has a duration. Write a manifest with maskfeat index"):
            DATASETS.build(dict(data, data_prefix=dict(video=str(folder))))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(), "either clips_per_minute or clips_per_epoch"),
        (dict(clips_per_minute=1, clips_per_epoch=1), "either clips_per_minute or clips_per_epoch"),
        (dict(clips_per_minute=0), "clips_per_minute=0 must be greater"),
        (dict(clips_per_minute=1, clips_per_file=-1), "clips_per_file=-1 must be greater"),
        (dict(clips_per_minute=1, pipeline=PIPELINE[1:]), "the pipeline must begin with"),
        (
            dict(clips_per_minute=1, pipeline=[PIPELINE[0], dict(PIPELINE[1], num_clips=3), *PIPELINE[2:]]),
            "To get more clips, set clips_per_file",
        ),
    ],
)
def test_wrong_settings(build, settings, message):
    with pytest.raises(ValueError, match=message):
        build(**settings)


@pytest.mark.parametrize(
    "several",
    [
        dict(dataset_type="maskfeat.ClipsByDuration", clips_per_minute=2, clips_per_file=2),
        dict(dataset_type="maskfeat.RepeatAugDataset", num_repeats=2, sample_once=True),
    ],
)
def test_other_tools_read_each_file_once(folder, several):
    """k-NN, features and pictures of the training data read the data set in this way."""
    train = ConfigDict(type="maskfeat.SkipBadFiles", data_prefix=dict(video=str(folder)), limit=0.1, **several)
    settings = each_once(train, ConfigDict(pipeline=PIPELINE, test_mode=True))
    with DefaultScope.overwrite_default_scope("mmaction"):
        data = DATASETS.build(settings)
    assert len(data) == len(SECONDS) and torch.is_tensor(data[0]["inputs"])
