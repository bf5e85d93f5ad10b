"""Measure the work on a large archive: read long files, start with millions of files, index, extract, crop."""

import argparse
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # projects/ is not an installed package

import torch

import maskfeat_plugin  # noqa: F401 (registers the components)
from maskfeat_plugin.running.command_line import run_tool
from projects import ROOT
from projects.benchmark import describe_machine
from projects.benchmark.archive import (
    SHAPES,
    measure_columns,
    measure_command,
    measure_long_file,
    measure_remote_file,
    measure_start,
    write_long_lists,
)
from projects.benchmark.archive_files import build_archive

EXAMPLE = """examples:
  python tools/benchmark_archive.py                                    10,000 clips and four files of one hour
  python tools/benchmark_archive.py --clips 400 --minutes 5 --lines 50000     a quick look"""
_EXTRACT = [
    "configs/demo/maskfeat_mvit-tiny_moving-digits.py",
    "configs/demo/weights/maskfeat_mvit-tiny_moving-digits.pth",
]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--folder", type=Path, default=Path("work_dirs/archive"), help="folder of the files (default: %(default)s)"
    )
    parser.add_argument("--clips", type=int, default=10_000, help="number of short files (default: %(default)s)")
    parser.add_argument(
        "--minutes", type=int, default=60, help="length of each of four long files (default: %(default)s)"
    )
    parser.add_argument("--lines", type=int, default=2_000_000, help="length of the lists (default: %(default)s)")
    args = parser.parse_args(arguments)
    return run_tool(lambda: _work(args))


def _work(args: argparse.Namespace) -> None:
    args.folder.mkdir(parents=True, exist_ok=True)
    archive = build_archive(args.folder, args.clips, args.minutes, lambda text: print(text, file=sys.stderr))
    print(f"{describe_machine(torch.device('cpu'))}\n")
    for title, header, rows in (
        (f"A clip of a file of {args.minutes} minutes", ("file", "way", "s", "MB read"), _long(archive.long)),
        (
            f"A clip of a file of {args.minutes} minutes in S3",
            ("file", "s", "MB of the file", "MB fetched"),
            _remote(args.folder, archive.long),
        ),
        (
            f"Start with {args.lines:,} videos",
            ("from", "s", "MB a rank", "MB a worker"),
            _starts(args.folder, args.lines),
        ),
        (
            f"Files a second of {args.clips:,}",
            ("command", "1 process", "2 processes"),
            _commands(archive.clips, args.clips),
        ),
        ("Columns that 400 crops see", ("picture", "RandomResizedCropFlip", "MovingResizedCropFlip"), _columns()),
    ):
        print(f"{title}\n\n| {' | '.join(header)} |\n|{' --- |' * len(header)}")
        for row in rows:
            print(f"| {' | '.join(row)} |", flush=True)
        print()


def _long(files: Sequence[Path]) -> Iterator[Sequence[str]]:
    for path in files:
        plain, *others = measure_long_file(path)
        yield path.name, plain.way, f"{plain.seconds:.3f}", f"{plain.megabytes:.1f}"
        for found in others:
            times, amounts = found.seconds / plain.seconds, found.megabytes / plain.megabytes
            yield path.name, found.way, f"{found.seconds:.3f} ({times:.2f}x)", f"{found.megabytes:.1f} ({amounts:.2f}x)"


def _remote(folder: Path, files: Sequence[Path]) -> Iterator[Sequence[str]]:
    from projects.benchmark.data_throughput import s3_server  # needs moto

    with s3_server(folder) as upload:
        for path in files:
            found = measure_remote_file(upload(path))
            yield path.name, f"{found.seconds:.3f}", f"{path.stat().st_size / 1e6:.1f}", f"{found.megabytes:.1f}"


def _starts(folder: Path, lines: int) -> Iterator[Sequence[str]]:
    names, manifest = write_long_lists(folder, lines)
    for title, path in (("a list", names), ("a manifest", manifest)):
        found = measure_start(dict(ann_file=str(path), data_prefix=dict(video="/archive")), lines)
        yield title, f"{found.seconds:.1f}", f"{found.rank:.0f}", f"{found.worker:.0f}"


def _commands(clips: Path, count: int) -> Iterator[Sequence[str]]:
    manifest, features = clips.with_suffix(".parquet"), clips.with_suffix(".npz")
    os.environ.update(OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")
    index = [sys.executable, "-W", "ignore", str(ROOT / "tools/index_archive.py"), str(clips), "--quiet"]
    speeds = []
    for workers in (1, 2):
        manifest.unlink(missing_ok=True)
        command = [*index, "--out", str(manifest), "--workers", str(workers)]
        speeds.append(f"{measure_command(command, count):.1f}")
    yield "index", *speeds
    inputs = [*(str(ROOT / path) for path in _EXTRACT), str(manifest), "--out", str(features), "--part-size", "128"]
    tool = [str(ROOT / "tools/extract_features.py"), *inputs]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    speeds = []
    for command in ([*tool, "--workers", "0"], [*launcher, *tool, "--workers", "0", "--launcher", "pytorch"]):
        features.unlink(missing_ok=True)
        shutil.rmtree(features.with_name(f".{features.name}.parts"), ignore_errors=True)
        speeds.append(f"{measure_command([sys.executable, '-W', 'ignore', *command], count):.1f}")
    yield "extract", *speeds


def _columns() -> Iterator[Sequence[str]]:
    for height, width in SHAPES:
        names = ("RandomResizedCropFlip", "MovingResizedCropFlip")
        crops = (dict(type=f"maskfeat.{name}", scale=(224, 224), area_range=(0.5, 1.0)) for name in names)
        yield f"{width} x {height}", *(f"{measure_columns(crop, (height, width)):.0%}" for crop in crops)


if __name__ == "__main__":
    sys.exit(main())
