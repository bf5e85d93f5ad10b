"""Compare the files of the installed packages with the packages' own hashes, and reinstall damaged packages.

Usage: python tools/setup/check_files.py UV
"""

from __future__ import annotations

import base64
import csv
import hashlib
import subprocess
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import Distribution, distributions
from pathlib import Path


def find_damaged(packages: list[Distribution]) -> dict[str, Path]:
    """Find the packages whose files differ from the hashes that the packages list.

    Args:
        packages (list[Distribution]): The packages.

    Returns:
        dict[str, Path]: ``name==version`` -> a file that is missing or differs.
    """
    expected: dict[Path, set[str]] = defaultdict(set)  # two packages may list the same file, such as OpenCV's packages
    owners: dict[Path, set[str]] = defaultdict(set)
    for package in packages:
        owner = f"{package.metadata['Name']}=={package.version}"
        # package.files cannot be used: since Python 3.12 it leaves out missing files
        for file, digest, _ in csv.reader((package.read_text("RECORD") or "").splitlines()):
            # Skip metadata, since decord's list has wrong hashes of its own, and the certificates, to which
            # administrators add others
            if digest.startswith("sha256=") and ".dist-info/" not in file and file != "certifi/cacert.pem":
                path = Path(str(package.locate_file(file)))
                expected[path].add(digest.removeprefix("sha256="))
                owners[path].add(owner)
    with ThreadPoolExecutor() as pool:
        found = zip(expected, pool.map(compute_hash, expected), strict=True)
        damaged = [path for path, digest in found if digest not in expected[path]]
    return {owner: path for path in damaged for owner in sorted(owners[path])}


def compute_hash(path: Path) -> str | None:
    """Compute a file's SHA-256 as wheels write it, URL-safe base64 without padding; None if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError:
        return None
    return base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()


def main() -> int:
    """Run the command line and return the exit status."""
    uv = sys.argv[1]
    damaged = find_damaged(list(distributions()))
    if not damaged:
        return 0
    for package, path in damaged.items():
        print(f"setup: {path} is damaged; installing {package} again", flush=True)
    subprocess.run([uv, "cache", "clean", *(package.partition("==")[0] for package in damaged)], check=True)
    command = [uv, "pip", "install", "--python", sys.executable, "--no-deps", "--reinstall", *damaged]
    subprocess.run(command, check=True)
    left = find_damaged(list(distributions()))
    for path in left.values():
        print(
            f"setup: {path} is still damaged. Check the disk, and whether a program changes the file.", file=sys.stderr
        )
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
