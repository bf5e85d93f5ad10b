"""Write ``slow_tests.txt`` and ``long_tests.txt``: ``python tests/find_slow_tests.py RESULTS [SLOWDOWN]``.

RESULTS is the file that ``make test TESTS="--junitxml=RESULTS"`` writes. SLOWDOWN is the factor by which that machine
was slower than a quiet one, 1 by default.

- ``slow_tests.txt`` has the tests that ``make check`` leaves out: all cases of a test together take more than
  ``SLOW`` seconds.
- ``long_tests.txt`` has the cases that ``make test`` leaves to ``make test-slow``: single cases above ``LONG`` seconds,
  and the slower cases of a test whose cases take more than ``CASES`` seconds together. Cases of an older list that
  RESULTS does not have stay on it.

Both count the fixtures of a test. Run this after tests were added. A test that is on no list runs everywhere.
"""

import sys
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

TESTS = Path(__file__).parent
SLOW, LONG, CASES = 0.7, 7.0, 2.5  # seconds on a quiet machine
# Tests with a case for each config. They may take longer
BUDGETS = {
    "tests.configs.test_training_step.test_training_step": 50.0,
    "tests.configs.test_training_step.test_model_builds": 30.0,
}
_STEP = "tests.configs.test_training_step.test_training_step"
# Cases that make test always runs, by the beginning of their names: the numbers of the authors, interrupted trainings,
# several processes, the documentation site, and steps of the models of the paper
ALWAYS = (
    "tests.test_reference.",
    "tests.engine.test_resumption.",
    "tests.engine.test_strategies.",
    "tests.running.test_processes.",
    "tests.tools.test_dist_training.test_one_process_is_killed",
    "tests.docs.test_site.",
    f"{_STEP}[pretrain/maskfeat_vit-base",
    f"{_STEP}[pretrain/maskfeat_mvit-small",
    f"{_STEP}[classification/vit-base-p16_maskfeat-pre_8xb256-amp",
    f"{_STEP}[recognition/mvit-small-16x4_maskfeat-pre_16xb16-amp-coslr-100e_k400",
)


def read_times(results: str, slowdown: float) -> dict[str, dict[str, float]]:
    """Return the seconds of all cases by the test's name with its module, and by the name of the case."""
    times: dict[str, dict[str, float]] = defaultdict(dict)
    for case in ElementTree.parse(results).iter("testcase"):
        test = f"{case.attrib['classname']}.{case.attrib['name'].partition('[')[0]}"
        times[test][f"{case.attrib['classname']}.{case.attrib['name']}"] = float(case.attrib["time"]) / slowdown
    return times


def find_slow_tests(times: dict[str, dict[str, float]]) -> set[str]:
    """Return the names of slow tests."""
    return {test for test, cases in times.items() if sum(cases.values()) > SLOW}


def find_long_cases(times: dict[str, dict[str, float]]) -> set[str]:
    """Return the names of long cases."""
    found = set()
    for test, cases in times.items():
        total = 0.0
        for name, seconds in sorted(cases.items(), key=lambda case: case[1]):
            total += seconds
            if not name.startswith(ALWAYS) and (seconds > LONG or total > BUDGETS.get(test, CASES) and total > seconds):
                found.add(name)
    return found


def main(results: str, slowdown: str = "1") -> None:
    """Write both files."""
    times = read_times(results, float(slowdown))
    seen = {name for cases in times.values() for name in cases}
    older = set((TESTS / "long_tests.txt").read_text().splitlines()) - seen
    for file, names in (("slow_tests.txt", find_slow_tests(times)), ("long_tests.txt", find_long_cases(times) | older)):
        (TESTS / file).write_text("".join(f"{name}\n" for name in sorted(names)))


if __name__ == "__main__":
    main(*sys.argv[1:])
