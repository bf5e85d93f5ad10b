"""Damaged archives: damage anywhere in an archive is an error that names it, and no files are left."""

import bz2
import gzip
import io
import lzma
import os
import random
import resource
import signal
import tarfile
import zipfile

import pytest

from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.preparation.archives import _opened, join_parts, read_member, unpack

# A flipped bit can hide an entry of a zip directory if the name has 18 bytes: 46 + 18 = 64.
_RANDOM = random.Random(0)
FILES = {
    name: _RANDOM.randbytes(_RANDOM.randrange(40, 900))
    for name in ("noel.jpg", "o", "ordinary_01234.jpg", "n01440764_0001.JPEG", "ordinary_56789.jpg")
}


def tar(files=None, **options):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", **options) as file:
        for name, content in (files or FILES).items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zipped(method=zipfile.ZIP_DEFLATED, force_zip64=False):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        file.writestr("folder/", b"")
        file.writestr("folder/.hidden", b"not unpacked")
        for name, content in FILES.items():
            with file.open(name, "w", force_zip64=force_zip64) as member:
                member.write(content)
    return buffer.getvalue()


ARCHIVES = {
    "a.tar.gz": gzip.compress(tar()),
    "a.tgz": gzip.compress(tar(format=tarfile.GNU_FORMAT)),
    "a.tar": tar(),
    "nested.tar": tar({"n01440764.tar": tar(), "n01440765.tar": tar({"x.jpg": b"x" * 600})}),
    "a.zip": zipped(),
    "stored.zip": zipped(zipfile.ZIP_STORED, force_zip64=True),
    "bz2.tar.gz": bz2.compress(tar()),
    "xz.tar.gz": lzma.compress(tar()),
}
# plain tar files have checksums of their headers, but none of their content
CHECKED = [name for name in ARCHIVES if not name.endswith("tar")]


def unpacked(name, content, folder):
    """Unpack an archive and return path -> content, or None if it is refused. Then no files may be left."""
    path = folder / name
    path.write_bytes(content)
    out = folder / "out" / "data"
    try:
        unpack([[path]], out, progress=False)
    except ConfigError as error:
        assert str(path) in str(error)
        assert os.listdir(out.parent) == []
        return None
    found = {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    for file in sorted(out.parent.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    return found


def flip(content, rng):
    out = bytearray(content)
    out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def cut(content, rng):
    return content[: rng.randrange(len(content))]


def overwrite(content, rng):
    start = rng.randrange(len(content))
    return content[:start] + rng.randbytes(rng.choice((1, 4, 40))) + content[start + 1 :]


def lose(content, rng):
    start = rng.randrange(len(content))
    return content[:start] + content[start + rng.choice((1, 64, 512)) :]


HARMS = (flip, flip, flip, cut, overwrite, lose)


def fuzz(name, folder, cases, harms=HARMS):
    """Unpack damaged archives and return the number of refused ones. All others must have the whole content."""
    rng, refused = random.Random(name), 0
    whole = unpacked(name, ARCHIVES[name], folder)
    for case in range(cases):
        found = unpacked(name, harms[case % len(harms)](ARCHIVES[name], rng), folder)
        refused += found is None
        if name in CHECKED:
            assert found in (None, whole), case
        elif found is not None and harms[case % len(harms)] is flip:
            lengths = {path: len(content) for path, content in found.items()}
            assert lengths == {path: len(content) for path, content in whole.items()}, case
    return refused


@pytest.mark.parametrize("name", ARCHIVES)
def test_damaged_archives(name, tmp_path):
    (tmp_path / "out").mkdir()
    assert fuzz(name, tmp_path, 60) > 15
    if name.endswith("gz"):
        assert fuzz(name, tmp_path, 20, [flip]) >= 17  # the others hit bits without a meaning, such as gzip's time


@pytest.mark.long
@pytest.mark.parametrize("name", ARCHIVES)
def test_many_damaged_archives(name, tmp_path):
    (tmp_path / "out").mkdir()
    assert fuzz(name, tmp_path, 2000) > 500


@pytest.mark.parametrize("name", ["a.zip", "stored.zip"])
def test_bits_of_a_zip_directory(name, tmp_path):
    """A flipped bit can hide entries: in a length, or in a name that becomes a folder or a hidden file."""
    (tmp_path / "out").mkdir()
    content = ARCHIVES[name]
    start = content.index(b"PK\1\2")
    whole = unpacked(name, content, tmp_path)
    path = tmp_path / name
    for bit in range(8 * start, 8 * len(content), 5):
        harmed = bytearray(content)
        harmed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(harmed)
        try:
            with _opened([path]) as members:
                found = {member: read().read() for member, _, read, _ in members}
        except ConfigError:
            continue
        assert found == whole, bit
    for bit in random.Random(1).sample(range(8 * start, 8 * len(content)), 20):
        harmed = bytearray(content)
        harmed[bit // 8] ^= 1 << bit % 8
        assert unpacked(name, harmed, tmp_path) in (None, whole), bit


def test_a_damaged_header_is_no_end(tmp_path):
    """tarfile treats a damaged header as the end of the archive, so later files would be missing."""
    content = bytearray(ARCHIVES["a.tar"])
    content[content.index(b"ordinary_01234")] ^= 1
    path = tmp_path / "a.tar"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"a\.tar is damaged or no archive \(bad checksum before its end\)"):
        unpack([[path]], tmp_path / "out", progress=False)
    path.write_bytes(ARCHIVES["a.tar"] + ARCHIVES["nested.tar"])
    with pytest.raises(ConfigError, match="data after its end"):
        unpack([[path]], tmp_path / "out", progress=False)
    path.write_bytes(ARCHIVES["a.tar"][: 512 * 2])
    with pytest.raises(ConfigError, match=r"a\.tar is damaged"):
        unpack([[path]], tmp_path / "out", progress=False)
    assert os.listdir(tmp_path) == ["a.tar"]


@pytest.mark.parametrize("name", CHECKED)
def test_a_small_file_is_not_read_from_a_damaged_archive(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(ARCHIVES[name])
    assert read_member([path], "noel.jpg") == FILES["noel.jpg"]
    assert read_member([path], "other.jpg") is None
    if not name.endswith("zip"):
        path.write_bytes(ARCHIVES[name][:-6] + b"\1" + ARCHIVES[name][-5:])
        with pytest.raises(ConfigError, match="is damaged"):
            read_member([path], "noel.jpg")


def test_what_no_archive_may_be(tmp_path):
    encrypted = bytearray(ARCHIVES["a.zip"])
    encrypted[encrypted.rindex(b"PK\1\2") + 8] |= 1
    unknown = bytearray(ARCHIVES["a.zip"])
    unknown[unknown.rindex(b"PK\1\2") + 10] = 97
    other_name = bytearray(ARCHIVES["a.zip"])
    other_name[other_name.rindex(b"PK\1\2") + 9] |= 8  # a name that is marked as UTF-8 ...
    other_name[other_name.rindex(b"ordinary_56789")] = 0xFF  # ... but is not UTF-8
    negative = tarfile.TarInfo("x")
    negative.size = -512
    cases = {
        "encrypted.zip": (bytes(encrypted), "encrypted"),
        "unknown.zip": (bytes(unknown), "compression"),
        "name.zip": (bytes(other_name), "decode"),
        "negative.tar": (negative.tobuf(tarfile.GNU_FORMAT) + bytes(1024), "negative"),
        "empty.tar.gz": (b"", "before its end|empty"),
        "page.zip": (b"<html>", "not a zip file"),
        "nul.tar": (tar({"a\0b": b"1"}, format=tarfile.PAX_FORMAT), None),
        "long.tar": (tar({"x" * 300: b"1"}), "cannot be written: File name too long"),
    }
    for name, (content, message) in cases.items():
        path = tmp_path / name
        path.write_bytes(content)
        if message is None:
            unpack([[path]], tmp_path / "nul", progress=False)
            continue
        with pytest.raises(ConfigError, match=message):
            unpack([[path]], tmp_path / "out", progress=False)
        assert not [p for p in os.listdir(tmp_path) if "out" in p], name
    missing = tmp_path / "gone.zip"
    with pytest.raises(ConfigError, match=r"gone\.zip cannot be read: No such file"):
        read_member([missing], "x")
    with pytest.raises(ConfigError, match=r"numbered \[0, 4000000000\]. Add the part with number 1"):
        join_parts([tmp_path / "a-00", tmp_path / "a-4000000000"])


def test_a_replaced_archive_is_not_taken_for_the_old_one(tmp_path):
    """This holds for files of an interrupted run and for a complete folder."""
    path = tmp_path / "a.zip"
    path.write_bytes(ARCHIVES["a.zip"])
    partial = tmp_path / ".out.unfinished"
    partial.mkdir()
    (partial / "noel.jpg").write_bytes(b"?" * len(FILES["noel.jpg"]))
    unpack([[path]], tmp_path / "out", progress=False)
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == FILES
    unpack([[path]], tmp_path / "out", progress=False)
    path.touch()
    unpack([[path]], tmp_path / "out", progress=False)  # a copy
    path.write_bytes(ARCHIVES["stored.zip"])
    with pytest.raises(ConfigError, match=r"out was unpacked from another archive than .*a\.zip; remove"):
        unpack([[path]], tmp_path / "out", progress=False)


def test_a_full_disk_leaves_nothing(tmp_path):
    path = tmp_path / "a.zip"
    path.write_bytes(ARCHIVES["a.zip"])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, limits[1]))
    try:
        with pytest.raises(ConfigError, match="cannot be written: File too large"):
            unpack([[path]], tmp_path / "out", progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert os.listdir(tmp_path) == ["a.zip"]
