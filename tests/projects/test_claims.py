"""Tests of the claims: each is about settings that exist, and the verdict follows the confidence interval."""

import dataclasses

import pytest
from scipy.stats import ttest_rel

from projects.study import STUDIES, Plan
from projects.study.claims import ALIKE, BETTER, NARROW, NOT_BETTER, OURS, PAPER, Claim, claim_tables
from projects.study.intervals import Interval, interval


@pytest.mark.parametrize("claim", [*PAPER, *OURS], ids=lambda claim: claim.text)
def test_a_claim_is_about_settings_of_its_study(claim):
    for kind in claim.kinds:
        names = {setting.name for setting in STUDIES[claim.study].settings[kind]}
        assert {claim.setting, claim.other} <= names and claim.setting != claim.other


def test_the_interval_is_of_the_paired_t_test():
    ours, theirs = [30.0, 34.0, 29.0, 36.0, 31.0], [28.0, 33.0, 30.0, 31.0, 27.0]
    found = interval([a - b for a, b in zip(ours, theirs, strict=True)])
    true = ttest_rel(ours, theirs).confidence_interval(0.95)
    assert found.low == pytest.approx(true.low) and found.high == pytest.approx(true.high)
    assert str(found) == f"+2.2 [{true.low:+.1f}, {true.high:+.1f}]"


@pytest.mark.parametrize(
    "relation, above, around, below",
    [
        (BETTER, "yes", "not decided", "no, the opposite"),
        (NOT_BETTER, "no", "no difference seen", "yes, worse"),
        (ALIKE, "no", "no difference seen", "no"),
    ],
)
def test_the_verdict_follows_the_interval(relation, above, around, below):
    claim = Claim("", "", "", "", relation)
    assert claim.verdict(Interval(2.0, 1.0, 3.0, 5)) == above
    assert claim.verdict(Interval(1.0, -1.0, 3.0, 5)) == around
    assert claim.verdict(Interval(-2.0, -3.0, -1.0, 5)) == below
    assert (
        claim.verdict(Interval(1.0, -1.0, NARROW, 5)) == claim.verdict(Interval(0.0, -NARROW, 1.0, 5)) == "not decided"
    )


def test_a_claim_appears_when_two_seeds_have_both_settings():
    @dataclasses.dataclass
    class Done:
        seed: int
        result: dict | None

    def runs(*scores):
        return [Done(seed, None if score is None else dict(score=score)) for seed, score in enumerate(scores)]

    scratch, hog = (
        next(s for s in STUDIES["targets"].settings["image"] if s.name == c) for c in ("from scratch", "HOG (base)")
    )
    plan = Plan(cells={("targets", "image"): {scratch: runs(20.0, 21.0, 20.5), hog: runs(None, 31.0, None)}})
    assert claim_tables(plan) == []
    plan.cells["targets", "image"][hog] = runs(30.5, 31.0, None)
    (table,) = claim_tables(plan)
    assert table.title == "Claims of the paper" and len(table.rows) == 1
    claim, data, difference, points, seeds, seen = table.rows[0]
    assert (claim, data, difference) == ("Pre-training helps", "images", "HOG (base) - from scratch")
    assert points.startswith("+10.2 [+7.1, +13.4") and seeds == "2" and seen == "yes"
