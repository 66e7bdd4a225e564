"""What a chapter works on: photos and a recipe of its own, or those of a run that is named."""

import json
from dataclasses import replace

import pytest

from rsrl_lib.chapters import photos_in_chapter, recipe_in_chapter, run_named
from rsrl_lib.drawing import glassbox
from rsrl_lib.drop_rules import DropRule
from rsrl_lib.files import InputError
from rsrl_lib.pixels import decode
from rsrl_lib.recipe import Recipe, Training, recipe_from, settings_of
from rsrl_lib.rounds import repeat
from rsrl_lib.runs import Run
from rsrl_lib.sources import read_photos
from rsrl_lib.summary import of_share
from tests.conftest import draw_coloured_photos

pytestmark = pytest.mark.usefixtures("small_crops")
QUICK = Training(steps=1, shrink_to=33)
NOTHING = ("", "", "folder", {})
DRAWN = {"count": 30, "seed": 0}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of scored photos, and the table of their scores."""
    folder = tmp_path_factory.mktemp("own")
    table = draw_coloured_photos(folder)
    return folder, table


@pytest.fixture(scope="module")
def made(place, tmp_path_factory):
    """A run as the command line makes one, with settings that no chapter has."""
    folder, table = place
    scored = read_photos("folder", folder, table)
    recipe = Recipe("squeezenet1_1", "none", rounds=2, fold=1, seed=3, training=QUICK)
    run_folder = tmp_path_factory.mktemp("run") / "run"
    return repeat(scored, decode(scored.table)[0], run_folder, recipe)


def test_a_chapter_takes_photos_and_recipe_from_the_run_that_it_is_given(made, place):
    run = run_named(str(made.folder))
    scored = photos_in_chapter(*NOTHING, **DRAWN, run=run)
    assert set(scored.table.photo) == set(made.split.photo)
    assert scored.table.path.str.startswith(str(place[0])).all()
    recipe = recipe_in_chapter("", {"epochs": None, "seed": None}, run=run)
    assert (recipe.fold, recipe.seed, recipe.training) == (1, 3, QUICK)
    again = repeat(scored, decode(scored.table)[0], made.folder, recipe)
    assert again.rounds.equals(made.rounds)


def test_what_is_given_beside_a_run_wins(made):
    recipe = recipe_in_chapter("", {"rounds": 3, "k": [0.5]}, run=made)
    assert (recipe.rounds, recipe.drop.k, recipe.drop.keep_share) == (3, (0.5,), None)
    assert recipe.training == QUICK


def test_a_folder_without_a_finished_round_is_no_run_to_open(tmp_path):
    assert run_named("") is None
    assert run_named(str(tmp_path)) is None


def test_a_run_of_photos_that_are_not_given_is_refused_in_one_sentence(made):
    with pytest.raises(InputError, match=r"has \d+ photos that are not among the 30 given"):
        made.own_photos(glassbox.open_set(30, 0))


def test_a_run_that_does_not_say_where_its_photos_are_takes_those_that_are_given(
    made, place, tmp_path
):
    info = json.loads((made.folder / "run.json").read_text())
    del info["photos"]
    old = Run(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps(info))
    (tmp_path / "split.csv").write_bytes((made.folder / "split.csv").read_bytes())
    with pytest.raises(InputError, match="does not say where its photos lie"):
        old.photos()
    with pytest.raises(InputError, match="not among the 30"):
        photos_in_chapter(*NOTHING, **DRAWN, run=old)
    folder, table = place
    scored = photos_in_chapter(str(folder), str(table), "folder", {}, **DRAWN, run=old)
    assert set(scored.table.photo) == set(made.split.photo)


def test_a_run_whose_photos_are_drawn_draws_them_again(tmp_path):
    scored = glassbox.open_set(40, 2)
    recipe = Recipe("squeezenet1_1", "none", rounds=1, training=QUICK)
    run = repeat(scored, decode(scored.table)[0], tmp_path / "run", recipe)
    again = photos_in_chapter(*NOTHING, **DRAWN, run=run)
    assert again.table.photo.tolist() == scored.table.photo.tolist()
    assert glassbox.truth_of(again).mislabelled.isin([0, 1]).all()


def test_the_truth_is_known_of_glass_box_photos_in_any_folder_and_of_no_others(tmp_path, place):
    table = glassbox.write(tmp_path / "set", 12, seed=4)
    scored = read_photos("folder", tmp_path / "set", table)
    truth = glassbox.truth_of(scored)
    assert truth.index.tolist() == scored.table.photo.tolist()
    wrong = scored.table.score.to_numpy() != truth.noise_free_score.to_numpy()
    assert (truth.mislabelled == wrong).all()
    assert glassbox.truth_of(read_photos("folder", *place)) is None
    assert glassbox.truth_of(replace(scored, origin=None)) is None


def test_a_chapter_and_the_command_line_share_their_defaults():
    here = settings_of(recipe_in_chapter("", {}))
    there = settings_of(Recipe())
    different = {name for name in there if here[name] != there[name]}
    assert different == {"backbone", "weights"}  # what is shipped, and what is downloaded


def test_where_nothing_is_said_of_k_two_thirds_stay_and_the_run_says_so(made):
    drop = made.info["recipe"]["drop"]
    assert made.recipe.drop == DropRule(keep_share=drop["keep_share"])
    photos = (made.split.part == "train").sum()
    above_k = made.rounds.kept[1] - made.rounds.rescued[1]
    assert above_k == round(drop["keep_share"] * photos)
    (said,) = of_share(Recipe(rounds=2), made)
    assert "so that 67% of the training photos stay" in said
    assert of_share(replace(made.recipe, drop=DropRule(k=(0.5,))), made) == []
    assert of_share(Recipe(rounds=1), made) == []


def test_a_run_of_before_had_a_k_where_it_said_nothing(made, tmp_path):
    info = json.loads((made.folder / "run.json").read_text())
    info["recipe"]["drop"]["keep_share"] = None
    (tmp_path / "run.json").write_text(json.dumps(info))
    assert Run(tmp_path).recipe.drop == DropRule(k=(0.9,))


def test_a_recipe_is_the_same_after_it_stood_in_a_run(made):
    assert settings_of(recipe_from(settings_of(made.recipe))) == settings_of(made.recipe)
