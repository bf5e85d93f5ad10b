"""Indexing of a folder: describes every image and video once in a manifest, also after interruptions and changes."""

import os
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from maskfeat_plugin.datasets.folders import IMAGE_ENDINGS, VIDEO_ENDINGS, FoundFiles, find_files
from maskfeat_plugin.datasets.manifest import (
    ENDING,
    IMAGE,
    VIDEO,
    Manifest,
    as_table,
    import_arrow,
    is_manifest,
    name_columns,
    read_manifest,
    write_manifest,
)
from maskfeat_plugin.errors import ConfigError

from .describing import describe_file
from .parallel import run_parallel
from .workspace import CRASHED

if TYPE_CHECKING:
    import pyarrow

# Number of rows, and seconds, after which finished rows are saved
_PART_ROWS, _PART_SECONDS = 4096, 30.0
# Number of files that a summary names
_NAMED = 5


@dataclass(frozen=True)
class IndexReport:
    """Result of indexing a folder.

    Args:
        manifest (Manifest): All rows.
        read (int): Number of files that were read.
        kept (int): Number of files that were known and have not changed.
        skipped (str): Description of the skipped files in the folder, "" if there are none.
    """

    manifest: Manifest
    read: int
    kept: int
    skipped: str

    def summary(self) -> str:
        """Return lines with the counts, and the first of the unreadable files."""
        table = self.manifest.table
        videos, hours = table["kind"].to_pylist().count(VIDEO), sum(filter(None, table["duration"].to_pylist())) / 3600
        lines = [
            f"{len(table)} files: {videos} videos ({hours:.1f} h), {len(table) - videos} images; "
            f"{self.read} read, {self.kept} known from before"
        ]
        bad = table.filter(import_arrow("pyarrow.compute").is_valid(table["problem"]))
        if len(bad):
            lines.append(f"{len(bad)} cannot be read:")
            lines += [f"  {row['path']}: {row['problem']}" for row in bad.slice(0, _NAMED).to_pylist()]
            lines += [f"  and {len(bad) - _NAMED} more, with their problem in the manifest"] * (len(bad) > _NAMED)
        return "\n".join(lines + [f"left out: {self.skipped}"] * bool(self.skipped))


def index_folder(
    folder: str | Path,
    out: str | Path,
    *,
    workers: int = 1,
    timeout: float = 60.0,
    retry: bool = False,
    progress: bool = True,
) -> IndexReport:
    """Write the manifest of the images and videos below a folder.

    Files that an earlier manifest at ``out`` has with the same size and time are not read again. Files that no longer
    exist are removed from the manifest. Until the manifest is complete, rows are saved in a hidden folder beside it.
    After any interruption, the same call continues from there.

    Args:
        folder (str | Path): The folder. Links to folders in it are not followed.
        out (str | Path): The manifest; its name ends in ``.parquet``.
        workers (int): Number of processes that read files. Defaults to 1.
        timeout (float): Seconds that a file may take. A longer time becomes the file's problem. Defaults to 60.
        retry (bool): Whether to read files again that had a problem. Defaults to False.
        progress (bool): Whether to show progress. Defaults to True.

    Returns:
        IndexReport: The result.

    Raises:
        ConfigError: If the folder has no files, if ``out`` is no manifest or the manifest of another folder, or if it
            cannot be written.
    """
    out, folder = Path(out), os.path.abspath(folder)
    if not is_manifest(out):
        raise ConfigError(f"--out {out}: the name of a manifest ends in {ENDING}. Give such a name.")
    import_arrow("pyarrow")  # report a missing pyarrow before the work
    if not os.path.isdir(folder):
        raise ConfigError(f"FOLDER {folder} is not there. Give the folder with the images and videos.")
    known = _read_known(out, folder)
    found = find_files(folder, (*IMAGE_ENDINGS, *VIDEO_ENDINGS))
    if not found.files:
        skipped = found.describe_skipped()
        raise ConfigError(f"FOLDER {folder} has no image and no video{f'; left out: {skipped}' if skipped else ''}.")
    changed, kept = _compare(found, folder, known, retry)
    parts = _parts_of(out)
    tables = [kept]
    for rows in _describe_all(changed, folder, workers, timeout, progress):
        tables.append(as_table(rows))
        write_manifest(parts / f"{uuid.uuid4().hex}{ENDING}", folder, tables[-1:])
    table = import_arrow("pyarrow").concat_tables(tables)
    table = table.sort_by([("path", "ascending"), ("path_bytes", "ascending")])
    write_manifest(out, folder, [table])
    shutil.rmtree(parts, ignore_errors=True)
    return IndexReport(Manifest(folder, table), len(table) - len(kept), len(kept), found.describe_skipped())


def _parts_of(out: Path) -> Path:
    return out.with_name(f".{out.name}.parts")


def _read_known(out: Path, folder: str) -> "pyarrow.Table":
    """Read the rows of an earlier manifest, followed by the rows of saved parts, the latest ones last."""
    parts = sorted(_parts_of(out).glob(f"*{ENDING}"), key=lambda path: path.stat().st_mtime_ns)
    tables = [as_table([])]
    for path in [out] * out.exists() + [part for part in parts if not part.name.startswith(".")]:
        manifest = read_manifest(path)
        if manifest.folder != folder:
            advice = f"Remove {path.parent}" if path != out else "Give another name with --out, or remove it"
            raise ConfigError(f"{path} is of the folder {manifest.folder}, and this is {folder}. {advice}.")
        tables.append(manifest.table)
    return import_arrow("pyarrow").concat_tables(tables)


def _compare(
    found: FoundFiles, folder: str, known: "pyarrow.Table", retry: bool
) -> tuple[dict[str, tuple[int, int]], "pyarrow.Table"]:
    """Compare files with known rows. Return path -> bytes and time of changed and new files, and the other rows."""
    signatures = zip(known["bytes"].to_pylist(), known["modified"].to_pylist(), strict=True)
    is_bad = known["problem"].is_valid().to_pylist()
    rows = {
        path: (i, signature)
        for i, (path, signature) in enumerate(zip(Manifest(folder, known).paths(), signatures, strict=True))
        if not (retry and is_bad[i])
    }
    changed, kept = {}, []
    for path in map(str, found.files):
        try:
            info = os.stat(path)
        except OSError:  # the file was removed meanwhile
            continue
        signature = (info.st_size, info.st_mtime_ns)
        number, before = rows.get(path, (0, None))
        if before == signature:
            kept.append(number)
        else:
            changed[path] = signature
    return changed, known.take(import_arrow("pyarrow").array(kept, "int64"))


def _describe_all(
    files: dict[str, tuple[int, int]], folder: str, workers: int, timeout: float, progress: bool
) -> Iterator[list[dict]]:
    """Describe files in parallel. Yield the finished rows from time to time and at the end."""
    rows, since = [], time.monotonic()
    late = dict(problem=f"it takes longer than {timeout:g} s")
    results = run_parallel(
        describe_file,
        list(files),
        crashed=dict(problem=CRASHED),
        workers=workers,
        title="Index",
        progress=progress,
        timeout=timeout,
        late=late,
    )
    for path, row in results:
        kind = VIDEO if path.lower().endswith(VIDEO_ENDINGS) else IMAGE
        size, modified = files[path]
        name = os.path.relpath(path, folder)
        rows.append(dict(name_columns(name), bytes=size, modified=modified, **{"kind": kind, **row}))
        if len(rows) >= _PART_ROWS or time.monotonic() - since >= _PART_SECONDS:
            yield rows
            rows, since = [], time.monotonic()
    if rows:
        yield rows
