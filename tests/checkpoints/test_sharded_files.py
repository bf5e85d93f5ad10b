"""Folders of shards: damaged, mixed, malicious, and rewritten by a process that is killed at any point."""

import hashlib
import os
import pickle
import resource
import shutil
import signal
from functools import partial

import pytest
import torch
from mmengine.runner.checkpoint import CheckpointLoader
from torch.distributed.checkpoint import FileSystemReader

from maskfeat_plugin.checkpoints import (
    CheckpointError,
    UnsafeCheckpointError,
    check_whole,
    load_file,
    newest_whole,
    read_checkpoint,
    remove_unfinished,
    write_shards,
)

ROWS = torch.arange(8.0).view(4, 2)


def content(iteration):
    return dict(meta=dict(iter=iteration, epoch=0), state_dict=dict(weight=torch.full((9,), float(iteration))))


def write(folder, **more):
    write_shards(dict(meta=dict(iter=7, epoch=0), state_dict=dict(weight=ROWS), **more), folder)
    return folder


def read_by_mmengine(path):
    return CheckpointLoader.load_checkpoint(str(path))


def test_values_are_the_same_after_reading(tmp_path):
    """This includes empty dicts, tuples, keys that are numbers, and an optimizer's values that are no tensors."""
    state = {0: dict(step=torch.tensor(3.0), exp_avg=ROWS + 1, buffer=None), 12: {}}
    optimizer = dict(state=state, param_groups=[dict(lr=0.1, betas=(0.9, 0.95), params=[0, 12])])
    folder = write(tmp_path / "iter_7.sharded", optimizer=optimizer, message_hub={}, param_schedulers=[{"a": {3: 1}}])
    assert newest_whole(tmp_path) == folder
    for read in (load_file, read_by_mmengine):
        found = read(folder)
        assert torch.equal(found["state_dict"]["weight"], ROWS)
        assert torch.equal(found["optimizer"]["state"][0].pop("exp_avg"), ROWS + 1)
        assert found["optimizer"]["state"][0] == dict(step=torch.tensor(3.0), buffer=None)
        assert found["optimizer"]["param_groups"] == optimizer["param_groups"]
        assert found["meta"]["iter"] == 7 and found["message_hub"] == {}
        assert found["param_schedulers"] == [{"a": {3: 1}}]


def without(name):
    return lambda folder, other: (folder / name).unlink()


def of_other(name):
    return lambda folder, other: shutil.copy(other / name, folder)


def plain_values(value):
    return lambda folder, other: torch.save(value, folder / "training.pth")


def of_an_earlier_version(folder, other):
    (folder / "training.pth").unlink()
    torch.save(dict(processes=1, checkpoint={}), folder / "rank0.pth")


HARM = {
    "lacks .metadata; copy it again": without(".metadata"),
    "lacks __0_0.distcp; copy it again": without("__0_0.distcp"),
    "it has no training.pth": without("training.pth"),
    r"\.metadata is cut off or damaged, or was not written together": of_other(".metadata"),
    "__0_0.distcp is cut off or damaged, or was not written together": of_other("__0_0.distcp"),
    "cut off or damaged, or was not written together with training.pth": of_other("training.pth"),
    "is not a part of a sharded checkpoint": plain_values([3]),
    "not a part of a sharded checkpoint .*digests": plain_values(dict(checkpoint=dict(meta=dict(iter=7, epoch=0)))),
    "written by an earlier version of maskfeat_plugin.*filename_tmpl='iter_{}.pth'": of_an_earlier_version,
}


@pytest.mark.parametrize("message", HARM)
def test_what_is_not_one_checkpoint_is_passed_over(tmp_path, message):
    folder, other = write(tmp_path / "iter_7.sharded"), tmp_path / "other" / "iter_7.sharded"
    write_shards(dict(content(7), state_dict=dict(weight=-ROWS)), other)
    HARM[message](folder, other)
    for read in (check_whole, load_file, read_checkpoint, read_by_mmengine):
        with pytest.raises(CheckpointError, match=rf"iter_7.sharded.*{message}"):
            read(folder)
    older = tmp_path / "iter_5.sharded"
    write_shards(content(5), older)
    assert newest_whole(tmp_path) == older


class Malicious:
    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        return os.system, (f"touch {self.victim}",)


def write_index(folder, index):
    """Replace the index, and its digest, as an attacker would."""
    (folder / ".metadata").write_bytes(pickle.dumps(index))
    plain = torch.load(folder / "training.pth", weights_only=True)
    plain["digests"][".metadata"] = hashlib.sha256((folder / ".metadata").read_bytes()).hexdigest()
    torch.save(plain, folder / "training.pth")


def test_malicious_index(tmp_path):
    folder, victim = write(tmp_path / "iter_7.sharded"), tmp_path / "victim"
    index = FileSystemReader(folder).read_metadata()
    index.planner_data["state_dict.weight"] = Malicious(victim)
    write_index(folder, index)
    for read in (check_whole, load_file, read_checkpoint, read_by_mmengine):
        with pytest.raises(UnsafeCheckpointError, match=r"\.metadata is refused: it asks for posix.system"):
            read(folder)
    assert not victim.exists()
    FileSystemReader(folder).read_metadata()  # torch's own reader does run it
    assert victim.exists()


def test_index_that_names_other_files(tmp_path):
    folder = write(tmp_path / "iter_7.sharded")
    shutil.copy(folder / "__0_0.distcp", tmp_path / "secret")
    index = FileSystemReader(folder).read_metadata()
    for info in index.storage_data.values():
        info.relative_path = "../secret"
    write_index(folder, index)
    with pytest.raises(UnsafeCheckpointError, match="names files that are not part of it"):
        load_file(folder)


def test_index_of_other_sizes(tmp_path):
    folder = write(tmp_path / "iter_7.sharded")
    index = FileSystemReader(folder).read_metadata()
    (entry,) = index.state_dict_metadata.values()
    entry.chunks[0].sizes = entry.size = torch.Size((5, 2))
    write_index(folder, index)
    with pytest.raises(CheckpointError, match="shards that do not fit together"):
        load_file(folder)


def test_value_that_is_no_tensor_and_runs_code(tmp_path):
    folder, victim = tmp_path / "iter_7.sharded", tmp_path / "victim"
    write(folder, optimizer=dict(state={0: dict(evil=Malicious(victim))}))
    with pytest.raises(CheckpointError, match=r"(?s)Weights only load failed.*system"):
        load_file(folder)
    assert not victim.exists()


def in_child(work):
    """Run a function in a child process and return its exit status."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


CALLS = ("replace", "fsync", "rename", "unlink", "rmdir", "mkdir", "open")


def rewrite_and_die(folder, number, after):
    """Rewrite a folder, and be killed before or after the call number ``number`` that changes the disk."""
    count = 0

    def counted(call):
        def called(*args, **kwargs):
            nonlocal count
            count += 1
            if count == number and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = call(*args, **kwargs)
            if count == number and after:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return called

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))
    write_shards(content(5), folder)


@pytest.mark.parametrize("after", [False, True])
def test_killed_while_it_is_rewritten(tmp_path, after):
    number, statuses = 0, []
    while 0 not in statuses:
        number += 1
        work = tmp_path / str(number)
        work.mkdir()
        folder = work / "iter_5.sharded"
        old = content(5)
        old["state_dict"]["weight"] += 1
        write_shards(old, folder)
        statuses.append(in_child(partial(rewrite_and_die, folder, number, after)))
        copy = shutil.copytree(work, tmp_path / f"{number}_copy")
        for path in (folder, copy / folder.name):
            assert newest_whole(path.parent) == path
            check_whole(path)
            weight = CheckpointLoader.load_checkpoint(str(path))["state_dict"]["weight"]
            assert weight.unique().tolist() in ([5.0], [6.0])
            remove_unfinished(path.parent)
            assert os.listdir(path.parent) == [folder.name]
            check_whole(path)
    assert statuses[-1] == 0 and set(statuses[:-1]) == {-signal.SIGKILL} and number > 8


def test_full_disk_keeps_the_folder(tmp_path):
    folder = tmp_path / "iter_5.sharded"
    write_shards(content(5), folder)

    def write():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
        with pytest.raises(OSError, match="process 0: "):
            write_shards(dict(content(5), state_dict=dict(weight=torch.zeros(10000))), folder)

    assert in_child(write) == 0
    assert os.listdir(tmp_path) == ["iter_5.sharded"]
    check_whole(folder)


def test_flipped_bits(tmp_path):
    folder = write(tmp_path / "iter_7.sharded")
    for name in os.listdir(folder):
        whole = (folder / name).read_bytes()
        for bit in range(5, 8 * len(whole), 8 * len(whole) // 25):
            damaged = bytearray(whole)
            damaged[bit // 8] ^= 1 << bit % 8
            (folder / name).write_bytes(damaged)
            try:
                check_whole(folder)
            except CheckpointError as error:
                assert name in str(error)
            else:
                assert name == "training.pth" and torch.equal(load_file(folder)["state_dict"]["weight"], ROWS)
        (folder / name).write_bytes(whole)
