"""Tar shards: their samples, damaged shards and members, and the sampler that reads them one after another."""

import json
import math
import os
import tarfile
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st
from mmengine.fileio import get
from mmengine.registry import DefaultScope
from test_bad_files import OURS, write

from maskfeat_plugin.config.checks import check_dataset_files
from maskfeat_plugin.datasets.bad_file_list import parse_list
from maskfeat_plugin.datasets.tar_members import Member, parse_uri
from maskfeat_plugin.datasets.tar_shards import INDEX_ENDING, build_index, expand_shards, load_index
from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.registry import DATA_SAMPLERS, DATASETS

COUNTS = (5, 4, 6)
READ = [dict(type="maskfeat.LoadWholeImage"), dict(type="PackInputs", meta_keys=("img_path", "sample_idx"))]


def picture(number, side=32):
    image = np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return cv2.imencode(".jpg", image)[1].tobytes()


def write_shard(path, numbers, content=picture, ending="jpg", **more):
    with open(path, "wb") as file, webdataset.TarWriter(file, encoder=False, mtime=0) as tar:
        for number in numbers:
            label = json.dumps(dict(label=number)).encode()
            tar.write({"__key__": f"{number:04d}", ending: content(number), "json": label, **more})


@pytest.fixture
def shards(tmp_path):
    """Return the pattern of three shards with 15 images, whose labels are their numbers."""
    first = 0
    for shard, count in enumerate(COUNTS):
        write_shard(tmp_path / f"shard-{shard:06d}.tar", range(first, first + count))
        first += count
    return str(tmp_path / "shard-{000000..000002}.tar")


def build(pattern, dataset_type="maskfeat.ImageDataset", scope="mmpretrain", pipeline=READ, **settings):
    settings = dict(ann_file=pattern, pipeline=pipeline) | settings
    with DefaultScope.overwrite_default_scope(scope):
        return DATASETS.build(dict(type=dataset_type, **settings))


def labels(dataset):
    return [int(dataset[i]["data_samples"].gt_label) for i in range(len(dataset))]


def test_images_and_labels_of_all_shards(shards):
    dataset = build(shards)
    assert labels(dataset) == list(range(sum(COUNTS)))
    assert dataset.shard_sizes == list(COUNTS)
    assert get(dataset.get_data_info(7)["img_path"]) == picture(7)
    assert all(Path(name + INDEX_ENDING).is_file() for name in expand_shards(shards))
    image = dataset[3]["inputs"].numpy()
    assert np.array_equal(image.transpose(1, 2, 0), cv2.imdecode(np.frombuffer(picture(3), np.uint8), 1))


def test_without_labels(shards):
    assert "gt_label" not in build(shards, with_label=False).get_data_info(0)


def test_transforms_of_mmcv_read_members(shards):
    ours, theirs = build(shards), build(shards, pipeline=[dict(type="LoadImageFromFile"), *READ[1:]])
    assert np.array_equal(ours[4]["inputs"], theirs[4]["inputs"])


@pytest.mark.parametrize("form", [list, lambda names: f"{{{','.join(names)}}}"], ids=["list", "braces"])
def test_list_below_the_root(shards, form):
    folder = Path(shards).parent
    names = [f"shard-00000{i}.tar" for i in (2, 0)]
    assert labels(build(form(names), data_root=str(folder))) == [*range(9, 15), *range(5)]


def test_clips_equal_the_files(tmp_path):
    files = [write(tmp_path / f"{i}.mp4", seed=i) for i in range(3)]
    write_shard(tmp_path / "a.tar", range(3), lambda i: files[i].read_bytes(), "mp4")
    (tmp_path / "list.txt").write_text("".join(f"{i}.mp4 {i}\n" for i in range(3)))
    pipeline = [*OURS[:1], dict(OURS[1], test_mode=True), OURS[2], *OURS[4:]]
    settings = dict(dataset_type="maskfeat.VideoDataset", scope="mmaction", pipeline=pipeline)
    packed = build(str(tmp_path / "a.tar"), **settings)
    plain = build("list.txt", data_root=str(tmp_path), data_prefix=dict(video=""), **settings)
    for i in range(3):
        assert np.array_equal(packed[i]["inputs"], plain[i]["inputs"])
        assert int(packed[i]["data_samples"].gt_label) == i


def test_names_survive_in_the_path_of_a_member():
    for shard in ("/data/a b.tar", "x@1.tar", "s3://bucket/a.tar", "simplecache::s3://bucket/ä.tar"):
        for name in ("0001.jpg", "a/b@5+6/c.d.jpg", "ü.png"):
            member = Member(shard, 512, 77, name)
            assert parse_uri(member.uri()) == member
    with pytest.raises(ValueError, match="not the path of a member"):
        parse_uri("tar://a.tar/0.jpg")


def test_class_members_and_foreign_members(tmp_path):
    path = tmp_path / "a.tar"
    with open(path, "wb") as file, webdataset.TarWriter(file) as tar:
        tar.write({"__key__": "x/1", "png": cv2.imencode(".png", np.zeros((8, 8, 3)))[1].tobytes(), "cls": 3})
        tar.write({"__key__": "x/2", "txt": "no picture"})
        tar.write({"__key__": "x/3", "jpg": picture(0), "json": b"[1"})
    dataset = build(str(path))
    assert labels(dataset) == [3]
    first, second = load_index(str(path)).problems
    assert first == "x/2 has no image or video, only .txt"
    assert second.startswith("x/3.jpg: its labels cannot be read")


def test_long_and_foreign_names(tmp_path):
    path, names = tmp_path / "a.tar", [f"{'d' * 90}/{'f' * 60}.jpg", "Übung/ж.jpg", f"{'ж' * 80}.jpg"]
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        with tarfile.open(path, "w", format=form) as tar:
            for number, name in enumerate(names):
                (tmp_path / "file").write_bytes(picture(number))
                tar.add(tmp_path / "file", name)
        dataset = build(str(path), with_label=False)
        assert [get(dataset.get_data_info(i)["img_path"]) for i in range(3)] == [picture(i) for i in range(3)]
        path.with_name(path.name + INDEX_ENDING).unlink()


# --- damage


def spoil(path, start, count=600):
    content = bytearray(path.read_bytes())
    content[start : start + count] = os.urandom(count)
    path.write_bytes(content)


@pytest.fixture
def skip(shards, tmp_path):
    def make(pattern=shards):
        with DefaultScope.overwrite_default_scope("mmpretrain"):
            return DATASETS.build(
                dict(
                    type="maskfeat.SkipBadFiles",
                    dataset_type="maskfeat.ImageDataset",
                    ann_file=pattern,
                    pipeline=READ,
                    limit=0.5,
                    list_file=str(tmp_path / "bad.txt"),
                )
            )

    make.listed = lambda: parse_list((tmp_path / "bad.txt").read_text())
    return make


def members(path):
    with tarfile.open(path) as tar:
        return tar.getmembers()


def test_damaged_picture_is_skipped_and_named(shards, skip, tmp_path):
    path = tmp_path / "shard-000001.tar"
    dataset = skip()
    bad = next(info for info in members(path) if info.name == "0007.jpg")
    spoil(path, bad.offset_data, 200)
    found = [int(dataset[i]["data_samples"].gt_label) for i in range(len(dataset))]
    assert 7 not in found and [label for i, label in enumerate(found) if i != 7] == [i for i in range(15) if i != 7]
    (uri,) = dataset._list.files
    assert uri == dataset.get_data_info(7)["img_path"] and uri.endswith("0007.jpg") and "shard-000001.tar@" in uri


def test_damaged_header_is_named_when_it_is_read(shards, skip, tmp_path):
    path = tmp_path / "shard-000001.tar"
    dataset = skip()
    spoil(path, next(info for info in members(path) if info.name == "0007.jpg").offset, 100)
    dataset[7]
    (reason,) = [bad.reason for bad in skip.listed().values()]
    assert "the shard is damaged here, or has changed" in reason


def test_damaged_headers_leave_the_other_members(shards, tmp_path):
    path = tmp_path / "shard-000001.tar"
    whole = build_index(str(path))
    spoil(path, next(info for info in members(path) if info.name == "0007.jpg").offset, 100)
    index = load_index(str(path))
    assert [sample["name"] for sample in index.samples] == ["0005.jpg", "0006.jpg", "0008.jpg"]
    assert whole.problems == [] and any("are damaged; members may be missing" in text for text in index.problems)
    assert any("0007 has no image or video" in text for text in index.problems)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.55, 0.8, 0.97])
def test_truncated_shard(shards, skip, tmp_path, share):
    path = tmp_path / "shard-000001.tar"
    before = load_index(str(path))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    index = load_index(str(path))
    assert index.samples == before.samples[: len(index.samples)] and index.problems
    assert f"{len(index.samples)} of 4 samples are left" in index.problems[-1]
    dataset = skip()
    assert len(dataset) == 11 + len(index.samples)
    for i in range(len(dataset)):
        dataset[i]
    assert not (tmp_path / "bad.txt").exists()  # nothing that is cut off is a sample


def test_shard_cut_while_it_is_read(shards, skip, tmp_path):
    dataset = skip()
    path = tmp_path / "shard-000001.tar"
    os.truncate(path, next(info for info in members(path) if info.name == "0007.jpg").offset_data + 100)
    dataset[7], dataset[8]
    assert all("cut short" in bad.reason for bad in skip.listed().values()) and len(skip.listed()) == 2


def test_replaced_shard_gets_a_new_index(shards, tmp_path):
    path = tmp_path / "shard-000001.tar"
    load_index(str(path))
    write_shard(path, range(50, 60))
    assert [sample["meta"]["label"] for sample in load_index(str(path)).samples] == list(range(50, 60))


def test_damaged_index_is_written_again(shards, tmp_path):
    path = tmp_path / "shard-000001.tar"
    load_index(str(path))
    index = Path(f"{path}{INDEX_ENDING}")
    whole = index.read_text()
    for text in ("", "[]", whole[:40], '{"version": 1}', '{"version": 99}'):
        index.write_text(text)
        assert len(load_index(str(path)).samples) == 4 and index.read_text() == whole


def test_index_of_a_folder_without_permission(shards, tmp_path):
    blocker = tmp_path / f".shard-000001.tar{INDEX_ENDING}.unfinished"
    blocker.mkdir()  # no file can be written under this name
    assert len(load_index(str(tmp_path / "shard-000001.tar")).samples) == 4
    assert not (tmp_path / f"shard-000001.tar{INDEX_ENDING}").exists()


@pytest.mark.parametrize(
    "pattern, text",
    [
        ("{folder}/none-{{0..3}}.tar", "4 of 4 tar shards are not there: .*none-0.tar"),
        ("{folder}/a.tar.gz.{{tar,zip}}", "is no tar|not end|is not there"),
        ("{folder}/shard-00000{{0,0}}.tar", "names a shard twice"),
    ],
)
def test_wrong_patterns(shards, tmp_path, pattern, text):
    with pytest.raises(ConfigError, match=text):
        check_dataset_files(
            dict(type="maskfeat.ImageDataset", ann_file=pattern.format(folder=tmp_path)), "train_dataloader.dataset"
        )


def test_no_tar_and_no_images(tmp_path):
    (tmp_path / "a.tar").write_bytes(os.urandom(3000))
    with pytest.raises(ConfigError, match="a.tar"):
        build(str(tmp_path / "a.tar"))
    write_shard(tmp_path / "b.tar", range(2), lambda i: b"x", "mp4")
    with pytest.raises(ConfigError, match="the 1 shards have no image"):
        build(str(tmp_path / "b.tar"))
    with pytest.raises(ConfigError, match="ann_file is an empty list"):
        build([], data_root=str(tmp_path))


def test_other_data_sets_refuse_shards(shards):
    with pytest.raises(ConfigError, match="VideoDataset does not read tar shards. Set type='maskfeat.VideoDataset'"):
        check_dataset_files(dict(type="VideoDataset", ann_file=shards), "train_dataloader.dataset")


# --- sampler


class Shards:
    """Numbers in the place of a data set."""

    def __init__(self, sizes):
        self.shard_sizes = sizes

    def __len__(self):
        return sum(self.shard_sizes)


def sampler(sizes, rank=0, world=1, **settings):
    made = DATA_SAMPLERS.build(dict(type="maskfeat.ShardSampler", dataset=Shards(sizes), seed=3, **settings))
    # the numbers of processes of mmengine's sampler, computed as in its constructor
    made.rank, made.world_size = rank, world
    if made.round_up:
        made.num_samples = math.ceil(len(made.dataset) / world)
        made.total_size = made.num_samples * world
    else:
        made.num_samples = math.ceil((len(made.dataset) - rank) / world)
        made.total_size = len(made.dataset)
    return made


SIZES = st.lists(st.integers(1, 30), min_size=1, max_size=8)


@given(SIZES, st.integers(1, 5), st.integers(1, 60), st.integers(0, 3), st.booleans())
def test_each_sample_once(sizes, world, window, epoch, round_up):
    found = []
    for rank in range(world):
        part = sampler(sizes, rank, world, window=window, round_up=round_up)
        part.set_epoch(epoch)
        numbers = list(part)
        assert len(numbers) == len(part) and numbers == list(part)
        found += numbers
    counts = Counter(found)
    assert set(counts) == set(range(sum(sizes)))
    extra = -sum(sizes) % world if round_up else 0
    assert len(found) == sum(sizes) + extra and max(counts.values()) <= 1 + math.ceil(extra / sum(sizes))


@given(st.lists(st.integers(5, 30), min_size=2, max_size=8), st.integers(1, 40))
def test_samples_move_by_less_than_the_window(sizes, window):
    made = sampler(sizes, window=window)
    before = {number: place for place, number in enumerate(made._shuffled_shards())}
    assert all(abs(place - before[number]) < window for place, number in enumerate(made))


def test_epochs_and_seeds_differ():
    made = sampler([50] * 10)
    first = list(made)
    made.set_epoch(1)
    assert list(made) != first != sorted(first)
    other = sampler([50] * 10)
    other.seed = 4
    assert list(other) != first


def test_a_process_reads_few_shards():
    ends = np.cumsum([10] * 16)
    for rank in range(4):
        shards = np.searchsorted(ends, list(sampler([10] * 16, rank, 4)), side="right")
        assert len(set(shards)) == 4


def test_sampler_needs_shards(shards, skip):
    with pytest.raises(ConfigError, match="it needs a data set of tar shards"):
        DATA_SAMPLERS.build(dict(type="maskfeat.ShardSampler", dataset=list(range(5))))
    with pytest.raises(ValueError, match="window=0 must be at least 1"):
        DATA_SAMPLERS.build(dict(type="maskfeat.ShardSampler", dataset=Shards([2]), window=0))
    dataset = build(shards)
    dataset.get_subset_(3)
    with pytest.raises(ConfigError, match="whose samples are the samples of the shards"):
        DATA_SAMPLERS.build(dict(type="maskfeat.ShardSampler", dataset=dataset))
    assert sorted(DATA_SAMPLERS.build(dict(type="maskfeat.ShardSampler", dataset=skip()))) == list(range(15))
    subset = build(shards, indices=[1, 5, 6, 14])
    assert subset.shard_sizes == [1, 2, 1]
    assert sorted(DATA_SAMPLERS.build(dict(type="maskfeat.ShardSampler", dataset=subset))) == list(range(4))
