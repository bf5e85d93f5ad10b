"""Claims of the paper and hypotheses of this project, each a comparison of two settings of the studies."""

from collections.abc import Iterator
from dataclasses import dataclass

from maskfeat_plugin.visualization import Table

from .intervals import Interval, interval, paired_differences
from .planned_runs import Plan
from .settings import BASE, IMAGE, SCRATCH, VIDEO

BETTER, NOT_BETTER, ALIKE = "better", "not better", "alike"
NARROW = 10
"""Points. An interval around zero that reaches further decides nothing."""


@dataclass(frozen=True)
class Claim:
    """Statement about two settings of a study.

    Args:
        text (str): The statement.
        study (str): Name of the study that has both settings.
        setting (str): Name of the first setting.
        other (str): Name of the setting that the first one is compared with.
        relation (str): How the first setting compares by the statement: ``BETTER``, ``NOT_BETTER`` or ``ALIKE``.
        kinds (tuple[str, ...]): Kinds of data, "image" and "video". Defaults to both.
    """

    text: str
    study: str
    setting: str
    other: str
    relation: str = BETTER
    kinds: tuple[str, ...] = (IMAGE, VIDEO)

    def verdict(self, found: Interval) -> str:
        """Say whether the statement is seen.

        Args:
            found (Interval): The difference of the first setting from the other one, in points.

        Returns:
            str: The answer for the table.
        """
        if found.low > 0:
            return "yes" if self.relation == BETTER else "no"
        if found.high < 0:
            return {BETTER: "no, the opposite", NOT_BETTER: "yes, worse", ALIKE: "no"}[self.relation]
        is_narrow = max(-found.low, found.high) < NARROW
        return "no difference seen" if is_narrow and self.relation != BETTER else "not decided"


_HOG, _CUBES, _MASKED_40 = BASE.name, "cubes (base)", "40% masked (base)"
_VIEWS = "HOG on two views"
_ALL, _HALF, _LONGER = "all steps (base)", "1/2 of the steps", "1.5 x the steps"
_TENTH, _WHOLE = "continued, 1/10 of the rate", "continued, whole rate"
PAPER = (
    Claim("Pre-training helps", "targets", _HOG, SCRATCH.name),
    Claim("HOG is a better target than pixels", "targets", _HOG, "pixels"),
    Claim("Pixels in addition to HOG gain nothing", "targets", "pixels + HOG", _HOG, NOT_BETTER),
    Claim("Supervised features are poor targets", "targets", _HOG, "features, supervised", kinds=(IMAGE,)),
    Claim("Pseudo-labels are poor targets", "targets", _HOG, "pseudo-labels", kinds=(IMAGE,)),
    Claim("Normalisation of HOG is essential", "hog", _HOG, "no normalisation", kinds=(IMAGE,)),
    Claim("Cubes are better masks than tubes", "masks", _CUBES, "tubes", kinds=(VIDEO,)),
    Claim("Cubes are better masks than frames", "masks", _CUBES, "frames", kinds=(VIDEO,)),
    Claim("Ratios of 40 and 60 % work alike", "ratios", "60% masked", _MASKED_40, ALIKE, (VIDEO,)),
    Claim("Ratios of 40 and 80 % work alike", "ratios", "80% masked", _MASKED_40, ALIKE, (VIDEO,)),
    Claim("Longer pre-training helps", "schedule", "2 x the steps", _ALL, kinds=(IMAGE,)),
    Claim("Longer pre-training helps", "schedule", _LONGER, _ALL, kinds=(VIDEO,)),
    Claim("HOG is better than pixels, both longer", "schedule", _LONGER, f"pixels, {_LONGER}", kinds=(VIDEO,)),
)
OURS = (
    Claim("Local HOG is as good with half of the steps", "efficient", f"local HOG, {_HALF}", _ALL, ALIKE),
    Claim("24 pixels are as good with half of the steps", "efficient", f"24 pixels, {_HALF}", _ALL, ALIKE, (IMAGE,)),
    Claim("HOG of differences is better than HOG", "motion", "motion", _HOG, kinds=(VIDEO,)),
    Claim("HOG with HOG of differences is better than HOG", "motion", "motion + HOG", _HOG, kinds=(VIDEO,)),
    Claim("HOG with contrast is better than HOG", "contrast", "HOG + contrast", _VIEWS, kinds=(IMAGE,)),
    Claim("HOG with weak contrast is better than HOG", "contrast", "HOG + weak contrast", _VIEWS, kinds=(IMAGE,)),
    Claim("HOG with contrast is better than contrast", "contrast", "HOG + contrast", "contrast", kinds=(IMAGE,)),
    Claim("Continued pre-training is better than none", "continued", _WHOLE, "not continued", kinds=(IMAGE,)),
    Claim("A tenth of the rate is better than the whole", "continued", _TENTH, _WHOLE, kinds=(IMAGE,)),
)
KINDS = {IMAGE: "images", VIDEO: "clips"}
_COLUMNS = ["claim", "data", "difference between", "points", "seeds", "seen here?"]
CAPTION = (
    "The difference is the mean over the seeds, with its 95 % confidence interval. It counts as seen if the interval "
    f"does not contain zero. No difference is seen if it contains zero and ends within {NARROW} points of it. The "
    "intervals are not corrected for the number of claims."
)


def claim_tables(plan: Plan) -> list[Table]:
    """Build the tables of the claims that the results of a plan can answer.

    Args:
        plan (Plan): The plan.

    Returns:
        list[Table]: A table of the paper's claims and one of this project's hypotheses, without empty tables.
    """
    tables = [
        Table("Claims of the paper", _COLUMNS, list(_rows(plan, PAPER)), CAPTION),
        Table("Hypotheses of this project", _COLUMNS, list(_rows(plan, OURS)), CAPTION),
    ]
    return [table for table in tables if table.rows]


def _rows(plan: Plan, claims: tuple[Claim, ...]) -> Iterator[list[str]]:
    """Yield a row for each claim and kind of data whose two settings have at least two seeds in common."""
    for claim in claims:
        for kind in claim.kinds:
            runs = {setting.name: runs for setting, runs in plan.cells.get((claim.study, kind), {}).items()}
            differences = paired_differences(runs.get(claim.setting, []), runs.get(claim.other, []))
            if len(differences) > 1:
                found = interval(differences)
                comparison = f"{claim.setting} - {claim.other}"
                yield [claim.text, KINDS[kind], comparison, str(found), str(found.pairs), claim.verdict(found)]
