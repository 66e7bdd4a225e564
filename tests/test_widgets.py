import base64
import dataclasses
import html
import io
import json
import os
import re
import shutil
import struct
import sys
import zlib
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, features
from safetensors.torch import save_file
from scipy.special import logit

from rsrl_lib import activation, cropping, highlight, plots, rounds, runs
from rsrl_lib.deciding import DecisionRule
from rsrl_lib.drop_rules import DropRule, decide
from rsrl_lib.files import InputError
from rsrl_lib.network import AestheticNet
from rsrl_lib.reading.pictures import FORMATS, PICTURES, open_rgb
from rsrl_lib.training import likelihoods, logits
from tests.conftest import ROOT
from tests.test_rounds import RECIPE

ipywidgets = pytest.importorskip("ipywidgets")

from rsrl_lib.interface import widgets  # noqa: E402


@pytest.fixture
def explorer(coloured):
    """Opens the explorer for a rule: the photos, the choice of the rule, sliders, text, picture."""
    photos, _ = coloured
    rng = np.random.default_rng(0)
    sample = pd.DataFrame({"photo": photos.table.photo, "label": photos.table.score})
    sample["own_logit"], sample["top_logit"] = logit(rng.random((2, len(sample))))

    def opened(drop):
        view = widgets.drop_explorer(sample, photos.table.set_index("photo")["path"], drop)
        head, *sliders, summary, picture = view.children
        return sample, head.children[0], sliders, summary, picture

    return opened


@pytest.fixture
def explored(explorer):
    return explorer(DropRule(min_per_class=0))


def decided(drop, sample):
    logits = sample.own_logit.to_numpy(), sample.top_logit.to_numpy()
    return decide(drop, sample.label.to_numpy(), *logits, after_round=1)


@pytest.mark.parametrize("rule", ["own-class", "top-class"])
def test_the_explorer_starts_at_the_thresholds_that_the_run_fitted(explorer, rule):
    drop = DropRule(rule=rule, keep_share=0.6, min_per_class=0)
    sample, choice, sliders, summary, _ = explorer(drop)
    run = decided(drop, sample)
    assert choice.value == rule
    assert [slider.value for slider in sliders] == pytest.approx(run.thresholds)
    assert stay(summary) == run.kept.sum() < len(sample)


def test_the_explorer_keeps_the_least_number_of_photos_of_each_class(explorer):
    drop = DropRule(k=(1.0,), min_per_class=2)
    sample, _, sliders, summary, _ = explorer(drop)
    run = decided(drop, sample)
    assert run.rescued == 2 * len(sliders)
    assert stay(summary) == run.kept.sum()
    assert f"{run.rescued} of those that stay are below K: the 2 likeliest" in summary.value
    for slider in sliders:
        slider.value = 0
    assert stay(summary) == len(sample)
    assert "below K" not in summary.value


def stay(summary):
    return int(re.search(r"<b>(\d+) of \d+ photos stay", summary.value)[1])


@pytest.mark.parametrize("rule", ["own-class", "top-class"])
def test_the_explorer_counts_what_the_rule_keeps(explored, rule):
    sample, choice, sliders, summary, _ = explored
    choice.value = rule
    for slider, k in zip(sliders, (0.7, 0.4, 0.2), strict=True):
        slider.value = k
    k = (0.7, 0.4, 0.2) if rule == "own-class" else (0.7, 0.4)
    assert stay(summary) == decided(DropRule(rule=rule, k=k, min_per_class=0), sample).kept.sum()


def test_the_picture_follows_a_slider_and_is_a_png(explored):
    _, _, sliders, _, picture = explored
    before = bytes(picture.value)
    assert before.startswith(b"\x89PNG")
    sliders[0].value = 0.3
    assert bytes(picture.value) != before


def test_the_third_threshold_is_not_asked_for_where_the_rule_has_two(explored):
    _, choice, sliders, _, _ = explored
    choice.value = "top-class"
    assert sliders[2].disabled
    choice.value = "own-class"
    assert not sliders[2].disabled


@pytest.fixture(autouse=True)
def a_browser_answers(monkeypatch):
    """What a page's explorer asks a browser is answered here by the kernel, at once."""
    monkeypatch.setattr(ipywidgets, "jsdlink", ipywidgets.dlink)


FIGURES = ("photo", "region", "later map", "earlier map", "difference")
MAPS = {"later map", "earlier map", "difference"}
CROPS = ("photo", "crop", "good", "level", "attribute")


class Page:
    """What a reader of the explorer sees and does, by the texts on it."""

    def __init__(self, view):
        self.parts = list(self.below(view))
        self.thumbs, *others = self.kind(ipywidgets.ToggleButtons)
        self.strip = others[0] if others else None
        (self.upload,) = self.kind(ipywidgets.FileUpload)

    def below(self, box):
        yield box
        for child in getattr(box, "children", ()):
            yield from self.below(child)

    def kind(self, kind):
        return [part for part in self.parts if type(part) is kind]

    def named(self, text):
        names = ("description", "tooltip")
        (found,) = [p for p in self.parts if text in [getattr(p, name, None) for name in names]]
        return found

    @property
    def text(self):
        shown = [part.value for part in self.kind(ipywidgets.HTML) if "<style>" not in part.value]
        return "\n".join(shown)

    @property
    def figures(self):
        values = [bytes(image.value) for image in self.kind(ipywidgets.Image)]
        return dict(zip(FIGURES if self.strip else CROPS, values, strict=False))

    def give(self, name, content):
        file = {"name": name, "type": "", "size": len(content), "content": memoryview(content)}
        self.upload.value = [file | {"last_modified": datetime(2020, 1, 1)}]


@pytest.fixture(scope="module")
def run(coloured, small_crops, tmp_path_factory):
    return rounds.repeat(*coloured, tmp_path_factory.mktemp("runs") / "run", RECIPE)


@pytest.fixture
def page(run, coloured):
    return Page(widgets.highlight_explorer(run, coloured[0].table))


def changed(before, after):
    return {name for name in before if before[name] != after[name]}


def png(picture):
    stream = io.BytesIO()
    picture.save(stream, "png")
    return stream.getvalue()


def test_it_shows_the_highlight_of_the_first_photo_between_the_last_two_rounds(page, run, coloured):
    pair = highlight.stacked(highlight.conv1_of(run, 3), highlight.conv1_of(run, 2))
    found = highlight.highlights(pair, coloured[1].crops([0], view="whole"), shrink_to=None)[0]
    photo = coloured[0].table.iloc[0]
    facts = found.facts((64, 48))
    part = run.split.set_index("photo").part[photo.photo]
    of_part = {"train": "training", "validation": "validation", "test": "test"}[part]
    assert f"{photo.photo}: score {photo.score} ({of_part} photo), predicted" in page.text
    assert (
        f"channel {found.channel} (the least correlated: {facts['correlation']:.5f})" in page.text
    )
    assert f"region {facts['area_share']:.0%} of 64 x 48 px" in page.text
    assert f"box {facts['width']} x {facts['height']} at" in page.text
    expected = plots.highlight_pictures(open_rgb(photo.path), found)
    assert page.figures == {name: widgets._jpeg(expected[name]) for name in FIGURES}


def test_a_picture_stands_in_for_an_explorer_where_no_widget_is_shown(page, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        widgets, "picture_rows", lambda *a: drawn.append(a) or plots.picture_rows(*a)
    )
    shown = page.parts[0]._repr_mimebundle_()
    assert {"image/jpeg", "application/vnd.jupyter.widget-view+json"} < set(shown)
    assert Image.open(io.BytesIO(base64.b64decode(shown["image/jpeg"]))).width > 600
    ((rows, title),) = drawn
    captions = [[caption for caption, _ in pictures] for _, pictures in rows]
    assert [len(row) for row in captions] == [2, 3] and all(map("".join, captions))
    assert title == "Run this cell to get the controls"


@pytest.mark.parametrize(
    ("control", "value", "changes", "stays"),
    [
        ("round I", 2, MAPS, {"photo"}),
        ("k rounds before", 2, MAPS, {"photo"}),
        ("conv1 maps", True, MAPS, {"photo"}),
        ("difference", True, {"difference"}, {"photo", "later map", "earlier map"}),
        ("region", True, {"region"}, {"photo", "later map", "earlier map", "difference"}),
        ("grey out the rest", 0.3, {"region"}, {"photo", "later map", "earlier map", "difference"}),
    ],
)
def test_a_control_changes_the_pictures_that_it_is_for(page, control, value, changes, stays):
    before = page.figures
    page.named(control).value = value
    found = changed(before, page.figures)
    assert changes <= found
    assert not stays & found


def test_a_channel_chosen_by_hand_stays_until_the_least_correlated_is_asked_for(page):
    first = page.figures
    automatic = int(re.search(r"channel (\d+) \(the least", page.text)[1])
    page.strip.value = (automatic + 1) % 64
    assert f"channel {page.strip.value} (by hand: " in page.text
    assert changed(first, page.figures) >= MAPS
    page.thumbs.value = 3
    assert f"channel {page.strip.value} (by hand: " in page.text
    page.thumbs.value, page.strip.value = 0, -1
    assert page.figures == first


def test_k_follows_round_i_and_both_are_computed_once(page, monkeypatch):
    page.named("k rounds before").value = 2
    calls, real = [], widgets.highlights
    monkeypatch.setattr(widgets, "highlights", lambda *a, **b: calls.append(1) or real(*a, **b))
    page.named("round I").value = 2
    k = page.named("k rounds before")
    assert (k.value, k.max, len(calls)) == (1, 1, 1)
    assert "rounds 2 and 1" in page.text
    page.named("round I").value = 3
    assert (k.value, k.max, len(calls)) == (1, 2, 2)


def test_the_filters_leave_photos_of_a_score_and_of_a_predicted_score(page, run, coloured):
    table = coloured[0].table
    chosen = run.samples[run.samples["round"] == run.chosen].set_index("photo").assigned
    predicted = table.photo.map(chosen)
    before = page.figures
    for score in sorted(table.score.unique()):
        for guess in sorted(predicted.unique()):
            page.named("score").value, page.named("predicted score").value = score, guess
            asked = table.photo[(table.score == score) & (predicted == guess)].tolist()
            assert [name for name, _ in page.thumbs.options] == asked[:18]
            assert ("no such photo" in page.text) == (not asked)
    assert page.figures == before


def test_the_pages_of_thumbnails_hold_every_photo_once(page, coloured):
    back, forth = page.named("previous photos"), page.named("next photos")
    seen = [name for name, _ in page.thumbs.options]
    assert back.disabled
    while not forth.disabled:
        forth.click()
        assert not back.disabled
        assert page.thumbs.value is None
        seen += [name for name, _ in page.thumbs.options]
    assert seen == coloured[0].table.photo.tolist()
    while not back.disabled:
        back.click()
    assert page.thumbs.value == 0


def test_an_uploaded_photo_gets_its_pictures_and_its_predicted_score(page, run, coloured):
    before, content = page.figures, Path(coloured[0].table.path[20]).read_bytes()
    page.give("mine.png", content)
    assert changed(before, page.figures) == set(FIGURES)
    seen = logits(run.network("best"), coloured[1], [20])
    judged = likelihoods(seen)[0]
    scores = run.network("best").scores
    (expected,), (spread,) = run.decision.expected(seen)
    predicted = f"predicted score {scores[judged.argmax()]}"
    assert f"{predicted}, expected {expected:.1f} ± {spread:.1f} " in page.text
    for score, likelihood in zip(scores, judged, strict=True):
        assert f"{score}: {likelihood:.2f}" in page.text
    assert "each score has its own likelihood: they need not add up to 1" in page.text
    mine = page.figures
    page.thumbs.value = 0
    assert page.figures == before
    page.give("mine.png", content)
    assert page.figures == mine


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"no picture", "is no whole picture (10 bytes, cannot identify image file"),
        (png(Image.new("RGB", (300, 300), "red"))[:-40], "is no whole picture"),
        (bytes(31 * 2**20), "has 31 MB, a photo may have 30 MB"),
        (b"", "is no whole picture (0 bytes, cannot identify image file"),
        # A program that Pillow would give to an interpreter, had it one.
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "cannot identify"),
    ],
)
def test_what_is_wrong_with_an_upload_is_said_and_the_page_goes_on(page, content, sentence):
    before = page.figures
    page.give("../<img src=x onerror=alert(1)>.png", content)
    assert sentence in page.text
    assert "../&lt;img src=x onerror=alert(1)&gt;.png" in page.text
    assert "<img" not in page.text
    assert "object at" not in page.text
    assert page.figures == before
    page.thumbs.value = 1
    assert sentence not in page.text
    assert changed(before, page.figures) == set(FIGURES)


HUGE = 60_000  # pixels of a side: 10 GB, if they were decoded


def claims_huge(kind):
    """A picture of a few hundred bytes whose head claims 60,000 x 60,000 pixels."""
    stream = io.BytesIO()
    Image.new("L" if kind == "tiff" else "RGB", (8, 8)).save(stream, kind)
    small = bytearray(stream.getvalue())
    if kind == "png":
        small[16:24] = struct.pack(">II", HUGE, HUGE)
        small[29:33] = struct.pack(">I", zlib.crc32(small[12:29]))
    elif kind == "gif":
        small[6:10] = struct.pack("<HH", HUGE, HUGE)
    elif kind == "bmp":
        small[18:26] = struct.pack("<ii", HUGE, HUGE)
    elif kind == "jpeg":
        size = small.index(b"\xff\xc0") + 5
        small[size : size + 4] = struct.pack(">HH", HUGE, HUGE)
    elif kind == "tiff":
        for tag in (256, 257):
            entry = small.index(struct.pack("<HH", tag, 4), struct.unpack_from("<I", small, 4)[0])
            small[entry + 8 : entry + 12] = struct.pack("<I", HUGE)
    elif kind == "webp":
        canvas = bytes(4) + struct.pack("<I", HUGE - 1)[:3] * 2
        small[12:12] = b"VP8X" + struct.pack("<I", len(canvas)) + canvas
        small[4:8] = struct.pack("<I", len(small) - 8)
    return bytes(small)


@pytest.mark.parametrize("kind", ["png", "gif", "bmp", "jpeg", "tiff", "webp"])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(page, kind):
    if kind == "webp" and not features.check("webp"):
        pytest.skip("this Pillow was built without WebP")
    before, bomb = page.figures, claims_huge(kind)
    assert len(bomb) < 1000
    most = memory("VmHWM")
    page.give(f"bomb.{kind}", bomb)
    assert memory("VmHWM") - most < 100
    assert re.search(rf"bomb.{kind} is no whole picture \(\d+ bytes, .*pixels", page.text)
    assert page.figures == before
    page.thumbs.value = 1
    assert changed(before, page.figures) == set(FIGURES)


def memory(what):
    """MB that this process has now (VmRSS), or had at most so far (VmHWM)."""
    return int(re.search(rf"{what}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def test_uploads_have_the_formats_that_folders_may_have():
    assert {Image.registered_extensions()[ending] for ending in PICTURES} == set(FORMATS)


def test_nothing_of_an_upload_is_written_to_the_disk(page, crops, opened_to_write):
    noise = png(Image.effect_noise((40, 30), 60).convert("RGB"))
    for explorer, button in ((page, "Save the figure"), (crops, "Save the crop")):
        explorer.give("mine.png", noise)
        explorer.give("broken.png", noise[:99])
        explorer.give("mine.png", noise)
        explorer.named(button).click()
        assert "download" in explorer.text
    assert opened_to_write == []


@pytest.fixture
def opened_to_write():
    """Files that are opened to be written during a test."""
    found, asked = [], True

    def hook(event, words):
        if asked and event == "open" and (words[2] or 0) & (os.O_WRONLY | os.O_RDWR):
            found.append(words[0])

    sys.addaudithook(hook)  # for good, so it is silenced afterwards
    yield found
    asked = False


@pytest.mark.parametrize("kind", ["page", "crops"])
def test_a_hundred_uploads_leave_the_memory_as_it_was(kind, request):
    page = request.getfixturevalue(kind)
    noise = png(Image.effect_noise((1200, 900), 60).convert("RGB"))
    given = [noise, b"no picture", noise[: len(noise) // 2], claims_huge("png"), bytes(31 * 2**20)]
    used = []
    for number in range(120):
        page.give(f"{number}.png", given[number % len(given)])
        used.append(memory("VmRSS"))
    assert "119.png has 31 MB" in page.text
    assert "115.png: your own photo" in page.text
    # A photo that stayed would be 9 MB of pixels and file, those of 100 uploads 160 MB.
    assert used[-1] - used[19] < 40


EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def evil(coloured, small_crops, tmp_path_factory):
    """A run and its photos, whose names and attributes would be a program in a page."""
    photos, pixels = coloured
    table = photos.table.assign(photo=EVIL + photos.table.photo)
    known = pd.DataFrame({"<script>alert(2)</script>": table.score == 2})
    known = known.set_index(table.photo).astype(float)
    recipe = dataclasses.replace(RECIPE, rounds=2, attributes=tuple(known))
    photos = dataclasses.replace(photos, table=table, attributes=known)
    return rounds.repeat(photos, pixels, tmp_path_factory.mktemp("runs") / "run", recipe), table


@pytest.mark.parametrize("kind", ["highlight_explorer", "crop_explorer"])
def test_names_are_text_in_every_part_of_the_page(evil, kind):
    page = Page(getattr(widgets, kind)(*evil))
    texts = [page.text]
    page.give(EVIL + ".png", png(Image.effect_noise((40, 30), 60).convert("RGB")))
    texts.append(page.text)
    page.named("Save the figure" if page.strip else "Save the crop").click()
    texts.append(page.text)
    page.give(EVIL + ".png", b"no picture")
    texts.append(page.text)
    assert not any(re.search("<img|<script", text) for text in texts)
    assert all(html.escape(EVIL) in text for text in texts)
    attributes = html.escape("AttAM of <script>alert(2)</script>")
    assert (attributes in page.text) == (kind == "crop_explorer")
    assert not any(getattr(part, "description_allow_html", False) for part in page.parts)


def test_why_there_is_no_explorer_is_text(coloured, tmp_path):
    papermill = pytest.importorskip("papermill")
    scored, _ = coloured
    given = {"photos": str(Path(scored.table.path.iloc[0]).parent), "run": "<script>"}
    given["scores"] = str(Path(given["photos"]) / "scores.csv")
    page = ROOT / "notebooks" / "app.ipynb"
    out = str(tmp_path / "app.ipynb")
    papermill.execute_notebook(str(page), out, given, execution_timeout=300, progress_bar=False)
    shown = json.loads(Path(out).read_text())["metadata"]["widgets"]
    (kind,) = shown.values()
    texts = [state["state"].get("value", "") for state in kind["state"].values()]
    told = [text for text in texts if isinstance(text, str) and "script" in text]
    assert len(told) == 2
    assert all("&lt;script&gt;" in text and "<script" not in text for text in told)


def test_the_name_of_an_upload_is_text(page):
    page.give('a"$^$"<c>.png', png(Image.effect_noise((40, 30), 60).convert("RGB")))
    assert "a&quot;$^$&quot;&lt;c&gt;.png: your own photo" in page.text
    page.named("Save the figure").click()
    assert 'download="highlight_a&quot;$^$&quot;&lt;c&gt;_J' in page.text
    assert "<c>" not in page.text


@pytest.mark.parametrize(
    ("judged", "told"),
    [
        ([0.0, 2.0, -3.0], ["0.50", "0.88", "0.05"]),
        ([-9.0, 2.0, -9.5], ["0.00", "0.88", "0.00"]),
        ([6.0, 8.0, 7.0], ["0.998", "1.000", "0.999"]),
        ([18.0, 30.0, 2.0], ["1.000000 (logit 18.0)", "1.000000 (logit 30.0)"]),
    ],
)
def test_so_many_digits_are_told_that_the_largest_likelihood_shows(judged, told):
    assert widgets._told_apart(np.array(judged, np.float32))[0][: len(told)] == told


def test_the_score_of_the_largest_logit_is_predicted_where_likelihoods_saturate(page, monkeypatch):
    saturated = np.array([[18.0, 30.0, 20.0, 19.0]], np.float32)
    monkeypatch.setattr(runs, "logits_of_all_nodes", lambda *a, **b: saturated)
    page.give("mine.png", png(Image.effect_noise((40, 30), 60).convert("RGB")))
    assert "predicted score 3, expected 3.0 ± 0.0 " in page.text
    assert "3: 1.000000 (logit 30.0)" in page.text


def test_how_a_score_was_decided_is_told_with_it(run, coloured, monkeypatch):
    rule = DecisionRule(tuple(run.network().scores), prior=(0.97, 0.01, 0.01, 0.01), power=2.0)
    monkeypatch.setattr(type(run), "decision", rule)
    page = Page(widgets.highlight_explorer(run, coloured[0].table))
    page.give("mine.png", Path(coloured[0].table.path[20]).read_bytes())
    (node,) = rule.nodes(logits(run.network("best"), coloured[1], [20]))
    decided = f"predicted score {rule.scores[node]} by the largest posterior divided by the prior"
    assert node > 0 and f"{decided} to the power 2, expected" in page.text


def test_what_was_measured_stands_beside_the_pictures(page, crops):
    assert "no better than a coin does (chapter 5)" in html.unescape(page.text)
    assert "no better than crops of the same size at random (chapter 9)" in crops.text


def test_a_filter_without_a_photo_shows_no_button(page, run, coloured):
    page.named("score").value = 2
    for predicted in page.named("predicted score").options:
        page.named("predicted score").value = predicted
        assert ("no such photo" in page.text) == (len(page.thumbs.options) == 0)
        assert (page.thumbs.layout.display == "none") == ("no such photo" in page.text)


def test_the_page_is_busy_while_it_computes_and_not_afterwards(page, monkeypatch):
    seen, real = [], widgets.highlights
    monkeypatch.setattr(
        widgets, "highlights", lambda *a, **b: seen.append(page.text) or real(*a, **b)
    )
    page.thumbs.value = 5
    page.give("broken.png", b"no picture")
    assert ["computing" in text and 'aria-busy="true"' in text for text in seen] == [True]
    assert "computing" not in page.text


def test_an_interaction_takes_one_thread_and_gives_the_others_back(page, monkeypatch):
    used, real = [], widgets.highlights
    monkeypatch.setattr(
        widgets, "highlights", lambda *a, **b: used.append(torch.get_num_threads()) or real(*a, **b)
    )
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        page.thumbs.value = 6
        assert (used, torch.get_num_threads()) == ([1], 2)
        monkeypatch.setattr(widgets, "highlights", lambda *a, **b: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            page.thumbs.value = 7
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_photo_without_a_highlight_is_told_and_its_old_pictures_go(page):
    before = page.figures
    page.give("grey.png", png(Image.new("RGB", (40, 30), "grey")))
    assert "grey.png: your own photo" in page.text
    assert "No channel is least correlated" in page.text
    assert len(set(page.figures.values())) == 1
    assert page.named("Save the figure").disabled
    page.named("grey out the rest").value = 0.5
    page.thumbs.value = 0
    page.named("grey out the rest").value = 1
    assert page.figures == before
    assert not page.named("Save the figure").disabled


def test_rounds_that_hardly_moved_are_told(run, coloured, tmp_path):
    still = runs.Run(shutil.copytree(run.folder, tmp_path / "run"))
    conv1 = still.conv1()
    for name in ("weight", "bias"):
        conv1[f"round_02.{name}"] = conv1[f"round_01.{name}"].clone()
    save_file(conv1, still.folder / "conv1.safetensors")
    page = Page(widgets.highlight_explorer(still, coloured[0].table))
    assert "rsrl-error" not in page.text
    page.named("round I").value = 2
    assert "conv1 has not moved between the two rounds" in page.text
    assert len(set(page.figures.values())) == 1


def test_what_nobody_expected_is_said_and_raised(page, monkeypatch):
    monkeypatch.setattr(widgets, "highlights", lambda *a, **b: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        page.thumbs.value = 2
    assert "ZeroDivisionError: division by zero" in page.text


def test_a_photo_that_is_gone_shows_its_name_and_why(run, coloured, tmp_path):
    table = coloured[0].table.copy()
    table.loc[1, "path"] = str(tmp_path / "gone.png")
    page = Page(widgets.highlight_explorer(run, table))
    looks = [
        part.value for part in page.kind(ipywidgets.HTML) if "rsrl-thumbs button:n" in part.value
    ]
    assert "(1) {background-image" in looks[0]
    assert "(2) {}" in looks[0]
    page.thumbs.value = 1
    assert "gone.png is no whole picture (no file)" in page.text


def test_a_flat_channel_is_marked_and_the_chosen_one_outlined():
    maps = np.zeros((2, 2))
    found = highlight.Highlight(2, np.array([0.5, np.nan, -0.25]), maps, maps, maps, maps > 0)
    automatic, known, flat, chosen = widgets._channel_looks(found)
    assert automatic == ""
    assert "channel 0: 0.50000" in known
    assert "channel 1: flat" in flat
    assert "gradient" in flat
    assert ["box-shadow" in look for look in (known, flat, chosen)] == [False, False, True]


def test_the_saved_figure_is_a_png_in_the_page_and_goes_with_the_next_change(page):
    page.named("Save the figure").click()
    name, data = re.search(
        r'download="(.+?)" href="data:image/png;base64,(.+?)"', page.text
    ).groups()
    assert re.fullmatch(r"highlight_00_J\d+\.png", name)
    figure = Image.open(io.BytesIO(base64.b64decode(data)))
    assert figure.format == "PNG"
    assert figure.width > 3 * figure.height
    page.named("region").value = True
    assert "download" not in page.text


def test_a_run_of_one_round_and_foreign_photos_are_errors(run, coloured, tmp_path):
    table = coloured[0].table
    with pytest.raises(
        InputError, match=r"needs the photos and scores .* 1 of 60 \(00.png\) differ"
    ):
        widgets.highlight_explorer(run, table.assign(score=table.score.where(table.index > 0, 9)))
    with pytest.raises(InputError, match=r"0 of 0"):
        widgets.highlight_explorer(run, table[:0])
    single = runs.Run(shutil.copytree(run.folder, tmp_path / "run"))
    single.rounds[:1].assign(chosen=True).to_csv(single.folder / "rounds.csv", index=False)
    with pytest.raises(InputError, match="has one round"):
        widgets.highlight_explorer(single, table)


@pytest.fixture(scope="module")
def gap_run(coloured, small_crops, tmp_path_factory):
    photos, pixels = coloured
    names = pd.DataFrame({"red": photos.table.score == 2, "green": photos.table.score == 3})
    known = names.set_index(photos.table.photo).astype(float)
    recipe = dataclasses.replace(
        RECIPE, rounds=1, levels="low-high", cut=4, attributes=("red", "green")
    )
    folder = tmp_path_factory.mktemp("runs") / "run"
    return rounds.repeat(dataclasses.replace(photos, attributes=known), pixels, folder, recipe)


@pytest.fixture
def crops(gap_run, coloured):
    return Page(widgets.crop_explorer(gap_run, coloured[0].table))


def maps_of(run, pixels, row):
    view = pixels.crops([row], view="whole")
    return activation.activation_maps(run.network("best"), view, shrink_to=None)[0]


def steer(monkeypatch, **values):
    """Give every photo maps that are known, by the names of their levels and attributes."""
    attributes = {name: values.pop(name) for name in ("red", "green")}
    maps = activation.ActivationMaps(values, attributes)
    monkeypatch.setattr(widgets, "activation_maps", lambda *_, **__: [maps])


def corner(rows, columns):
    values = np.full((8, 8), -1.0, np.float32)
    values[rows, columns] = 2.0
    return values


TOP = slice(0, 4)
KNOWN_MAPS = {
    "low": corner(slice(5, 8), slice(5, 8)),
    "high": corner(TOP, TOP),
    "red": corner(TOP, slice(1, 5)),
    "green": corner(slice(6, 8), TOP),
}


@pytest.fixture
def steered(monkeypatch, gap_run, coloured):
    """Crops by known maps: high at the top left, low at the lower right, red beside high."""
    steer(monkeypatch, **KNOWN_MAPS)
    return Page(widgets.crop_explorer(gap_run, coloured[0].table))


def box_in(text):
    width, height, left, top = map(
        int, re.search(r"crop (\d+) x (\d+) at \((\d+), (\d+)\)", text).groups()
    )
    return left, top, left + width, top + height


def test_it_shows_the_crop_and_the_maps_of_the_first_photo(crops, gap_run, coloured):
    maps = maps_of(gap_run, coloured[1], 0)
    box, reason = cropping.crop_box(maps.high, (64, 48))
    assert box_in(crops.text) == box
    assert html.escape(reason) in crops.text
    assert f"AesAM of level high, sum {maps.high.sum():+.1f}" in crops.text
    assert f"AesAM of level low, sum {maps.levels['low'].sum():+.1f}" in crops.text
    likeliest = next(iter(maps.attributes))
    assert f"AttAM of {likeliest}, sum" in crops.text
    photo = open_rgb(coloured[0].table.path[0])
    reach = np.abs([maps.high, maps.levels["low"]]).max()
    shown = crops.figures
    assert shown["good"] == widgets._jpeg(plots.activation_picture(photo, maps.high, reach))
    assert shown["crop"] == widgets._jpeg(photo.crop(box))
    assert "predicted level" in crops.text


def test_the_likelihoods_of_photo_and_crop_are_those_of_the_network(steered, gap_run, coloured):
    network, photo = gap_run.network("best"), open_rgb(coloured[0].table.path[0])
    crop = photo.crop(box_in(steered.text))
    both = np.stack([widgets.square(picture) for picture in (photo, crop)])
    before, after = likelihoods(logits(network, widgets.Pixels(both)))
    said = f"low: {before[0]:.2f} to {after[0]:.2f}, high: {before[1]:.2f} to {after[1]:.2f}"
    assert said in steered.text


def test_a_higher_threshold_and_another_aspect_change_the_crop_and_no_map(steered):
    before, first = box_in(steered.text), steered.figures
    steered.named("threshold").value = 0.9
    smaller = box_in(steered.text)
    assert smaller[2] < before[2]
    assert changed(first, steered.figures) == {"photo", "crop"}
    steered.named("aspect ratio").value = "1:1"
    left, top, right, foot = box_in(steered.text)
    assert right - left == foot - top
    steered.named("aspect ratio").value = "as the region"
    assert box_in(steered.text) == smaller


def test_the_crop_is_of_the_map_that_is_asked_for(steered):
    alone = box_in(steered.text)
    steered.named("crop by").label = "AesAM and AttAM, if they agree"
    agreed = box_in(steered.text)
    assert agreed[0] > alone[0] or agreed[2] > alone[2]
    steered.named("AttAM of").value = "green"  # lies elsewhere, so the box of AesAM stays
    assert box_in(steered.text) == alone
    steered.named("crop by").label = "AesAM chosen below"
    assert box_in(steered.text)[2:] == (64, 48)
    steered.named("crop by").label = "AttAM chosen below"
    green = KNOWN_MAPS["green"]
    assert box_in(steered.text) == cropping.crop_box(green, (64, 48))[0] != alone
    assert "IoU" not in steered.text


def test_the_iou_decides_whether_boxes_are_averaged_and_is_told(steered):
    alone = box_in(steered.text)
    steered.named("crop by").label = "AesAM and AttAM, if they agree"
    agreed = box_in(steered.text)
    iou = cropping.agreement(KNOWN_MAPS["high"], KNOWN_MAPS["red"])
    assert f"AttAM of red: their IoU is {iou:.2f}, so the mean of both is taken" in steered.text
    steered.named("IoU to agree").value = 0.95
    assert box_in(steered.text) == alone != agreed
    assert f"their IoU is {iou:.2f}, so that of AesAM alone is taken" in steered.text


def test_an_attribute_is_chosen_by_its_rank_or_by_its_name_and_stays_chosen(steered, monkeypatch):
    attribute = steered.named("AttAM of")
    names = [label for label, _ in attribute.options]
    assert names == ["the likeliest", "the 2nd likeliest", "green", "red"]
    assert "AttAM of red, sum" in steered.text
    attribute.label = "the 2nd likeliest"
    assert "AttAM of green, sum" in steered.text

    # In the next photo green is likelier.
    known = {name: KNOWN_MAPS[name] for name in ("green", "red", "low", "high")}
    levels = {name: known.pop(name) for name in ("low", "high")}
    maps = activation.ActivationMaps(levels, known)
    monkeypatch.setattr(widgets, "activation_maps", lambda *_, **__: [maps])
    steered.thumbs.value = 1
    assert "AttAM of red, sum" in steered.text
    attribute.label = "the likeliest"
    assert "AttAM of green, sum" in steered.text
    attribute.value = "red"
    steered.thumbs.value = 2
    assert "AttAM of red, sum" in steered.text


def test_another_level_and_attribute_change_their_own_pictures(steered):
    first = steered.figures
    steered.named("AttAM of").value = "green"
    assert changed(first, steered.figures) == {"attribute"}
    second = steered.figures
    steered.named("AesAM of level").value = "high"
    assert changed(second, steered.figures) == {"level"}


def test_a_map_without_a_positive_value_shows_the_whole_photo_and_says_so(monkeypatch, steered):
    flat = np.full((8, 8), -1.0, np.float32)
    steer(monkeypatch, low=flat, high=flat, red=flat, green=flat)
    steered.thumbs.value = 1
    assert box_in(steered.text) == (0, 0, 64, 48)
    assert "the map&#x27;s maximum is not positive" in steered.text


def test_the_saved_crop_is_of_the_original_at_full_resolution(steered, tmp_path):
    large = Image.effect_noise((1800, 1200), 60).convert("RGB")
    steered.give("mine.jpg", _jpeg := widgets._jpeg(large))
    box = box_in(steered.text)
    assert "of 1800 x 1200 px" in steered.text
    steered.named("Save the crop").click()
    data = re.search(r'download="mine_crop.jpg" href="data:image/jpeg;base64,(.+?)"', steered.text)
    crop = Image.open(io.BytesIO(base64.b64decode(data[1])))
    assert crop.size == (box[2] - box[0], box[3] - box[1])
    original = Image.open(io.BytesIO(_jpeg)).crop(box)
    assert np.abs(np.asarray(crop, int) - np.asarray(original, int)).mean() < 3
    steered.named("threshold").value = 0.5
    assert "download" not in steered.text


def saved(page):
    """Name and picture of the link."""
    found = re.search(r'download="(.+?)" href="data:image/\w+;base64,(.+?)"', page.text)
    return found[1], Image.open(io.BytesIO(base64.b64decode(found[2])))


def size_in(text):
    left, top, right, foot = box_in(text)
    return right - left, foot - top


def test_a_save_waits_for_changes_that_the_browser_held_back(
    steered, gap_run, coloured, monkeypatch
):
    """A browser holds a slider's change back while the kernel works, and lets a click through."""
    monkeypatch.undo()  # the browser answers late
    slope = np.add.outer(np.arange(8.0), np.arange(8.0)).astype(np.float32)
    steer(monkeypatch, low=slope, high=slope, red=slope, green=slope)
    explorer = widgets._CropExplorer(gap_run, coloured[0].table)
    page = Page(explorer.view)
    page.named("threshold").value = 0.35
    older = size_in(page.text)
    page.named("Save the crop").click()
    assert "download" not in page.text
    page.named("threshold").value = 0.65
    explorer.answered.value = explorer.asked.value
    assert saved(page)[1].size == size_in(page.text) != older


CHANGES = {
    "crops": [
        ("thumbs", 3),
        ("crop by", 1),
        ("threshold", 0.65),
        ("aspect ratio", "1:1"),
        ("AesAM of level", "high"),
        ("AttAM of", "green"),
        ("IoU to agree", 0.65),
        ("score", 2),
        ("predicted level", "low"),
    ],
    "page": [
        ("thumbs", 3),
        ("round I", 2),
        ("k rounds before", 2),
        ("conv1 maps", True),
        ("grey out the rest", 0.4),
        ("strip", 5),
        ("score", 2),
    ],
}


@pytest.mark.parametrize(
    ("kind", "control", "value"), [(kind, *c) for kind in CHANGES for c in CHANGES[kind]]
)
def test_every_control_takes_the_link_away_before_it_is_worked_on(kind, control, value, request):
    page = request.getfixturevalue("steered" if kind == "crops" else kind)
    page.named("Save the crop" if kind == "crops" else "Save the figure").click()
    assert "download" in page.text
    widget = getattr(page, control) if control in ("thumbs", "strip") else page.named(control)
    seen = []
    for image in page.kind(ipywidgets.Image):
        image.observe(lambda _change: seen.append("download" in page.text), "value")
    widget.value = value
    assert not any(seen)
    assert "download" not in page.text


def test_a_broken_photo_takes_the_link_away_and_the_next_save_is_of_what_is_shown(steered):
    steered.named("Save the crop").click()
    steered.give("broken.jpg", b"no picture")
    assert "download" not in steered.text
    steered.named("Save the crop").click()
    assert saved(steered)[0] == "00_crop.png"
    assert saved(steered)[1].size == size_in(steered.text)


def test_nothing_is_saved_of_a_photo_that_failed_half_way(steered, monkeypatch):
    monkeypatch.setattr(widgets, "square", lambda *a: 1 / 0)  # of the crop, after its box
    with pytest.raises(ZeroDivisionError):
        steered.named("threshold").value = 0.65
    assert steered.named("Save the crop").disabled
    steered.named("Save the crop").click()  # one that was on its way
    assert "download" not in steered.text
    monkeypatch.undo()


def test_a_photo_that_failed_leaves_its_maps_to_no_other(crops, monkeypatch):
    first, real = crops.figures, widgets.logits
    monkeypatch.setattr(widgets, "logits", lambda *a, **b: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        crops.thumbs.value = 9
    monkeypatch.setattr(widgets, "logits", real)
    crops.thumbs.value = 0
    assert crops.figures == first


def test_a_photo_that_changed_on_the_disk_is_not_cropped_as_it_was(gap_run, coloured, tmp_path):
    table = coloured[0].table.copy()
    path = Path(shutil.copy(table.path[0], tmp_path))
    table.loc[0, "path"] = str(path)
    page = Page(widgets.crop_explorer(gap_run, table))
    Image.effect_noise((300, 200), 60).convert("RGB").save(path)
    page.named("Save the crop").click()
    assert "download" not in page.text
    assert "was changed, moved or deleted since it was shown" in page.text
    page.thumbs.value = 1
    page.thumbs.value = 0
    assert "of 300 x 200 px" in page.text
    path.unlink()
    page.named("Save the crop").click()
    assert "was changed, moved or deleted since it was shown" in page.text


def test_a_broken_photo_is_told_and_the_crop_stays(steered):
    before = steered.figures
    steered.give("<b>.jpg", b"no picture")
    assert "&lt;b&gt;.jpg is no whole picture" in steered.text
    assert steered.figures == before


def test_a_network_of_scores_is_cropped_by_what_raises_the_expected_score(run, coloured):
    page = Page(widgets.crop_explorer(run, coloured[0].table))
    box, _ = cropping.crop_box(maps_of(run, coloured[1], 0).high, (64, 48))
    assert box_in(page.text) == box
    assert "AesAM of a rising score" in page.text
    assert len(page.figures) == 4
    page.named("AesAM of score").value = "5"
    assert "AesAM of score 5" in page.text


def test_a_network_of_several_fully_connected_layers_has_no_crops(run, coloured, monkeypatch):
    monkeypatch.setattr(runs.Run, "network", lambda *a: AestheticNet("alexnet", [2, 3, 4, 5]))
    with pytest.raises(InputError, match="train with head 'gap'"):
        widgets.crop_explorer(run, coloured[0].table)
