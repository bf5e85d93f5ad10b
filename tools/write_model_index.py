"""Write the metafiles of the configs and model-index.yml, which `mim` reads, and docs/model_zoo.md."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # projects/ is not an installed package

from projects import ROOT
from projects.documentation.model_index import model_index_files
from projects.documentation.model_zoo import PAGE, model_zoo_page

EXAMPLE = """example, after you added a config:
  python tools/write_model_index.py"""


def main(arguments: list[str] | None = None) -> int:
    """Write the files that changed, and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if a file is out of date")
    args = parser.parse_args(arguments)
    try:
        stale = _write(model_index_files(ROOT), ROOT, args.check)
        stale += _write({ROOT / PAGE: model_zoo_page(ROOT)}, ROOT, args.check)  # from the metafiles
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return int(args.check and bool(stale))


def _write(files: dict[Path, str], root: Path, check: bool) -> list[Path]:
    """Write the files that are out of date, or only print their names."""
    stale = [path for path, content in files.items() if not path.exists() or path.read_text() != content]
    for path in stale:
        if not check:
            path.write_text(files[path])
        print(path.relative_to(root), "out of date" if check else "written")
    return stale


if __name__ == "__main__":
    sys.exit(main())
