"""Write configs/*/metafile.yml and model-index.yml, which `mim search` and `mim download` read, from the configs."""

import argparse
import sys
from pathlib import Path

from maskfeat_plugin.apis.model_index import model_index_files

EXAMPLE = """example, after a config was added:
  python tools/write_model_index.py"""


def main(arguments: list[str] | None = None) -> int:
    """Write what changed; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if a file is out of date")
    args = parser.parse_args(arguments)
    try:
        files = model_index_files(Path(__file__).resolve().parents[1])
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    stale = [path for path, content in files.items() if not path.exists() or path.read_text() != content]
    for path in stale:
        if not args.check:
            path.write_text(files[path])
        print(
            path.name if path.parent.name == "" else f"{path.parent.name}/{path.name}",
            "out of date" if args.check else "written",
        )
    return int(args.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
