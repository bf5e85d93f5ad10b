"""The newest whole checkpoint of a training, among files that are cut off, damaged, malicious or copied."""

import os
import shutil
from pathlib import Path

import pytest
import torch

from maskfeat_plugin.checkpoints import (
    CheckpointError,
    UnsafeCheckpointError,
    check_whole,
    newest_whole,
    publish,
    remove_unfinished,
    unfinished_path,
    write_last,
    write_shards,
)


class Malicious:
    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        return os.system, (f"touch {self.victim}",)


@pytest.fixture
def save(tmp_path):
    """Return a function that writes the checkpoint of an iteration as mmengine does and returns its path."""

    def write(name, iteration, epoch=0, **more):
        torch.manual_seed(iteration)
        content = dict(meta=dict(iter=iteration, epoch=epoch), state_dict=dict(weight=torch.rand(1000)), optimizer={})
        torch.save({**content, **more}, tmp_path / name)
        return tmp_path / name

    return write


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1  # a bit of a weight, which torch.load does not notice
    path.write_bytes(content)


def cut(path):
    os.truncate(path, path.stat().st_size * 9 // 10)


def empty(path):
    os.truncate(path, 0)


@pytest.mark.parametrize("harm", [damage, cut, empty])
def test_what_is_not_whole_is_passed_over(save, tmp_path, harm, caplog):
    older, newer = save("iter_8.pth", 8), save("iter_10.pth", 10)
    write_last(tmp_path, newer)
    assert newest_whole(tmp_path) == newer
    harm(newer)
    assert newest_whole(tmp_path) == older
    with pytest.raises(CheckpointError, match="iter_10.pth"):
        check_whole(newer)
    if harm is damage:
        torch.load(newer, weights_only=True)  # does not notice
    older.unlink()
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* is whole: .*iter_10.pth.* Remove them"):
        newest_whole(tmp_path)


def test_newest_is_of_most_iterations(save, tmp_path):
    """File times, names and last_checkpoint do not matter."""
    newest, *others = save("iter_100.pth", 100), save("iter_99.pth", 99), save("epoch_3.pth", 30, 3)
    for age, path in enumerate((newest, *others)):
        os.utime(path, (1000 + age, 1000 + age))
    save("best_accuracy_iter_200.pth", 200)
    torch.save(dict(state_dict=dict(weight=torch.rand(3))), tmp_path / "weights.pth")
    write_last(tmp_path, others[0])
    assert newest_whole(tmp_path) == newest
    # the end of an epoch counts as later than its last step
    at_end = save("epoch_10.pth", 100, 10)
    assert newest_whole(tmp_path) == at_end


def test_malicious_file_is_passed_over(save, tmp_path):
    older = save("iter_1.pth", 1)
    evil = save("iter_2.pth", 2, message_hub=Malicious(tmp_path / "victim"))
    assert newest_whole(tmp_path) == older
    with pytest.raises(UnsafeCheckpointError, match="system"):
        check_whole(evil)
    assert not (tmp_path / "victim").exists()


def test_folder_of_shards(save, tmp_path):
    older, folder = save("epoch_1.pth", 5, 1), tmp_path / "epoch_2.sharded"
    write_shards(dict(meta=dict(iter=10, epoch=2), state_dict=dict(weight=torch.rand(3)), optimizer={}), folder)
    assert newest_whole(tmp_path) == folder
    cut(folder / "training.pth")
    assert newest_whole(tmp_path) == older


def test_checkpoints_in_another_folder(save, tmp_path):
    path = save("iter_4.pth", 4)
    work_dir = tmp_path / "work"
    work_dir.mkdir()
    assert newest_whole(work_dir) is None
    write_last(work_dir, path)
    assert newest_whole(work_dir) == path
    write_last(work_dir, "s3://bucket/iter_4.pth")
    assert newest_whole(work_dir) == "s3://bucket/iter_4.pth"


@pytest.fixture
def copied(save, tmp_path, monkeypatch):
    """Return a work directory with checkpoints and a copy with an older one; the current folder has one too."""
    work, copy, current = (tmp_path / name for name in ("work", "copy", "current"))
    for folder in (work, copy, current):
        folder.mkdir()
    for name, iteration, folder in (("iter_8.pth", 8, work), ("iter_4.pth", 4, copy), ("epoch_300.pth", 9, current)):
        save(name, iteration).rename(folder / name)
    write_last(work, work / "iter_8.pth")
    shutil.copy(work / "last_checkpoint", copy)
    monkeypatch.chdir(current)
    return work, copy


# cut off, relative, null bytes, not UTF-8, too long, a folder, a folder that is no checkpoint
POINTERS = [b"wor", b"epoch_300.pth", b"./epoch_300.pth", b"\0\0\0", b"\xff\xfe.pth", b"x" * 5000 + b".pth", b".", b"/"]


@pytest.mark.parametrize("pointer", [None, b"", *POINTERS])
def test_checkpoints_of_the_work_directory_come_first(copied, pointer):
    work, copy = copied
    if pointer is not None:
        (copy / "last_checkpoint").write_bytes(pointer)
    assert newest_whole(copy) == copy / "iter_4.pth"
    cut(copy / "iter_4.pth")
    with pytest.raises(CheckpointError, match="no checkpoint in .*copy is whole: .*iter_4.pth"):
        newest_whole(copy)


@pytest.mark.parametrize("pointer", POINTERS)
def test_damaged_pointers_are_not_followed(copied, pointer):
    _, copy = copied
    (copy / "iter_4.pth").unlink()
    (copy / "last_checkpoint").write_bytes(pointer)
    with pytest.raises(CheckpointError, match=r"last_checkpoint (names|cannot be used).*--resume the path"):
        newest_whole(copy)
    (copy / "last_checkpoint").write_bytes(b"")
    assert newest_whole(copy) is None


def test_checkpoints_of_another_training_are_not_taken(copied):
    _, copy = copied
    (copy / "iter_4.pth").unlink()
    with pytest.raises(CheckpointError, match=r"copy.last_checkpoint names .*iter_8.pth, .* of another training"):
        newest_whole(copy)


def test_pointer_of_a_folder_that_was_given_relatively(save, tmp_path, monkeypatch):
    """With ``out_dir`` of mmengine's hook, checkpoints are in a folder with the work directory's name."""
    work, beside = tmp_path / "work_dirs" / "a", tmp_path / "checkpoints" / "a"
    for folder in (work, beside):
        folder.mkdir(parents=True)
    save("iter_4.pth", 4).rename(beside / "iter_4.pth")
    monkeypatch.chdir(tmp_path)
    (work / "last_checkpoint").write_text("checkpoints/a/iter_4.pth")
    assert newest_whole(work) == Path("checkpoints/a/iter_4.pth")
    write_last(work, "checkpoints/a/iter_4.pth")
    monkeypatch.chdir(work)
    assert newest_whole(work) == beside / "iter_4.pth"


def test_folder_of_an_engine(copied):
    """A training engine may write folders that end in .pth, which only the engine can check."""
    work, copy = copied
    for folder in copied:
        next(folder.glob("*.pth")).unlink()
        (folder / "iter_8.pth").mkdir()
    assert newest_whole(copy) == copy / "iter_8.pth"
    assert newest_whole(work) == work / "iter_8.pth"


@pytest.mark.parametrize(
    "change",
    [
        dict(meta=dict(iter=10, epoch=None)),
        dict(meta=dict(iter="10", epoch=0)),
        dict(meta=dict(iter=True, epoch=0)),
        dict(meta=dict(iter=-1, epoch=0)),
        dict(meta=dict(iter=10.5, epoch=[1])),
        dict(meta=[10]),
        dict(state_dict=None),
        dict(optimizer=[1]),
        dict(message_hub=5),
        dict(param_schedulers="none"),
    ],
)
def test_parts_of_another_type_are_passed_over(save, tmp_path, change):
    older = save("iter_8.pth", 8)
    save("iter_10.pth", 10, **change)
    assert newest_whole(tmp_path) == older
    older.unlink()
    with pytest.raises(CheckpointError, match=r"iter_10.pth (cannot be resumed|is of no training): its "):
        newest_whole(tmp_path)


@pytest.mark.parametrize("content", [5, [1], None, "text", {}, {5: 6}, {"checkpoint": 7}, torch.zeros(3)])
def test_other_content_is_passed_over(save, tmp_path, content):
    older = save("iter_8.pth", 8)
    torch.save(content, tmp_path / "iter_10.pth")
    assert newest_whole(tmp_path) == older


def test_a_name_stands_for_whole_files(save, tmp_path):
    old = save("iter_1.pth", 1).read_bytes()
    path = tmp_path / "iter_1.pth"
    unfinished_path(path).write_bytes(b"half")
    assert path.read_bytes() == old and newest_whole(tmp_path) == path
    unfinished_path(path).write_bytes(b"new")
    publish(path)
    assert path.read_bytes() == b"new" and not unfinished_path(path).exists()
    unfinished_path(path).write_bytes(b"half")
    remove_unfinished(tmp_path)
    assert os.listdir(tmp_path) == ["iter_1.pth"]
