"""Interactive views for the notebooks: pictures and text that follow sliders.

They change the bytes of an `Image` and the text of an `HTML` widget from `observe`; `Output`
widgets can hang a notebook that runs without a browser.
"""

import base64
import html
import io
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, lru_cache, partial
from itertools import islice
from pathlib import Path
from textwrap import fill
from uuid import uuid4

import ipywidgets as w
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from rsrl_lib.activation import activation_maps, pooling
from rsrl_lib.cropping import (
    THRESHOLD,
    Box,
    aspect_ratio,
    crop_box,
    largest_region,
    save_crop,
)
from rsrl_lib.drop_rules import Decision, DropRule, decide, largest_classes
from rsrl_lib.files import InputError
from rsrl_lib.highlight import Highlight, conv1_of, highlights, stacked
from rsrl_lib.machine import threads
from rsrl_lib.pixels import Pixels, square
from rsrl_lib.plots import (
    IN_COLOUR,
    activation_picture,
    framed,
    highlight_pictures,
    picture_rows,
)
from rsrl_lib.reading.pictures import endings, open_rgb
from rsrl_lib.runs import Run
from rsrl_lib.training import likelihoods, logits

KEPT, DROPPED = "#35618f", "#c9772b"
NEAREST = 4


HAIR = (
    1e-9  # a fitted K is the likelihood of a photo that stays; rounded it could drop it
)
STILL = "Run this cell to get the controls"
CAPTION = 36  # letters that fit above a picture


class _View(w.VBox):
    """Widgets, and a picture for where none are shown: in a notebook that is not trusted yet.

    `still` makes that picture when the view is displayed.
    """

    def __init__(self, children: Iterable[w.Widget], still: Callable[[], Image.Image]):
        super().__init__(children)
        self.still = still

    def _repr_mimebundle_(self, **options) -> dict[str, object]:
        picture = base64.b64encode(_jpeg(self.still())).decode()
        return super()._repr_mimebundle_(**options) | {"image/jpeg": picture}


def drop_explorer(sample: pd.DataFrame, paths: pd.Series, drop: DropRule) -> w.VBox:
    """Sliders for K1-K3 over the likelihoods of one round: how many photos stay, and which ones.

    `sample` holds the training photos of a round (columns photo, label, own_logit, top_logit),
    `paths` their files by name. Shown are the numbers kept of each class, and the
    photos nearest to each threshold on both sides. The sliders start where `drop` decides after
    round 1, and as many photos of each class as it says stay in any case.
    """
    labels = sample.label.to_numpy(int)
    own, top = sample.own_logit.to_numpy(), sample.top_logit.to_numpy()
    majorities = largest_classes(labels)
    start = decide(drop, labels, own, top, after_round=1).thresholds
    rule = w.Dropdown(
        options=["own-class", "top-class"], value=drop.rule, description="rule"
    )
    common = {"style": {"description_width": "110px"}, "continuous_update": False}
    sliders = []
    for number, (score, k) in enumerate(zip(majorities, start, strict=True), 1):
        name = f"K{number} (score {score})"
        at = max(k - HAIR, 0)
        sliders.append(w.FloatSlider(at, max=1, step=0.01, description=name, **common))
    summary, picture = w.HTML(), w.Image(format="png")

    def show(_change=None) -> None:
        k = tuple(slider.value for slider in sliders)
        if rule.value == "top-class":
            k = k[:2]  # SSRL-2019 has one K for max1 and one for both others
        sliders[-1].disabled = rule.value == "top-class" and len(sliders) == 3
        # With fewer classes than the rule has thresholds, the last ones decide nothing.
        k += (1.0,) * ((3 if rule.value == "own-class" else 2) - len(k))
        asked = DropRule(rule=rule.value, k=k, min_per_class=drop.min_per_class)
        logits = own if rule.value == "own-class" else top
        try:
            decision = decide(asked, labels, own, top, after_round=1)
        except InputError as error:
            summary.value = f"<b>{html.escape(str(error))}</b>"
            return
        summary.value = _summary(labels, majorities, decision, drop.min_per_class)
        picture.value = _near_threshold(
            sample.photo.map(paths).to_numpy(), labels, logits, majorities, decision
        )

    for control in (rule, *sliders):
        control.observe(show, "value")
    show()
    parts = [w.HBox([rule]), *sliders, summary, picture]
    return _View(parts, still=lambda: _picture(picture.value))


def _summary(
    labels: np.ndarray, majorities: list[int], decision: Decision, min_per_class: int
) -> str:
    kept = decision.kept
    of_class = ", ".join(
        f"{kept[labels == s].sum()} of {(labels == s).sum()} with score {s}"
        for s in majorities
    )
    share = np.isin(labels[kept], majorities).mean()
    names = ", ".join(map(str, sorted(majorities)))
    told = (
        f"<b>{kept.sum()} of {len(labels)} photos stay</b>: {of_class}, and all others. Scores "
        f"{names} go from {np.isin(labels, majorities).mean():.0%} to {share:.0%} of the set."
    )
    if decision.rescued:
        told += (
            f" {decision.rescued} of those that stay are below K: the {min_per_class} likeliest "
            "photos of each score always stay."
        )
    return told


def _near_threshold(
    paths: np.ndarray,
    labels: np.ndarray,
    logits: np.ndarray,
    majorities: list[int],
    decision: Decision,
) -> bytes:
    """PNG with a row per majority class: histogram, photos just below K, photos just above."""
    figure = Figure(figsize=(12, 1.9 * len(majorities)), layout="constrained")
    widths = [2.4, *[1] * (2 * NEAREST)]
    axes = figure.subplots(
        len(majorities), len(widths), squeeze=False, width_ratios=widths
    )
    likelihood, kept = likelihoods(logits), decision.kept
    bins = np.linspace(0, 1, 26)
    for row, score, k in zip(axes, majorities, decision.thresholds, strict=True):
        members = np.flatnonzero(labels == score)
        members = members[np.argsort(logits[members], kind="stable")]
        dropped, stay = members[~kept[members]], members[kept[members]]
        parts = [likelihood[dropped], likelihood[stay]]
        row[0].hist(parts, bins, stacked=True, color=[DROPPED, KEPT])
        row[0].axvline(k, color="k", lw=1)
        row[0].set(ylabel=f"score {score}", xlim=(0, 1))
        below, above = dropped[-NEAREST:], stay[:NEAREST]
        for ax in row[1:]:
            ax.axis("off")
        shown = zip(row[1 + NEAREST - len(below) :], [*below, *above], strict=False)
        for ax, photo in shown:
            ax.imshow(_thumbnail(str(paths[photo])))
            colour = KEPT if kept[photo] else DROPPED
            style = {"fontsize": 9, "color": colour, "ha": "center", "va": "top"}
            ax.text(
                0.5, -0.04, f"{likelihood[photo]:.2f}", transform=ax.transAxes, **style
            )
    axes[0, 0].set_title("likelihood", fontsize=10)
    for at, text, colour in ((1, "dropped", DROPPED), (5, "kept", KEPT)):
        place = axes[0, at].transAxes
        axes[0, at].text(0, 1.04, text, transform=place, color=colour, in_layout=False)
    return _png(figure, dpi=90)


@lru_cache(maxsize=512)
def _thumbnail(path: str) -> Image.Image:
    picture = open_rgb(path)
    picture.thumbnail((120, 120), Image.Resampling.LANCZOS)
    return picture


SHOWN, LARGE, PAGE, LIMIT = (
    420,
    1200,
    18,
    30 * 2**20,
)  # pixels, pixels, thumbnails, bytes
STYLE = f"<style>{Path(__file__).with_suffix('.css').read_text()}</style>"
BUSY = '<div class="rsrl-busy" role="status" aria-busy="true">computing …</div>'
AGAIN = "load the page again; in JupyterLab, run the cells again."
ENDED = f"""<div class="rsrl-ended" role="alert">This page's session has ended: nothing on it
answers any more. To go on, {AGAIN}</div>"""
PULSE = 10_000  # milliseconds between two signs of life; widgets.css waits for three of them
SILENT = f"""<div class="rsrl-silent" role="alert" data-pulse="{{}}">There was no answer for half a
minute. The computer is busy, or this page's session has ended. Then {AGAIN}</div>"""
OWN_LIKELIHOODS = "each {} has its own likelihood: they need not add up to 1"
WIDE = {"style": {"description_width": "112px"}, "layout": {"width": "98%"}}
slider, choice = partial(w.FloatSlider, **WIDE), partial(w.Dropdown, **WIDE)


class _Explorer:
    """A photo, chosen by thumbnail or given by the reader, and what can be seen in it.

    A subclass makes its controls, calls `_start`, and in `_find` finds something, which is kept in
    `found` once all of it is shown (None: there is nothing). Thumbnails are one widget, coloured by
    one text of CSS: a change is a message or two and not one for each button.
    """

    kind: str  # class of the view
    measured: str  # what is known of such pictures, where they could mislead

    def __init__(self, run: Run, photos: pd.DataFrame, figures: Iterable[str]):
        self.run, self.recipe = run, run.info["recipe"]
        self.target = "score" if self.recipe["levels"] == "scores" else "level"
        self.photos = _judged(run, photos)
        self.open = lru_cache(32)(lambda path, _stamp: _opened(path))
        self.network = cache(run.network)
        self.quiet, self.found, self.page, self.row = False, None, 0, None
        filters = {"score": "score", "predicted": f"predicted {self.target}"}
        options = {
            name: ["all", *np.unique(self.photos[name]).tolist()] for name in filters
        }
        self.filters = {
            n: choice(description=d, options=options[n]) for n, d in filters.items()
        }
        self.thumbs = w.ToggleButtons().add_class("rsrl-thumbs")
        self.back = w.Button(icon="chevron-left", tooltip="previous photos")
        self.forth = w.Button(icon="chevron-right", tooltip="next photos")
        self.upload = w.FileUpload(
            accept=",".join(endings()), description="Your own photo"
        )
        self.save = w.Button(icon="download")
        self.images = {name: w.Image(format="jpeg") for name in figures}
        self.captions = {name: w.HTML() for name in figures}
        self.count, self.error, self.facts, self.link = (w.HTML() for _ in range(4))
        self.busy, self.thumb_style = w.HTML(), w.HTML()
        self.asked, self.answered = w.IntText(), w.IntText()
        self.echo = w.jsdlink((self.asked, "value"), (self.answered, "value"))
        self.alive = w.HTML()
        self.pulse = w.Play(interval=PULSE, max=1, repeat=True, _view_count=0)
        self.scope = (
            f"rsrl-{uuid4().hex[:8]}"  # several explorers may stand on one page
        )

    def _start(self, actions: Iterable[tuple[w.Widget, Callable[[], None]]]) -> None:
        """Connect the controls, own and common ones, and show the first photo."""
        filters = ((control, self._turn) for control in self.filters.values())
        common = (self.thumbs, self._pick), (self.upload, self._take), *filters
        for control, action in (*actions, *common):
            control.observe(partial(self._act, action), "value")
        self.back.on_click(partial(self._act, partial(self._turn, -1)))
        self.forth.on_click(partial(self._act, partial(self._turn, 1)))
        self.save.on_click(partial(self._act, self._ask))
        self.answered.observe(partial(self._act, self._save_found), "value")
        self.pulse.observe(self._shown, "_view_count")
        self.pulse.observe(self._answer, "value")
        self._turn()
        self.thumbs.value = self.photos.index[0]

    def _view(
        self, rows: tuple[int, ...], panels: list[w.Widget], *below: w.Widget, styles=()
    ) -> w.Box:
        """Pictures in `rows` of so many, with what is said of them; the controls beside them."""
        figures = iter(
            [w.VBox([self.images[n], self.captions[n]]) for n in self.images]
        )
        pictures = [w.HBox([next(figures) for _ in range(size)]) for size in rows]
        measured = w.HTML(html.escape(self.measured)).add_class("rsrl-measured")
        said = [measured, self.facts, w.HBox([self.save, self.link])]
        pager = w.HBox([self.back, self.count, self.forth]).add_class("rsrl-pager")
        photos = _panel(
            "Photo", self.thumbs, pager, *self.filters.values(), self.upload
        )
        parts = [
            w.VBox([self.busy, self.error, *pictures, *said]).add_class(
                "rsrl-pictures"
            ),
            w.VBox([photos, *panels]).add_class("rsrl-controls"),
            w.VBox(below).add_class("rsrl-below"),
        ]
        hidden = w.VBox([w.HTML(STYLE), self.thumb_style, *styles, self.pulse])
        hidden.layout.display = "none"
        page = w.Box(parts).add_class("rsrl-page")
        view = _View(
            [hidden, w.HTML(ENDED), self.alive, page], partial(self._still, rows)
        )
        return view.add_class("rsrl").add_class(self.kind).add_class(self.scope)

    def _still(self, rows: tuple[int, ...]) -> Image.Image:
        """The pictures in these rows, with their captions."""
        shown = iter(
            (fill(_plain(self.captions[name].value), CAPTION), _picture(image.value))
            for name, image in self.images.items()
            if image.value
        )
        pictures = [("", list(islice(shown, size))) for size in rows]
        figure = picture_rows([row for row in pictures if row[1]], STILL)
        return _picture(_png(figure, bbox_inches="tight"))

    def _act(self, action: Callable[[], None], _change: object) -> None:
        """Do what a control asks for; what goes wrong is said on the page."""
        if self.quiet:
            return
        self.busy.value, self.link.value = BUSY, ""
        try:
            with threads(1):
                action()
        except InputError as error:
            self._say(str(error))
        except Exception as error:
            self._say(
                f"This went wrong unexpectedly ({type(error).__name__}: {error})."
            )
            raise
        finally:
            self.busy.value = ""

    def _shown(self, _change: object) -> None:
        """Let a page that shows the explorer ask every `PULSE` whether there is an answer.

        Without one it shows what every answer hides anew. A browser marks the widgets of a session
        that restarts, and none whose session or server has ended.
        """
        self.pulse.playing = False
        self.pulse.playing = True

    def _answer(self, _change: object) -> None:
        self.alive.value = SILENT.format(self.pulse.value)

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        """Change controls without what they would do."""
        self.quiet = True
        try:
            yield
        finally:
            self.quiet = False

    def _say(self, sentence: str) -> None:
        self.error.value = (
            f'<div class="rsrl-error" role="alert">{html.escape(sentence)}</div>'
        )
        if self.found is None:
            self.save.disabled = True
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
                f"{p.photo}: score {p.score}, predicted {p.predicted}"
                for p in shown.itertuples()
            ]
            self.thumbs.options = list(zip(shown.photo, shown.index, strict=True))
            self.thumbs.value = self.row if self.row in shown.index else None
        self.thumbs.layout.display = (
            None if len(shown) else "none"
        )  # it keeps its last buttons
        self.back.disabled, self.forth.disabled = first == 0, last == len(rows)
        self.count.value = (
            f"{first + 1} to {last} of {len(rows)}" if len(rows) else "no such photo"
        )
        with ThreadPoolExecutor() as pool:
            self.thumb_style.value = self._css(
                "rsrl-thumbs", pool.map(_thumb_look, shown.path)
            )

    def _css(self, group: str, looks: Iterable[str]) -> str:
        """How each button of a group looks, in this view alone."""
        button = f".{self.scope} .{group} button:nth-child"
        rules = (
            f"{button}({number}) {{{look}}}" for number, look in enumerate(looks, 1)
        )
        return f"<style>{' '.join(rules)}</style>"

    def _pick(self) -> None:
        self.row = self.thumbs.value
        photo = self.photos.loc[self.row]
        said = f"score {photo.score}, predicted {self.target} {photo.predicted}"
        stamp = _stamp(photo.path)
        self.subject = photo.photo, said, partial(self.open, photo.path, stamp)
        self.read = partial(_unchanged, photo.path, stamp)
        self._show()

    def _take(self) -> None:
        """Show an uploaded photo; the name that it came with is text and nothing else."""
        upload = self.upload.value[0]
        name, content = str(upload["name"])[:255], bytes(upload["content"])
        with self._quietly():
            self.upload.value = ()  # so that the same file can be given again
        if len(content) > LIMIT:
            found = f"{name} has {len(content) / 2**20:.0f} MB"
            raise InputError(
                f"{found}, a photo may have {LIMIT >> 20} MB; give a smaller copy."
            )
        opened = _opened(name, content)
        judged, levels = self._logits(opened[-1]), self.network("best").levels
        each = zip(levels, *_told_apart(judged), strict=True)
        likelihoods_told = ", ".join(
            f"{level}: {likelihood}" for level, likelihood in each
        )
        predicted = f"predicted {self.target} {levels[judged.argmax()]}"
        note = OWN_LIKELIHOODS.format(self.target)
        said = f"your own photo, {predicted} (likelihoods {likelihoods_told}; {note})"
        self.row, self.subject, self.read = (
            None,
            (name, said, lambda: opened),
            lambda: content,
        )
        with self._quietly():
            self.thumbs.value = None
        self._show()

    def _logits(self, pixels: Pixels) -> np.ndarray:
        """Logit of each level (levels,) of a photo, by the chosen network."""
        return logits(self.network("best"), pixels, **self.run.view)[0]

    def _show(self) -> None:
        """Find what the controls ask for in the chosen photo, and show all of it."""
        self.found, (name, said, load) = None, self.subject
        self.text = [f"{name}: {said}"]
        self.facts.value = html.escape(self.text[0])
        self.size, self.large, self.picture, self.pixels = load()
        found = self._find()
        self.facts.value = "<br>".join(map(html.escape, self.text))
        self.found, self.error.value, self.save.disabled = found, "", False

    def _ask(self) -> None:
        """Have the browser answer before anything is saved.

        While a photo is worked on, a browser holds changes of sliders back, but not a click. They
        are let through when it is done, and so arrive before the answer.
        """
        self.asked.value += 1

    def _save_found(self) -> None:
        if self.found is not None:
            self._save()

    def _offer(self, name: str, kind: str, content: bytes) -> None:
        """A link that holds a picture itself: no file is written where the kernel runs."""
        data = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
        name = html.escape(name)
        self.link.value = f'<a download="{name}" href="{data}">Download {name}</a>'


LEAST = -1  # in place of a channel chosen by hand
SETTINGS = {
    "after_relu": ("conv1 maps", {"before ReLU": False, "after ReLU": True}),
    "absolute": ("difference", {"signed": False, "absolute": True}),
    "flip": ("region", {"cluster farther from 0": False, "the other cluster": True}),
}
CAPTIONS = {
    "photo": "Original",
    "region": f"Highlight region ({IN_COLOUR})",
    "later map": "conv1 of round {0}, channel {2}",
    "earlier map": "conv1 of round {1}, channel {2}",
    "difference": "Difference: orange above 0, purple below",
}
LEGEND = "Correlation of the two maps: light 0.99999, dark 0.9 or less; hatched: one is flat."


def highlight_explorer(run: Run, photos: pd.DataFrame) -> w.Box:
    """What two rounds of a run see differently in a photo: choose the photo, the rounds and J.

    `photos` has the columns photo, path and score of photos that the run was made with; one's own
    can be uploaded. Raises `InputError` for a run of one round, and for photos that the run does
    not know with these scores.
    """
    return _HighlightExplorer(run, photos).view


class _HighlightExplorer(_Explorer):
    kind = "rsrl-highlights"
    measured = (
        "Measured: such regions find the subject of drawn photos no better than a coin does "
        "(chapter 5). Covering one moves the predicted score less than covering as much elsewhere "
        "(chapter 6)."
    )

    def __init__(self, run: Run, photos: pd.DataFrame):
        super().__init__(run, photos, CAPTIONS)
        if (rounds := len(run.rounds)) < 2:
            raise InputError(
                f"{run.folder} has one round, a highlight compares two; train it on."
            )
        self.pair = lru_cache(64)(
            lambda *two: stacked(*(conv1_of(run, i) for i in two))
        )
        slide = partial(w.IntSlider, continuous_update=False, **WIDE)
        self.settings = {
            n: choice(description=d, options=o) for n, (d, o) in SETTINGS.items()
        }
        self.later = slide(rounds, 2, rounds, description="round I")
        self.step = slide(1, 1, rounds - 1, description="k rounds before")
        self.fade = slider(1, max=1, step=0.05, description="grey out the rest")
        self.fade.readout_format = ".0%"
        channels = [(str(j), j) for j in range(conv1_of(run, 1).out_channels)]
        self.strip = w.ToggleButtons(options=[("least correlated", LEAST), *channels])
        self.strip_style, self.save.description = w.HTML(), "Save the figure"
        panels = [
            _panel("Rounds I and I - k", self.later, self.step),
            _panel("Maps and region", *self.settings.values(), self.fade),
        ]
        strip = _panel(
            "Channel J", self.strip.add_class("rsrl-channels"), w.HTML(LEGEND)
        )
        self.view = self._view((2, 3), panels, strip, styles=[self.strip_style])
        shown = (self.step, self.strip, *self.settings.values())
        actions = [(self.later, self._follow), (self.fade, self._fade)]
        self._start([*actions, *((control, self._show) for control in shown)])

    def _say(self, sentence: str) -> None:
        super()._say(sentence)
        if self.found is None:
            self.strip_style.value = ""

    def _follow(self) -> None:
        with self._quietly():
            self.step.max = self.later.value - 1  # takes k with it
        self._show()

    def _find(self) -> Highlight:
        rounds = self.later.value, self.later.value - self.step.value
        by_hand = self.strip.value != LEAST
        found = highlights(
            self.pair(*rounds),
            self.pixels.crops([0], view="whole"),
            shrink_to=self.run.view["shrink_to"],
            channel=self.strip.value if by_hand else None,
            **{name: control.value for name, control in self.settings.items()},
        )[0]
        facts, size = found.facts(self.size), self.size
        self.text += [
            f"rounds {rounds[0]} and {rounds[1]}, channel {facts['J']} "
            f"({'by hand' if by_hand else 'the least correlated'}: {facts['correlation']:.5f}), "
            f"region {facts['area_share']:.0%} of {size[0]} x {size[1]} px, box {facts['width']} x "
            f"{facts['height']} at ({facts['left']}, {facts['top']})",
        ]
        self.labels = {n: c.format(*rounds, facts["J"]) for n, c in CAPTIONS.items()}
        for name, caption in self.captions.items():
            caption.value = self.labels[name]
        self.strip_style.value = self._css("rsrl-channels", _channel_looks(found))
        self._draw(found)
        return found

    def _fade(self) -> None:
        if self.found is not None:
            self._draw(self.found)

    def _draw(self, found: Highlight) -> None:
        self.pictures = highlight_pictures(self.picture, found, opacity=self.fade.value)
        for name, picture in self.pictures.items():
            self.images[name].value = _jpeg(picture)

    def _save(self) -> None:
        pictures = [
            (self.labels[name], picture) for name, picture in self.pictures.items()
        ]
        figure = picture_rows(
            [("", pictures)], "\n".join(self.text).replace("$", r"\$")
        )
        name = f"highlight_{Path(self.subject[0]).stem}_J{self.found.channel}.png"
        self._offer(name, "png", _png(figure, dpi=150, bbox_inches="tight"))


RATIOS = ("as the region", "1:1", "3:2", "2:3", "4:3", "3:4", "16:9", "9:16")
GOOD, LEVEL, BOTH = range(3)  # maps to crop by


def crop_explorer(run: Run, photos: pd.DataFrame) -> w.Box:
    """Where a network sees a level or an attribute in a photo, and the crop around it (AWCU-2018).

    `photos` has the columns photo, path and score of photos that the run was made with; one's own
    can be uploaded. Raises `InputError` for a network without global average pooling, and for
    photos that the run does not know with these scores.
    """
    return _CropExplorer(run, photos).view


class _CropExplorer(_Explorer):
    kind = "rsrl-crops"
    measured = (
        "Measured: such maps hardly show the subject of drawn photos; the middle of the photo "
        "shows it better (chapter 8). Crops that the network prefers are in truth no better than "
        "crops of the same size at random (chapter 9)."
    )

    def __init__(self, run: Run, photos: pd.DataFrame):
        network = run.network("best")
        pooling(network)
        figures = [
            "photo",
            "crop",
            "good",
            "level",
            *["attribute"] * bool(network.attributes),
        ]
        super().__init__(run, photos, figures)
        self.seen = None
        self.good = "level high" if "high" in network.levels else "a rising score"
        which = [(f"AesAM of {self.good}", GOOD), ("AesAM chosen below", LEVEL)]
        which += [("AesAM and AttAM, if they agree", BOTH)] * bool(network.attributes)
        self.which = choice(description="crop by", options=which)
        self.threshold = slider(
            THRESHOLD, min=0.05, max=0.95, step=0.05, description="threshold"
        )
        self.threshold.readout_format = ".0%"
        self.ratio = choice(description="aspect ratio", options=RATIOS)
        self.level = choice(
            description=f"AesAM of {self.target}", options=network.levels
        )
        self.attribute = choice(description="AttAM of")
        self.save.description = "Save the crop"
        maps = [self.level, *[self.attribute] * bool(network.attributes)]
        panels = [
            _panel("Crop", self.which, self.threshold, self.ratio),
            _panel("Maps", *maps),
        ]
        self.view = self._view((2, len(figures) - 2), panels)
        shown = (self.which, self.threshold, self.ratio, *maps)
        self._start((control, self._show) for control in shown)

    def _look(self) -> None:
        """What the network sees in the photo and says of it, once for each photo."""
        if self.seen is self.pixels:
            return
        view, shrink_to = (
            self.pixels.crops([0], view="whole"),
            self.run.view["shrink_to"],
        )
        maps = activation_maps(self.network("best"), view, shrink_to=shrink_to)[0]
        before = self._logits(self.pixels)
        with self._quietly():
            self.attribute.options = names = list(maps.attributes)
            self.attribute.value = names[0] if names else None
        self.maps, self.before, self.seen = maps, before, self.pixels

    def _find(self) -> Box:
        self._look()
        good, beside = self.maps.high, self.maps.levels[self.level.value]
        attribute = self.maps.attributes.get(self.attribute.value)
        used = beside if self.which.value == LEVEL else good
        threshold, ratio = self.threshold.value, self.ratio.value
        box, reason = crop_box(
            used,
            self.size,
            att=attribute if self.which.value == BOTH else None,
            threshold=threshold,
            aspect=None if ratio == RATIOS[0] else aspect_ratio(ratio),
        )
        region = largest_region(used, threshold=threshold)
        crop = self.large.crop(self._within(self.large, box))
        reach = max(
            np.abs([good, beside]).max(), 1e-6
        )  # one scale for both: sums are compared
        pictures = {
            "photo": framed(self.picture, self._within(self.picture, box), region),
            "crop": crop,
            "good": activation_picture(self.picture, good, reach),
            "level": activation_picture(self.picture, beside, reach),
        }
        of_region = "" if region is None else f"{IN_COLOUR}; "
        captions = {
            "photo": f"Original ({of_region}white frame: the crop)",
            "crop": "Crop",
            "good": f"AesAM of {self.good}, sum {good.sum():+.1f}",
            "level": f"AesAM of {self.target} {self.level.value}, sum {beside.sum():+.1f}",
        }
        if attribute is not None:
            reach = max(np.abs(attribute).max(), 1e-6)
            pictures["attribute"] = activation_picture(self.picture, attribute, reach)
            captions["attribute"] = (
                f"AttAM of {self.attribute.value}, sum {attribute.sum():+.1f}"
            )
        self._tell(box, reason, crop)
        for name, picture in pictures.items():
            picture.thumbnail((SHOWN, SHOWN))
            self.images[name].value = _jpeg(picture)
            self.captions[name].value = html.escape(captions[name])
        return box

    def _within(self, picture: Image.Image, box: Box) -> list[int]:
        """The crop in pixels of a smaller copy of the photo."""
        return [round(edge * picture.width / self.size[0]) for edge in box]

    def _tell(self, box: Box, reason: str, crop: Image.Image) -> None:
        """Where the crop lies, and what the network says of it."""
        left, top, right, foot = box
        after = self._logits(Pixels(square(crop)[None]))
        told = _told_apart(self.before, after)
        levels = zip(self.network("best").levels, *told, strict=True)
        change = ", ".join(f"{level}: {was} to {now}" for level, was, now in levels)
        self.text += [
            f"crop {right - left} x {foot - top} at ({left}, {top}) of "
            f"{self.size[0]} x {self.size[1]} px" + (f": {reason}" if reason else ""),
            f"likelihoods, photo to crop: {change} ({OWN_LIKELIHOODS.format(self.target)})",
        ]

    def _save(self) -> None:
        """The crop of the original, at full resolution."""
        name, target = Path(self.subject[0]), io.BytesIO()
        save_crop(io.BytesIO(self.read()), self.found, target)
        with Image.open(target) as crop:
            self._offer(
                f"{name.stem}_crop{name.suffix}", crop.format.lower(), target.getvalue()
            )


def _judged(run: Run, photos: pd.DataFrame) -> pd.DataFrame:
    """The photos with `predicted`, the score or level that the chosen round's network assigns."""
    known = run.split.set_index("photo").score.reindex(photos.photo).to_numpy()
    unlike = photos.photo[known != photos.score.to_numpy()]
    if len(unlike) or not len(photos):
        found = f"{len(unlike)} of {len(photos)} ({', '.join(unlike[:2])}) differ"
        raise InputError(
            f"{run.folder} needs the photos and scores it was made with; {found}."
        )
    judged = run.samples.query(f"round == {run.chosen} and part != 'other'")
    predicted = photos.photo.map(judged.set_index("photo").assigned)
    if run.info["recipe"]["levels"] == "low-high":
        predicted = predicted.map({0: "low", 1: "high"})
    return photos.assign(predicted=predicted).reset_index(drop=True)


def _opened(
    path: str, content: bytes | None = None
) -> tuple[tuple[int, int], Image.Image, Image.Image, Pixels]:
    """Size of a photo, the photo to crop from and to show, and as the networks see it."""
    photo = open_rgb(path, content)
    size, pixels = photo.size, Pixels(square(photo)[None])
    photo.thumbnail((LARGE, LARGE), Image.Resampling.LANCZOS)
    shown = photo.copy()
    shown.thumbnail((SHOWN, SHOWN), Image.Resampling.LANCZOS)
    return size, photo, shown, pixels


def _stamp(path: str) -> tuple[int, int] | None:
    """When a file was changed and its bytes: as they are, it is the same. None: it is gone."""
    try:
        there = Path(path).stat()
    except OSError:
        return None
    return there.st_mtime_ns, there.st_size


def _unchanged(path: str, stamp: tuple[int, int] | None) -> bytes:
    """Content of a photo that was shown; `InputError` where it is another by now."""
    if _stamp(path) != stamp:
        found = f"{path} was changed, moved or deleted since it was shown"
        raise InputError(f"{found}; choose another photo, then this one again.")
    return Path(path).read_bytes()


def _told_apart(*judged: np.ndarray) -> list[list[str]]:
    """Likelihoods of logits (levels,) as text, each time in so many digits that the largest shows.

    Where 6 digits do not tell it from the next one, logits stand beside them.
    """
    of_all = [likelihoods(logits.astype(float)) for logits in judged]
    for digits in range(2, 7):
        told = [[f"{p:.{digits}f}" for p in values] for values in of_all]
        if all(texts.count(max(texts)) == 1 for texts in told):
            return told
    return [
        [
            f"{text} (logit {logit:.1f})"
            for text, logit in zip(texts, logits, strict=True)
        ]
        for texts, logits in zip(told, judged, strict=True)
    ]


def _plain(text: str) -> str:
    """HTML without its marks."""
    return html.unescape(re.sub("<[^>]*>", "", text))


def _png(figure: Figure, **how) -> bytes:
    """A figure as a PNG, closed; `how` is that of `savefig`."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", **how)
    plt.close(figure)
    return stream.getvalue()


def _picture(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content)).convert("RGB")


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
