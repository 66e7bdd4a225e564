"""Pages of more than one run: of all folds, of two runs beside each other, of a sweep's table."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from rsrl_lib.comparing import comparisons
from rsrl_lib.comparing.comparisons import Trainings
from rsrl_lib.comparing.folds import write_folds
from rsrl_lib.files import InputError
from rsrl_lib.papers import shown
from rsrl_lib.recipe import settings_of
from rsrl_lib.report import did_it_work, figures, of_a_run
from rsrl_lib.report.answers import ERRORS, MEASURES, Compared, in_a_sentence
from rsrl_lib.report.did_it_work import Judged, names_of_labels, number
from rsrl_lib.report.page import Folded, Page, Panels, Section, Table, Words
from rsrl_lib.runs import Run

TOLD = {"macro_f1": "macro-F1", "balanced_accuracy": "balanced accuracy"}
TOLD |= {"kappa": "kappa", "accuracy": "accuracy"}
"""Measures of a sweep's page."""


def folds_page(path: Path, runs: Sequence[Run], judged: Judged) -> Page:
    """All folds of one recipe: each photo is tested once."""
    first = runs[0]
    tables = write_folds(list(runs), path)
    folds, over_folds, confusion = tables.values()
    sections = [
        of_a_run.trained(first),
        did_it_work.section(judged),
        _over_folds(folds, over_folds),
        _confusion_of_all(first, confusion),
        of_a_run.recipe(first),
        of_a_run.provenance(first),
    ]
    sections[0].blocks.insert(
        0, Words(["This is fold 0. In the other folds other photos test."])
    )
    lead = f"{len(judged.table)} photos, each tested in one of {len(runs)} folds."
    return Page(f"What {path.name} learned", lead, sections)


def _over_folds(folds: pd.DataFrame, over_folds: pd.DataFrame) -> Section:
    """How the folds differ, and all photos together."""
    wanted = over_folds[over_folds.measure.isin([*MEASURES, "majority_accuracy"])]
    rows = []
    for row in wanted.itertuples():
        values = (row.mean, row.sd, row.all_photos, row.low, row.high)
        name = MEASURES.get(row.measure, "always the commonest")
        rows.append([name, *(number(value) for value in values)])
    head = ["", "mean of folds", "their spread", "all photos", "low", "high"]
    caption = "low to high: 95 % interval over all photos."
    names = {"macro_f1": "macro-F1", "accuracy": "accuracy", "kappa": "kappa"}
    each = [
        [str(int(row.fold)), str(int(row.chosen)), *(number(row[m]) for m in names)]
        for _, row in folds.iterrows()
    ]
    of_each = Table(["fold", "round chosen", *names.values()], each)
    blocks = [Table(head, rows, caption), of_each]
    words = "The curves, photos and maps of a fold are on its own page: rsrl report of its folder."
    return Section("Over the folds", [*blocks, Words([words], "note")])


def _confusion_of_all(first: Run, confusion: pd.DataFrame) -> Section:
    wide = confusion.pivot(index="label", columns="assigned", values="photos")
    scores = [int(score) for score in wide.index]
    names = names_of_labels(first)
    counts = wide.to_numpy(int)
    title = "All folds together"
    alt = of_a_run.in_words(counts, [names[s] for s in scores])
    picture = figures.drawn(figures.confusion, counts, scores, names, title, alt=alt)
    return Section("Which scores were taken for which", [Panels([picture])])


def two_page(compared: Compared, runs: tuple[Run, Run]) -> Page:
    """Two runs beside each other, on the photos that both test."""
    sections = [
        _who_is_better(compared),
        _curves_of_two(compared, runs),
        _confusions_of_two(compared, runs),
        _settings_of_two(compared, runs),
    ]
    for name, run in zip("AB", runs, strict=True):
        section = of_a_run.provenance(run)
        sections.append(Section(f"Where {name} comes from", section.blocks))
    lead = f"A is {compared.a.name}, B is {compared.b.name}."
    return Page("Two runs beside each other", lead, sections)


def _who_is_better(compared: Compared) -> Section:
    verdict = in_a_sentence(compared, lambda a: "A" if a is compared.a else "B")
    rows = measures_table(compared)
    head = ["", "A", "B", "A less B", "95 % interval"]
    wins = compared.wins
    counts = (
        f"Photo by photo: both are right {wins['both']} times, only A {wins['a_only']}, only B "
        f"{wins['b_only']}, neither {wins['neither']}."
    )
    pictures = []
    table = compared.measures.set_index("measure")
    is_error = table.index.isin(ERRORS)
    drawn = table[["difference", "low", "high"]].set_axis(
        ["mean", "low", "high"], axis=1
    )
    signed = drawn.mul(np.where(is_error, -1, 1), axis=0)
    signed.index = [
        MEASURES[m] + (" (turned)" if m in ERRORS else "") for m in table.index
    ]
    alt = f"A less B: {'; '.join(f'{row[0]} {row[3]} {row[4]}' for row in rows)}."
    pictures.append(figures.drawn(figures.differences, signed, "A less B", alt=alt))
    words = (
        f"{len(compared.both)} photos test in both. The sentence above asks five measures, so it "
        "takes wider intervals than those shown. No interval covers another training."
    )
    blocks = [
        Words([verdict], "verdict"),
        Words([counts]),
        Table(head, rows, "Of macro MAE, less is better."),
        Panels(pictures),
        Words([words], "note"),
    ]
    return Section("Which one is better", blocks)


def measures_table(compared: Compared) -> list[list[str]]:
    """A row a measure: both values, their difference, its interval."""
    rows = []
    for row in compared.measures.itertuples():
        low, high = (f"{value:+.3f}" for value in (row.low, row.high))
        rows.append(
            [
                MEASURES[row.measure],
                number(row.a),
                number(row.b),
                f"{row.difference:+.3f}",
                f"{low} to {high}",
            ]
        )
    return rows


def _curves_of_two(compared: Compared, runs: tuple[Run, Run]) -> Section:
    pictures = []
    for measure, title in of_a_run.CURVES.items():
        curves = {}
        for name, run in zip("AB", runs, strict=True):
            curves[name] = run.rounds.set_index("round")[f"test_{measure}"]
        last = [
            f"{name} ends at {values.iloc[-1]:.3f}" for name, values in curves.items()
        ]
        alt = f"{title} on test photos over the rounds: {' and '.join(last)}."
        pictures.append(
            figures.drawn(figures.two_curves, curves, f"{title} (test)", alt=alt)
        )
    chosen = f"Chosen are round {runs[0].chosen} of A and round {runs[1].chosen} of B."
    return Section("Over the rounds", [Words([chosen]), Panels(pictures)])


def _confusions_of_two(compared: Compared, runs: tuple[Run, Run]) -> Section:
    names = names_of_labels(runs[0]) | names_of_labels(runs[1])
    both = compared.both
    scores = sorted({*compared.a.scores, *compared.b.scores})
    pictures = []
    for name in "ab":
        counts = pd.crosstab(both.label, both[f"assigned_{name}"])
        counts = counts.reindex(index=scores, columns=scores, fill_value=0).to_numpy()
        title = name.upper()
        alt = f"{title}: {of_a_run.in_words(counts, [names[s] for s in scores])}"
        pictures.append(
            figures.drawn(figures.confusion, counts, scores, names, title, alt=alt)
        )
    return Section("Which scores were taken for which", [Panels(pictures)])


def _settings_of_two(compared: Compared, runs: tuple[Run, Run]) -> Section:
    a, b = (settings_of(run.recipe) for run in runs)
    rows = [[name, shown(a[name]), shown(b[name])] for name in a if a[name] != b[name]]
    title = "What they were made with"
    if not rows:
        return Section(title, [Words(["Both were made by the same recipe."])])
    return Section(title, [Table(["setting", "A", "B"], rows, is_text=True)])


def sweep_page(path: Path, base: str = "") -> Page:
    """A sweep's table: each set of photos, its arms beside the one that drops nothing."""
    sections = []
    sets = comparisons.read_trainings([path])
    for name, trainings in sets.items():
        sections.append(Section(name, _of_set(trainings, base)))
    cells = sum(len(trainings.results) for trainings in sets.values())
    lead = f"{cells} trainings of {len(sets)} set{'' if len(sets) == 1 else 's'} of photos."
    return Page(f"The sweep {path.stem}", lead, sections)


def _of_set(trainings: Trainings, base: str) -> list[object]:
    """Means of all arms, and what each is above the base arm."""
    arms = comparisons.arm_names(trainings.recipes)
    results = trainings.results
    blocks = [Words([_counts(trainings)]), _means(results, arms)]
    try:
        base = comparisons.base_arm(trainings, base)
    except InputError as error:
        return [*blocks, Words([f"Arms could not be compared: {error}"], "note")]
    if results.arm.nunique() < 2:
        return [*blocks, Words(["There is one arm, and nothing to compare."], "note")]
    merged, moved = comparisons.merged(trainings)
    table = comparisons.against(merged, base, tuple(TOLD))
    table = table.assign(method=table.arm.map(arms))
    blocks.insert(0, Words(_verdict(table, arms[base]), "verdict"))
    pictures = _pictures(table, arms[base])
    are_wide = table.arm.nunique() > figures.MANY
    blocks += [Panels(pictures, are_wide), Folded("The numbers", [_numbers(table)])]
    notes = [
        "Lines are 95 % intervals over other test photos. A difference is believed where this "
        "interval and the one over other trainings leave 0, after correction for all arms (Holm)."
    ]
    if moved:
        told = [f"{score} counts as {label}" for score, label in moved.items()]
        notes.append(f"Scores with hardly a test photo are joined: {', '.join(told)}.")
    return [*blocks, Words(notes, "note")]


def _counts(trainings: Trainings) -> str:
    results = trainings.results
    each = results.groupby("arm").size()
    fewest, most = each.min(), each.max()
    count = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    photos = trainings.predictions.photo.nunique()
    return (
        f"{len(each)} arms, {count} trainings each, over {results.fold.nunique()} folds and "
        f"{results.seed.nunique()} seeds, tested on {photos} photos."
    )


def _means(results: pd.DataFrame, arms: Mapping[str, str]) -> Table:
    measures = [*TOLD, "majority_accuracy"]
    means = results.groupby("arm", sort=False)[measures].mean()
    rows = [
        [arms[arm], *(number(row[measure]) for measure in measures)]
        for arm, row in means.iterrows()
    ]
    head = ["arm", *TOLD.values(), "always the commonest"]
    return Table(
        head, rows, "Means over folds and seeds, of the chosen round, on test photos."
    )


def _verdict(table: pd.DataFrame, base: str) -> list[str]:
    """What is believable, and how small an effect would not have been seen."""
    sentences = []
    for verdict in ("better", "worse"):
        believed = table[table.verdict == verdict]
        for measure, rows in believed.groupby("measure", sort=False):
            each = [
                f"{row.method} ({row.difference:+.3f})" for row in rows.itertuples()
            ]
            than = f"than {base} in {TOLD[measure]}"
            sentences.append(f"{verdict.capitalize()} {than}: {', '.join(each)}.")
    if not sentences:
        few = (table.verdict == "too few trainings").all()
        reason = (
            "there are too few trainings" if few else "each difference may be chance"
        )
        sentences.append(f"No arm is better or worse than {base} for sure: {reason}.")
    visible = comparisons.smallest_visible(table)
    if visible.notna().any():
        told = [f"{value:.2f} in {TOLD[m]}" for m, value in visible.items()]
        sentences.append(f"A difference could be seen from about {', '.join(told)} on.")
    return sentences


def _pictures(table: pd.DataFrame, base: str) -> list[figures.Picture]:
    pictures = []
    for measure, name in TOLD.items():
        rows = table[table.measure == measure].set_index("method")
        drawn = rows[["difference", "photos_low", "photos_high"]]
        drawn = drawn.set_axis(["mean", "low", "high"], axis=1)
        drawn = drawn.sort_values("mean", ascending=False)
        told = [
            f"{row.Index} {row.difference:+.3f} ({row.verdict})"
            for row in rows.itertuples()
        ]
        alt = f"{name} less that of {base}: {'; '.join(told)}."
        title = f"{name} less that of {base}"
        pictures.append(figures.drawn(figures.differences, drawn, title, alt=alt))
    return pictures


def _numbers(table: pd.DataFrame) -> Table:
    rows = []
    for row in table.itertuples():
        over_photos = f"{row.photos_low:+.3f} to {row.photos_high:+.3f}"
        over_trainings = f"{row.trainings_low:+.3f} to {row.trainings_high:+.3f}"
        rows.append(
            [
                row.method,
                TOLD[row.measure],
                f"{row.difference:+.3f}",
                over_photos,
                over_trainings,
                number(row.p_holm),
                row.verdict,
            ]
        )
    head = [
        "arm",
        "measure",
        "difference",
        "over photos",
        "over trainings",
        "p",
        "verdict",
    ]
    return Table(head, rows)
