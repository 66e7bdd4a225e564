"""Do highlight regions show the subject? Measured on photos whose subject is known, beside rivals.

    .venv/bin/python studies/highlight_regions.py
    .venv/bin/python studies/highlight_regions.py --oasis OASIS --weights IMAGENET.safetensors

SSRL-2019 (section 4) judges by eye that the 2-means region of conv1's difference, at the least
correlated channel J, shows the subject, for a late pair of rounds more clearly than for (2, 1).
Here glass-box photos that no network was trained on are judged against their subject masks.

Runs. A run that drops photos as the demo does (two thirds kept) and one that drops none, each with
the same number of gradient steps in every round of both. One starter network, so "two seeds" differ
in the split, the new head and the order of photos, not in where conv1 began.

Maps. Every method gives a map and a region. A method without a region of its own gets one by the
highlight's 2-means, whose cluster farther from zero is the higher one where a map is never
negative. A signed map is turned so that it is larger inside its region, as the highlight's is.
That choice of sign is ours and not the paper's, so `auc_best_sign` takes the better sign of every
photo by the mask; it lies above .5 by chance alone and compares methods only. A Grad-CAM map that
is zero everywhere has no region: IoU 0, AUC .5; how many there are is in the JSON file.
The two methods that look at every channel are judged on conv1's grid, all others at 256 px.

Deletion. How much the expected score (sum of score times softmax) of the last network moves when
the region is filled with the photo's mean colour, and when the same shape elsewhere is (the mask
rolled round the photo, mean over some shifts). Deletion and Grad-CAM take the whole 256 px in
float32, as the maps do. Real photos are those of each seed's test part. A region that stands out
from the mean colour moves the score more for that reason alone; a ragged one that follows the
edges of the photo draws new edges where it is moved to, so that elsewhere the score moves more. The
subject's mask, the centre and Grad-CAM say what to expect.

Intervals are 95 % bootstrap intervals: seeds are drawn, then photos, the same ones for every method
and seed, so differences are paired. With three seeds they say little about other seeds.
"""

import copy
import json
import sys
import zlib
from collections.abc import Iterable
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import tyro
from joblib import Parallel, delayed
from PIL import Image
from pytorch_grad_cam import GradCAM
from scipy.ndimage import gaussian_filter, uniform_filter
from scipy.stats import rankdata
from torch import nn
from tqdm.auto import tqdm

from rsrl_lib import highlight as h
from rsrl_lib.drawing import glassbox
from rsrl_lib.drop_rules import DropRule
from rsrl_lib.files import ROOT, InputError
from rsrl_lib.machine import machine
from rsrl_lib.measures import against_mask
from rsrl_lib.network import AestheticNet
from rsrl_lib.pixels import CACHE, SIDE, decode, normalised
from rsrl_lib.recipe import Recipe, Training
from rsrl_lib.rounds import repeat
from rsrl_lib.runs import Run
from rsrl_lib.sources import read_folder

MEASURES = ["iou", "auc", "auc_best_sign", "pointing", "area_share"]
METHOD = ["method", "later", "earlier"]
DROPPING = DropRule(keep_share=0.667)
CHANGES = ["area_share", "region", "elsewhere", "difference"]
CHUNK = 10  # photos of one job
Shown = list[tuple[np.ndarray, np.ndarray]]  # map and region (h, w) of every photo


def main(
    rounds: int = 8,
    seeds: int = 3,
    steps: int = 95,
    count: int = 700,
    judged: int = 300,
    shifts: int = 4,
    resamples: int = 2000,
    oasis: Path | None = None,
    weights: Path | None = None,
    work: Path = CACHE / "highlight",
    out: Path = ROOT / "data" / "results",
) -> None:
    """Train, judge every method on every photo, and write the summaries.

    Args:
        rounds: Rounds of a run; its late pair is the last two.
        seeds: Training seeds, two or more; "two seeds" pairs each with the next one.
        steps: Gradient steps of every round; 95 are five epochs of the photos kept of 700.
        count: Glass-box photos to train, validate and test on (set 0).
        judged: Other glass-box photos, whose maps are judged (set 1).
        shifts: Places elsewhere that a region is moved to.
        resamples: Bootstrap resamples.
        oasis: Folder of real photos with photos/ and photos.csv (columns photo, mean_score).
        weights: ImageNet weights of squeezenet1_0 for the real photos.
        work: Folder for runs and per-photo tables; finished rounds in it are not trained again.
        out: Folder for the summaries.
    """
    if rounds < 2 or seeds < 2:
        raise InputError(f"Two rounds and two seeds are needed, not {rounds} and {seeds}.")
    if (oasis is None) != (weights is None):
        raise InputError("Real photos need both --oasis and --weights; give both or none.")
    settings = {"rounds": rounds, "seeds": seeds, "steps": steps, "count": count}
    settings |= {"judged": judged, "shifts": shifts, "resamples": resamples}
    training = Training(learning_rate=3e-4, head_learning_rate=3e-3, batch=16, steps=steps)
    demo = Recipe("squeezenet1_1", "starter", rounds=rounds, drop=DROPPING, training=training)
    recipes = {"dropping": demo, "keeping-all": replace(demo, drop=DropRule(k=(0.0,)))}
    runs = {}
    scored = glassbox.open_set(count, 0)
    pixels, _ = decode(scored.table)
    for kind, recipe in recipes.items():
        runs[kind] = [
            repeat(scored, pixels, work / f"{kind}-{seed}", replace(recipe, seed=seed))
            for seed in range(seeds)
        ]
    scored = glassbox.open_set(judged, 1)
    pixels, _ = decode(scored.table)
    masks = np.stack([_mask(path) for path in scored.table["mask"]])
    jobs = [
        delayed(of_glass_box_photos)(
            *(pixels.array[rows], names, masks[rows], runs["dropping"][seed]),
            *(runs["keeping-all"][seed], runs["dropping"][(seed + 1) % seeds], seed, shifts),
        )
        for seed in range(seeds)
        for rows, names in _chunks(scored.table["photo"])
    ]
    judgements, changes = zip(*_done(jobs, "glass-box photos"), strict=True)

    if oasis is not None:
        training = Training(learning_rate=1e-4, head_learning_rate=1e-3, batch=32, epochs=5)
        recipe = Recipe(
            "squeezenet1_0", str(weights), rounds=rounds, drop=DROPPING, training=training
        )
        scored = read_folder(oasis / "photos", oasis / "photos.csv", mean_column="mean_score")
        pixels, _ = decode(scored.table)
        recipes["real"] = recipe
        runs["real"] = [
            repeat(scored, pixels, work / f"real-{seed}", replace(recipe, seed=seed))
            for seed in range(seeds)
        ]
        jobs = [
            delayed(of_real_photos)(pixels.array[rows], names, run, seed, shifts)
            for seed, run in enumerate(runs["real"])
            for rows, names in _chunks(run.split.photo[run.split.part == "test"])
        ]
        changes = (*changes, *_done(jobs, "real photos"))

    whole = {"later": "Int64", "earlier": "Int64"}
    table = pd.concat(judgements, ignore_index=True).astype(whole)
    deletion = pd.concat(changes, ignore_index=True).astype(whole)
    table.to_parquet(work / "glass_box.parquet")
    deletion.to_parquet(work / "deletion.parquet")
    out.mkdir(parents=True, exist_ok=True)
    pairs = dict.fromkeys([(rounds, rounds - 1), (2, 1)])
    regions = summary(table, MEASURES, resamples, compared_with=tuple(pairs))
    regions.to_csv(out / "highlight_regions.csv", index=False, float_format="%.4f")
    deletion = pd.concat(
        summary(part, CHANGES, resamples).assign(dataset=dataset)
        for dataset, part in deletion.groupby("dataset", sort=False)
    )
    deletion = one_row_a_method(deletion)
    deletion.to_csv(out / "highlight_deletion.csv", index=False, float_format="%.5f")
    facts = provenance(settings, recipes, runs)
    flat = table.method.str.startswith("Grad-CAM") & (table.area_share == 0)
    facts["flat Grad-CAM maps"] = table[flat].groupby("method").size().to_dict()
    (out / "highlight_regions.json").write_text(json.dumps(facts, indent=1) + "\n")
    show(regions, deletion)


def of_glass_box_photos(
    array: np.ndarray,
    names: list[str],
    masks: np.ndarray,
    run: Run,
    keeping_all: Run,
    other: Run,
    seed: int,
    shifts: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every method on some photos: table of measures, table of changes by deletion.

    `array` is (photos, 256, 256, 3) bytes, `masks` (photos, 256, 256); `run` drops photos, `other`
    is the same with another seed.
    """
    photos, last = as_tensor(array), run.network("last")
    late = len(run.rounds)
    pair = (late, late - 1)
    layers = {i: h.conv1_of(run, i) for i in range(1, late + 1)}
    found = of_pairs(photos, layers, [h.conv1_of(keeping_all, i) for i in pair])
    noise = noisy(layers[late - 1], layers[late], seed)
    found["highlight, noise for a step", late - 1, late - 1] = highlighted(
        noise, layers[late - 1], photos
    )
    apart = h.conv1_of(other, late)
    found["highlight, two seeds", late, late] = highlighted(layers[late], apart, photos)
    later, earlier = maps_of(layers[late], layers[late - 1], photos)
    correlations = h.correlations(*map(torch.from_numpy, (later, earlier))).numpy()
    draws = [np.random.default_rng([seed, number(name)]) for name in names]
    found |= of_other_channels(later, earlier, correlations, draws, pair)
    found["centre", None, None] = shown([centre()] * len(photos))
    found["spectral residual", None, None] = shown([spectral_residual(photo) for photo in array])
    found["Grad-CAM, chosen network", None, None] = grad_cam(run.network("best"), photos)
    found["Grad-CAM, last network", None, None] = grad_cam(last, photos)

    rows, changes = [], []
    for n, (name, mask) in enumerate(zip(names, masks, strict=True)):
        about = {"seed": seed, "photo": name}
        for key, of_photos in found.items():
            map_, region = of_photos[n]
            row = against_mask(map_, region, mask)
            row |= {"auc_best_sign": max(row["auc"], 1 - row["auc"]), "area_share": region.mean()}
            rows.append(dict(zip(METHOD, key, strict=True)) | about | row)
        auc = auc_of_channels((later - earlier)[n, np.isfinite(correlations[n])], mask)
        best = np.maximum(auc, 1 - auc)
        about |= {"later": late, "earlier": late - 1}
        mean = {"method": "mean over all channels", "auc": auc.mean()}
        rows.append(about | mean | {"auc_best_sign": best.mean()})
        oracle = {"method": "best channel, chosen by the mask", "auc_best_sign": best.max()}
        rows.append(about | oracle)
        regions = {key: found[key][n][1] for key in found if key in deletable(late)}
        regions["subject's mask", None, None] = mask
        changes += deleted(last, photos[n], regions, shifts, seed=seed, name=name)
    return pd.DataFrame(rows), pd.DataFrame(changes).assign(dataset="glass-box")


def of_real_photos(
    array: np.ndarray, names: list[str], run: Run, seed: int, shifts: int
) -> pd.DataFrame:
    """Changes by deletion on photos without a mask, (photos, 256, 256, 3) bytes."""
    photos, network, late = as_tensor(array), run.network("last"), len(run.rounds)
    found = {
        key: highlighted(h.conv1_of(run, key[1]), h.conv1_of(run, key[2]), photos)
        for key in deletable(late)
        if key[0] == "highlight"
    }
    found["centre", None, None] = shown([centre()] * len(photos))
    found["Grad-CAM, last network", None, None] = grad_cam(network, photos)
    changes = []
    for n, name in enumerate(names):
        regions = {key: of_photos[n][1] for key, of_photos in found.items()}
        changes += deleted(network, photos[n], regions, shifts, seed=seed, name=name)
    return pd.DataFrame(changes).assign(dataset="real")


def deletable(late: int) -> list[tuple]:
    """Methods whose regions are deleted."""
    highlights = [("highlight", late, late - 1), ("highlight", 2, 1)]
    return [*highlights, ("centre", None, None), ("Grad-CAM, last network", None, None)]


def of_pairs(
    photos: torch.Tensor, layers: dict[int, nn.Conv2d], keeping_all: list[nn.Conv2d]
) -> dict[tuple, Shown]:
    """Highlights of neighbouring rounds, of the last and earlier ones, and without dropping."""
    late = max(layers)
    pairs = [(i, i - 1) for i in range(2, late + 1)]
    pairs += [(late, late - k) for k in range(2, 6) if late - k > 0]
    found = {("highlight", i, j): highlighted(layers[i], layers[j], photos) for i, j in pairs}
    key = ("highlight, no photo dropped", late, late - 1)
    return found | {key: highlighted(*keeping_all, photos)}


def of_other_channels(
    later: np.ndarray,
    earlier: np.ndarray,
    correlations: np.ndarray,
    draws: list[np.random.Generator],
    pair: tuple[int, int],
) -> dict[tuple, Shown]:
    """What the maps (photos, channels, h, w) of the late pair show in other ways than at J."""
    diffs, every = later - earlier, np.arange(len(later))
    usable = [np.flatnonzero(np.isfinite(own)) for own in correlations]
    by_chance = [draw.choice(channels) for draw, channels in zip(draws, usable, strict=True)]
    widest = np.linalg.norm(diffs.reshape(*diffs.shape[:2], -1), axis=2).argmax(1)
    return {
        ("highest correlation", *pair): shown(diffs[every, np.nanargmax(correlations, 1)]),
        ("random channel", *pair): shown(diffs[every, by_chance]),
        ("largest difference", *pair): shown(diffs[every, widest]),
        ("mean |difference| of all channels", *pair): shown(np.abs(diffs).mean(1)),
        ("map of J, no difference", pair[0], None): shown(
            later[every, np.nanargmin(correlations, 1)]
        ),
    }


def highlighted(later: nn.Conv2d, earlier: nn.Conv2d, photos: torch.Tensor) -> Shown:
    """The library's highlights; photo by photo, as the maps of one still fit in the cache.

    No training here shrinks its crops.
    """
    pair = h.stacked(later, earlier)
    found = [h.highlights(pair, photo, shrink_to=None)[0] for photo in photos.split(1)]
    return [(highlight.rising, highlight.region) for highlight in found]


def shown(maps: Iterable[np.ndarray], *, may_be_flat: bool = False) -> Shown:
    """Maps of a rival and their regions, by the highlight's 2-means and its rule for the sign.

    A flat map raises `InputError`, or, where it may be flat, has an empty region.
    """
    found = []
    for map_ in maps:
        if may_be_flat and np.ptp(map_) == 0:
            found.append((map_, np.zeros(map_.shape, bool)))
            continue
        region = h.two_means(map_)
        found.append((map_ if map_[region].mean() > map_.mean() else -map_, region))
    return found


def maps_of(
    later: nn.Conv2d, earlier: nn.Conv2d, photos: torch.Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """Maps (photos, channels, h, w) of both layers."""
    inputs = normalised(photos)
    return later(inputs).numpy(), earlier(inputs).numpy()


def noisy(earlier: nn.Conv2d, later: nn.Conv2d, seed: int) -> nn.Conv2d:
    """The earlier layer a random step on, weights and biases each as far as training took them."""
    layer, generator = copy.deepcopy(earlier), torch.Generator().manual_seed(seed)
    for values, target in zip(layer.parameters(), later.parameters(), strict=True):
        noise = torch.randn(values.shape, generator=generator)
        values += noise * (target - values).norm() / noise.norm()
    return layer


def centre() -> np.ndarray:
    """A Gaussian about the middle of the photo; a quarter of its side wide."""
    bell = np.exp(-(np.linspace(-0.5, 0.5, SIDE) ** 2) / (2 * 0.25**2))
    return np.outer(bell, bell)


def spectral_residual(photo: np.ndarray) -> np.ndarray:
    """Spectral-residual saliency (64, 64) of a photo (Hou & Zhang 2007), filters as they published.

    Not what is expected of the spectrum, smoothness, is what stands out in the photo.
    """
    grey = Image.fromarray(photo).convert("L").resize((64, 64), Image.Resampling.BILINEAR)
    spectrum = np.fft.fft2(np.asarray(grey) / 255)
    log_amplitude = np.log(np.abs(spectrum))
    residual = log_amplitude - uniform_filter(log_amplitude, 3, mode="nearest")
    saliency = np.abs(np.fft.ifft2(np.exp(residual + 1j * np.angle(spectrum)))) ** 2
    return gaussian_filter(saliency, 2.5, mode="constant")


def grad_cam(network: AestheticNet, photos: torch.Tensor) -> Shown:
    """Grad-CAM maps (256, 256) of the last convolutions for the assigned scores.

    A map is zero everywhere where no position speaks for the score.
    """
    with GradCAM(network, [network.body.features[-1]]) as cam:
        maps = cam(normalised(photos), targets=None)  # None: of the largest node
    return shown(maps, may_be_flat=True)


def auc_of_channels(diffs: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """AUC (channels,) of difference maps (channels, h, w), each turned as `shown` would turn it.

    The best 2-means of values on a line is a cut of the sorted values, found here for all channels
    at once by the largest spread between the two means (k-means from both ends, which is slower,
    misses it now and then).
    """
    grid = Image.fromarray(mask).resize(diffs.shape[:0:-1], Image.Resampling.NEAREST)
    inside, values = np.asarray(grid).ravel(), diffs.reshape(len(diffs), -1).astype(float)
    positions = inside.size
    below = np.sort(values, axis=1).cumsum(1)
    lower = np.arange(1, positions)
    total, below = below[:, -1:], below[:, :-1]
    low, high = below / lower, (total - below) / (positions - lower)
    cut = (lower * (positions - lower) * (high - low) ** 2).argmax(1)[:, None]
    low, high = (np.take_along_axis(means, cut, 1)[:, 0] for means in (low, high))
    ranks = rankdata(values, axis=1)[:, inside].sum(1) - inside.sum() * (inside.sum() + 1) / 2
    auc = ranks / (inside.sum() * (~inside).sum())
    return np.where(np.abs(high) > np.abs(low), auc, 1 - auc)


@torch.inference_mode()
def deleted(
    network: AestheticNet,
    photo: torch.Tensor,
    regions: dict[tuple, np.ndarray],
    shifts: int,
    *,
    seed: int,
    name: str,
) -> list[dict]:
    """|Change| of the expected score by filling each region of a photo (3, 256, 256) or elsewhere.

    The name of the photo draws the shifts: the same ones for every region and every seed.
    """
    network.to(memory_format=torch.channels_last).eval()
    places = np.random.default_rng(number(name)).integers(1, SIDE, (shifts, 2)).tolist()
    colour = photo.float().mean((1, 2)).round().byte()[:, None, None]
    variants, shares = [photo], []
    for region in regions.values():
        mask = Image.fromarray(region).resize((SIDE, SIDE), Image.Resampling.NEAREST)
        shares.append(np.mean(mask))
        for place in [(0, 0), *places]:
            moved = torch.from_numpy(np.roll(mask, place, (0, 1)))
            variants.append(torch.where(moved, colour, photo))
    inputs = normalised(torch.stack(variants)).contiguous(memory_format=torch.channels_last)
    logits = network(inputs)  # (1 + regions * (1 + shifts), scores)
    expected = logits.softmax(1) @ torch.tensor(network.scores, dtype=torch.float)
    changes = (expected[1:] - expected[0]).abs().reshape(len(regions), 1 + shifts)
    rows = []
    for key, share, (here, *elsewhere) in zip(regions, shares, changes.tolist(), strict=True):
        row = {"area_share": share, "region": here, "elsewhere": np.mean(elsewhere)}
        row |= {"difference": here - row["elsewhere"], "seed": seed, "photo": name}
        rows.append(dict(zip(METHOD, key, strict=True)) | row)
    return rows


def summary(
    table: pd.DataFrame, measures: list[str], resamples: int, *, compared_with: tuple = ()
) -> pd.DataFrame:
    """Mean and interval of every method and measure, and minus those of some highlight pairs."""
    table = table.assign(number=table.groupby(METHOD, sort=False, dropna=False).ngroup())
    methods = table.drop_duplicates("number").set_index("number")[METHOD]
    highlights = methods[methods.method == "highlight"]
    number_of = {(row.later, row.earlier): n for n, row in highlights.iterrows()}
    found = []
    for measure in measures:
        wide = table.dropna(subset=[measure]).pivot(
            index=["seed", "photo"], columns="number", values=measure
        )
        photos = wide.index.unique("photo")
        cube = np.stack([wide.loc[seed].reindex(photos) for seed in wide.index.unique("seed")])
        draws = pd.DataFrame(bootstrap(cube, resamples), columns=wide.columns)
        for pair in (None, *compared_with):
            against = draws.sub(draws[number_of[pair]], axis=0) if pair else draws
            low, high = (against.iloc[1:].quantile(q) for q in (0.025, 0.975))
            part = methods.loc[wide.columns].assign(measure=measure)
            part["minus"] = f"highlight {pair[0]}-{pair[1]}" if pair else "nothing"
            found.append(part.assign(mean=against.iloc[0], low=low, high=high))
    return pd.concat(found, ignore_index=True)


def bootstrap(values: np.ndarray, resamples: int) -> np.ndarray:
    """Means (1 + resamples, methods) of values (seeds, photos, methods); the first: of all as is.

    A photo without a value (NaN: not in the test part of that seed) counts where it has one.
    """
    seeds, photos, _ = values.shape
    rng = np.random.default_rng(0)
    of_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), resamples)
    of_photos = rng.multinomial(photos, np.full(photos, 1 / photos), resamples)
    of_seeds, of_photos = (np.vstack([np.ones_like(w[:1]), w]) for w in (of_seeds, of_photos))
    known = np.isfinite(values)
    means = (of_photos @ np.where(known, values, 0)) / (of_photos @ known.astype(float))
    return np.einsum("rs,src->rc", of_seeds / seeds, means)  # means: (seeds, draws, methods)


def one_row_a_method(changes: pd.DataFrame) -> pd.DataFrame:
    """The long summary of deletions as one row a method; the interval is of the difference."""
    of_measure = dict(list(changes.groupby("measure", sort=False)))
    table = of_measure["difference"][["dataset", *METHOD]].reset_index(drop=True)
    for measure, part in of_measure.items():
        table[measure] = part["mean"].to_numpy()
    for end in ("low", "high"):
        table[end] = of_measure["difference"][end].to_numpy()
    return table


def provenance(settings: dict, recipes: dict[str, Recipe], runs: dict[str, list[Run]]) -> dict:
    """What the numbers depend on; folders are left out, they say nothing about the numbers."""
    words = [Path(word).name if "/" in word else word for word in sys.argv[1:]]
    facts = {"command": " ".join(["studies/highlight_regions.py", *words])}
    facts |= {"settings": settings} | machine("auto")
    facts["versions"] |= {name: version(name) for name in ("scikit-learn", "scipy", "grad-cam")}
    facts["recipes"] = {}
    for kind, recipe in recipes.items():
        recipe = asdict(recipe) | {"weights": Path(recipe.weights).name, "seed": "each"}
        facts["recipes"][kind] = recipe
    facts["runs"] = {
        f"{kind}, seed {seed}": {
            "chosen": run.chosen,
            "kept": run.rounds.kept.tolist(),
            "conv1_change": run.rounds.conv1_change.round(5).tolist(),
            "test_kappa": run.rounds.test_kappa.round(3).tolist(),
        }
        for kind, of_kind in runs.items()
        for seed, run in enumerate(of_kind)
    }
    return facts


def show(regions: pd.DataFrame, deletion: pd.DataFrame) -> None:
    """Print both summaries, a method a row."""
    values = regions[["mean", "low", "high"]].to_numpy()
    texts = regions.assign(
        text=[f"{mean:.3f} [{low:.3f}, {high:.3f}]" for mean, low, high in values],
        method=named(regions),
    )
    for minus, part in texts.groupby("minus", sort=False):
        wide = part.pivot(index="method", columns="measure", values="text").fillna("")
        wide = wide.loc[part.method.unique(), part.measure.unique()]
        print(f"\nGlass-box photos, 95 % intervals; minus {minus}\n{wide.to_string()}")
    deletion = deletion.assign(method=named(deletion)).drop(columns=METHOD[1:])
    print("\nMean |change| of the expected score when a region is filled with the mean colour")
    print(deletion.to_string(index=False, float_format="{:.4f}".format))


def named(table: pd.DataFrame) -> list[str]:
    """Methods with the rounds they are of."""
    rounds = table[METHOD[1:]].astype("string").fillna("")
    return [
        f"{method} {later}{'-' * bool(earlier)}{earlier}".strip()
        for method, later, earlier in zip(table.method, rounds.later, rounds.earlier, strict=True)
    ]


def as_tensor(array: np.ndarray) -> torch.Tensor:
    """Bytes (photos, 3, 256, 256) of (photos, 256, 256, 3), channel after channel in memory.

    Maps then lie so too, which correlations and sorting over positions take less time for.
    """
    return torch.from_numpy(np.ascontiguousarray(array.transpose(0, 3, 1, 2)))


def number(name: str) -> int:
    """A photo's name as a number, to seed its random draws."""
    return zlib.crc32(name.encode())


def _mask(path: str) -> np.ndarray:
    """A subject mask as the photos are: upright (masks are stored so) and 256 x 256."""
    mask = Image.open(path).convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(mask) > 127


def _chunks(names: pd.Series) -> list[tuple[np.ndarray, list[str]]]:
    """Rows in the table of photos and names, some photos at a time."""
    parts = np.array_split(np.arange(len(names)), -(-len(names) // CHUNK))
    return [(names.index[part].to_numpy(), names.iloc[part].tolist()) for part in parts]


def _done(jobs: list, title: str) -> list:
    """Results of all jobs, on all cores."""
    results = Parallel(n_jobs=-1, return_as="generator")(jobs)
    return list(tqdm(results, title, len(jobs), unit=f"{CHUNK} photos", mininterval=5))


if __name__ == "__main__":
    tyro.cli(main)
