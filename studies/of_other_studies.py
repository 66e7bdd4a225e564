"""The other studies of the page of findings, and where each of them comes from."""

import json
import re
from dataclasses import replace

import numpy as np
import of_two_ways
import pandas as pd
from of_dropping import RESULTS, all_sets
from said import check, interval, markdown, signed, with_bounds
from scipy.stats import bootstrap

from rsrl_lib.comparing import comparisons
from rsrl_lib.comparing.comparisons import TEST_OVER_TRAIN, corrected_interval
from rsrl_lib.files import InputError
from rsrl_lib.recipe import Recipe


def two_accuracies() -> str:
    """What each kind of split reports, and what the networks are worth."""
    told = _two_told()
    columns = {"held_out": "held out", "held_out_kept": "held out, unlikely ones dropped"}
    columns |= {"original": "original training photos", "untouched": "untouched (worth)"}
    table = told.groupby(["arm", "split"], sort=False)[list(columns)].mean().reset_index()
    for column in columns:
        table[column] = table[column].map("{:.3f}".format)
    return markdown(table.rename(columns=columns | {"arm": "network"}))


def reported(network: str, split: str, photos: str) -> str:
    """The accuracy after the last round, of a network and split in words, on such photos."""
    told = _two_told()
    own = told[(told.arm == network) & (told.split == split)]
    return f"{own[photos].mean():.2f}"


def _two_told() -> pd.DataFrame:
    """Accuracies after the last round, with networks and splits in words."""
    told = pd.read_csv(RESULTS / "two_accuracies.csv")
    told = told[told["round"] == told["round"].max()]
    words = {}
    for (_, _, arm), recipe in _two_recipes().items():
        words[arm] = _method(recipe)
    splits = {"never": "one split", "rotating": "rotating fifths", "fresh": "fresh in every round"}
    return told.assign(arm=told.arm.map(words), split=told.resplit.map(splits))


def _two_recipes() -> dict:
    return comparisons.read_recipes(RESULTS / "two_accuracies.json")


def _method(recipe: Recipe) -> str:
    return comparisons.in_words(replace(recipe, resplit="never"), recipe.rounds)


def regions() -> str:
    """Highlight regions and their rivals against the subject's mask."""
    table = pd.read_csv(RESULTS / "highlight_regions.csv")
    table = table[table.minus == "nothing"]
    last = table.later.max()
    late = (table.later == last) & (table.earlier == last - 1)
    early = table.later == 2
    plain = table.method == "highlight"
    shown = {
        "highlight, last pair of rounds": plain & late,
        "highlight, first pair of rounds": plain & early,
        "last pair, nothing dropped": table.method == "highlight, no photo dropped",
        "noise of the same norm": table.method == "highlight, noise for a step",
        "a channel at random": table.method == "random channel",
        "the centre": table.method == "centre",
        "spectral residual": table.method == "spectral residual",
        "Grad-CAM, last network": table.method == "Grad-CAM, last network",
    }
    rows = []
    for said, which in shown.items():
        own = table[which].set_index("measure")
        rows.append([said, *(with_bounds(own.loc[m]) for m in ("iou", "auc", "pointing"))])
    columns = ["map", "IoU with the subject", "AUC", "pointing"]
    return markdown(pd.DataFrame(rows, columns=columns))


def covered() -> str:
    """How far covering a region moves the expected score, beside covering as much elsewhere."""
    table = pd.read_csv(RESULTS / "highlight_deletion.csv")
    rows = []
    for row in table.itertuples():
        pair = "" if np.isnan(row.later) else f" ({row.later:.0f}, {row.earlier:.0f})"
        photos = {"real": "OASIS"}.get(row.dataset, row.dataset)
        moved = [f"{value:.2f}" for value in (row.region, row.elsewhere)]
        gap = f"{signed(row.difference)} {interval(row.low, row.high)}"
        rows.append([photos, row.method + pair, *moved, gap])
    columns = ["photos", "region of", "region covered", "as much elsewhere", "difference"]
    return markdown(pd.DataFrame(rows, columns=columns))


def weighting() -> str:
    """AWCU-2018's networks against the plain one, and weighting against dropping."""
    rows = []
    for row in weighted().itertuples():
        said = (row.arm, row.base)
        named = [n.replace("CNN dropping", "CNN, ambiguous photos dropped") for n in said]
        named = [n.replace("CNN ", "CNN, b/a = ") for n in named]
        over_trainings = interval(row.trainings_low, row.trainings_high, 1)
        over_photos = interval(row.photos_low, row.photos_high, 1)
        told = [row.photos, *named, row.verdict, f"{row.difference:+.1f}"]
        rows.append([*told, over_trainings, over_photos, f"{row.p:.3f}", f"{row.p_holm:.3f}"])
    columns = ["photos", "method", "against", "verdict", "accuracy, %"]
    columns += ["over trainings", "over photos", "p", "p (Holm)"]
    return markdown(pd.DataFrame(rows, columns=columns))


def weighting_verdict(expected: str) -> str:
    """What holds of all comparisons of weights; checked as `expected`."""
    found = " and ".join(weighted().verdict.unique())
    check("sample weights", found, expected)
    return found


def weighted() -> pd.DataFrame:
    """Differences in percent of accuracy, and what of them is believable."""
    arms = ["AesCNN 2", "AesCNN 3", "AesCNN 6", "AesCNN 10", "AesCNN dropping"]
    arms += ["AesAttCNN 1", "AesAttCNN 6"]
    pairs = [("AesCNN 6", "AesCNN dropping")] + [(arm, "AesCNN 1") for arm in arms]
    rows = []
    for photos in ("OASIS", "glass-box"):
        for arm, base in pairs:
            place = {"photos": photos, "arm": arm, "base": base, "measure": "accuracy"}
            rows.append(place | weighted_gain(photos, arm, base))
    return comparisons.judged(pd.DataFrame(rows), ("photos",))


def weighted_gain(photos: str, arm: str, base: str) -> dict[str, float]:
    """Percent of accuracy that an arm is above another, over photos and over folds."""
    margins = pd.read_parquet(RESULTS / "sample_weighting_margins.parquet")
    margins = margins[margins.dataset == photos]
    right = (margins.margin > 0) == (margins.high == 1)
    answers = margins.assign(right=100.0 * right)
    wide = answers.pivot(index=["seed", "photo"], columns="arm", values="right")
    gain = (wide[arm] - wide[base]).groupby("photo").mean()
    over_photos = bootstrap((gain,), np.mean, rng=0, method="percentile").confidence_interval

    results = pd.read_csv(RESULTS / "sample_weighting.csv")
    results = results[results.dataset == photos]
    cells = results.pivot(index=["seed", "fold"], columns="arm", values="accuracy")
    folds = 100 * (cells[arm] - cells[base]).to_numpy()
    _, low, high, p = corrected_interval(folds, test_over_train=TEST_OVER_TRAIN)
    return {
        "trainings": len(folds),
        "difference": gain.mean(),
        "photos_low": over_photos.low,
        "photos_high": over_photos.high,
        "trainings_low": low,
        "trainings_high": high,
        "p": p,
    }


def weighting_effect() -> str:
    """Weighting against dropping, on both sets."""
    table = weighted().drop_duplicates("photos")
    return ", ".join(
        f"{row.photos} {row.difference:+.1f} {interval(row.trainings_low, row.trainings_high, 1)}"
        for row in table.itertuples()
    )


def gap(method: str, minus: str, measure: str, expected: str) -> str:
    """How far a map finds the subject better than the last pair; checked as `0` or `above 0`."""
    table = pd.read_csv(RESULTS / "highlight_regions.csv")
    last = table.minus[table.minus != "nothing"].max()
    which = (table.method == method) & (table.measure == measure) & (table.minus == last)
    if minus == "first pair":
        which &= table.later == 2
    row = table[which].iloc[0]
    check(f"{method} above {last}, {measure}", "above 0" if row.low > 0 else "0", expected)
    return f"{row['mean']:+.3f} {interval(row.low, row.high, 3)}"


def activation_maps() -> str:
    """Activation maps and their rivals against the subject's mask."""
    table = pd.read_csv(RESULTS / "activation_maps.csv")
    table = table[table.minus == "nothing"]
    rows = []
    for method, own in table.groupby("method", sort=False):
        own = own.set_index("measure")
        rows.append([method, *(with_bounds(own.loc[m]) for m in ("iou", "auc", "pointing"))])
    columns = ["map", "IoU of its region with the subject", "AUC", "pointing"]
    return markdown(pd.DataFrame(rows, columns=columns))


def crops() -> str:
    """What a crop by AesAM changes against the photo, and against a crop at random."""
    table = pd.read_csv(RESULTS / "crops.csv")
    table = table[table.method == "AesAM"].set_index(["dataset", "measure", "minus"])
    words = {"own_network": "probability of high, the network that cropped"}
    words |= {"other_network": "probability of high, a network of another seed"}
    words |= {"quality": "true quality", "mask_recall": "share of the subject held"}
    rows = []
    for photos in ("glass-box", "OASIS"):
        for measure, said in words.items():
            if (photos, measure, "random") in table.index:
                both = [table.loc[(photos, measure, m)] for m in ("nothing", "random")]
                rows.append([photos, said, *(with_bounds(row) for row in both)])
    columns = ["photos", "what", "against the photo", "against a crop at random"]
    table = pd.DataFrame(rows, columns=columns)
    held = table.what == "share of the subject held"
    table.loc[held, "what"] = "share of the subject held (in the photo: all)"
    return markdown(table)


def studies() -> str:
    """Of each study: photos, trainings, network, pixels, and the command that makes it again."""
    return markdown(_studies())


def seen(study: str) -> str:
    """Network, pixels, photos and trainings of one study, in a line."""
    row = _studies().set_index("study").loc[study]
    network = row.network.partition(",")[0]
    seen_at, _, maps_at = row.pixels.partition(", ")
    trainings = row.trainings.replace("an arm", "trainings of each arm")
    told = [f"{network} at {seen_at} pixels", maps_at, f"{row.photos} photos", trainings]
    return ", ".join(filter(None, told))


def sides() -> str:
    """The smallest and the largest side of a picture in all sweeps of dropping."""
    recipes = [next(iter(trainings.recipes.values())) for trainings in all_sets().values()]
    pixels = [recipe.training.shrink_to for recipe in recipes]
    return f"{min(pixels)} to {max(pixels)}"


def _studies() -> pd.DataFrame:
    rows = []
    for name, trainings in all_sets().items():
        recipe = next(iter(trainings.recipes.values()))
        count = trainings.results.groupby("arm").size().max()
        whole = all_sets()[name.split(",")[0]]  # a set that has all folds tests every photo
        photos = whole.predictions.photo.nunique()
        rows.append([f"dropping: {name}", photos, _per_arm(count), *_seen_by(recipe), _made(name)])
    recipe = next(iter(_two_recipes().values()))
    told = pd.read_csv(RESULTS / "two_accuracies.csv")
    runs = told.groupby(["seed", "fold"]).ngroups
    photos = all_sets()["OASIS"].predictions.photo.nunique()
    by = "`studies/two_accuracies.py`"
    rows.append(["two accuracies: OASIS", photos, _per_arm(runs), *_seen_by(recipe), by])
    rows += _two_ways()
    rows += _without_sweep()
    columns = ["study", "photos", "trainings", "network", "pixels", "make it again"]
    return pd.DataFrame(rows, columns=columns)


def _two_ways() -> list[list]:
    """Both ways of tuning: a line for each set of photos and way."""
    facts = json.loads((RESULTS / "two_ways.json").read_text())
    trainings = of_two_ways.trainings()
    rows = []
    for (photos, _, arm), recipe in comparisons.read_recipes(RESULTS / "two_ways.json").items():
        way = of_two_ways.way_of(recipe)
        name = f"two ways of tuning: {photos}, {way}"
        if arm.startswith(of_two_ways.BASE):
            counts = _per_arm(trainings[photos, way])
            command = f"`{facts['command']}`"
            rows.append([name, facts["photos"][photos], counts, *_seen_by(recipe), command])
    return rows


def _per_arm(count: int) -> str:
    return f"{count} an arm"


def _seen_by(recipe: Recipe) -> tuple[str, str]:
    start = "starter weights" if recipe.weights == "starter" else "ImageNet weights"
    network = {"squeezenet1_0": "SqueezeNet 1.0", "squeezenet1_1": "SqueezeNet 1.1"}
    side = recipe.training.shrink_to or 227
    return f"{network[recipe.backbone]}, {start}", f"{side} by {side}"


def _made(name: str) -> str:
    for file in ("oasis_arms", "glassbox_arms"):
        for told in json.loads((RESULTS / f"{file}.json").read_text())["grids"].values():
            grid = told["grid"]
            dataset = re.search(r'dataset = "(.*)"', grid)[1]
            label = ", single votes" if 'labels = "single_vote"' in grid else ""
            if dataset + label == name:
                return f"`{told['command']}`"
    raise InputError(f"No grid is kept for {name}.")


def _without_sweep() -> list[list]:
    whole, maps_too = "227 by 227", "227 by 227, maps of 256 by 256"
    rows = []
    of_regions = json.loads((RESULTS / "highlight_regions.json").read_text())
    settings, backbone = of_regions["settings"], "SqueezeNet 1.1, starter weights"
    seeds = f"{settings['seeds']} an arm"
    command = f"`{of_regions['command']}`"
    rows.append(["highlight regions", settings["judged"], seeds, backbone, maps_too, command])
    weights = json.loads((RESULTS / "sample_weighting.json").read_text())
    folds = pd.read_csv(RESULTS / "sample_weighting.csv").groupby("dataset").fold.nunique()
    for name, facts in weights["photos"].items():
        network = {"OASIS": "SqueezeNet 1.0, ImageNet weights"}.get(name, backbone)
        told = [facts["photos"], f"{folds[name]} an arm", network, whole]
        rows.append([f"sample weights: {name}", *told, f"`{weights['command']}`"])
    maps = json.loads((RESULTS / "maps_and_crops.json").read_text())
    for name, count in maps["photos"].items():
        network = {"OASIS": "SqueezeNet 1.0, ImageNet weights"}.get(name, backbone)
        told = [count, f"{settings['seeds']} an arm", network, maps_too]
        rows.append([f"maps and crops: {name}", *told, f"`{maps['command']}`"])
    return rows
