"""The page of one run, section by section, each from the run's tables."""

from pathlib import Path

import numpy as np
import pandas as pd

from rsrl_lib import summary
from rsrl_lib.files import InputError
from rsrl_lib.papers import shown
from rsrl_lib.recipe import Recipe, names_of, settings_of
from rsrl_lib.report import did_it_work, figures, thumbnails
from rsrl_lib.report.besides import Found
from rsrl_lib.report.did_it_work import Judged, names_of_labels, number
from rsrl_lib.report.page import (
    Folded,
    Page,
    Pair,
    Panels,
    Section,
    Table,
    Thumbnails,
    Words,
)
from rsrl_lib.report.thumbnails import Photos
from rsrl_lib.runs import Run

CURVES = {"accuracy": "Accuracy", "macro_f1": "Macro-F1", "kappa": "Kappa"}


def page(run: Run, found: Found, judged: Judged | None) -> Page:
    """Everything that a run has to say; `judged` is None where no photo tests."""
    photos = Photos(run, found)
    sections = [
        trained(run),
        worked(judged),
        rounds(run),
        confusions(run),
        per_class(run),
        training_sets(run),
        photos_to_look_at(run, found, photos),
        maps(run, photos),
        recipe(run),
        provenance(run),
    ]
    split = run.split
    lead = f"{len(split)} photos, {len(run.rounds)} rounds, round {run.chosen} chosen."
    return Page(f"What the run {run.folder.name} learned", lead, sections)


def trained(run: Run) -> Section:
    """What was trained on what."""
    made = run.recipe
    split = run.split
    names = names_of_labels(run)
    counts = split.label.value_counts().sort_index()
    told = [f"{names[label]}: {count}" for label, count in counts.items()]
    levels = "level" if made.levels == "low-high" else "score"
    sentences = [
        f"{len(split)} photos, by {levels} {', '.join(told)}.",
        summary.parts_in_words(split, made),
        _training(run, made),
    ]
    for score, label in run.merged_scores.items():
        sentences.append(
            f"Score {score} has too few photos to split and counts as {label}."
        )
    if made.levels == "low-high":
        sentences.append(f"High is a mean score above {made.cut:g}.")
    words = [Words(sentences)]
    if run.info.get("notices"):
        words.append(Words(run.info["notices"], "list"))
    alt = f"Bars: photos by {levels} {', '.join(told)}."
    picture = figures.drawn(figures.class_counts, split, names, alt=alt)
    return Section("What was trained on what", [Pair(words, [Panels([picture])])])


def _training(run: Run, made: Recipe) -> str:
    """The network, its rounds, and how many photos they learned from."""
    what = " and ".join(names_of(made.backbone))
    if made.tune == "head":
        what = f"the head of {what}"
    kept = run.rounds.kept[1:]
    weights = " and ".join(names_of(made.weights))
    words = f"{len(run.rounds)} rounds of {what}, from weights {weights}."
    if len(kept):
        fewest, most = kept.min(), kept.max()
        count = f"{fewest}" if fewest == most else f"{fewest} to {most}"
        words += f" After round 1 each learned from {count} of {run.rounds.kept.iloc[0]} photos."
    return words


def worked(judged: Judged | None) -> Section:
    """Did it work on these photos?"""
    if judged is not None:
        return did_it_work.section(judged)
    headline = "Whether it worked cannot be told: no photo tests."
    reason = (
        "All photos trained, so nothing tells what the network is worth on others. All numbers "
        "below are of photos that it has learned from."
    )
    return Section(did_it_work.TITLE, [Words([headline, reason], "verdict")])


def rounds(run: Run) -> Section:
    """Curves over the rounds, and the numbers behind them."""
    table = run.rounds
    parts = [p for p in figures.IN_WORDS if table[f"{p}_accuracy"].notna().any()]
    pictures = []
    for measure, title in CURVES.items():
        last = [
            f"{figures.IN_WORDS[part]} {table[f'{part}_{measure}'].iloc[-1]:.3f}"
            for part in parts
        ]
        alt = f"{title} over the rounds; in the last one {', '.join(last)}."
        pictures.append(
            figures.drawn(figures.over_rounds, table, measure, title, alt=alt)
        )
    head = ["round", "learned from"]
    for part in parts:
        head += [f"{figures.IN_WORDS[part]} {name.lower()}" for name in CURVES.values()]
    rows = []
    for _, row in table.iterrows():
        values = [number(row[f"{part}_{m}"]) for part in parts for m in CURVES]
        rows.append([str(int(row["round"])), str(int(row.kept)), *values])
    words = (
        "Accuracy counts all photos alike, macro-F1 all scores, and kappa counts a near "
        "miss less."
    )
    if "test" in parts:
        words += " The test photos are shown, and chose nothing."
        if run.info["recipe"]["choose"] == "test":
            words = words.replace(
                "are shown, and chose nothing", "chose the round, a leak"
            )
    numbers = Folded("The numbers", [Table(head, rows)])
    return Section("Over the rounds", [Words([words]), Panels(pictures), numbers])


def confusions(run: Run) -> Section:
    """Which scores were taken for which: of the first, the chosen and the last round."""
    part = run.shown_part
    names = names_of_labels(run)
    last = int(run.rounds["round"].iloc[-1])
    roles = {}
    for number_of_round, role in ((1, "first"), (run.chosen, "chosen"), (last, "last")):
        roles.setdefault(number_of_round, []).append(role)
    pictures = []
    for number_of_round, role in sorted(roles.items()):
        counts, scores = confusion_of(run, number_of_round)
        title = f"Round {number_of_round} ({' and '.join(role)})"
        alt = f"{title}: {in_words(counts, [names[s] for s in scores])}"
        pictures.append(
            figures.drawn(figures.confusion, counts, scores, names, title, alt=alt)
        )
    words = (
        f"Each row holds the {figures.IN_WORDS[part]} photos of one score. What lies on the "
        "diagonal is right. The darker a cell, the larger is its share of the row."
    )
    return Section(
        "Which scores were taken for which", [Words([words]), Panels(pictures)]
    )


def confusion_of(run: Run, number_of_round: int) -> tuple[np.ndarray, list[int]]:
    """Photos by label (rows) and assigned score of a round, on the part that is shown."""
    table = run.confusion
    is_shown = (table.part == run.shown_part) & (table["round"] == number_of_round)
    wide = table[is_shown].pivot(index="label", columns="assigned", values="photos")
    return wide.to_numpy(int), [int(score) for score in wide.index]


def in_words(counts: np.ndarray, names: list[str]) -> str:
    """A confusion matrix as a sentence."""
    rows = []
    for name, row in zip(names, counts, strict=True):
        got = [f"{count} got {n}" for n, count in zip(names, row, strict=True) if count]
        rows.append(f"of score {name} {', '.join(got) or 'no photo'}")
    return f"{'; '.join(rows)}."


def per_class(run: Run) -> Section:
    """Each score by itself, in the chosen round and the first."""
    names = names_of_labels(run)
    part = run.shown_part
    of_part = run.per_class[run.per_class.part == part]
    first = of_part[of_part["round"] == 1].set_index("score").f
    chosen = of_part[of_part["round"] == run.chosen]
    rows = []
    is_first = run.chosen == 1
    for row in chosen.itertuples():
        values = [row.precision, row.recall, row.f]
        if not is_first:
            values.append(first[row.score])
        counts = [str(int(row.photos)), str(int(row.assigned))]
        rows.append([names[row.score], *counts, *(number(value) for value in values)])
    head = ["score", "photos", "got it", "precision", "recall", "F"]
    if not is_first:
        head.append("F in round 1")
    words = (
        f"Round {run.chosen} on the {figures.IN_WORDS[part]} photos. Precision is the share that "
        "is right of those that got a score, recall that of those that have it. F joins the two."
    )
    blocks = [Words([words]), Table(head, rows)]
    attributes = run.attributes
    if attributes is not None:
        blocks += _attributes(attributes)
    return Section("Each score by itself", blocks)


def _attributes(table: pd.DataFrame) -> list[object]:
    """How well the learned attributes are told."""
    part = figures.IN_WORDS[table.part.iloc[0]]
    head = {
        "photos": "photos",
        "share": "have it",
        "accuracy": "accuracy",
        "majority_accuracy": "commoner answer",
        "auc": "AUC",
        "spearman": "rank correlation",
        "mean_absolute_error": "mean error",
    }
    there = [name for name in head if table[name].notna().any()]
    rows = []
    for _, row in table.iterrows():
        cells = [str(row.attribute)]
        for name in there:
            cells.append(str(int(row[name])) if name == "photos" else number(row[name]))
        rows.append(cells)
    caption = f"Attributes that were learned beside it, on the {part} photos whose value is known."
    return [Table(["attribute", *(head[name] for name in there)], rows, caption)]


def training_sets(run: Run) -> Section:
    """How many photos of each score each round learned from."""
    names = names_of_labels(run)
    samples = run.samples
    kept = samples[samples.kept]
    sizes = kept.groupby(["round", "label"]).size().unstack(fill_value=0)
    sizes.columns = sizes.columns.astype(int)
    first, last = sizes.iloc[0], sizes.iloc[-1]
    told = [f"of score {names[s]} {first[s]} and {last[s]}" for s in sizes]
    alt = f"Training photos of the first and the last round: {'; '.join(told)}."
    picture = figures.drawn(figures.training_sets, sizes, names, alt=alt)
    rows = [
        [str(i), *(str(c) for c in row), str(sum(row))]
        for i, row in zip(sizes.index, sizes.to_numpy(), strict=True)
    ]
    head = ["round", *(names[s] for s in sizes), "all"]
    numbers = Table(head, rows, "Photos of each score")
    pair = Pair([Panels([picture])], [numbers])
    return Section("What each round learned from", [pair])


def photos_to_look_at(run: Run, found: Found, photos: Photos) -> Section:
    """Thumbnails: dropped longest, come back, most wrong."""
    title = "Photos to look at"
    if not found.paths:
        reason = found.reason or "they are not where they were"
        words = f"Thumbnails could not be made, as the photos were not found: {reason}."
        return Section(title, [Words([words], "note")])
    blocks = []
    rows = {
        "Dropped longest": dropped_longest(run),
        "Dropped, and came back": came_back(run),
        f"Most wrong {figures.IN_WORDS[run.shown_part]} photos": most_wrong(run),
    }
    for name, table in rows.items():
        pictures = photos.thumbnails(table)
        if len(table) and not pictures:
            words = f"{name}: none of these photos is where it was, as it was."
            blocks.append(Words([words], "note"))
        elif pictures:
            blocks.append(
                Thumbnails(f"{name} ({len(pictures)} of {len(table)})", pictures)
            )
        else:
            blocks.append(Words([f"{name}: there is none."], "note"))
    blocks.append(
        Words(["dropped.csv in the run's folder lists every photo and round."], "note")
    )
    return Section(title, blocks)


def dropped_longest(run: Run) -> pd.DataFrame:
    """Photos by the number of rounds that did without them, of equals the least likely first."""
    table = run.dropped
    out = table[~table.kept.astype(bool)]
    later = len(run.rounds) - 1
    by_photo = out.groupby("photo", sort=False)
    facts = by_photo.agg(
        score=("score", "first"),
        out=("round", "size"),
        likelihood=("likelihood", "last"),
        k=("k", "last"),
    )
    facts = facts.sort_values(["out", "likelihood"], ascending=[False, True])
    captions = []
    for row in facts.reset_index().itertuples():
        words = f"{row.photo}, score {row.score}: out of {row.out} of {later} rounds"
        if not np.isnan(row.likelihood):
            words += f", last with likelihood {row.likelihood:.2g} below {row.k:.2g}"
        captions.append(words)
    return facts.reset_index()[["photo"]].assign(caption=captions)


def came_back(run: Run) -> pd.DataFrame:
    """Photos that a round took back, those that came back most often first."""
    table = run.dropped
    back = table[table.returned.astype(bool)]
    by_photo = back.groupby("photo", sort=False)
    facts = by_photo.agg(
        score=("score", "first"),
        times=("round", "size"),
        rounds=("round", lambda numbers: ", ".join(map(str, numbers))),
    )
    facts = facts.sort_values("times", ascending=False, kind="stable").reset_index()
    captions = []
    for row in facts.itertuples():
        plural = "s" if row.times > 1 else ""
        captions.append(
            f"{row.photo}, score {row.score}: back in round{plural} {row.rounds}"
        )
    return facts[["photo"]].assign(caption=captions)


def most_wrong(run: Run) -> pd.DataFrame:
    """Photos of the shown part by how far the answer is off, of equals the surest first."""
    samples = run.samples
    is_shown = (samples.part == run.shown_part) & (samples["round"] == run.chosen)
    shown = samples[is_shown]
    shown = shown.assign(off=(shown.assigned - shown.label.astype(int)).abs())
    wrong = shown[shown.off > 0].sort_values(["off", "assigned_logit"], ascending=False)
    names = names_of_labels(run)
    captions = [
        f"{row.photo}: {names[int(row.label)]}, got {names[int(row.assigned)]} with likelihood "
        f"{row.assigned_likelihood:.2g}"
        for row in wrong.itertuples()
    ]
    return wrong[["photo"]].assign(caption=captions)


def maps(run: Run, photos: Photos) -> Section:
    """Highlight maps of the last two rounds, and activation maps, where there are any."""
    kinds = {
        "Highlight: where the last two rounds see a photo differently": (
            thumbnails.highlight_rows
        ),
        "Activation: what in a photo raises the score (orange) or lowers it (purple)": (
            thumbnails.activation_rows
        ),
    }
    blocks = []
    for title, make in kinds.items():
        try:
            rows = make(run, photos)
        except InputError as error:
            blocks.append(Words([f"{title.split(':')[0]}: none. {error}"], "note"))
            continue
        if not rows:
            blocks.append(
                Words([f"{title.split(':')[0]}: none, as no photo was found."], "note")
            )
            continue
        for pictures in rows:
            blocks.append(Thumbnails(title, pictures))
            title = ""  # of all rows of a kind the first has it
    blocks.append(
        Words(["Whether such regions mark the subject was not confirmed."], "note")
    )
    return Section("Highlight and activation maps", blocks)


def recipe(run: Run) -> Section:
    """All settings, those first that are not the defaults."""
    made = run.recipe
    settings = settings_of(made)
    defaults = settings_of(Recipe())
    changed = []
    others = []
    for name, value in settings.items():
        row = [name, shown(value)]
        if value == defaults[name]:
            others.append(row)
        else:
            changed.append([*row, shown(defaults[name])])
    blocks = []
    of_paper = summary.of_paper(run)
    if of_paper:
        blocks.append(Words(of_paper))
    if changed:
        head = ["setting", "here", "default"]
        blocks.append(Table(head, changed, is_text=True))
    else:
        blocks.append(Words(["All settings are the defaults."]))
    rest = Table(["setting", "here"], others, is_text=True)
    blocks.append(Folded("Settings that are the defaults", [rest]))
    return Section("The recipe", blocks)


def provenance(run: Run) -> Section:
    """Date, command, folder, table of scores, versions, commit."""
    info = run.info
    made = info.get("provenance", {})  # runs of before have none
    photos = info.get("photos") or {}
    rows = {
        "run": str(Path(run.folder).absolute()),
        "begun": made.get("begun"),
        "command": made.get("command"),
        "given in": made.get("given_in"),
        "photos": photos.get("folder") or made.get("folder"),
        "scores": photos.get("scores"),
        "rsrl-lib": made.get("rsrl"),
        "commit": made.get("commit"),
        "device": info.get("device"),
        "precision": info.get("precision"),
        "threads": info.get("threads"),
        "versions": ", ".join(f"{n} {v}" for n, v in info.get("versions", {}).items()),
    }
    for number_of_more, more in enumerate(made.get("continued", []), 1):
        rows[f"gone on ({number_of_more})"] = f"{more['begun']}: {more['command']}"
    for name, value in info["fingerprint"].items():
        if value != "none":
            rows[f"fingerprint of {name}"] = value
    told = [[name, str(value)] for name, value in rows.items() if value]
    blocks = [Table([], told, is_text=True)]
    if not made:
        words = (
            "This run was made before photos, command and date were noted in run.json."
        )
        blocks.insert(0, Words([words], "note"))
    return Section("Where it comes from", blocks)
