"""Do activation maps show the subject (AWCU-2018 section 4.6), and do crops by them help (4.7)?

    .venv/bin/python studies/maps_and_crops.py
    .venv/bin/python studies/maps_and_crops.py --oasis OASIS --weights IMAGENET.safetensors

Networks. AesAttCNN with w(1:6), three seeds: on 700 glass-box photos (attributes: the seven tags),
judged on 300 others that no network has seen; and on 64 % of the photos of OASIS (attribute:
category), judged on the other 36 %, by which nothing was chosen. The paper's SGD does not learn the
tags of glass-box photos in the steps there are time for, so both are trained by AdamW, on glass-box
photos for 180 steps; how well the tags are known stands in the JSON file.

Maps against the subject's mask (glass-box): AesAM of the high and of the low level, their
difference, which is what the decision is made of, and AttAM of the likeliest attribute. A region is
where a map reaches 30 % of its maximum, as for cropping; a map without a positive value has none
(IoU 0). Rivals: the maps of the same network before training, whose head is random; a Gaussian in
the middle; spectral-residual saliency (Hou & Zhang 2007), which knows no other photo.

Crops by AesAM alone, and averaged with AttAM's box where both agree, beside crops of the same size:
in the middle, at random (mean of four places), and about the middle of the spectral residual's
region. What changes: the probability of the high level, by the network that chose the crop and by
that of the next seed, which did not; the share of the subject that the crop holds; and on glass-box
the true quality. That one is computed from what was drawn, not from the picture: placement from
where the subject's centre of mass lies in the crop; clutter from how many of the drawn distractors
stand in it; sharpness from the blur in relation to the crop's shorter side; distinctness from the
subject's size in that relation, times the share of it that is still there; exposure and harmony
stay. A photo whose crop is all of it counts, with changes of 0.

Intervals are 95 % bootstrap intervals over seeds and photos, paired, as in `highlight_regions.py`.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import tyro
from highlight_regions import _mask, as_tensor, bootstrap, centre, number, spectral_residual
from sample_weighting import CUT, trained, untrained
from scipy.special import comb, expit
from sklearn.metrics import roc_auc_score
from tqdm.auto import tqdm

from rsrl_lib.activation import ActivationMaps, activation_maps
from rsrl_lib.cropping import AGREEMENT, Box, crop_box, overlap, region, region_box
from rsrl_lib.drawing import glassbox
from rsrl_lib.files import ROOT, InputError
from rsrl_lib.machine import device, machine
from rsrl_lib.measures import against_mask
from rsrl_lib.network import AestheticNet
from rsrl_lib.photos import ScoredPhotos
from rsrl_lib.pixels import SIDE, Pixels, decode, normalised, square
from rsrl_lib.protocols import low_high, split
from rsrl_lib.reading.pictures import open_rgb
from rsrl_lib.recipe import Training
from rsrl_lib.sources import read_folder
from rsrl_lib.training import logits

PLACES = 4  # random crops a photo
WEIGHTS = (1, 6)  # a and b


def main(
    count: int = 700,
    judged: int = 300,
    seeds: int = 3,
    steps: int = 60,
    resamples: int = 2000,
    oasis: Path | None = None,
    weights: Path | None = None,
    out: Path = ROOT / "data" / "results",
) -> None:
    """Train, judge, and write the summaries.

    Args:
        count: Glass-box photos to train on (set 0).
        judged: Other glass-box photos to judge on (set 1).
        seeds: Networks, two or more.
        steps: Gradient steps of a network on OASIS; three times as many on glass-box photos.
        resamples: Bootstrap resamples.
        oasis: Folder of real photos with photos/ and photos.csv (mean_score, category).
        weights: ImageNet weights of squeezenet1_0 for the real photos.
        out: Folder for the summaries.
    """
    if seeds < 2 or (oasis is None) != (weights is None):
        raise InputError("Needed are two seeds, and both --oasis and --weights or none of them.")
    common = {"decay": "tenths", "crops": "five"}
    training = Training("adamw", 1e-3, 1e-2, steps=3 * steps, **common)
    other = Training("adamw", 1e-4, 1e-3, steps=steps, **common)
    known, unseen = glassbox.open_set(count, 0), glassbox.open_set(judged, 1)
    pixels, views = decode(known.table)[0], decode(unseen.table)[0]
    start, rows = ("squeezenet1_1", "starter"), np.arange(count)
    networks = [
        trained(known, pixels, rows, start, glassbox.TAGS, WEIGHTS, seed, training)
        for seed in range(seeds)
    ]
    masks = np.stack([_mask(path) for path in unseen.table["mask"]])
    judgements = [
        of_maps(network, unseen, views, masks, seed) for seed, network in enumerate(networks)
    ]
    regions, facts = (pd.concat(parts) for parts in zip(*judgements, strict=True))
    tags = unseen.attributes[list(glassbox.TAGS)].to_numpy() == 1
    known_tags = [roc_auc_score(tags, attributes_of(network, views)) for network in networks]
    truth = [glassbox.draw(1, index) for index in range(judged)]
    every = np.arange(judged)
    crops = [
        of_crops(
            *(networks[seed], networks[(seed + 1) % seeds], unseen, views, every, seed),
            lambda row, box: true_change(truth[row], box),
        ).assign(dataset="glass-box")
        for seed in range(seeds)
    ]
    if oasis is not None:
        columns = {"mean_column": "mean_score", "attribute_columns": ("category",)}
        photos = read_folder(oasis / "photos", oasis / "photos.csv", **columns)
        pixels, _ = decode(photos.table)
        parts = split(low_high(photos.table.mean_score.to_numpy(), CUT), fold=0, seed=0)
        train, test = np.flatnonzero(parts == "train"), np.flatnonzero(parts != "train")
        start = ("squeezenet1_0", str(weights))
        networks = [
            trained(photos, pixels, train, start, ("category",), WEIGHTS, seed, other)
            for seed in range(seeds)
        ]
        crops += [
            of_crops(
                *(networks[seed], networks[(seed + 1) % seeds], photos, pixels, test, seed),
                lambda row, box: {},
            ).assign(dataset="OASIS")
            for seed in range(seeds)
        ]
    crops = pd.concat(crops)
    out.mkdir(parents=True, exist_ok=True)
    against = summary(regions, ["iou", "auc", "pointing"], resamples, "AesAM, high")
    against.to_csv(out / "activation_maps.csv", index=False, float_format="%.4f")
    changes = ["own_network", "other_network", "area_share", "mask_recall"]
    changes += ["quality", *glassbox.ATTRIBUTES[:4]]
    changes = pd.concat(
        summary(part, [c for c in changes if part[c].notna().any()], resamples, "AesAM").assign(
            dataset=name
        )
        for name, part in crops.groupby("dataset", sort=False)
    )
    changes.to_csv(out / "crops.csv", index=False, float_format="%.5f")
    words = [Path(word).name if "/" in word else word for word in sys.argv[1:]]
    about = {"command": " ".join(["studies/maps_and_crops.py", *words])}
    about |= {"training": {"glass-box": vars(training), "OASIS": vars(other)}} | machine("auto")
    about["photos"] = crops.groupby("dataset").photo.nunique().to_dict()
    about["AUC of the tags, mean over tags and seeds"] = round(float(np.mean(known_tags)), 4)
    about["overlap and decision"] = facts.groupby("fact").value.mean().round(4).to_dict()
    whole = crops[crops.method == "AesAM"].groupby("dataset").whole.mean()
    about["share of photos kept whole"] = whole.round(4).to_dict()
    (out / "maps_and_crops.json").write_text(json.dumps(about, indent=1) + "\n")
    print(json.dumps(about, indent=1))
    for table, by in ((against, "minus"), (changes, ["dataset", "minus"])):
        values = table[["mean", "low", "high"]].to_numpy()
        text = [f"{mean:.3f} [{low:.3f}, {high:.3f}]" for mean, low, high in values]
        for name, part in table.assign(text=text).groupby(by, sort=False):
            wide = part.pivot(index="method", columns="measure", values="text").fillna("")
            wide = wide.loc[part.method.unique(), part.measure.unique()]
            print(f"\n{name}\n{wide.to_string()}")


def maps_of(network: AestheticNet, views: Pixels, rows: np.ndarray) -> list[ActivationMaps]:
    """Maps of some photos, 25 at a time; no training here shrinks its crops."""
    parts = np.array_split(rows, -(-len(rows) // 25))
    return [
        maps
        for part in parts
        for maps in activation_maps(network, views.crops(part, view="whole"), shrink_to=None)
    ]


def of_maps(
    network: AestheticNet, unseen: ScoredPhotos, views: Pixels, masks: np.ndarray, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every map of every photo against its mask; and how AesAM, AttAM and the decision agree."""
    rows = np.arange(len(unseen))
    fresh, _ = untrained(unseen, rows, ("squeezenet1_1", "starter"), glassbox.TAGS, seed)
    decisions = logits(network, views, crops="five").argmax(1)
    photos, middle = as_tensor(views.array), centre()
    found, facts = [], []
    pairs = zip(maps_of(network, views, rows), maps_of(fresh, views, rows), strict=True)
    for row, (maps, before) in enumerate(tqdm(pairs, "maps", len(rows), mininterval=5)):
        low, high = maps.levels.values()
        att = next(iter(maps.attributes.values()))
        shown = {
            "AesAM, high": high,
            "AesAM, low": low,
            "AesAM, high minus low": high - low,
            "AttAM, likeliest attribute": att,
            "AesAM, high, head not trained": before.levels["high"],
            "centre": middle,
            "spectral residual": spectral_residual(photos[row].permute(1, 2, 0).numpy()),
        }
        name = unseen.table.photo[row]
        for method, values in shown.items():
            measured = against_mask(values, region(values), masks[row])
            found.append({"method": method, "photo": name, "seed": seed} | measured)
        own = unseen.attributes[network.attributes].iloc[row] == 1
        true = own[list(maps.attributes)].any()
        chance = 1 - comb(len(own) - own.sum(), 3) / comb(len(own), 3)
        box, other = region_box(high), region_box(att)
        agreement = {
            "correlation of AesAM and AttAM": np.corrcoef(high.ravel(), att.ravel())[0, 1],
            "correlation of AesAM high and low": np.corrcoef(high.ravel(), low.ravel())[0, 1],
            "IoU of the regions of AesAM and AttAM": iou(region(high), region(att)),
            "boxes of AesAM and AttAM agree": bool(box and other)
            and overlap(box, other) >= AGREEMENT,
            "larger sum of maps is the five-crop decision": (high.sum() > low.sum())
            == decisions[row],
            "AesAM has no positive value": box is None,
        }
        if own.any():
            agreement["a true tag among the top 3, of photos that have one"] = true
            agreement["a true tag among three by chance"] = chance
        facts += [{"fact": fact, "value": float(value)} for fact, value in agreement.items()]
    return pd.DataFrame(found), pd.DataFrame(facts)


@torch.inference_mode()
def attributes_of(network: AestheticNet, views: Pixels) -> np.ndarray:
    """Logits (n, attributes) of all photos at the whole view."""
    parts = np.array_split(np.arange(len(views)), -(-len(views) // 25))
    photos = (normalised(views.crops(part, view="whole").to(device())) for part in parts)
    network.to(device())
    return torch.cat([network(some)[:, len(network.levels) :] for some in photos]).cpu().numpy()


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / max((a | b).sum(), 1)


def of_crops(
    network: AestheticNet,
    other: AestheticNet,
    photos: ScoredPhotos,
    views: Pixels,
    rows: np.ndarray,
    seed: int,
    truth: Callable[[int, Box], dict[str, float]],
) -> pd.DataFrame:
    """Every crop of every photo and what it changes, a row each; random ones as their mean."""
    judges = {"own_network": network, "other_network": other}
    originals = {name: high_of(judge, views.array[rows]) for name, judge in judges.items()}
    found = []
    maps = zip(rows, maps_of(network, views, rows), strict=True)
    for at, (row, own) in enumerate(tqdm(maps, "crops", len(rows), mininterval=5)):
        photo = open_rgb(photos.table.path[row])
        att = next(iter(own.attributes.values()))
        box, reason = crop_box(own.high, photo.size)
        both, why = crop_box(own.high, photo.size, att=att)
        salient = region_box(spectral_residual(views.array[row]).astype(np.float32))
        draw = np.random.default_rng([seed, number(photos.table.photo[row])])
        boxes = {
            "AesAM": [box],
            "AesAM and AttAM": [both],
            "centre": [moved(box, photo.size, (0.5, 0.5))],
            "random": [moved(box, photo.size, None, draw) for _ in range(PLACES)],
            "spectral residual": [
                about(box, photo.size, np.mean(np.reshape(salient, (2, 2)), 0) / SIDE)
            ],
        }
        flat = [(method, b) for method, several in boxes.items() for b in several]
        crops = np.stack([square(photo.crop(b)) for _, b in flat])
        lines = pd.DataFrame(
            [
                {
                    "method": method,
                    "area_share": (b[2] - b[0]) * (b[3] - b[1]) / (photo.width * photo.height),
                    "whole": float(bool(reason if method == "AesAM" else why)),
                    "mask_recall": np.nan,
                    "quality": np.nan,
                    **dict.fromkeys(glassbox.ATTRIBUTES[:4], np.nan),
                    **truth(row, b),
                }
                for method, b in flat
            ]
        )
        for name, judge in judges.items():
            lines[name] = high_of(judge, crops) - originals[name][at]
        means = lines.groupby("method", sort=False).mean().reset_index()
        found.append(means.assign(photo=photos.table.photo[row], seed=seed))
    return pd.concat(found)


def high_of(network: AestheticNet, array: np.ndarray) -> np.ndarray:
    """Probability of the high level (n,) of photos (n, 256, 256, 3), over the five crops."""
    low, high = logits(network, Pixels(array), crops="five").T
    return expit(high - low)


def moved(box: Box, size: tuple[int, int], share, draw=None) -> Box:
    """A box of the same size elsewhere: at a share of the room there is, or at random."""
    width, height = box[2] - box[0], box[3] - box[1]
    room = np.array([size[0] - width, size[1] - height])
    start = draw.integers(room + 1) if share is None else (room * share).astype(int)
    left, top = start.tolist()
    return left, top, left + width, top + height


def about(box: Box, size: tuple[int, int], place: np.ndarray) -> Box:
    """A box of the same size about a place (x, y) in shares of the photo, as near as it fits."""
    sides = np.array([box[2] - box[0], box[3] - box[1]])
    start = np.clip((place * size - sides / 2).round().astype(int), 0, np.subtract(size, sides))
    return (*start.tolist(), *(start + sides).tolist())


def true_change(photo: glassbox.GlassPhoto, box: Box) -> dict[str, float]:
    """What a crop does to a drawn photo: share of the subject in it, quality, four attributes."""
    before = of_frame(photo, (0, 0, *photo.image.size))
    after = of_frame(photo, box)
    change = {name: after[name] - before[name] for name in after}
    quality = sum(glassbox.WEIGHTS[name] * value for name, value in change.items())
    mask = np.asarray(photo.mask) > 127
    left, top, right, foot = box
    recall = mask[top:foot, left:right].sum() / mask.sum()
    return change | {"quality": quality, "mask_recall": recall}


def of_frame(photo: glassbox.GlassPhoto, box: Box) -> dict[str, float]:
    """The four attributes that depend on the frame, by the rules that the photo was drawn by."""
    left, top, right, foot = box
    rows, columns = np.nonzero(np.asarray(photo.mask) > 127)
    short, all_of_it = min(right - left, foot - top), min(photo.image.size)
    sides = np.array([right - left, foot - top])
    place = np.array([columns.mean() - left, rows.mean() - top]) / sides
    off = np.hypot(*(np.abs(place - 0.5) - 1 / 6))
    x, y = photo.distractors.T
    inside = (left <= x) & (x < right) & (top <= y) & (y < foot)
    held = ((left <= columns) & (columns < right) & (top <= rows) & (rows < foot)).mean()
    was = photo.attributes
    size = (0.16 + 0.11 * was["distinctness"]) * all_of_it / short
    blur = (1 - was["sharpness"]) * (all_of_it / short) ** (1 / 1.4)
    return {
        "distinctness": held * np.clip((size - 0.16) / 0.11, 0, 1),
        "placement": np.clip(1 - off / glassbox.THIRDS_REACH, 0, 1),
        "clutter": inside.sum() / max(len(x), 1) * was["clutter"],
        "sharpness": np.clip(1 - blur, 0, 1),
    }


def summary(table: pd.DataFrame, measures: list[str], resamples: int, base: str) -> pd.DataFrame:
    """Mean and interval of every method and measure; and of `base` minus every other method."""
    found = []
    methods = list(table.method.unique())
    for measure in measures:
        wide = table.pivot(index=["seed", "photo"], columns="method", values=measure)[methods]
        cube = np.stack([part.to_numpy() for _, part in wide.groupby("seed")])
        draws = pd.DataFrame(bootstrap(cube, resamples), columns=methods)
        for minus in (None, *(method for method in methods if method != base)):
            values = draws if minus is None else draws[[base]].sub(draws[minus], axis=0)
            low, high = (values.iloc[1:].quantile(q).to_numpy() for q in (0.025, 0.975))
            part = pd.DataFrame({"method": values.columns, "measure": measure})
            part["minus"] = minus or "nothing"
            found.append(part.assign(mean=values.iloc[0].to_numpy(), low=low, high=high))
    return pd.concat(found, ignore_index=True)


if __name__ == "__main__":
    torch.manual_seed(0)
    tyro.cli(main)
