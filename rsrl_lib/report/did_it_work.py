"""Did it work on these photos? The section that a reader of a page looks for first.

One run is judged on its test photos, the runs of all folds on all photos, each by the run that
tests it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rsrl_lib import summary
from rsrl_lib.measures import measures, paired_differences
from rsrl_lib.report import figures
from rsrl_lib.report.answers import ERRORS, MEASURES, of_run
from rsrl_lib.report.besides import NAMES, Beside, drops
from rsrl_lib.report.page import Pair, Panels, Section, Table, Words
from rsrl_lib.report.verdicts import Recommendation, evidence, recommended
from rsrl_lib.runs import Run

TITLE = "Did it work on these photos?"
SHOWN = ("accuracy", "macro_f1")
"""Measures whose differences are drawn."""


@dataclass(frozen=True)
class Judged:
    """All answers to the photos that test, side by side."""

    table: pd.DataFrame
    """photo, label, assigned, and a column for each of `NAMES` that is known."""
    scores: list[int]
    besides: list[Mapping[str, Beside]]
    """Of each run."""
    runs: list[Run]

    @property
    def known(self) -> list[str]:
        """What the run can be compared with, in order."""
        return [name for name in NAMES if name in self.table]

    @property
    def names(self) -> dict[str, str]:
        """What each of these is called."""
        if not self.is_frozen:
            return NAMES
        return NAMES | {"frozen": "keeping all photos, which is the frozen head"}

    @property
    def drops(self) -> bool:
        return drops(self.runs[0])

    @property
    def is_frozen(self) -> bool:
        """Whether the head alone is trained."""
        return self.runs[0].recipe.tune == "head"

    @property
    def recommendation(self) -> Recommendation:
        others = {}
        for name in ("keep_all", "frozen"):
            if name in self.table:
                others[name] = self.table[name].to_numpy()
        if self.is_frozen and "frozen" in others:
            others["keep_all"] = others["frozen"]
        found = evidence(
            self.table.label.to_numpy(),
            self.table.assigned.to_numpy(),
            others,
            self.scores,
            drops=self.drops,
            is_frozen=self.is_frozen,
            tests_all=len(self.runs) > 1,
        )
        return recommended(found)


def judged(runs: Sequence[Run], besides: Sequence[Mapping[str, Beside]]) -> Judged:
    """The answers of runs and of what stands beside them; what one of them lacks, all lack."""
    tables = []
    for run, of_run_beside in zip(runs, besides, strict=True):
        table = of_run(run)[["photo", "label", "assigned"]]
        last = int(run.rounds["round"].iloc[-1])
        if run.chosen < last:
            of_last = of_run(run, last).set_index("photo").assigned
            table["last"] = of_last[table.photo].to_numpy()
        for name, beside in of_run_beside.items():
            if beside.answers is not None:
                answers = beside.answers[table.photo].to_numpy()
                table = table.assign(**{name: answers.astype(int)})
        tables.append(table)
    scores = sorted(set().union(*(run.split.label for run in runs)))
    together = pd.concat(tables, join="inner", ignore_index=True)
    return Judged(together, [int(s) for s in scores], list(besides), list(runs))


def section(found: Judged) -> Section:
    """The recommendation, what it rests on, and all measures."""
    recommendation = found.recommendation
    verdict = Words([recommendation.headline, *recommendation.reasons], "verdict")
    panels = [_differences(found, measure) for measure in SHOWN]
    numbers = [Words([in_points(found), *_of_chosen(found)]), measured(found)]
    blocks = [
        verdict,
        Pair(numbers, [Panels(panels)]),
        Words(_of_besides(found), "list"),
    ]
    blocks.append(
        Words(
            [
                "Lines are 95 % intervals over the test photos. The recommendation asks up to "
                "three questions, of macro-F1 and kappa alone, with wider intervals. None of them "
                "covers another training, or another division of your photos.",
                *summary.of_rater(found.runs[0]),
            ],
            "note",
        )
    )
    return Section(TITLE, blocks)


def in_points(found: Judged) -> str:
    """How often the answer is right, beside always giving the commonest score."""
    table = found.table
    accuracy = _against(found, "commonest").loc["accuracy"]
    right = int((table.assigned == table.label).sum())
    commonest = sorted(set(table.commonest))
    what = f"always answering {_name(found, commonest[0])}"
    if len(commonest) > 1:
        what = "always giving the commonest score"
    difference, low, high = (
        f"{100 * accuracy[name]:+.0f}" for name in ("difference", "low", "high")
    )
    return (
        f"It gives the right score to {right} of {len(table)} test photos "
        f"({percent(accuracy.assigned)}). For {percent(accuracy.baseline)} of them {what} is "
        f"right. The difference is {difference} points, 95 % interval {low} to {high}."
    )


def _name(found: Judged, label: int) -> str:
    return names_of_labels(found.runs[0])[label]


def names_of_labels(run: Run) -> dict[int, str]:
    """What each label is called: its score, or low and high."""
    if run.info["recipe"]["levels"] == "low-high":
        return {0: "low", 1: "high"}
    return {int(label): str(label) for label in sorted(run.split.label.unique())}


def _of_chosen(found: Judged) -> list[str]:
    """Whether what is judged was trained on all photos, as the first round is chosen."""
    chosen = [run.chosen for run in found.runs]
    if not found.drops or max(chosen) > 1:
        return []
    return [
        "Round 1 was chosen, before anything was dropped: no later round was better on the photos "
        "that choose."
    ]


def measured(found: Judged) -> Table:
    """All measures of the run and of what stands beside it, a column each."""
    columns = {"assigned": "this run", "last": "its last round", **found.names}
    columns = {name: head for name, head in columns.items() if name in found.table}
    labels = found.table.label.to_numpy()
    of_columns = []
    for column in columns:
        answers = found.table[column].to_numpy()
        of_columns.append(measures(labels, answers, found.scores))
    rows = []
    for measure, name in MEASURES.items():
        values = [of_column[measure] for of_column in of_columns]
        rows.append([name, *(number(value) for value in values)])
    caption = f"On {len(found.table)} test photos. Of macro MAE, less is better."
    return Table(["", *columns.values()], rows, caption)


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def number(value: float) -> str:
    """A measure as it stands in tables; a dash where it is undefined."""
    return "-" if np.isnan(value) else f"{value:.3f}"


def _of_besides(found: Judged) -> list[str]:
    """What each of the others is, or why it is missing."""
    return list(
        dict.fromkeys(
            beside.sentence for besides in found.besides for beside in besides.values()
        )
    )


def _against(found: Judged, name: str) -> pd.DataFrame:
    table = found.table
    return paired_differences(
        table.label.to_numpy(),
        table.assigned.to_numpy(),
        table[name].to_numpy(),
        found.scores,
    )


def _differences(found: Judged, measure: str) -> figures.Picture:
    """What the run is above each of the others in a measure, with 95 % intervals."""
    rows = {}
    said = []
    for name in found.known:
        row = _against(found, name).loc[measure]
        rows[found.names[name]] = (row.difference, row.low, row.high)
        said.append(
            f"{found.names[name]} {row.difference:+.3f} [{row.low:+.3f}, {row.high:+.3f}]"
        )
    table = pd.DataFrame.from_dict(
        rows, orient="index", columns=["mean", "low", "high"]
    )
    if measure in ERRORS:
        table = -table
    title = f"{MEASURES[measure]}: this run minus …"
    alt = f"{MEASURES[measure]} of this run less that of: {'; '.join(said)}."
    return figures.drawn(figures.differences, table, title, alt=alt)
