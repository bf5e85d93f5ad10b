"""Single flipped bits and damaged directories of checkpoints: either refused, or read with the correct values."""

import random
import struct
import zipfile

import pytest
import torch

from maskfeat_plugin.checkpoints import CheckpointError, check_whole, load_file, newest_whole, read_checkpoint

WEIGHTS = dict(small=torch.arange(8.0), large=torch.arange(800.0).view(20, 40), none=torch.zeros(0))


def content(iteration=4):
    return dict(meta=dict(iter=iteration, epoch=1), state_dict=WEIGHTS, optimizer=dict(lr=0.5))


def write_deflated(path):
    """Write the same file, packed again by a program other than torch."""
    torch.save(content(), path)
    with zipfile.ZipFile(path) as source:
        records = {entry.filename: source.read(entry) for entry in source.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name, record in records.items():
            target.writestr(name, record)


def write_legacy(path):
    torch.save(content(), path, _use_new_zipfile_serialization=False)


WRITERS = dict(torch=lambda path: torch.save(content(), path), deflated=write_deflated, legacy=write_legacy)


def is_right(loaded):
    head = {key: loaded[key] for key in ("meta", "optimizer")} if isinstance(loaded, dict) else None
    return head == dict(meta=dict(iter=4, epoch=1), optimizer=dict(lr=0.5)) and all(
        torch.equal(loaded["state_dict"][name], value) for name, value in WEIGHTS.items()
    )


def refused(path):
    """Check whether the file is refused; if not, torch must load the correct values."""
    try:
        check_whole(path)
    except CheckpointError as error:
        assert str(path) in str(error)
        return True
    assert is_right(torch.load(path, weights_only=True))
    assert is_right(load_file(path)) and is_right(load_file(path, mmap=True))
    return False


def entry_of(whole, name):
    """Return the place of a record's entry in the directory."""
    start = whole.index(b"PK\x01\x02")
    return whole.index(name, start) - 46


def test_marked_as_a_folder(tmp_path):
    """For such a record, torch.load returns uninitialized memory, and Python's zipfile does not complain."""
    path, older = tmp_path / "iter_4.pth", tmp_path / "iter_2.pth"
    torch.save(content(), path)
    torch.save(content(iteration=2), older)
    whole = bytearray(path.read_bytes())
    whole[entry_of(whole, b"iter_4/data/1") + 38] ^= 0x10
    path.write_bytes(whole)
    assert zipfile.ZipFile(path).testzip() is None
    with pytest.raises(CheckpointError, match=r"iter_4.pth .*data/1 is marked as a folder"):
        check_whole(path)
    with pytest.raises(CheckpointError, match="is marked as a folder"):
        read_checkpoint(path)
    assert newest_whole(tmp_path) == older


@pytest.mark.parametrize(
    "place, value, message",
    [
        (8, 0x0809, "is encrypted, or compressed by a method"),
        (10, 99, "is encrypted, or compressed by a method"),
        (6, 0x00FF, "the header of .*data/1 differs"),  # version that is needed to unpack the record
        (16, 0, "data/1 does not end where the next"),  # half of its checksum
        (24, 8, "data/1 has two sizes"),
        (32, 1, "an entry of its directory is damaged"),  # length of a comment
        (42, 0, "does not end where the next"),  # place of the record
        (46, 0xFFFF, "the header of .*differs"),  # a name that is not UTF-8
    ],
)
def test_entries_of_the_directory(tmp_path, place, value, message):
    path = tmp_path / "iter_4.pth"
    torch.save(content(), path)
    whole = bytearray(path.read_bytes())
    struct.pack_into("<H", whole, entry_of(whole, b"iter_4/data/1") + place, value)
    path.write_bytes(whole)
    with pytest.raises(CheckpointError, match=message):
        check_whole(path)
    with pytest.raises(CheckpointError, match="iter_4.pth"):
        newest_whole(tmp_path)


@pytest.mark.parametrize(
    "harm", [lambda b: b + b"x", lambda b: b"x" + b, lambda b: b[:-1], lambda b: b[:100] + b[101:]]
)
@pytest.mark.parametrize("writer", WRITERS)
def test_bytes_that_are_added_or_lost(tmp_path, writer, harm):
    path = tmp_path / "iter_4.pth"
    WRITERS[writer](path)
    assert not refused(path)
    path.write_bytes(harm(path.read_bytes()))
    assert refused(path)


def test_without_checksums(tmp_path):
    """torch writes such files if asked to; torch.load and this package read them."""
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(content(), tmp_path / "iter_4.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert not refused(tmp_path / "iter_4.pth")


def flip(path, whole, bit):
    damaged = bytearray(whole)
    damaged[bit // 8] ^= 1 << bit % 8
    path.write_bytes(damaged)


def check_flips(tmp_path, writer, count):
    path = tmp_path / "iter_4.pth"
    WRITERS[writer](path)
    whole = path.read_bytes()
    tensor = whole.find(WEIGHTS["large"].numpy().tobytes())
    bits = [bit for bit in range(8 * len(whole)) if tensor < 0 or not tensor <= bit // 8 < tensor + 3000]
    bits = bits if count is None else random.Random(0).sample(bits, count)
    number = 0
    for bit in bits:
        flip(path, whole, bit)
        number += refused(path)
    return number / len(bits)


@pytest.mark.parametrize("writer", ["torch", "deflated"])
def test_flipped_bits(tmp_path, writer):
    assert check_flips(tmp_path, writer, 30) > 0.3


@pytest.mark.long
@pytest.mark.parametrize("writer", ["torch", "deflated"])
def test_every_flipped_bit(tmp_path, writer):
    """Most bits of a tensor are left out, because one checksum covers all of them."""
    assert check_flips(tmp_path, writer, None) > 0.7


def check_legacy_flips(tmp_path, count):
    """The old format has no checksums for weights: either this package's error, or the correct number of values."""
    path = tmp_path / "iter_4.pth"
    write_legacy(path)
    whole = path.read_bytes()
    for bit in random.Random(0).sample(range(8 * len(whole)), count):
        flip(path, whole, bit)
        for read in (check_whole, load_file):
            try:
                read(path)
            except CheckpointError as error:
                assert str(path) in str(error)


def test_flipped_bits_of_the_old_format(tmp_path):
    check_legacy_flips(tmp_path, 30)


@pytest.mark.long
def test_thousands_of_flipped_bits_of_the_old_format(tmp_path):
    check_legacy_flips(tmp_path, 4000)


def check_directories(tmp_path, writer, count):
    """Change one to four random bytes behind the records, and in the headers before them."""
    path = tmp_path / "iter_4.pth"
    WRITERS[writer](path)
    whole, rng = path.read_bytes(), random.Random(1)
    start = whole.index(b"PK\x01\x02")
    headers = [place for place in range(start) if whole[place : place + 4] == b"PK\x03\x04"]
    number = 0
    for _ in range(count):
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(start, len(whole)) if rng.random() < 0.7 else rng.choice(headers) + rng.randrange(60)
            damaged[place] = rng.choice([0, 1, 0x10, 0x7F, 0x80, 0xFF, rng.randrange(256), damaged[place] ^ 0x20])
        path.write_bytes(damaged)
        number += refused(path)
    return number / count


@pytest.mark.parametrize("writer", ["torch", "deflated"])
def test_damaged_directories(tmp_path, writer):
    assert check_directories(tmp_path, writer, 30) > 0.5


@pytest.mark.long
@pytest.mark.parametrize("writer", ["torch", "deflated"])
def test_thousands_of_damaged_directories(tmp_path, writer):
    assert check_directories(tmp_path, writer, 2500) > 0.5
