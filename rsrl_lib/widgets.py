"""Interactive views for the notebooks: pictures and text that follow sliders.

They change the bytes of an `Image` and the text of an `HTML` widget from `observe`; `Output`
widgets can hang a notebook that runs without a browser.
"""

import base64
import html
import io
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import ipywidgets as w
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from rsrl_lib.drop_rules import Decision, DropRule, decide, largest_classes
from rsrl_lib.highlight import Highlight, conv1_of, highlights, stacked
from rsrl_lib.photos import InputError, open_rgb
from rsrl_lib.pixels import Pixels, square
from rsrl_lib.plots import highlight_pictures, picture_rows
from rsrl_lib.rounds import Run
from rsrl_lib.training import likelihoods, logits

KEPT, DROPPED = "#35618f", "#c9772b"
NEAREST = 4


def drop_explorer(sample: pd.DataFrame, paths: pd.Series) -> w.VBox:
    """Sliders for K1-K3 over the likelihoods of one round: how many photos stay, and which ones.

    `sample` holds the training photos of a round (columns photo, label, own_likelihood,
    top_likelihood), `paths` their files by name. Shown are the numbers kept of each class, and the
    photos nearest to each threshold on both sides.
    """
    labels = sample.label.to_numpy(int)
    majorities = largest_classes(labels)
    rule = w.Dropdown(options=["own-class", "top-class"], description="rule")
    sliders = [
        w.FloatSlider(
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
    summary, picture = w.HTML(), w.Image(format="png")

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
    return w.VBox([w.HBox([rule]), *sliders, summary, picture])


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


SHOWN, PAGE, LIMIT = 420, 18, 30 * 2**20  # pixels, thumbnails, bytes
LEAST = -1  # in place of a channel chosen by hand
FILTERS = {"score": "score", "predicted": "predicted score"}
SETTINGS = {
    "after_relu": ("conv1 maps", {"before ReLU": False, "after ReLU": True}),
    "absolute": ("difference", {"signed": False, "absolute": True}),
    "flip": ("region", {"cluster farther from 0": False, "the other cluster": True}),
}
CAPTIONS = {
    "photo": "Original",
    "region": "Highlight region",
    "later map": "conv1 of round {0}, channel {2}",
    "earlier map": "conv1 of round {1}, channel {2}",
    "difference": "Difference: orange above 0, purple below",
}
LEGEND = "Correlation of the two maps: light 0.99999, dark 0.9 or less; hatched: one is flat."
STYLE = f"<style>{Path(__file__).with_suffix('.css').read_text()}</style>"


def highlight_explorer(run: Run, photos: pd.DataFrame) -> w.Box:
    """What two rounds of a run see differently in a photo: choose the photo, the rounds and J.

    `photos` has the columns photo, path and score of photos that the run was made with; one's own
    can be uploaded. Raises `InputError` for a run of one round, and for photos that the run does
    not know with these scores.
    """
    return _HighlightExplorer(run, photos).view


class _HighlightExplorer:
    """The controls, what is shown now, and the view of both.

    Thumbnails and channels are one widget each, coloured by one text of CSS: a change is a message
    or two and not one for each button.
    """

    def __init__(self, run: Run, photos: pd.DataFrame):
        self.run, self.photos, rounds = run, _judged(run, photos), len(run.rounds)
        if rounds < 2:
            raise InputError(f"{run.folder} has one round, a highlight compares two; train it on.")
        self.pair = lru_cache(64)(lambda *two: stacked(*(conv1_of(run, i) for i in two)))
        self.open, self.network = lru_cache(32)(_opened), cache(run.network)
        self.quiet, self.found, self.page, self.row = False, None, 0, None

        wide = {"style": {"description_width": "112px"}, "layout": {"width": "98%"}}
        choice, slide = partial(w.Dropdown, **wide), {"continuous_update": False, **wide}
        scores = {name: ["all", *np.unique(self.photos[name]).tolist()] for name in FILTERS}
        self.filters = {n: choice(description=d, options=scores[n]) for n, d in FILTERS.items()}
        self.settings = {n: choice(description=d, options=o) for n, (d, o) in SETTINGS.items()}
        self.thumbs = w.ToggleButtons().add_class("rsrl-thumbs")
        self.back = w.Button(icon="chevron-left", tooltip="previous photos")
        self.forth = w.Button(icon="chevron-right", tooltip="next photos")
        self.upload = w.FileUpload(accept="image/*", description="Your own photo")
        self.later = w.IntSlider(rounds, 2, rounds, description="round I", **slide)
        self.step = w.IntSlider(1, 1, rounds - 1, description="k rounds before", **slide)
        self.fade = w.FloatSlider(0.7, max=1, step=0.05, description="fade the rest by", **wide)
        channels = [(str(j), j) for j in range(conv1_of(run, 1).out_channels)]
        self.strip = w.ToggleButtons(options=[("least correlated", LEAST), *channels])
        self.save = w.Button(description="Save the figure", icon="download")
        self.images = {name: w.Image(format="jpeg") for name in CAPTIONS}
        self.captions = {name: w.HTML() for name in CAPTIONS}
        self.count, self.error, self.facts, self.link = (w.HTML() for _ in range(4))
        self.thumb_style, self.strip_style = w.HTML(), w.HTML()
        self.scope = f"rsrl-{uuid4().hex[:8]}"  # several explorers may stand on one page
        self.view = self._laid_out()

        actions = [(self.thumbs, self._pick), (self.upload, self._take), (self.later, self._follow)]
        actions += [(self.fade, self._draw), *((f, self._turn) for f in self.filters.values())]
        actions += [(c, self._show) for c in (self.step, self.strip, *self.settings.values())]
        for control, action in actions:
            control.observe(partial(self._act, action), "value")
        self.back.on_click(partial(self._act, partial(self._turn, -1)))
        self.forth.on_click(partial(self._act, partial(self._turn, 1)))
        self.save.on_click(partial(self._act, self._save))
        self._turn()
        self.thumbs.value = self.photos.index[0]

    def _laid_out(self) -> w.Box:
        figures = [w.VBox([self.images[n], self.captions[n]]) for n in CAPTIONS]
        styles = w.VBox(
            [w.HTML(STYLE), self.thumb_style, self.strip_style], layout={"display": "none"}
        )
        pager = w.HBox([self.back, self.count, self.forth]).add_class("rsrl-pager")
        left = [
            _panel("Photo", *self.filters.values(), self.thumbs, pager, self.upload),
            _panel("Rounds I and I - k", self.later, self.step),
            _panel("Maps and region", *self.settings.values(), self.fade),
        ]
        right = [
            *(self.error, self.facts, w.HBox(figures[:2]), w.HBox(figures[2:])),
            _panel("Channel J", self.strip.add_class("rsrl-channels"), w.HTML(LEGEND)),
            w.HBox([self.save, self.link]),
        ]
        view = w.Box(
            [styles, w.VBox(left).add_class("rsrl-left"), w.VBox(right).add_class("rsrl-right")]
        )
        return view.add_class("rsrl").add_class(self.scope)

    def _act(self, action: Callable[[], None], _change: object) -> None:
        """Do what a control asks for; what goes wrong is said on the page."""
        if self.quiet:
            return
        try:
            action()
        except InputError as error:
            self._say(str(error))
        except Exception as error:
            self._say(f"This went wrong unexpectedly ({type(error).__name__}: {error}).")
            raise

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        """Change controls without what they would do."""
        self.quiet = True
        try:
            yield
        finally:
            self.quiet = False

    def _say(self, sentence: str) -> None:
        self.error.value = f'<div class="rsrl-error" role="alert">{html.escape(sentence)}</div>'
        if self.found is None:
            self.save.disabled = True
            for text in (self.link, self.strip_style):
                text.value = ""
            for image in self.images.values():
                image.value = _jpeg(Image.new("RGB", (16, 11), "#dddddd"))

    def _turn(self, by: int | None = None) -> None:
        """Thumbnails of the next or last page, or of the first one that the filters leave."""
        rows = self.photos
        for name, control in self.filters.items():
            rows = rows if control.value == "all" else rows[rows[name] == control.value]
        self.page = 0 if by is None else self.page + by
        first, last = self.page * PAGE, min((self.page + 1) * PAGE, len(rows))
        shown = rows.iloc[first:last]
        with self._quietly(), self.thumbs.hold_sync():
            self.thumbs.tooltips = [
                f"{p.photo}: score {p.score}, predicted {p.predicted}" for p in shown.itertuples()
            ]
            self.thumbs.options = list(zip(shown.photo, shown.index, strict=True))
            self.thumbs.value = self.row if self.row in shown.index else None
        self.back.disabled, self.forth.disabled = first == 0, last == len(rows)
        self.count.value = f"{first + 1} to {last} of {len(rows)}" if len(rows) else "no such photo"
        with ThreadPoolExecutor() as pool:
            self.thumb_style.value = self._css("rsrl-thumbs", pool.map(_thumb_look, shown.path))

    def _css(self, group: str, looks: Iterable[str]) -> str:
        """How each button of a group looks, in this view alone."""
        button = f".{self.scope} .{group} button:nth-child"
        rules = (f"{button}({number}) {{{look}}}" for number, look in enumerate(looks, 1))
        return f"<style>{' '.join(rules)}</style>"

    def _pick(self) -> None:
        self.row = self.thumbs.value
        photo = self.photos.loc[self.row]
        said = f"score {photo.score}, predicted score {photo.predicted}"
        self.subject = photo.photo, said, partial(self.open, photo.path)
        self._show()

    def _take(self) -> None:
        """Show an uploaded photo; the name that it came with is text and nothing else."""
        upload = self.upload.value[0]
        name, content = upload["name"], upload["content"]
        with self._quietly():
            self.upload.value = ()  # so that the same file can be given again
        if len(content) > LIMIT:
            found = f"{name} has {len(content) / 2**20:.0f} MB"
            raise InputError(f"{found}, a photo may have {LIMIT >> 20} MB; give a smaller copy.")
        with TemporaryDirectory() as folder:
            path = Path(folder) / "upload"
            path.write_bytes(content)
            try:
                opened = _opened(str(path))
            except InputError as error:
                raise InputError(str(error).replace(str(path), name)) from error
        precision = self.run.info["recipe"]["training"]["precision"]
        network = self.network("best")
        judged = likelihoods(logits(network, opened[2], precision=precision))[0]  # (scores,)
        each = ", ".join(f"{s}: {p:.2f}" for s, p in zip(network.scores, judged, strict=True))
        predicted = network.scores[judged.argmax()]
        said = f"your own photo, predicted score {predicted} (likelihoods {each})"
        self.row, self.subject = None, (name, said, lambda: opened)
        with self._quietly():
            self.thumbs.value = None
        self._show()

    def _follow(self) -> None:
        with self._quietly():
            self.step.max = self.later.value - 1  # takes k with it
        self._show()

    def _show(self) -> None:
        """Find the highlight that the controls ask for, and show all of it."""
        self.found, (name, said, load) = None, self.subject
        self.facts.value = html.escape(f"{name}: {said}")
        rounds = self.later.value, self.later.value - self.step.value
        size, self.picture, pixels = load()
        by_hand = self.strip.value != LEAST
        self.found = highlights(
            self.pair(*rounds),
            pixels.crops([0], view="whole"),
            channel=self.strip.value if by_hand else None,
            **{name: control.value for name, control in self.settings.items()},
        )[0]
        facts = self.found.facts(size)
        self.text = [
            f"{name}: {said}",
            f"rounds {rounds[0]} and {rounds[1]}, channel {facts['J']} "
            f"({'by hand' if by_hand else 'the least correlated'}: {facts['correlation']:.5f}), "
            f"region {facts['area_share']:.0%} of {size[0]} x {size[1]} px, box {facts['width']} x "
            f"{facts['height']} at ({facts['left']}, {facts['top']})",
        ]
        self.facts.value = "<br>".join(map(html.escape, self.text))
        self.labels = {n: c.format(*rounds, facts["J"]) for n, c in CAPTIONS.items()}
        for name, caption in self.captions.items():
            caption.value = self.labels[name]
        self.strip_style.value = self._css("rsrl-channels", _channel_looks(self.found))
        self.error.value, self.save.disabled = "", False
        self._draw()

    def _draw(self) -> None:
        if self.found is None:
            return
        fade = self.fade.value
        self.pictures = highlight_pictures(self.picture, self.found, opacity=fade)
        for name, picture in self.pictures.items():
            self.images[name].value = _jpeg(picture)
        self.link.value = ""

    def _save(self) -> None:
        """A link that holds the picture itself: no file is written where the kernel runs."""
        pictures = {self.labels[name]: picture for name, picture in self.pictures.items()}
        figure = picture_rows({"": pictures}, "\n".join(self.text).replace("$", r"\$"))
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=150, bbox_inches="tight")
        plt.close(figure)
        name = html.escape(f"highlight_{Path(self.subject[0]).stem}_J{self.found.channel}.png")
        data = f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
        self.link.value = f'<a download="{name}" href="{data}">Download {name}</a>'


def _judged(run: Run, photos: pd.DataFrame) -> pd.DataFrame:
    """The photos with `predicted`, the score that the chosen round's network assigns."""
    known = run.split.set_index("photo").score.reindex(photos.photo).to_numpy()
    unlike = photos.photo[known != photos.score.to_numpy()]
    if len(unlike) or not len(photos):
        found = f"{len(unlike)} of {len(photos)} ({', '.join(unlike[:2])}) differ"
        raise InputError(f"{run.folder} needs the photos and scores it was made with; {found}.")
    judged = run.samples.query(f"round == {run.chosen} and part != 'other'")
    predicted = photos.photo.map(judged.set_index("photo").assigned)
    return photos.assign(predicted=predicted).reset_index(drop=True)


def _opened(path: str) -> tuple[tuple[int, int], Image.Image, Pixels]:
    """Size of a photo, the photo at the size it is shown, and as the networks see it."""
    photo = open_rgb(path)
    size, pixels = photo.size, Pixels(square(photo)[None], "")
    photo.thumbnail((SHOWN, SHOWN), Image.Resampling.LANCZOS)
    return size, photo, pixels


def _jpeg(picture: Image.Image, quality: int = 92) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "jpeg", quality=quality, subsampling=0)
    return stream.getvalue()


def _thumb_look(path: str) -> str:
    try:
        data = base64.b64encode(_jpeg(_thumbnail(path), 80)).decode()
    except InputError:
        return ""  # the button shows the name, and says what is wrong when it is chosen
    return f"background-image: url(data:image/jpeg;base64,{data}); color: transparent"


def _channel_looks(found: Highlight) -> Iterator[str]:
    """Dark where the correlation r is low, by the magnitude of 1 - r: most lie near 1."""
    yield ""  # the button in front of the channels
    flat = "repeating-linear-gradient(45deg, #bbb 0 2px, #fff 2px 5px)"
    shares = (np.log10(np.clip(1 - found.correlations, 1e-5, 0.1)) + 5) / 4
    for j, (share, r) in enumerate(zip(shares, found.correlations, strict=True)):
        known = not np.isnan(r)
        look = f"background: {to_hex(plt.cm.YlOrBr(0.6 * share)) if known else flat}"
        look += f"; --said: 'channel {j}: {f'{r:.5f}' if known else 'flat'}'"
        yield look + ("; box-shadow: 0 0 0 3px #111" if j == found.channel else "")


def _panel(title: str, *children: w.Widget) -> w.VBox:
    return w.VBox([w.HTML(f"<b>{title}</b>"), *children]).add_class("rsrl-panel")
