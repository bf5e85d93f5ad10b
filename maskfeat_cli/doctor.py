"""Check the installation and print a remedy for each problem.

The exit status is 1 if there is an error. A warning marks something that works, but perhaps not as expected.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import TYPE_CHECKING

from .check_results import ERROR, OK, WARNING, Finding
from .probes import PROBES, REMEDIES, describe, is_installed

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

if TYPE_CHECKING:  # the command must start where packaging is missing
    from packaging.requirements import Requirement

EXAMPLE = """examples:
  maskfeat doctor
  maskfeat doctor --json > doctor.json

The command changes nothing. In a checkout that is not installed, run: python -m maskfeat_cli doctor."""

PACKAGE = "maskfeat_plugin"
# Importing everything takes about ten seconds, but may take minutes from a network disk.
_TIMEOUT = 300
# Docker gives a container 64 MB by default. A few batches of clips fill that.
_LEAST_SHM = 1 << 30
# A checkpoint of ViT-B with its optimizer takes 1 GB, and three are kept.
_LEAST_DISK = 5 << 30
# Data loader workers pass tensors through file handles.
_LEAST_FILES = 1024


def diagnose(tools: Path) -> Iterator[Finding]:
    """Run all checks. A check that fails does not stop the others.

    Args:
        tools (Path): Folder of the tools, which some remedies name.

    Yields:
        Finding: In the order of the table.
    """
    with ThreadPoolExecutor(max_workers=2) as pool:
        probes = {name: pool.submit(run_probe, name) for name in PROBES}
        for name, check in (("python", check_python), ("packages", check_packages)):
            yield from _guarded(name, check)
        for name in PROBES:
            for finding in probes[name].result():
                yield finding._replace(remedy=finding.remedy.replace("{tools}", str(tools)))
        for name, check in (("machine", check_machine), ("extras", check_extras)):
            yield from _guarded(name, check)


def _guarded(name: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except ImportError as error:  # packaging, which compares versions, is missing
        yield Finding(
            ERROR, name, f"not checked: {describe(error)}", f"pip install --force-reinstall {error.name or ''}"
        )
    except Exception as error:
        yield Finding(ERROR, name, f"this check failed: {describe(error)}", "open an issue with this output")


def run_probe(name: str) -> list[Finding]:
    """Run a probe in a new process.

    Args:
        name (str): One of :data:`.probes.PROBES`.

    Returns:
        list[Finding]: The findings of the probe; one error if its process died or took too long.
    """
    file = Path(__file__).with_name("probes.py")
    command = [sys.executable, "-W", "ignore", str(file), name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT)
    except subprocess.TimeoutExpired:
        return [Finding(ERROR, name, f"no answer in {_TIMEOUT} seconds", REMEDIES[name])]
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()][-1:] or ["no error message"]
        text = f"the process ended with status {done.returncode}: {said[0].strip()}"
        return [Finding(ERROR, name, text, REMEDIES[name])]
    return [Finding(*values) for values in json.loads(done.stdout.splitlines()[-1])]


def check_python() -> Iterator[Finding]:
    """Compare the version of Python with the range that the package supports."""
    found = ".".join(map(str, sys.version_info[:3]))
    from packaging.specifiers import SpecifierSet

    try:
        wanted = distribution(PACKAGE).metadata["Requires-Python"] or ""
    except PackageNotFoundError:
        wanted = ""
    if SpecifierSet(wanted).contains(found, prereleases=True):
        yield Finding(OK, "python", f"{found}, {sys.executable}")
    else:
        text, remedy = f"{found} is not supported; needed: {wanted}", "make a virtual environment with another Python"
        yield Finding(ERROR, "python", text, remedy)


def check_packages() -> Iterator[Finding]:
    """Compare the installed versions with the tested ranges, which stand in the package's metadata."""
    from packaging.requirements import Requirement

    try:
        texts = distribution(PACKAGE).requires or []
    except PackageNotFoundError:
        remedy = "pip install --no-deps --no-build-isolation -e . in the checkout, or make setup"
        yield Finding(ERROR, "packages", f"{PACKAGE} is not installed", remedy)
        return
    requirements = [Requirement(text) for text in texts]
    good = []
    # mmcv has two distributions: mmcv is compiled, mmcv-lite is not. Each has its own extra
    mmcv = _belonging(requirements, "mim" if is_installed("mmcv") else "mmcv-lite")
    for requirement in _belonging(requirements, "") + mmcv:
        finding, found = _compare(requirement, OK if requirement.name == "decord" else ERROR)
        if finding is None:
            good.append(f"{requirement.name} {found}")
        else:
            yield finding
    if good:
        yield Finding(OK, "packages", ", ".join(good))


def check_extras() -> Iterator[Finding]:
    """Check the packages of the optional extras. They may be missing, but untested versions are warnings."""
    from packaging.requirements import Requirement

    try:
        metadata = distribution(PACKAGE)
    except PackageNotFoundError:
        return
    requirements = [Requirement(text) for text in metadata.requires or []]
    for extra in metadata.metadata.get_all("Provides-Extra") or []:
        if extra in ("all", "mim", "mmcv-lite", "tests", "docs"):  # for developers, or covered elsewhere
            continue
        compared = [(need, *_compare(need, OK)) for need in _belonging(requirements, extra)]
        outside = [finding for _, finding, found in compared if finding and found]
        absent = [need.name for need, _, found in compared if not found]
        yield from (finding._replace(check=f"extra {extra}") for finding in outside)
        if absent:
            text, remedy = f"not installed: {', '.join(absent)}", f"if you want it: pip install '{PACKAGE}[{extra}]'"
            yield Finding(OK, f"extra {extra}", text, remedy)
        elif not outside:
            yield Finding(OK, f"extra {extra}", ", ".join(f"{need.name} {found}" for need, _, found in compared))


def _belonging(requirements: list, extra: str) -> list:
    """Return the requirements of an extra, or of the package itself if ``extra`` is ""."""
    return [
        need
        for need in requirements
        if (f'extra == "{extra}"' in str(need.marker).replace("'", '"') if extra else "extra" not in str(need.marker))
        and (need.marker is None or need.marker.evaluate({"extra": extra}))
    ]


def _compare(requirement: Requirement, absent: str) -> tuple[Finding | None, str]:
    """Compare an installed version with a requirement; return the problem, if any, and the version, "" if missing."""
    name, wanted = requirement.name, f"{requirement.name}{requirement.specifier}"
    # without --no-deps pip installs decord too, which has no wheels for some machines
    remedy = f"pip install {'--no-deps ' if name == 'mmaction2' else ''}'{wanted}'"
    if name == "mmcv-lite":
        remedy += f", or pip install '{PACKAGE}[mmcv-lite]'; nothing is compiled"
    try:
        found = version(name)
    except PackageNotFoundError:
        return Finding(absent, name, "missing", remedy), ""
    if requirement.specifier.contains(found, prereleases=True):
        return None, found
    return Finding(WARNING, name, f"{found} was not tested; tested: {requirement.specifier}", remedy), found


def check_machine() -> Iterator[Finding]:
    """Check shared memory, disk, file handles, an interrupted ``make setup``, and the browser for ``make test``."""
    shm = Path("/dev/shm")
    if shm.is_dir():
        size = shutil.disk_usage(shm).total
        remedy = "docker run --shm-size=8g, or --cfg-options train_dataloader.num_workers=0"
        yield _measure("/dev/shm", size, _LEAST_SHM, f"{_gb(size)} for the batches of data loaders", remedy)
    free = shutil.disk_usage(Path.cwd()).free
    yield _measure("disk", free, _LEAST_DISK, f"{_gb(free)} free in {Path.cwd()}", "give another --work-dir")
    if resource is not None:
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        files = sys.maxsize if files == resource.RLIM_INFINITY else files
        yield _measure("open files", files, _LEAST_FILES, f"{files} at a time", "ulimit -n 65536")
    if not os.access(Path.cwd(), os.W_OK):
        yield Finding(WARNING, "disk", f"{Path.cwd()} is not writable", "give another --work-dir")
    if Path(f"{sys.prefix}.unfinished").exists():
        yield Finding(WARNING, "set-up", f"the last make setup of {sys.prefix} was interrupted", "make setup")
    if is_installed("playwright") and shutil.which("chromium") is None:
        text = "not installed: make test skips the tests that open pages"
        yield Finding(OK, "chromium", text, "if you want them: apt install chromium (Debian, Ubuntu)")


def _measure(check: str, found: int, least: int, text: str, remedy: str) -> Finding:
    return Finding(OK, check, text) if found >= least else Finding(WARNING, check, f"{text}: this is little", remedy)


def _gb(size: int) -> str:
    return f"{size / (1 << 30):.1f} GB"


def format_finding(finding: Finding) -> str:
    """Format a line of the table, with the remedy below it, to the width of the terminal."""
    width = min(shutil.get_terminal_size((120, 24)).columns, 120)
    lines = _wrap(f"{finding.status:<8} {finding.check:<15} ", finding.text, width)
    if finding.remedy:
        lines += _wrap(f"{'':<24} -> ", finding.remedy, width)
    return "\n".join(lines)


def _wrap(start: str, text: str, width: int) -> list[str]:
    return textwrap.wrap(
        text,
        max(width, 80),
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_long_words=False,
        break_on_hyphens=False,
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    args = parser.parse_args(arguments)
    from .folders import tools_folder

    findings = []
    for finding in diagnose(tools_folder()):
        findings.append(finding)
        if not args.json:
            print(format_finding(finding), flush=True)
    counts = {status: sum(finding.status == status for finding in findings) for status in (OK, WARNING, ERROR)}
    if args.json:
        print(json.dumps([finding._asdict() for finding in findings], indent=2))
    else:
        print(f"\n{counts[ERROR]} errors, {counts[WARNING]} warnings, {counts[OK]} ok")
    return int(counts[ERROR] > 0)
