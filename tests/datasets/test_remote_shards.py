"""Tar shards in an S3 server: with and without an index, with local copies, and errors that name the shard."""

import pytest
import s3fs
from mmengine.registry import DefaultScope
from test_tar_shards import READ, build, labels, write_shard
from torch.utils.data import DataLoader

from maskfeat_plugin.datasets.tar_members import COPIES
from maskfeat_plugin.datasets.tar_shards import load_index
from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.registry import DATASETS
from maskfeat_plugin.storage import StorageError
from projects.benchmark.data_throughput import s3_server

COUNT = 12


@pytest.fixture(scope="module")
def remote(tmp_path_factory):
    """Return the URL of a folder in S3 with three shards of images; the first has an index."""
    folder = tmp_path_factory.mktemp("images")
    for shard in range(3):
        write_shard(folder / f"{shard}.tar", range(4 * shard, 4 * shard + 4))
    load_index(str(folder / "0.tar"))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL"):
            patch.setenv(name, "")  # so that the values are reset after the tests
        with s3_server(folder) as upload:
            yield upload(folder)


def test_images_of_s3(remote):
    dataset = build(f"{remote}/{{0..2}}.tar")
    assert labels(dataset) == list(range(COUNT)) and dataset.shard_sizes == [4, 4, 4]
    loader = DataLoader(dataset, batch_size=1, num_workers=2, collate_fn=list, multiprocessing_context="fork")
    assert [int(sample["data_samples"].gt_label) for (sample,) in loader] == list(range(COUNT))


def test_workers_share_local_copies(remote, tmp_path, monkeypatch):
    monkeypatch.setenv(COPIES, str(tmp_path / "copies"))
    dataset = build(f"{remote}/{{0..2}}.tar")
    loader = DataLoader(dataset, batch_size=1, num_workers=4, collate_fn=list, multiprocessing_context="fork")
    assert [int(sample["data_samples"].gt_label) for (sample,) in loader] == list(range(COUNT))
    assert len(list((tmp_path / "copies").glob("*.tar"))) == 3
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # nothing answers there
    s3fs.S3FileSystem.clear_instance_cache()
    assert labels(dataset) == list(range(COUNT))


def test_missing_shard_and_bucket(remote):
    for url in (f"{remote}/9.tar", "s3://no-such-bucket/0.tar"):
        with pytest.raises(ConfigError, match=f"the shard {url} cannot be read"):
            build(url)


def test_a_failing_storage_is_no_bad_file(remote, tmp_path, monkeypatch):
    settings = dict(dataset_type="maskfeat.ImageDataset", ann_file=f"{remote}/{{0..2}}.tar", pipeline=READ)
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        dataset = DATASETS.build(dict(type="maskfeat.SkipBadFiles", list_file=str(tmp_path / "bad.txt"), **settings))
    monkeypatch.setattr("maskfeat_plugin.storage._LONGEST", 0.0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # nothing answers there
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(StorageError, match=r"/0\.tar: the storage fails"):
        dataset[0]
    assert not (tmp_path / "bad.txt").exists()
