import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rsrl_lib import plots
from rsrl_lib.files import InputError

ROUNDS = pd.DataFrame(
    {
        "round": [1, 2, 3],
        "chosen": [False, True, False],
        "train_accuracy": [0.5, 0.6, 0.7],
        "validation_accuracy": [0.5, 0.55, 0.5],
        "test_accuracy": [0.5, 0.45, 0.4],
        "test_majority_accuracy": [0.52] * 3,
        "kept": [6, 4, 5],
    }
)
SAMPLES = pd.DataFrame(
    {
        "photo": list("abcdef") * 3,
        "part": "train",
        "round": np.repeat([1, 2, 3], 6),
        "label": [4, 4, 4, 3, 3, 6] * 3,
        "assigned": [4, 4, 3, 3, 3, 6] * 3,
        "kept": [True] * 6
        + [True, False, True, True, False, True]
        + [True, True, False]
        + [True] * 3,
    }
)


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_scores_to_show_are_a_low_a_middle_and_a_high_one_or_those_asked_for():
    assert plots.scores_to_show([3, 5, 4, 4]) == [3, 4, 5]
    assert plots.scores_to_show([3, 5]) == [3, 5]
    assert plots.scores_to_show([4, 4]) == [4]
    assert plots.scores_to_show([2, 3, 4, 7], [7, 2]) == [7, 2]
    with pytest.raises(InputError, match="has the score 9; choose of 3, 4"):
        plots.scores_to_show([3, 4], [3, 9])


def test_a_score_has_the_same_colour_whatever_other_scores_are_shown():
    assert plots.score_colours([2, 3, 4])[3] == plots.score_colours([3, 9])[3]
    shades = [sum(colour[:3]) for colour in plots.score_colours(range(2, 10)).values()]
    assert shades == sorted(shades)


def test_bars_count_the_photos_of_every_score_also_of_an_absent_one():
    ax = plots.score_distribution(pd.Series([3, 4, 4, 6]), "title")
    assert [bar.get_height() for bar in ax.patches] == [1, 2, 0, 1]
    assert list(ax.get_xticks()) == [3, 4, 5, 6]


def test_accuracy_has_the_majority_line_and_the_chosen_round_is_marked():
    ax = plots.over_rounds(ROUNDS, "accuracy", "title")
    heights = {line.get_ydata()[0] for line in ax.lines if len(set(line.get_ydata())) == 1}
    assert 0.52 in heights
    assert any(list(line.get_xdata()) == [2, 2] for line in ax.lines)
    drawn = {line.get_label().split()[0]: list(line.get_ydata()) for line in ax.lines}
    for part in ("train", "validation", "test"):
        assert drawn[part] == ROUNDS[f"{part}_accuracy"].tolist()


@pytest.mark.parametrize(
    ("chosen_by", "label"),
    [("validation", "test (shown, not used)"), ("test", "test (chose the round)")],
)
def test_the_legend_says_whether_the_test_photos_were_used(chosen_by, label):
    ax = plots.over_rounds(ROUNDS, "accuracy", "title", chosen_by=chosen_by)
    assert label in [text.get_text() for text in ax.get_legend().get_texts()]


def test_the_bars_of_the_training_set_are_the_photos_kept():
    figure = plots.training_set(ROUNDS, SAMPLES, [4, 3])
    heights = {}
    for bar in figure.axes[0].patches:
        at = round(bar.get_x() + 0.4)
        heights[at] = heights.get(at, 0) + bar.get_height()
    assert heights == {1: 6, 2: 4, 3: 5}
    shares = {round(text.get_position()[0]): text.get_text() for text in figure.axes[0].texts}
    assert shares == {1: "83%", 2: "75%", 3: "80%"}
    assert figure.axes[0].get_title().startswith("After round 1, 4 to 5 of 6 photos are trained on")
    of_one_size = SAMPLES[SAMPLES["round"] < 3]
    title = plots.training_set(ROUNDS[:2], of_one_size, [4, 3]).axes[0].get_title()
    assert title.startswith("After round 1, 4 of 6 photos are trained on")


def test_the_lives_show_only_photos_that_were_dropped():
    figure = plots.life_of_photos(SAMPLES, "title")
    picture = figure.axes[0].images[0].get_array()
    assert picture.tolist() == [[1, 1, 0], [1, 0, 1], [1, 0, 1]]


def dropped_and_kept(lives):
    """Rows of the contact sheet of chapter 3: name, photos, captions."""
    lives = pd.DataFrame(lives, index=list("abcd"), columns=[1, 2, 3])
    scores, paths = pd.Series([4, 4, 4, 3], list("abcd")), pd.Series(list("ABCD"), list("abcd"))
    rows = plots.dropped_and_kept(lives, scores, paths, [4])
    return [(name, "".join(row.path), list(row.caption)) for name, row in rows]


def test_a_photo_left_out_and_one_always_in_stand_in_rows_that_say_so():
    lives = [[True, True, True], [True, True, False], [True, False, False], [True, False, True]]
    out = [f"rounds out: {count}" for count in (2, 1, 0)]
    assert dropped_and_kept(lives) == [
        ("4, left out", "CB", out[:2]),
        ("4, always in", "A", out[2:]),
    ]


@pytest.mark.parametrize(("stays", "name"), [(True, "4, always in"), (False, "4, left out")])
def test_a_row_of_photos_that_there_are_none_of_is_not_shown(stays, name):
    rows = dropped_and_kept([[True, stays, stays]] * 4)
    assert [(row[0], row[1]) for row in rows] == [(name, "ABC")]


def test_rows_and_pictures_of_one_name_are_all_drawn(tmp_path):
    pictures = [Image.new("RGB", (4, 3), (shade, 0, 0)) for shade in (10, 60, 120, 250)]
    rows = [("mean 4.1", [("J = 3", one), ("J = 3", other)]) for one, other in [pictures[:2]] * 2]
    rows.append(("mean 4.1", [("J = 5", pictures[2]), ("J = 6", pictures[3])]))
    figure = plots.picture_rows(rows, "title")
    drawn = [ax.images[0].get_array()[0, 0, 0] for ax in figure.axes]
    assert drawn == [10, 60, 10, 60, 120, 250]
    assert [ax.get_title() for ax in figure.axes] == ["J = 3", "J = 3", "", "", "J = 5", "J = 6"]
    assert [ax.texts[0].get_text() for ax in figure.axes[::2]] == ["mean 4.1"] * 3

    pictures[0].save(tmp_path / "a.png")
    table = pd.DataFrame({"path": [str(tmp_path / "a.png")]})
    figure = plots.contact_sheet([("", table), ("", table)], "title", columns=1)
    assert [len(ax.images) for ax in figure.axes] == [1, 1]


def test_the_rates_of_a_round_fill_its_bar():
    rates = pd.DataFrame([[0.25, 0.75, 0], [0.5, 0.25, 0.25]], [1, 2], [3, 4, 5])
    ax = plots.assigned_rates(rates, "title")
    widths = np.array([bar.get_width() for bar in ax.patches]).reshape(3, 2)
    assert widths.sum(axis=0).tolist() == [1, 1]


def test_a_saved_figure_is_a_png_of_its_name_and_without_a_folder_nothing_is_written(tmp_path):
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.png")
    table = pd.DataFrame({"path": [str(tmp_path / "a.png")] * 3, "score": [3, 3, 4]})
    rows = [("3", table.head(2)), ("4", table.tail(1))]
    figure = plots.contact_sheet(rows, "title")
    assert plots.save(figure, "", "sheet") is figure
    plots.save(figure, tmp_path / "figures", "sheet")
    with Image.open(tmp_path / "figures" / "sheet.png") as picture:
        assert picture.format == "PNG"


def kind_of_photo(kind):
    """A photo (60, 90) as they come: of one colour nearly everywhere, or of none."""
    rng = np.random.default_rng(0)
    if kind == "colourful":
        return rng.integers(0, 256, (60, 90, 3))
    if kind == "grey":
        return np.repeat(rng.integers(0, 256, (60, 90, 1)), 3, axis=2)
    level = {"white": 250, "black": 5, "mid-grey": 150}[kind]
    return np.clip(rng.normal(level, 3, (60, 90, 1)), 0, 255).repeat(3, axis=2)


@pytest.mark.parametrize("kind", ["white", "black", "grey", "mid-grey", "colourful"])
@pytest.mark.parametrize("opacity", [0, 0.5, 1])
def test_the_region_is_as_it_was_and_the_rest_is_hatched_on_every_photo(kind, opacity):
    """Which side is the region can be told: only the other one has lines of a colour of its own."""
    photo = Image.fromarray(kind_of_photo(kind).astype(np.uint8))
    mask = np.zeros((60, 90), bool)
    mask[:, :45] = True
    for region, flipped in ((mask, False), (~mask, True)):
        shown = np.asarray(plots.outlined(photo, Image.fromarray(region), opacity=opacity))
        inside = np.roll(region, 5 if flipped else -5, axis=1) & region  # without the outline
        assert (shown[inside] == np.asarray(photo)[inside]).all()
        hatched = (shown == plots.HATCH).all(-1)
        assert hatched[~region].mean() > 0.15
        assert not hatched[region].any()


@pytest.mark.parametrize("kind", ["white", "black", "grey", "colourful"])
def test_the_rest_is_grey_and_neither_white_nor_black(kind):
    photo = Image.fromarray(kind_of_photo(kind).astype(np.uint8))
    shown = np.asarray(plots.outlined(photo, Image.new("1", photo.size)))
    plain = shown[~(shown == plots.HATCH).all(-1)].astype(int)
    assert np.ptp(plain, axis=1).max() == 0
    assert (plain.min(), plain.max()) >= (100, 0)
    assert plain.max() <= 200


def test_a_crop_is_framed_on_a_photo_whose_region_is_in_colour():
    photo = Image.new("RGB", (90, 60), "white")
    region = np.zeros((256, 256), bool)
    region[:, :128] = True
    framed = np.asarray(plots.framed(photo, (10, 10, 40, 40), region))
    hatched = (framed == plots.HATCH).all(-1)
    assert hatched[:, 48:].mean() > 0.15
    assert not hatched[:, :40].any()
