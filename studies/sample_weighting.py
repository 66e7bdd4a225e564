"""Does weighting ambiguous photos less beat dropping them? AWCU-2018's four networks and its sweep.

    .venv/bin/python studies/sample_weighting.py
    .venv/bin/python studies/sample_weighting.py --oasis OASIS --weights IMAGENET.safetensors

Arms. AesCNN (level alone) and AesAttCNN (level and attributes), each with w(1:1) and w(1:6), the
ratio with which both of the paper's encoders were best; AesCNN with every ratio b/a of Table 2, the
last of them without the ambiguous photos (a = 0). An arm changes the weights of the loss, or the
attribute head, and nothing else: same photos, folds, starting weights, crops and gradient steps.

Photos. Glass-box photos (attributes: the seven tags) from the starter weights, and the photos of
OASIS (attribute: its category) from ImageNet weights; SqueezeNet for both, as torchvision's AlexNet
is a download. High is a mean score above 4, ambiguous one between 3 and 5: AWCU-2018 has 5, and 4
and 6, on a scale whose middle is one higher.

Training as in the paper: SGD with momentum .9, learning rate .001 falling to a tenth (twice; when,
the paper does not say), weight decay .0005, five 227 px crops in training and testing; 60 steps. On
OASIS that leaves a network that answers high to every validation photo, so there the optimiser is
the library's default, AdamW, chosen by AesCNN on the validation photos of fold 0. Nothing else is
chosen: no round is picked, and test photos (each fold's 20 %; 64 % are trained on) are only
counted.

Written are one row a cell (`sample_weighting.csv`), each photo's margin, the logit of high minus
that of low (`sample_weighting_margins.parquet`), and what the numbers depend on (`.json`).
"""

import json
import sys
from importlib.metadata import version
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import tyro
from joblib import Parallel, delayed
from tqdm.auto import tqdm

from rsrl_lib.dataset import soft_attributes
from rsrl_lib.drawing import glassbox
from rsrl_lib.files import ROOT, InputError, replacing
from rsrl_lib.losses import joint_loss, joint_targets, sample_weights
from rsrl_lib.machine import machine
from rsrl_lib.network import AestheticNet, aesthetic_net
from rsrl_lib.photos import ScoredPhotos
from rsrl_lib.pixels import CACHE, Pixels, decode
from rsrl_lib.protocols import FOLDS, low_high, split
from rsrl_lib.recipe import Training
from rsrl_lib.sources import read_folder
from rsrl_lib.training import fine_tune, logits

CUT, AMBIGUOUS = 4.0, (3.0, 5.0)
RATIOS = {"1": (1, 1), **{str(b): (1, b) for b in (2, 3, 4, 5, 6, 7, 10)}, "dropping": (0, 1)}
ARMS = {f"AesCNN {ratio}": (False, ab) for ratio, ab in RATIOS.items()}
ARMS |= {f"AesAttCNN {ratio}": (True, RATIOS[ratio]) for ratio in ("1", "6")}


def main(
    count: int = 700,
    seeds: int = 1,
    steps: int = 60,
    oasis: Path | None = None,
    weights: Path | None = None,
    work: Path = CACHE / "sample_weighting",
    out: Path = ROOT / "data" / "results",
) -> None:
    """Train every cell that is not there yet, and write the tables.

    Args:
        count: Glass-box photos.
        seeds: Seeds of split, new heads and batches; each is trained on all five folds.
        steps: Gradient steps of every network; 60 are four to six passes over the photos.
        oasis: Folder of real photos with photos/ and photos.csv (mean_score, category).
        weights: ImageNet weights of squeezenet1_0 for the real photos.
        work: Folder for finished cells; they are not trained again.
        out: Folder for the tables.
    """
    if (oasis is None) != (weights is None):
        raise InputError("Real photos need both --oasis and --weights; give both or none.")
    common = {"decay": "tenths", "crops": "five", "steps": steps}
    training = {
        "glass-box": Training("sgd", 1e-3, 1e-3, **common),
        "OASIS": Training("adamw", 1e-4, 1e-3, **common),
    }
    sets = {"glass-box": (glassbox.open_set(count, 0), ("squeezenet1_1", "starter"))}
    attributes = {"glass-box": glassbox.TAGS, "OASIS": ("category",)}
    if oasis is not None:
        columns = {"mean_column": "mean_score", "attribute_columns": ("category",)}
        photos = read_folder(oasis / "photos", oasis / "photos.csv", **columns)
        sets["OASIS"] = photos, ("squeezenet1_0", str(weights))
    work.mkdir(parents=True, exist_ok=True)
    jobs, files = [], []
    # Seed by seed, so that a run that is stopped has whole seeds.
    for seed, (name, (photos, start)) in product(range(seeds), sets.items()):
        pixels, _ = decode(photos.table)
        for fold, arm in product(range(FOLDS), ARMS):
            file = work / f"{name}-{arm}-{fold}-{seed}-{steps}-{pixels.fingerprint}.parquet"
            names = attributes[name] if ARMS[arm][0] else ()
            facts = {"dataset": name, "arm": arm, "fold": fold, "seed": seed}
            files.append((file, facts))
            if not file.exists():
                given = (photos, pixels, start, names, ARMS[arm][1], fold, seed, training[name])
                jobs.append(delayed(cell)(file, *given))
    list(
        tqdm(
            Parallel(n_jobs=-1, return_as="generator")(jobs),
            "networks",
            len(jobs),
            unit="network",
            mininterval=5,
        )
    )
    margins = pd.concat([pd.read_parquet(file).assign(**facts) for file, facts in files])
    keys = ["dataset", "arm", "fold", "seed"]
    cells = margins.groupby(keys, sort=False).apply(of_cell, include_groups=False).reset_index()
    out.mkdir(parents=True, exist_ok=True)
    cells.to_csv(out / "sample_weighting.csv", index=False, float_format="%.5f")
    columns = [*keys, "photo", "high", "ambiguous", "margin"]
    margins[columns].to_parquet(out / "sample_weighting_margins.parquet", index=False)
    words = [Path(word).name if "/" in word else word for word in sys.argv[1:]]
    facts = {"command": " ".join(["studies/sample_weighting.py", *words])}
    facts |= {"cut": CUT, "ambiguous": AMBIGUOUS, "arms": ARMS}
    facts["training"] = {name: vars(training[name]) for name in sets}
    facts |= machine("auto") | {"photos": {}}
    facts["versions"]["scikit-learn"] = version("scikit-learn")
    for name, (photos, start) in sets.items():
        high = low_high(photos.table.mean_score.to_numpy(), CUT)
        inside = sample_weights(photos.table.mean_score.to_numpy(), AMBIGUOUS, (1, 0))
        facts["photos"][name] = {
            "photos": len(high),
            "high": int(high.sum()),
            "ambiguous": int(inside.sum()),
            "start": [start[0], Path(start[1]).name],
            "fingerprint": decode(photos.table)[0].fingerprint,
        }
    (out / "sample_weighting.json").write_text(json.dumps(facts, indent=1) + "\n")
    means = cells.drop(columns=["fold", "seed"]).groupby(["dataset", "arm"], sort=False).mean()
    print(means.to_string(float_format="{:.3f}".format))


def cell(
    file: Path,
    photos: ScoredPhotos,
    pixels: Pixels,
    start: tuple[str, str],
    names: tuple[str, ...],
    ab: tuple[float, float],
    fold: int,
    seed: int,
    training: Training,
) -> None:
    """Train one network and write the margins of its test photos."""
    means = photos.table.mean_score.to_numpy()
    high = low_high(means, CUT)
    parts = split(high, fold=fold, seed=seed).to_numpy()
    train, test = (np.flatnonzero(parts == part) for part in ("train", "test"))
    network = trained(photos, pixels, train, start, names, ab, seed, training)
    low, top = logits(network, pixels, test, crops="five").T
    table = photos.table.iloc[test][["photo", "mean_score"]].assign(
        high=high[test],
        ambiguous=sample_weights(means, AMBIGUOUS, (1, 0))[test] > 0,
        margin=top - low,
    )
    with replacing(file) as partial:
        table.to_parquet(partial, index=False)


def trained(
    photos: ScoredPhotos,
    pixels: Pixels,
    rows: np.ndarray,
    start: tuple[str, str],
    names: tuple[str, ...],
    ab: tuple[float, float],
    seed: int,
    training: Training,
) -> AestheticNet:
    """AesCNN, or with `names` of attributes AesAttCNN, with w(a:b), trained on some photos."""
    network, attributes = untrained(photos, rows, start, names, seed)
    means = photos.table.mean_score.to_numpy()[rows]
    nodes = network.nodes((means > CUT).astype(int))
    weight = sample_weights(means, AMBIGUOUS, ab)
    targets = joint_targets(nodes, weight, attributes.to_numpy()[rows])
    fine_tune(network, pixels, rows, targets, training, loss=joint_loss, seed=seed)
    return network


def untrained(
    photos: ScoredPhotos,
    rows: np.ndarray,
    start: tuple[str, str],
    names: tuple[str, ...],
    seed: int,
) -> tuple[AestheticNet, pd.DataFrame]:
    """The network as transferred, with random heads, and its attributes."""
    attributes = soft_attributes(photos, names, rows)
    form = {"head": "gap", "attributes": list(attributes), "levels": ("low", "high")}
    return aesthetic_net(start[0], (0, 1), weights=start[1], seed=seed, **form), attributes


def of_cell(found: pd.DataFrame) -> pd.Series:
    """Measures of one network on its test photos."""
    right = (found.margin > 0) == (found.high == 1)
    recall = right.groupby(found.high).mean()
    return pd.Series(
        {
            "accuracy": right.mean(),
            "majority_accuracy": found.high.value_counts(normalize=True).max(),
            "recall_low": recall[0],
            "recall_high": recall[1],
            "balanced_accuracy": recall.mean(),
            "accuracy_clear": right[~found.ambiguous].mean(),
            "accuracy_ambiguous": right[found.ambiguous].mean(),
            "spearman": found.margin.corr(found.mean_score, method="spearman"),
        }
    )


if __name__ == "__main__":
    tyro.cli(main)
