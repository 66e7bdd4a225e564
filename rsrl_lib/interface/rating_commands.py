"""The commands for scores that you give yourself: the page, and whether the photos are enough."""

from pathlib import Path

from rsrl_lib.files import CACHE, InputError, check_writable, replacing, some_photos


def rate(
    photos: Path,
    scores: Path,
    scale: tuple[int, int] | None = None,
    rater: str | None = None,
    port: int = 8867,
    no_browser: bool = False,
) -> None:
    """Score a folder of photos by keys, in a browser on this machine alone; Ctrl-C ends it.

    Example: rsrl rate --photos my_photos --scores my_photos/scores.csv

    Every key is saved. The same command goes on where you stopped.

    Args:
        photos: Folder of photos, with sub-folders.
        scores: CSV for the scores, as rsrl train reads it; the log of all keys lies beside it.
        scale: Lowest and highest score, within 0 and 9 or 1 and 10 (key 0); 1 9 when not given.
        rater: Who scores. Photos with scores of several raters get the mean, and votes.
        port: Where the page is: http://127.0.0.1:PORT.
        no_browser: Open no browser on it.
    """
    check_writable(scores, "--scores")

    from rsrl_lib.interface import app

    how = {"scale": scale, "rater": rater}
    app.serve_rating(photos, scores, **how, port=port, browser=not no_browser)


def curve(
    photos: Path,
    scores: Path,
    out: Path | None = None,
    backbone: str = "squeezenet1_1",
    weights: str = "starter",
    cache: Path = CACHE,
) -> None:
    """Tell whether there are enough scored photos: what a frozen network's head learns from them.

    Example: rsrl curve --photos my_photos --scores my_photos/scores.csv --out curve.png

    Args:
        photos: Folder of photos.
        scores: CSV with a row per photo, as rsrl rate writes it.
        out: Picture of the curve (.png).
        backbone: Network whose last layer learns.
        weights: starter (shipped, of squeezenet1_1), imagenet (a download), or a file.
        cache: Folder for decoded photos.
    """
    check_writable(cache, "--cache", folder=True)
    if out is not None:
        if out.suffix.lower() != ".png":
            raise InputError(f"--out {out} is no PNG; give a name such as curve.png.")
        check_writable(out, "--out")

    from rsrl_lib import repeatability
    from rsrl_lib.backbones import side_of
    from rsrl_lib.features import features
    from rsrl_lib.learning_curve import check_enough, in_words, learning_curve
    from rsrl_lib.network import aesthetic_net, check_weights
    from rsrl_lib.pixels import decode
    from rsrl_lib.sources import read_folder

    check_weights(weights)
    scored = read_folder(photos, scores, strict=False)
    check_enough(scored.table["score"].to_numpy())
    side = side_of(backbone)
    pixels, broken = decode(scored.table, strict=False, cache=cache, side=side)
    scored = scored.without(broken)
    left_out = len(scored.left_out)
    if left_out:
        reason = scored.left_out["reason"].iloc[0].rstrip(".")
        print(f"{some_photos(left_out, 'was', 'were')} left out. The first: {reason}.")
    given = scored.table["score"].to_numpy()
    network = aesthetic_net(backbone, sorted(set(given.tolist())), weights=weights)
    seen = features(network, pixels)
    found = learning_curve(seen, given, pixels.digests)
    print(*in_words(found), *repeatability.in_words(scored.rater), sep="\n")
    if out is not None:
        from rsrl_lib.plots import learning_curves

        figure = learning_curves(found, scored.rater)
        with replacing(out) as partial:
            figure.savefig(partial, format="png", dpi=150)
        print(f"The curve is in {out}.")
