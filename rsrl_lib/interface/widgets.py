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
from torch import nn

from rsrl_lib.activation import activation_maps, check_maps
from rsrl_lib.cropping import (
    AGREEMENT,
    THRESHOLD,
    Box,
    agreement,
    aspect_ratio,
    crop_box,
    largest_region,
    save_crop,
)
from rsrl_lib.drop_rules import Decision, DropRule, decide, largest_classes
from rsrl_lib.files import InputError
from rsrl_lib.highlight import (
    Highlight,
    conv1_of,
    highlights,
    pair_of_rounds,
    stacked,
)
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
from rsrl_lib.summary import IN_WORDS
from rsrl_lib.training import likelihoods, logits

KEPT = "#35618f"
DROPPED = "#c9772b"
NEAREST = 4
HAIR = 1e-9
"""A fitted K is the likelihood of a photo that stays; rounded it could drop it."""
STILL = "Run this cell to get the controls"
CAPTION = 36
"""Letters that fit above a picture."""


class _View(w.VBox):
    """Widgets, and a picture for where none are shown: in a notebook that is not trusted yet.

    `still` makes that picture when the view is displayed.
    """

    def __init__(self, children: Iterable[w.Widget], still: Callable[[], Image.Image]):
        super().__init__(children)
        self.still = still

    def _repr_mimebundle_(self, **options) -> dict[str, object]:
        picture = _jpeg(self.still())
        encoded = base64.b64encode(picture).decode()
        bundle = super()._repr_mimebundle_(**options)
        return bundle | {"image/jpeg": encoded}


def drop_explorer(sample: pd.DataFrame, paths: pd.Series, drop: DropRule) -> w.VBox:
    """Sliders for K1-K3 over the likelihoods of one round: how many photos stay, and which ones.

    `sample` holds the training photos of a round (columns photo, label, own_logit, top_logit),
    `paths` their files by name. Shown are the numbers kept of each class, and the
    photos nearest to each threshold on both sides. The sliders start where `drop` decides after
    round 1, and as many photos of each class as it says stay in any case.
    """
    labels = sample.label.to_numpy(int)
    own = sample.own_logit.to_numpy()
    top = sample.top_logit.to_numpy()
    files = sample.photo.map(paths).to_numpy()
    majorities = largest_classes(labels)
    start = decide(drop, labels, own, top, after_round=1).thresholds
    rule = w.Dropdown(
        options=["own-class", "top-class"], value=drop.rule, description="rule"
    )
    sliders = _threshold_sliders(majorities, start)
    summary = w.HTML()
    picture = w.Image(format="png")

    def show(_change=None) -> None:
        by_own_class = rule.value == "own-class"
        k = tuple(slider.value for slider in sliders)
        if not by_own_class:
            k = k[:2]  # SSRL-2019 has one K for max1 and one for both others
        sliders[-1].disabled = not by_own_class and len(sliders) == 3
        # With fewer classes than the rule has thresholds, the last ones decide nothing.
        of_rule = 3 if by_own_class else 2
        missing = of_rule - len(k)
        k += (1.0,) * missing
        asked = DropRule(rule=rule.value, k=k, min_per_class=drop.min_per_class)
        try:
            decision = decide(asked, labels, own, top, after_round=1)
        except InputError as error:
            summary.value = f"<b>{html.escape(str(error))}</b>"
            return
        summary.value = _summary(labels, majorities, decision, drop.min_per_class)
        logits = own if by_own_class else top
        picture.value = _near_threshold(files, labels, logits, majorities, decision)

    for control in (rule, *sliders):
        control.observe(show, "value")
    show()
    children = [w.HBox([rule]), *sliders, summary, picture]
    return _View(children, still=lambda: _picture(picture.value))


def _threshold_sliders(
    majorities: list[int], thresholds: Iterable[float]
) -> list[w.FloatSlider]:
    sliders = []
    pairs = zip(majorities, thresholds, strict=True)
    for number, (score, k) in enumerate(pairs, 1):
        of_k = w.FloatSlider(
            max(k - HAIR, 0),
            max=1,
            step=0.01,
            description=f"K{number} (score {score})",
            style={"description_width": "110px"},
            continuous_update=False,
        )
        sliders.append(of_k)
    return sliders


def _summary(
    labels: np.ndarray, majorities: list[int], decision: Decision, min_per_class: int
) -> str:
    kept = decision.kept
    is_majority = np.isin(labels, majorities)
    before = is_majority.mean()
    after = is_majority[kept].mean()
    of_class = []
    for score in majorities:
        has_score = labels == score
        stay = kept[has_score].sum()
        of_class.append(f"{stay} of {has_score.sum()} with score {score}")
    names = ", ".join(map(str, sorted(majorities)))
    text = (
        f"<b>{kept.sum()} of {len(labels)} photos stay</b>: {', '.join(of_class)}, and all "
        f"others. Scores {names} go from {before:.0%} to {after:.0%} of the set."
    )
    if decision.rescued:
        text += (
            f" {decision.rescued} of those that stay are below K: the {min_per_class} likeliest "
            "photos of each score always stay."
        )
    return text


def _near_threshold(
    paths: np.ndarray,
    labels: np.ndarray,
    logits: np.ndarray,
    majorities: list[int],
    decision: Decision,
) -> bytes:
    """PNG with a row per majority class: histogram, photos just below K, photos just above."""
    rows = len(majorities)
    of_photos = [1] * (2 * NEAREST)
    widths = [2.4, *of_photos]
    figure = Figure(figsize=(12, 1.9 * rows), layout="constrained")
    axes = figure.subplots(rows, len(widths), squeeze=False, width_ratios=widths)
    likelihood = likelihoods(logits)
    kept = decision.kept
    for row, score, k in zip(axes, majorities, decision.thresholds, strict=True):
        members = np.flatnonzero(labels == score)
        order = np.argsort(logits[members], kind="stable")
        rising = members[order]
        row[0].set_ylabel(f"score {score}")
        _draw_class(row, paths[rising], likelihood[rising], kept[rising], k)
    top_row = axes[0]
    top_row[0].set_title("likelihood", fontsize=10)
    _entitle(top_row[1], "dropped", DROPPED)
    _entitle(top_row[1 + NEAREST], "kept", KEPT)
    return _png(figure, dpi=90)


def _draw_class(
    row: np.ndarray,
    paths: np.ndarray,
    likelihood: np.ndarray,
    is_kept: np.ndarray,
    k: float,
) -> None:
    """The photos of a class, by rising likelihood, in a row of axes."""
    histogram, *places = row
    bins = np.linspace(0, 1, 26)
    stacks = [likelihood[~is_kept], likelihood[is_kept]]
    histogram.hist(stacks, bins, stacked=True, color=[DROPPED, KEPT])
    histogram.axvline(k, color="k", lw=1)
    histogram.set_xlim(0, 1)
    for ax in places:
        ax.axis("off")

    below = np.flatnonzero(~is_kept)[-NEAREST:]
    above = np.flatnonzero(is_kept)[:NEAREST]
    places = places[NEAREST - len(below) :]
    for ax, photo in zip(places, [*below, *above], strict=False):
        thumbnail = _thumbnail(str(paths[photo]))
        ax.imshow(thumbnail)
        colour = KEPT if is_kept[photo] else DROPPED
        ax.text(
            0.5,
            -0.04,
            f"{likelihood[photo]:.2f}",
            transform=ax.transAxes,
            fontsize=9,
            color=colour,
            ha="center",
            va="top",
        )


def _entitle(ax: plt.Axes, text: str, colour: str) -> None:
    ax.text(0, 1.04, text, transform=ax.transAxes, color=colour, in_layout=False)


@lru_cache(maxsize=512)
def _thumbnail(path: str) -> Image.Image:
    picture = open_rgb(path)
    picture.thumbnail((120, 120), Image.Resampling.LANCZOS)
    return picture


SHOWN = 420
"""Pixels of a picture on the page, the longer side."""
LARGE = 1200
"""Pixels of the photo that crops are shown of."""
PAGE = 18
"""Thumbnails that are shown at once."""
LIMIT = 30 * 2**20
"""Most bytes of an uploaded photo."""
STYLE = f"<style>{Path(__file__).with_suffix('.css').read_text()}</style>"
BUSY = '<div class="rsrl-busy" role="status" aria-busy="true">computing …</div>'
AGAIN = "load the page again; in JupyterLab, run the cells again."
ENDED = f"""<div class="rsrl-ended" role="alert">This page's session has ended: nothing on it
answers any more. To go on, {AGAIN}</div>"""
PULSE = 10_000
"""Milliseconds between two signs of life; `widgets.css` waits for three of them."""
SILENT = f"""<div class="rsrl-silent" role="alert" data-pulse="{{}}">There was no answer for half a
minute. The computer is busy, or this page's session has ended. Then {AGAIN}</div>"""
OWN_LIKELIHOODS = "each {} has its own likelihood: they need not add up to 1"
WIDE = {"style": {"description_width": "112px"}, "layout": {"width": "98%"}}
slider = partial(w.FloatSlider, **WIDE)
choice = partial(w.Dropdown, **WIDE)


class _Explorer:
    """A photo, chosen by thumbnail or given by the reader, and what can be seen in it.

    A subclass makes its controls, calls `_start`, and in `_find` finds something, which is kept in
    `found` once all of it is shown (None: there is nothing). Thumbnails are one widget, coloured by
    one text of CSS: a change is a message or two and not one for each button.
    """

    kind: str  # class of the view
    measured: str  # what is known of such pictures, where they could mislead

    def __init__(self, run: Run, photos: pd.DataFrame, figures: Iterable[str]):
        self.run = run
        self.recipe = run.info["recipe"]
        self.target = "score" if self.recipe["levels"] == "scores" else "level"
        self.photos = _judged(run, photos)
        self.open = lru_cache(32)(lambda path, _stamp: self._opened(path))
        self.side = run.side
        self.network = cache(run.network)
        self.judges = cache(run.judges)
        self.rule = run.decision
        self.decided = ""  # told where it is not by the largest node of one network
        average = self.recipe.get("average", 1)  # runs of before have none
        if self.rule.prior or average > 1:
            self.decided = f" by {self.rule.in_words()}"
        if average > 1:
            self.decided += f", of the last {average} rounds together"
        self.quiet = False
        self.found = None
        self.page = 0
        self.row = None
        self._make_controls()
        self.images = {name: w.Image(format="jpeg") for name in figures}
        self.captions = {name: w.HTML() for name in figures}
        self.count = w.HTML()
        self.error = w.HTML()
        self.facts = w.HTML()
        self.link = w.HTML()
        self.busy = w.HTML()
        self.thumb_style = w.HTML()
        self.asked = w.IntText()
        self.answered = w.IntText()
        self.echo = w.jsdlink((self.asked, "value"), (self.answered, "value"))
        self.alive = w.HTML()
        self.pulse = w.Play(interval=PULSE, max=1, repeat=True, _view_count=0)
        # Several explorers may stand on one page.
        self.scope = f"rsrl-{uuid4().hex[:8]}"

    def _make_controls(self) -> None:
        """The controls that choose a photo, and the one that saves."""
        descriptions = {"score": "score", "predicted": f"predicted {self.target}"}
        self.filters = {}
        for name, description in descriptions.items():
            different = np.unique(self.photos[name]).tolist()
            self.filters[name] = choice(
                description=description, options=["all", *different]
            )
        self.thumbs = w.ToggleButtons().add_class("rsrl-thumbs")
        self.back = w.Button(icon="chevron-left", tooltip="previous photos")
        self.forth = w.Button(icon="chevron-right", tooltip="next photos")
        self.upload = w.FileUpload(
            accept=",".join(endings()), description="Your own photo"
        )
        self.save = w.Button(icon="download")

    def _start(self, actions: Iterable[tuple[w.Widget, Callable[[], None]]]) -> None:
        """Connect the controls, own and common ones, and show the first photo."""
        changes = list(actions)
        changes.append((self.thumbs, self._pick))
        changes.append((self.upload, self._take))
        for control in self.filters.values():
            changes.append((control, self._turn))
        changes.append((self.answered, self._save_found))
        for control, action in changes:
            control.observe(self._acting(action), "value")

        clicks = [
            (self.back, partial(self._turn, -1)),
            (self.forth, partial(self._turn, 1)),
            (self.save, self._ask),
        ]
        for button, action in clicks:
            button.on_click(self._acting(action))

        self.pulse.observe(self._shown, "_view_count")
        self.pulse.observe(self._answer, "value")
        self._turn()
        self.thumbs.value = self.photos.index[0]

    def _view(
        self, rows: tuple[int, ...], panels: list[w.Widget], *below: w.Widget, styles=()
    ) -> w.Box:
        """Pictures in `rows` of so many, with what is said of them; the controls beside them."""
        photos = self._photo_panel()
        pictures = self._picture_column(rows)
        controls = w.VBox([photos, *panels])
        controls.add_class("rsrl-controls")
        foot = w.VBox(below)
        foot.add_class("rsrl-below")
        page = w.Box([pictures, controls, foot])
        page.add_class("rsrl-page")
        hidden = w.VBox([w.HTML(STYLE), self.thumb_style, *styles, self.pulse])
        hidden.layout.display = "none"
        children = [hidden, w.HTML(ENDED), self.alive, page]
        view = _View(children, still=partial(self._still, rows))
        for name in ("rsrl", self.kind, self.scope):
            view.add_class(name)
        return view

    def _photo_panel(self) -> w.VBox:
        """The controls that choose a photo."""
        pager = w.HBox([self.back, self.count, self.forth])
        pager.add_class("rsrl-pager")
        filters = self.filters.values()
        return _panel("Photo", self.thumbs, pager, *filters, self.upload)

    def _picture_column(self, rows: tuple[int, ...]) -> w.VBox:
        """Pictures in `rows` of so many, and what is said of them."""
        figures = []
        for name, image in self.images.items():
            caption = self.captions[name]
            figures.append(w.VBox([image, caption]))
        following = iter(figures)
        pictures = []
        for size in rows:
            row = list(islice(following, size))
            pictures.append(w.HBox(row))
        measured = w.HTML(html.escape(self.measured))
        measured.add_class("rsrl-measured")
        saving = w.HBox([self.save, self.link])
        column = w.VBox(
            [self.busy, self.error, *pictures, measured, self.facts, saving]
        )
        return column.add_class("rsrl-pictures")

    def _still(self, rows: tuple[int, ...]) -> Image.Image:
        """The pictures in these rows, with their captions."""
        captioned = []
        for name, image in self.images.items():
            if image.value:
                text = _plain(self.captions[name].value)
                caption = fill(text, CAPTION)
                captioned.append((caption, _picture(image.value)))
        following = iter(captioned)
        unnamed_rows = []
        for size in rows:
            row = list(islice(following, size))
            if row:
                unnamed_rows.append(("", row))
        figure = picture_rows(unnamed_rows, STILL)
        png = _png(figure, bbox_inches="tight")
        return _picture(png)

    def _acting(self, action: Callable[[], None]) -> Callable[[object], None]:
        """What a control calls when it changes."""
        return partial(self._act, action)

    def _act(self, action: Callable[[], None], _change: object) -> None:
        """Do what a control asks for; what goes wrong is said on the page."""
        if self.quiet:
            return
        self.busy.value = BUSY
        self.link.value = ""
        try:
            with threads(1):
                action()
        except InputError as error:
            self._say(str(error))
        except Exception as error:
            kind = type(error).__name__
            self._say(f"This went wrong unexpectedly ({kind}: {error}).")
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
        text = html.escape(sentence)
        self.error.value = f'<div class="rsrl-error" role="alert">{text}</div>'
        if self.found is None:
            self.save.disabled = True
            grey = Image.new("RGB", (16, 11), "#dddddd")
            for image in self.images.values():
                image.value = _jpeg(grey)

    def _turn(self, by: int | None = None) -> None:
        """Thumbnails of the next or last page, or of the first one that the filters leave."""
        photos = self._filtered()
        self.page = 0 if by is None else self.page + by
        first = self.page * PAGE
        last = min(first + PAGE, len(photos))
        on_page = photos.iloc[first:last]
        self._list(on_page)
        self.back.disabled = first == 0
        self.forth.disabled = last == len(photos)
        count = "no such photo"
        if len(photos):
            count = f"{first + 1} to {last} of {len(photos)}"
        self.count.value = count
        with ThreadPoolExecutor() as pool:
            looks = pool.map(_thumb_look, on_page.path)
            self.thumb_style.value = self._css("rsrl-thumbs", looks)

    def _list(self, photos: pd.DataFrame) -> None:
        """A button for each of these photos, that of the chosen one pressed."""
        tooltips = []
        for photo in photos.itertuples():
            tooltips.append(
                f"{photo.photo}: score {photo.score}, predicted {photo.predicted}"
            )
        chosen = self.row if self.row in photos.index else None
        with self._quietly(), self.thumbs.hold_sync():
            self.thumbs.tooltips = tooltips
            self.thumbs.options = list(zip(photos.photo, photos.index, strict=True))
            self.thumbs.value = chosen
        # Without options it keeps its last buttons.
        self.thumbs.layout.display = None if len(photos) else "none"

    def _filtered(self) -> pd.DataFrame:
        """The photos that the filters leave."""
        photos = self.photos
        for name, control in self.filters.items():
            if control.value != "all":
                photos = photos[photos[name] == control.value]
        return photos

    def _css(self, group: str, looks: Iterable[str]) -> str:
        """How each button of a group looks, in this view alone."""
        buttons = f".{self.scope} .{group}"
        rules = []
        for number, look in enumerate(looks, 1):
            button = f"{buttons} button:nth-child({number})"
            rules.append(f"{button} {{{look}}}")
        text = " ".join(rules)
        return f"<style>{text}</style>"

    def _pick(self) -> None:
        self.row = self.thumbs.value
        photo = self.photos.loc[self.row]
        stamp = _stamp(photo.path)
        self.name = photo.photo
        predicted = self._predicted_in_words(
            photo.predicted, photo.expected, photo.spread
        )
        part = f"{IN_WORDS[photo.part]} photo"
        self.said = f"score {photo.score} ({part}), {predicted}"
        self.load = partial(self.open, photo.path, stamp)
        self.read = partial(_unchanged, photo.path, stamp)
        self._show()

    def _take(self) -> None:
        """Show an uploaded photo; the name that it came with is text and nothing else."""
        upload = self.upload.value[0]
        name = str(upload["name"])[:255]
        content = bytes(upload["content"])
        with self._quietly():
            self.upload.value = ()  # so that the same file can be given again
        if len(content) > LIMIT:
            raise InputError(
                f"{name} has {len(content) / 2**20:.0f} MB, a photo may have {LIMIT >> 20} MB; "
                "give a smaller copy."
            )
        opened = self._opened(name, content)
        *_, pixels = opened
        said = self._own_in_words(pixels)
        self.row = None
        self.name = name
        self.said = said
        self.load = lambda: opened
        self.read = lambda: content
        with self._quietly():
            self.thumbs.value = None
        self._show()

    def _own_in_words(self, pixels: Pixels) -> str:
        """What the network says of the reader's own photo."""
        levels = self.network("best").levels
        own, together = self.judges().logits(pixels)  # (1, levels)
        (node,) = self.rule.nodes(together)
        (expected,), (spread,) = self.rule.expected(together)
        predicted = self._predicted_in_words(levels[node], expected, spread)
        (told,) = _told_apart(own[0])
        each = []
        for level, likelihood in zip(levels, told, strict=True):
            each.append(f"{level}: {likelihood}")
        note = OWN_LIKELIHOODS.format(self.target)
        return f"your own photo, {predicted} (likelihoods {', '.join(each)}; {note})"

    def _predicted_in_words(self, level: object, expected: float, spread: float) -> str:
        """The score or level of a photo, how it was decided, and which score is expected."""
        words = f"predicted {self.target} {level}{self.decided}"
        # Runs of before hold no expected scores; and between two levels there is none.
        if self.target == "score" and not np.isnan(expected):
            words += f", expected {expected:.1f} ± {spread:.1f}"
        return words

    def _opened(self, path: str, content: bytes | None = None) -> tuple:
        """A photo as `_opened` has it, decoded as the run's networks need it."""
        return _opened(path, content, self.side)

    def _logits(self, pixels: Pixels) -> np.ndarray:
        """Logit of each level (levels,) of a photo, by the chosen network."""
        return logits(self.network("best"), pixels, **self.run.view)[0]

    def _show(self) -> None:
        """Find what the controls ask for in the chosen photo, and show all of it."""
        self.found = None
        of_photo = f"{self.name}: {self.said}"
        self.text = [of_photo]
        self.facts.value = html.escape(of_photo)
        self.size, self.large, self.picture, self.pixels = self.load()
        found = self._find()
        lines = [html.escape(line) for line in self.text]
        self.facts.value = "<br>".join(lines)
        self.found = found
        self.error.value = ""
        self.save.disabled = False

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
        encoded = base64.b64encode(content)
        data = f"data:image/{kind};base64,{encoded.decode()}"
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
        rounds, _ = pair_of_rounds(run)

        def pair(later: int, earlier: int) -> nn.Conv2d:
            return stacked(conv1_of(run, later), conv1_of(run, earlier))

        self.pair = lru_cache(64)(pair)
        slide = partial(w.IntSlider, continuous_update=False, **WIDE)
        self.settings = {}
        for name, (description, options) in SETTINGS.items():
            self.settings[name] = choice(description=description, options=options)
        self.later = slide(rounds, 2, rounds, description="round I")
        self.step = slide(1, 1, rounds - 1, description="k rounds before")
        self.fade = slider(1, max=1, step=0.05, description="grey out the rest")
        self.fade.readout_format = ".0%"
        channels = conv1_of(run, 1).out_channels
        options = [("least correlated", LEAST)]
        for channel in range(channels):
            options.append((str(channel), channel))
        self.strip = w.ToggleButtons(options=options)
        self.strip.add_class("rsrl-channels")
        self.strip_style = w.HTML()
        self.save.description = "Save the figure"
        panels = [
            _panel("Rounds I and I - k", self.later, self.step),
            _panel("Maps and region", *self.settings.values(), self.fade),
        ]
        strip = _panel("Channel J", self.strip, w.HTML(LEGEND))
        self.view = self._view((2, 3), panels, strip, styles=[self.strip_style])
        actions = [(self.later, self._follow), (self.fade, self._fade)]
        for control in (self.step, self.strip, *self.settings.values()):
            actions.append((control, self._show))
        self._start(actions)

    def _say(self, sentence: str) -> None:
        super()._say(sentence)
        if self.found is None:
            self.strip_style.value = ""

    def _follow(self) -> None:
        with self._quietly():
            self.step.max = self.later.value - 1  # takes k with it
        self._show()

    def _find(self) -> Highlight:
        later = self.later.value
        earlier = later - self.step.value
        channel = None if self.strip.value == LEAST else self.strip.value
        settings = {name: control.value for name, control in self.settings.items()}
        (highlight,) = highlights(
            self.pair(later, earlier),
            self.pixels.crops([0], view="whole"),
            shrink_to=self.run.view["shrink_to"],
            channel=channel,
            **settings,
        )
        facts = highlight.facts(self.size)
        self.text.append(self._in_words(later, earlier, facts))
        self.labels = {}
        for name, caption in CAPTIONS.items():
            self.labels[name] = caption.format(later, earlier, facts["J"])
            self.captions[name].value = self.labels[name]
        looks = _channel_looks(highlight)
        self.strip_style.value = self._css("rsrl-channels", looks)
        self._draw(highlight)
        return highlight

    def _in_words(self, later: int, earlier: int, facts: dict[str, float]) -> str:
        """The rounds, the channel and the region that are shown."""
        chosen = "by hand"
        if self.strip.value == LEAST:
            chosen = "the least correlated"
        share = facts["area_share"]
        photo = "{} x {}".format(*self.size)
        box = "its largest part: box {width} x {height} at ({left}, {top})"
        box = box.format(**facts)
        return (
            f"rounds {later} and {earlier}, channel {facts['J']} "
            f"({chosen}: {facts['correlation']:.5f}), "
            f"region {share:.0%} of {photo} px, {box}"
        )

    def _fade(self) -> None:
        if self.found is not None:
            self._draw(self.found)

    def _draw(self, highlight: Highlight) -> None:
        self.pictures = highlight_pictures(
            self.picture, highlight, opacity=self.fade.value
        )
        for name, picture in self.pictures.items():
            self.images[name].value = _jpeg(picture)

    def _save(self) -> None:
        captioned = []
        for name, picture in self.pictures.items():
            caption = self.labels[name]
            captioned.append((caption, picture))
        title = "\n".join(self.text)
        title = title.replace("$", r"\$")
        figure = picture_rows([("", captioned)], title)
        content = _png(figure, dpi=150, bbox_inches="tight")
        stem = Path(self.name).stem
        channel = self.found.channel
        self._offer(f"highlight_{stem}_J{channel}.png", "png", content)


RATIOS = ("as the region", "1:1", "3:2", "2:3", "4:3", "3:4", "16:9", "9:16")
GOOD, LEVEL, ATTRIBUTE, BOTH = range(4)  # maps to crop by
LIKELIEST = ("the likeliest", "the 2nd likeliest", "the 3rd likeliest")


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
        check_maps(network, shrink_to=run.view["shrink_to"])
        figures = ["photo", "crop", "good", "level"]
        if network.attributes:
            figures.append("attribute")
        super().__init__(run, photos, figures)
        self.seen = None
        self.good = "level high" if "high" in network.levels else "a rising score"
        which = [(f"AesAM of {self.good}", GOOD), ("AesAM chosen below", LEVEL)]
        if network.attributes:
            which.append(("AttAM chosen below", ATTRIBUTE))
            which.append(("AesAM and AttAM, if they agree", BOTH))
        self.which = choice(description="crop by", options=which)
        self.threshold = slider(
            THRESHOLD, min=0.05, max=0.95, step=0.05, description="threshold"
        )
        self.threshold.readout_format = ".0%"
        self.iou = slider(
            AGREEMENT, min=0, max=1, step=0.05, description="IoU to agree"
        )
        self.ratio = choice(description="aspect ratio", options=RATIOS)
        self.level = choice(
            description=f"AesAM of {self.target}", options=network.levels
        )
        by_rank = zip(LIKELIEST, range(len(network.attributes)), strict=False)
        by_name = ((name, name) for name in sorted(network.attributes))
        self.attribute = choice(description="AttAM of", options=[*by_rank, *by_name])
        self.save.description = "Save the crop"
        of_crop = [self.which, self.threshold, self.ratio]
        of_maps = [self.level]
        if network.attributes:
            of_crop.append(self.iou)
            of_maps.append(self.attribute)
        panels = [_panel("Crop", *of_crop), _panel("Maps", *of_maps)]
        self.view = self._view((2, len(figures) - 2), panels)
        self._start((control, self._show) for control in (*of_crop, *of_maps))

    def _look(self) -> None:
        """What the network sees in the photo and says of it, once for each photo."""
        if self.seen is self.pixels:
            return
        view = self.pixels.crops([0], view="whole")
        network = self.network("best")
        how = {"shrink_to": self.run.view["shrink_to"], "top": len(network.attributes)}
        maps = activation_maps(network, view, **how)[0]
        before = self._logits(self.pixels)
        self.maps = maps
        self.before = before
        self.seen = self.pixels

    def _find(self) -> Box:
        self._look()
        chosen, beside = self._maps_to_crop_by()
        aspect = None
        if self.ratio.value != RATIOS[0]:
            aspect = aspect_ratio(self.ratio.value)
        threshold = self.threshold.value
        how = {"threshold": threshold, "iou": self.iou.value, "aspect": aspect}
        box, reason = crop_box(chosen, self.size, att=beside, **how)
        region = largest_region(chosen, threshold=threshold)
        crop = self.large.crop(self._within(self.large, box))
        figures = self._figures(box, region, crop)
        self._tell(box, reason, crop)
        if beside is not None:
            self._tell_agreement(chosen, beside)
        for name, (picture, caption) in figures.items():
            picture.thumbnail((SHOWN, SHOWN))
            self.images[name].value = _jpeg(picture)
            self.captions[name].value = html.escape(caption)
        return box

    def _maps_to_crop_by(self) -> tuple[np.ndarray, np.ndarray | None]:
        """The map to crop by, and the one beside it whose box is to agree with its."""
        which = self.which.value
        if which == LEVEL:
            return self.maps.levels[self.level.value], None
        if which == ATTRIBUTE:
            return self._attribute_map(), None
        return self.maps.high, self._attribute_map() if which == BOTH else None

    @property
    def attribute_name(self) -> str | None:
        """The attribute chosen, by its name or by how likely it is; None where there is none."""
        chosen = self.attribute.value
        if isinstance(chosen, int):
            return list(self.maps.attributes)[chosen]
        return chosen

    def _attribute_map(self) -> np.ndarray | None:
        """AttAM of the attribute chosen; None of a network that has none."""
        return self.maps.attributes.get(self.attribute_name)

    def _figures(
        self, box: Box, region: np.ndarray | None, crop: Image.Image
    ) -> dict[str, tuple[Image.Image, str]]:
        """Each figure's picture and caption."""
        frame = self._within(self.picture, box)
        of_region = "" if region is None else f"{IN_COLOUR}; "
        figures = {
            "photo": (
                framed(self.picture, frame, region),
                f"Original ({of_region}white frame: the crop)",
            ),
            "crop": (crop, "Crop"),
        }
        good = self.maps.high
        level = self.maps.levels[self.level.value]
        # One scale for both: sums are compared.
        reach = _reach([good, level])
        figures["good"] = (
            activation_picture(self.picture, good, reach),
            f"AesAM of {self.good}, sum {good.sum():+.1f}",
        )
        figures["level"] = (
            activation_picture(self.picture, level, reach),
            f"AesAM of {self.target} {self.level.value}, sum {level.sum():+.1f}",
        )
        attribute = self._attribute_map()
        if attribute is not None:
            figures["attribute"] = (
                activation_picture(self.picture, attribute, _reach(attribute)),
                f"AttAM of {self.attribute_name}, sum {attribute.sum():+.1f}",
            )
        return figures

    def _tell_agreement(self, aes: np.ndarray, att: np.ndarray) -> None:
        """Whether the boxes of both maps agree, and what follows."""
        iou = agreement(aes, att, threshold=self.threshold.value)
        if np.isnan(iou):
            told = "a map has no box, so that of AesAM alone is taken"
        elif iou >= self.iou.value:
            told = f"their IoU is {iou:.2f}, so the mean of both is taken"
        else:
            told = f"their IoU is {iou:.2f}, so that of AesAM alone is taken"
        self.text.append(f"boxes of AesAM and AttAM of {self.attribute_name}: {told}")

    def _within(self, picture: Image.Image, box: Box) -> list[int]:
        """The crop in pixels of a smaller copy of the photo."""
        width, _ = self.size
        edges = []
        for edge in box:
            within = edge * picture.width / width
            edges.append(round(within))
        return edges

    def _tell(self, box: Box, reason: str, crop: Image.Image) -> None:
        """Where the crop lies, and what the network says of it."""
        left, top, right, foot = box
        width, height = self.size
        sides = f"{right - left} x {foot - top}"
        place = f"crop {sides} at ({left}, {top}) of {width} x {height} px"
        if reason:
            place += f": {reason}"

        of_photo = self.before
        of_crop = self._logits(Pixels(square(crop, self.side)[None]))
        told_before, told_after = _told_apart(of_photo, of_crop)
        levels = self.network("best").levels
        changes = []
        for level, was, now in zip(levels, told_before, told_after, strict=True):
            changes.append(f"{level}: {was} to {now}")
        each = ", ".join(changes)
        note = OWN_LIKELIHOODS.format(self.target)
        self.text.append(place)
        self.text.append(f"likelihoods, photo to crop: {each} ({note})")

    def _save(self) -> None:
        """The crop of the original, at full resolution."""
        original = io.BytesIO(self.read())
        cropped = io.BytesIO()
        save_crop(original, self.found, cropped)
        with Image.open(cropped) as crop:
            kind = crop.format.lower()
        path = Path(self.name)
        self._offer(f"{path.stem}_crop{path.suffix}", kind, cropped.getvalue())


def _reach(maps: np.ndarray | list[np.ndarray]) -> float:
    """The value of maps at which their colours are full."""
    largest = np.abs(maps).max()
    return max(largest, 1e-6)


def _judged(run: Run, photos: pd.DataFrame) -> pd.DataFrame:
    """The photos with their `part`, with `predicted`, the score or level that the chosen round
    assigns, and with the `expected` score and its `spread`, where the run holds them."""
    names = photos.photo
    scores_of_run = run.split.set_index("photo").score
    expected = scores_of_run.reindex(names).to_numpy()
    is_unlike = expected != photos.score.to_numpy()
    unlike = names[is_unlike]
    if len(unlike) or not len(photos):
        examples = ", ".join(unlike[:2])
        raise InputError(
            f"{run.folder} needs the photos and scores it was made with; "
            f"{len(unlike)} of {len(photos)} ({examples}) differ."
        )
    judged = run.samples.query(f"round == {run.chosen} and part != 'other'")
    judged = judged.set_index("photo")
    predicted = names.map(judged.assigned)
    if run.info["recipe"]["levels"] == "low-high":
        predicted = predicted.map({0: "low", 1: "high"})
    of_score = judged.reindex(index=names, columns=["expected", "spread"])
    known = photos.assign(predicted=predicted, part=names.map(judged.part))
    known = known.reset_index(drop=True)
    return known.join(of_score.reset_index(drop=True))


def _opened(
    path: str, content: bytes | None, side: int
) -> tuple[tuple[int, int], Image.Image, Image.Image, Pixels]:
    """Size of a photo, the photo to crop from and to show, and as the networks see it."""
    photo = open_rgb(path, content)
    size = photo.size
    pixels = Pixels(square(photo, side)[None])
    photo.thumbnail((LARGE, LARGE), Image.Resampling.LANCZOS)
    shown = photo.copy()
    shown.thumbnail((SHOWN, SHOWN), Image.Resampling.LANCZOS)
    return size, photo, shown, pixels


def _stamp(path: str) -> tuple[int, int] | None:
    """When a file was changed and its bytes: as they are, it is the same. None: it is gone."""
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _unchanged(path: str, stamp: tuple[int, int] | None) -> bytes:
    """Content of a photo that was shown; `InputError` where it is another by now."""
    if _stamp(path) != stamp:
        raise InputError(
            f"{path} was changed, moved or deleted since it was shown; "
            "choose another photo, then this one again."
        )
    return Path(path).read_bytes()


def _told_apart(*judged: np.ndarray) -> list[list[str]]:
    """Likelihoods of logits (levels,) as text, each time in so many digits that the largest shows.

    Where 6 digits do not tell it from the next one, logits stand beside them.
    """
    for digits in range(2, 7):
        told = []
        for logits_of_levels in judged:
            p = likelihoods(logits_of_levels.astype(float))
            told.append([f"{p_level:.{digits}f}" for p_level in p])
        if all(_largest_shows(texts) for texts in told):
            return told
    with_logits = []
    for texts, logits_of_levels in zip(told, judged, strict=True):
        pairs = zip(texts, logits_of_levels, strict=True)
        with_logits.append([f"{text} (logit {logit:.1f})" for text, logit in pairs])
    return with_logits


def _largest_shows(texts: list[str]) -> bool:
    largest = max(texts)
    return texts.count(largest) == 1


def _plain(text: str) -> str:
    """HTML without its marks."""
    without_tags = re.sub("<[^>]*>", "", text)
    return html.unescape(without_tags)


def _png(figure: Figure, **how) -> bytes:
    """A figure as a PNG, closed; `how` is that of `savefig`."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", **how)
    plt.close(figure)
    return stream.getvalue()


def _picture(content: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(content))
    return picture.convert("RGB")


def _jpeg(picture: Image.Image, quality: int = 92) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "jpeg", quality=quality, subsampling=0)
    return stream.getvalue()


def _thumb_look(path: str) -> str:
    try:
        small = _jpeg(_thumbnail(path), 80)
    except InputError:
        return ""  # the button shows the name, and says what is wrong when it is chosen
    data = base64.b64encode(small).decode()
    return f"background-image: url(data:image/jpeg;base64,{data}); color: transparent"


def _channel_looks(highlight: Highlight) -> Iterator[str]:
    """Dark where the correlation r is low, by the magnitude of 1 - r: most lie near 1."""
    yield ""  # the button in front of the channels
    flat = "repeating-linear-gradient(45deg, #bbb 0 2px, #fff 2px 5px)"
    distances = np.clip(1 - highlight.correlations, 1e-5, 0.1)
    shares = (np.log10(distances) + 5) / 4
    pairs = zip(shares, highlight.correlations, strict=True)
    for channel, (share, r) in enumerate(pairs):
        background = flat
        correlation = "flat"
        if not np.isnan(r):
            background = to_hex(plt.cm.YlOrBr(0.6 * share))
            correlation = f"{r:.5f}"
        look = f"background: {background}; --said: 'channel {channel}: {correlation}'"
        if channel == highlight.channel:
            look += "; box-shadow: 0 0 0 3px #111"
        yield look


def _panel(title: str, *children: w.Widget) -> w.VBox:
    heading = w.HTML(f"<b>{title}</b>")
    panel = w.VBox([heading, *children])
    return panel.add_class("rsrl-panel")
