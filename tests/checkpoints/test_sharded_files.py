"""Folders of shards: damaged, mixed, overlapping, and rewritten by a process that is killed at any point."""

import os
import resource
import shutil
import signal
from functools import partial

import pytest
import torch
from mmengine.runner.checkpoint import CheckpointLoader

from maskfeat_plugin.checkpoints import (
    CheckpointError,
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


def shard(begin, rows, size=(4, 2)):
    return dict(shard_of_size=size, first_row=begin, rows=rows)


def write_parts(folder, records, **more):
    """Write a folder as two processes do; without ``written`` as older versions, which do not mark files as one set."""
    folder.mkdir()
    for rank, record in enumerate(records):
        part = dict(state_dict=dict(weight=record), **(dict(meta=dict(iter=7, epoch=0)) if rank == 0 else {}))
        file = dict(processes=len(records), checkpoint=part)
        file.update({key: value(rank) for key, value in more.items()})
        torch.save(file, folder / f"rank{rank}.pth")
    return folder


@pytest.mark.parametrize("more", [{}, dict(written=lambda rank: "a", rank=lambda rank: rank)], ids=["older", "now"])
def test_parts_that_fit(tmp_path, more):
    folder = write_parts(tmp_path / "iter_7.sharded", [shard(0, ROWS[:3]), shard(3, ROWS[3:])], **more)
    assert newest_whole(tmp_path) == folder
    for read in (load_file, lambda path: CheckpointLoader.load_checkpoint(str(path))):
        assert torch.equal(read(folder)["state_dict"]["weight"], ROWS)


REFUSED = [
    ([shard(0, ROWS[:2]), shard(1, ROWS[2:])], "shards of state_dict.weight overlap"),
    ([shard(0, ROWS[:2]), shard(0, ROWS[2:])], "shards of state_dict.weight overlap"),
    ([shard(1, ROWS[:2]), shard(3, ROWS[2:])], "shards of state_dict.weight overlap"),
    ([shard(0, ROWS[:3]), shard(2, ROWS[2:])], "have 5 of 4 rows"),
    ([shard(0, ROWS[:2]), shard(2, None)], "have 2 of 4 rows"),
    ([shard(0, ROWS[:2]), shard(2, ROWS[2:], size=(5, 2))], "different sizes"),
    ([shard(0, ROWS[:2]), shard(2, ROWS[2:].repeat(1, 2))], "different sizes"),
    ([shard(0, ROWS[:2]), shard(2, ROWS[2:].half())], "different types"),
    ([shard(0, ROWS[:2]), ROWS], "do not fit together"),
    ([shard(0, ROWS[:2]), {}], "do not fit together"),
    ([shard(0, ROWS[:2]), shard("2", ROWS[2:])], "do not fit together"),
    ([shard(0, ROWS[:2]), shard(2, [3, 4])], "do not fit together"),
]


@pytest.mark.parametrize("records, message", REFUSED)
def test_parts_that_do_not_fit_are_passed_over(tmp_path, records, message):
    folder = write_parts(tmp_path / "iter_7.sharded", records)
    for read in (check_whole, load_file, read_checkpoint, lambda path: CheckpointLoader.load_checkpoint(str(path))):
        with pytest.raises(CheckpointError, match=rf"iter_7.sharded.*{message}"):
            read(folder)
    older = tmp_path / "iter_5.sharded"
    write_shards(content(5), older)
    assert newest_whole(tmp_path) == older


def test_parts_of_different_checkpoints(tmp_path):
    """Files of a copy that was made during a rewrite of the folder, or files of other processes."""
    parts = [shard(0, ROWS[:2]), shard(2, ROWS[2:])]
    for name, more in (
        ("other", dict(written=lambda rank: "ab"[rank])),
        ("one_of_an_older_version", dict(written=lambda rank: ["a", None][rank])),
        ("exchanged", dict(rank=lambda rank: 1 - rank)),
        ("of_more", dict(processes=lambda rank: 2 + rank)),
    ):
        folder = write_parts(tmp_path / f"{name}.sharded", parts, **more)
        with pytest.raises(CheckpointError, match=r"rank[01].pth was not written together with rank0.pth"):
            check_whole(folder)


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
    folder = write_parts(tmp_path / "iter_7.sharded", [shard(0, ROWS[:3]), shard(3, ROWS[3:])])
    for name in ("rank0.pth", "rank1.pth"):
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
                assert torch.equal(load_file(folder)["state_dict"]["weight"], ROWS)
        (folder / name).write_bytes(whole)
