"""List the configs of this package, or copy one to change it.

`maskfeat train NAME` accepts each of these names. Your own config can build on one:
_base_ = "maskfeat_plugin::FOLDER/NAME.py"
"""

import argparse
import sys
from pathlib import Path

from maskfeat_cli.config_files import copy_of, described_configs
from maskfeat_cli.folders import configs_folder

EXAMPLE = """examples:
  maskfeat configs demo
  maskfeat configs --copy maskfeat_vit-tiny_moving-digits --out mine.py"""


def main(arguments: list[str] | None = None) -> int:
    """List configs or copy one, and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", metavar="WORD", nargs="*", help="list only configs with all words in folder or name")
    parser.add_argument("--copy", metavar="NAME", help="copy this config; the copy works in any folder")
    parser.add_argument("--out", type=Path, metavar="FILE", help="file of the copy (default: NAME.py in this folder)")
    args = parser.parse_args(arguments)
    if args.copy is not None:
        return _copy(args.copy, args.out)
    for folder, configs in described_configs().items():
        chosen = {
            name: title for name, title in configs.items() if all(word in f"{folder}/{name}" for word in args.words)
        }
        if chosen:
            print(f"{folder}/")
        for name, title in chosen.items():
            print(f"  {name}\n      {title}")
    return 0


def _copy(name: str, out: Path | None) -> int:
    folder = next((folder for folder, configs in described_configs().items() if name in configs), None)
    if folder is None:
        print(f"error: --copy {name}: there is no config of this name. maskfeat configs lists them.", file=sys.stderr)
        return 1
    [path] = configs_folder().glob(f"{folder}/**/{name}.py")
    out = out or Path(f"{name}.py")
    if out.exists():
        print(f"error: --out {out}: the file exists. Give another name.", file=sys.stderr)
        return 1
    out.write_text(copy_of(path), encoding="utf-8")
    print(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
