"""Check the English of the pages, docstrings, comments and messages: unclear phrases, long sentences, README limits."""

import argparse
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # projects/ is not an installed package

from projects import ROOT
from projects.documentation.prose import check_repository

EXAMPLE = """examples:
  python tools/check_prose.py                 all files of the repository, as make lint does
  python tools/check_prose.py docs/data.md    one page"""


def main(arguments: list[str] | None = None) -> int:
    """Print each place to rewrite and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", type=Path, help="pages and Python files (default: all)")
    args = parser.parse_args(arguments)
    files = [path.resolve() for path in args.files] or _repository_files()
    found = check_repository(ROOT, files)
    for finding in found:
        print(finding._replace(path=finding.path.relative_to(ROOT)))
    if found:
        print(f"{len(found)} places in {len({finding.path for finding in found})} files", file=sys.stderr)
    return int(bool(found))


def _repository_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "*.md", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return [ROOT / name for name in listed if (ROOT / name).exists()]


if __name__ == "__main__":
    sys.exit(main())
