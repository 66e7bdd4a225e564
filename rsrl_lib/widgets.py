"""Interactive views for the notebooks: pictures and text that follow sliders.

They change the bytes of an `Image` and the text of an `HTML` widget from `observe`; `Output`
widgets can hang a notebook that runs without a browser.
"""

import html
import io
from functools import lru_cache

import ipywidgets
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from rsrl_lib.drop_rules import Decision, DropRule, decide, largest_classes
from rsrl_lib.photos import InputError, open_rgb

KEPT, DROPPED = "#35618f", "#c9772b"
NEAREST = 4


def drop_explorer(sample: pd.DataFrame, paths: pd.Series) -> ipywidgets.VBox:
    """Sliders for K1-K3 over the likelihoods of one round: how many photos stay, and which ones.

    `sample` holds the training photos of a round (columns photo, label, own_likelihood,
    top_likelihood), `paths` their files by name. Shown are the numbers kept of each class, and the
    photos nearest to each threshold on both sides.
    """
    labels = sample.label.to_numpy(int)
    majorities = largest_classes(labels)
    rule = ipywidgets.Dropdown(options=["own-class", "top-class"], description="rule")
    sliders = [
        ipywidgets.FloatSlider(
            value=0.9,
            min=0,
            max=1,
            step=0.01,
            description=f"K{n + 1} (score {score})",
            style={"description_width": "110px"},
            continuous_update=False,
        )
        for n, score in enumerate(majorities)
    ]
    summary, picture = ipywidgets.HTML(), ipywidgets.Image(format="png")

    def show(_change=None) -> None:
        k = tuple(slider.value for slider in sliders)
        if rule.value == "top-class":
            k = k[:2]  # SSRL-2019 has one K for max1 and one for both others
        sliders[-1].disabled = rule.value == "top-class" and len(sliders) == 3
        # With fewer classes than the rule has thresholds, the last ones decide nothing.
        k += (1.0,) * ((3 if rule.value == "own-class" else 2) - len(k))
        asked = DropRule(rule=rule.value, k=k, min_per_class=0)
        likelihood = sample["own_likelihood" if rule.value == "own-class" else "top_likelihood"]
        own, top = sample.own_likelihood.to_numpy(), sample.top_likelihood.to_numpy()
        try:
            decision = decide(asked, labels, own, top, after_round=1)
        except InputError as error:
            summary.value = f"<b>{html.escape(str(error))}</b>"
            return
        summary.value = _summary(labels, majorities, decision)
        picture.value = _near_threshold(
            sample.photo.map(paths).to_numpy(), labels, likelihood.to_numpy(), majorities, decision
        )

    for control in (rule, *sliders):
        control.observe(show, "value")
    show()
    return ipywidgets.VBox([ipywidgets.HBox([rule]), *sliders, summary, picture])


def _summary(labels: np.ndarray, majorities: list[int], decision: Decision) -> str:
    kept = decision.kept
    of_class = ", ".join(
        f"{kept[labels == s].sum()} of {(labels == s).sum()} with score {s}" for s in majorities
    )
    share = np.isin(labels[kept], majorities).mean()
    names = ", ".join(map(str, sorted(majorities)))
    return (
        f"<b>{kept.sum()} of {len(labels)} photos stay</b>: {of_class}, and all others. Scores "
        f"{names} go from {np.isin(labels, majorities).mean():.0%} to {share:.0%} of the set."
    )


def _near_threshold(
    paths: np.ndarray,
    labels: np.ndarray,
    likelihood: np.ndarray,
    majorities: list[int],
    decision: Decision,
) -> bytes:
    """PNG with a row per majority class: histogram, photos just below K, photos just above."""
    figure = Figure(figsize=(12, 1.9 * len(majorities)), layout="constrained")
    widths = [2.4, *[1] * (2 * NEAREST)]
    axes = figure.subplots(len(majorities), len(widths), squeeze=False, width_ratios=widths)
    bins = np.linspace(0, 1, 26)
    for row, score, k in zip(axes, majorities, decision.thresholds, strict=True):
        own = likelihood[labels == score]
        row[0].hist([own[own < k], own[own >= k]], bins, stacked=True, color=[DROPPED, KEPT])
        row[0].axvline(k, color="k", lw=1)
        row[0].set(ylabel=f"score {score}", xlim=(0, 1))
        members = np.flatnonzero(labels == score)
        below = members[own < k][np.argsort(-own[own < k])][:NEAREST][::-1]
        above = members[own >= k][np.argsort(own[own >= k])][:NEAREST]
        for ax in row[1:]:
            ax.axis("off")
        shown = zip(row[1 + NEAREST - len(below) :], [*below, *above], strict=False)
        for ax, photo in shown:
            ax.imshow(_thumbnail(str(paths[photo])))
            colour = KEPT if likelihood[photo] >= k else DROPPED
            style = {"fontsize": 9, "color": colour, "ha": "center", "va": "top"}
            ax.text(0.5, -0.04, f"{likelihood[photo]:.2f}", transform=ax.transAxes, **style)
    axes[0, 0].set_title("likelihood", fontsize=10)
    for at, text, colour in ((1, "dropped", DROPPED), (5, "kept", KEPT)):
        place = axes[0, at].transAxes
        axes[0, at].text(0, 1.04, text, transform=place, color=colour, in_layout=False)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=90)
    return stream.getvalue()


@lru_cache(maxsize=512)
def _thumbnail(path: str) -> Image.Image:
    picture = open_rgb(path)
    picture.thumbnail((120, 120), Image.Resampling.LANCZOS)
    return picture
