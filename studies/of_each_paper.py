"""Each document by its own protocol, for the page of findings."""

from functools import cache

import numpy as np
import pandas as pd
from of_dropping import RESULTS
from said import markdown


@cache
def kept_table() -> pd.DataFrame:
    return pd.read_csv(RESULTS / "each_paper.csv")


def each_paper() -> str:
    """A row for each document, as published and with nothing dropped."""
    rows = []
    for (paper, arm), of_arm in kept_table().groupby(["paper", "arm"], sort=False):
        by_round = of_arm.set_index("round")
        chosen = by_round.chosen.idxmax()
        photos = f"{by_round.kept.iloc[0]}, {by_round.kept.min()}, {by_round.kept.iloc[-1]}"
        row = {"document": paper, "": arm, "networks": len(by_round), "photos trained on": photos}
        row["chosen"] = chosen
        for part, name in {"train": "training", "test": "test"}.items():
            row[f"accuracy, {name} photos"] = _from_to(by_round[f"{part}_accuracy"], chosen)
            row[f"macro-F1, {name} photos"] = _from_to(by_round[f"{part}_macro_f1"], chosen)
        row["always the commonest"] = _of_commonest(by_round)
        rows.append(row)
    return markdown(pd.DataFrame(rows))


def each_paper_photos() -> str:
    """How many drawings there are."""
    return str(kept_table().photos.iloc[0])


def _from_to(values: pd.Series, chosen: int) -> str:
    """A measure of the first and of the chosen network, or nothing where no photo tests."""
    if np.isnan(values[1]):
        return "none test"
    return f"{values[1]:.2f} → {values[chosen]:.2f}"


def _of_commonest(by_round: pd.DataFrame) -> str:
    """Accuracy of always answering the commonest score of the test photos, or of the training
    photos where none test."""
    value = by_round.test_majority_accuracy.iloc[0]
    if np.isnan(value):
        value = by_round.train_majority_accuracy.iloc[0]
    return f"{value:.2f}"
