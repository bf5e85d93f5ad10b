"""Write ``slow_tests.txt``, the tests that ``make check`` leaves out: ``python tests/find_slow_tests.py RESULTS``.

RESULTS is the file that ``make test TESTS="--junitxml=RESULTS"`` writes. A test is slow if all its cases, with their
fixtures, take more than a second together. Run this on a quiet machine after tests were added.
"""

import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

TESTS = Path(__file__).parent
LIMIT = 1.0  # seconds


def find_slow_tests(results: str) -> list[str]:
    """Return the names of slow tests with their modules, without their parameters."""
    seconds: Counter[str] = Counter()
    for case in ElementTree.parse(results).iter("testcase"):
        seconds[f"{case.attrib['classname']}.{case.attrib['name'].partition('[')[0]}"] += float(case.attrib["time"])
    return sorted(test for test, total in seconds.items() if total > LIMIT)


if __name__ == "__main__":
    (TESTS / "slow_tests.txt").write_text("".join(f"{test}\n" for test in find_slow_tests(sys.argv[1])))
