"""How a user's own parts and groups reach the parts of a run."""

import json
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rsrl_lib import rounds, sources
from rsrl_lib.comparing.grids import read_grid
from rsrl_lib.dataset import divide
from rsrl_lib.files import InputError
from rsrl_lib.interface import app, batch, cli
from rsrl_lib.photos import ScoredPhotos
from rsrl_lib.pixels import Pixels, decode
from rsrl_lib.recipe import Recipe
from tests.test_rounds import RECIPE, altered

pytestmark = pytest.mark.usefixtures("small_crops")
WORDS = ["train", "Validation ", " TEST", "Train", "train"]


def write(folder, **columns):
    """A folder of 60 tiny photos, in two sub-folders and beside them, and their CSV."""
    names = [f"{('', 'one/', 'two/')[n % 3]}{n:02d}.png" for n in range(60)]
    rng = np.random.default_rng(0)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    table = pd.DataFrame({"photo": names, "score": np.resize([3, 4, 4, 5, 6], 60), **columns})
    table.to_csv(folder / "scores.csv", index=False)
    return folder / "scores.csv"


def test_a_column_says_each_photos_part_in_any_case(tmp_path):
    scores = write(tmp_path, role=np.resize(WORDS, 60))
    read = sources.read_folder(tmp_path, scores, part_column="role")
    assert read.table.part.tolist() == ["train", "validation", "test", "train", "train"] * 12
    assert "part" not in sources.read_folder(tmp_path, scores).table
    assert read.select([2]).table.part.tolist() == ["test"]


def test_a_file_of_parts_does_the_same_in_any_order_for_any_source(tmp_path):
    scores = write(tmp_path)
    photos = pd.read_csv(scores).photo
    parts = pd.DataFrame({"part": np.resize(WORDS, 60), "photo": photos})
    parts.loc[60] = ["test", "a photo that nobody scored.png"]
    parts.sample(frac=1, random_state=0).to_csv(tmp_path / "parts.csv", index=False)
    read = sources.read_photos("folder", tmp_path, scores, parts=tmp_path / "parts.csv")
    assert read.table.part.tolist() == ["train", "validation", "test", "train", "train"] * 12

    ava = tmp_path / "ava"
    (ava / "images").mkdir(parents=True)
    rows = [f"{n} 95{n} {'0 ' * 4}{'1 ' * (n + 1)}{'0 ' * (5 - n)}0 0 1" for n in range(4)]
    (ava / "AVA.txt").write_text("\n".join(rows) + "\n")
    for n in range(3):  # the fourth is missing, and needs no part
        Image.new("RGB", (9, 9), (n, 0, 0)).save(ava / "images" / f"95{n}.jpg")
    (tmp_path / "split.csv").write_text("photo,part\n950.jpg,train\n952.jpg,test\n951.jpg,train\n")
    read = sources.read_photos("ava", ava, parts=tmp_path / "split.csv")
    assert dict(zip(read.table.photo, read.table.part, strict=True)) == {
        "950.jpg": "train",
        "951.jpg": "train",
        "952.jpg": "test",
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("photo,part\n", r"60 of 60 photos have no part \(first: 00.png, one/01.png, two/02.png\)"),
        ("photo,part\n00.png,valid\n", r"parts.csv line 2: part 'valid' is none of train, valid"),
        ("photo,part\n00.png,test\n01,test\n00.png,train\n", "line 2 and .*line 4 give the same"),
        ("photo,role\n00.png,test\n", "needs one column 'part', has 0"),
    ],
)
def test_parts_that_are_none_are_told_with_their_place(tmp_path, text, says):
    scores = write(tmp_path)
    (tmp_path / "parts.csv").write_text(text)
    with pytest.raises(InputError, match=says):
        sources.read_folder(tmp_path, scores, parts=tmp_path / "parts.csv")


def test_photos_without_a_part_are_counted_and_those_that_are_left_out_need_none(tmp_path):
    part = np.resize(WORDS, 60).astype(object)
    part[[7, 9]] = [" ", None]
    scores = write(tmp_path, part=part)
    with pytest.raises(InputError, match=r"^2 of 60 photos have no part \(first: one/07.png, 09"):
        sources.read_folder(tmp_path, scores, part_column="part")
    (tmp_path / "09.png").unlink()
    (tmp_path / "one/07.png").unlink()
    assert len(sources.read_folder(tmp_path, scores, part_column="part", strict=False)) == 58
    write(tmp_path, part="test")
    with pytest.raises(InputError, match="None of 60 photos has the part train"):
        sources.read_folder(tmp_path, scores, part_column="part")


def test_a_column_or_sub_folders_say_which_photos_go_together(tmp_path):
    theme = np.resize(["dog", "007", "", "NA"], 60)
    scores = write(tmp_path, theme=theme)
    read = sources.read_folder(tmp_path, scores, group_column="theme")
    assert read.table.group.tolist() == theme.tolist()
    read = sources.read_folder(tmp_path, scores, group_by_folder=True)
    assert read.table.group.tolist() == ["", "one", "two"] * 20


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"group_column": "photo"}, "Groups of two photos or more .*'photo' has none"),
        ({"group_column": "score", "group_by_folder": True}, "Either --group-column or --group-by"),
        ({"part_column": "score", "parts": "p.csv"}, "Either --part-column or --parts"),
        ({"group_column": "them"}, "choose among photo, score by --group-column"),
        ({"part_column": "them"}, "choose among photo, score by --part-column"),
    ],
)
def test_options_that_say_nothing_or_the_same_twice_are_refused(tmp_path, options, says):
    with pytest.raises(InputError, match=says):
        sources.read_folder(tmp_path, write(tmp_path), **options)


def test_sub_folders_that_hold_no_photo_are_no_groups(tmp_path, coloured):
    photos, _ = coloured
    folder = photos.table.path[0].rsplit("/", 1)[0]
    with pytest.raises(InputError, match="Groups of two photos or more"):
        sources.read_folder(folder, f"{folder}/scores.csv", group_by_folder=True)


def made(scores, digests=None, **columns):
    """Photos and their pixels, which nobody looks at."""
    count = len(scores)
    names = [f"{n:03d}.png" for n in range(count)]
    table = pd.DataFrame({"photo": names, "path": names, "score": scores, **columns})
    digests = np.arange(count).astype(str) if digests is None else digests
    photos = ScoredPhotos(table.assign(mean_score=table.score.astype(float)))
    return photos, Pixels(np.zeros((count, 1, 1, 3), np.uint8), "x", digests)


SCORES = np.repeat([3, 4, 5, 9], [20, 60, 30, 2])


def test_given_parts_are_kept_and_no_score_is_merged():
    part = np.resize(["train", "test", "train"], len(SCORES)).astype(object)
    labels, merged, parts = divide(*made(SCORES, part=part), Recipe(fold=3))
    assert (labels == SCORES).all() and merged == {} and parts.tolist() == part.tolist()


def test_a_given_part_that_leaves_a_score_untrained_is_told():
    part = np.where(SCORES == 9, "test", "train")
    with pytest.raises(
        InputError, match=r"Score 9 has no training photo \(2 in test\); give one of"
    ):
        divide(*made(SCORES, part=part), Recipe())


def test_given_parts_are_not_divided_anew():
    with pytest.raises(InputError, match="part of each photo is given, and resplit 'fresh'"):
        divide(*made(SCORES, part="train"), Recipe(resplit="fresh"))


def test_copies_join_the_groups_of_their_photos_on_every_fold():
    digests = np.arange(len(SCORES)).astype(str)
    digests[[20, 40]] = "copy"  # they join two groups, and 90 joins the second of these
    group = np.array([f"g{n // 3}" for n in range(len(SCORES))], dtype=object)
    group[80:90] = ""
    digests[[85, 41]] = "another"
    photos, pixels = made(SCORES, digests, group=group)
    for fold in range(5):
        _, merged, parts = divide(photos, pixels, Recipe(fold=fold))
        assert merged == {9: 5}
        of_group = parts[group != ""].groupby(group[group != ""])
        assert of_group.nunique().max() == 1
        assert parts.groupby(digests).nunique().max() == 1
        assert parts[[20, 40, 41, 85]].nunique() == 1
    alone = [divide(photos, pixels, Recipe(fold=fold))[2][80] for fold in range(5)]
    assert alone.count("test") == 1


def test_groups_of_few_are_merged_and_rare_scores_can_stay():
    group = np.where(SCORES == 3, np.arange(len(SCORES)) % 4, np.arange(len(SCORES))).astype(str)
    photos, pixels = made(SCORES, group=group)
    assert divide(photos, pixels, Recipe())[1] == {3: 4, 9: 5}
    labels, merged, parts = divide(photos, pixels, Recipe(rare="train"))
    assert merged == {} and set(labels) == {3, 4, 5, 9}
    assert (parts[np.isin(SCORES, [9])] == "train").all()
    labels, merged, parts = divide(photos, pixels, Recipe(train_share=1))
    assert merged == {} and (parts == "train").all() and (labels == SCORES).all()


def test_without_groups_the_parts_are_those_that_copies_alone_decide():
    photos, pixels = made(SCORES)
    labels, _, parts = divide(photos, pixels, Recipe(fold=1, seed=4))
    assert parts.equals(rounds_split(labels, pixels))


def rounds_split(labels, pixels):
    from rsrl_lib.protocols import split

    return split(labels, fold=1, seed=4, groups=pixels.digests)


@pytest.fixture(scope="module")
def themed(coloured):
    """The coloured photos in groups of four, of one colour mostly."""
    photos, pixels = coloured
    group = [f"{number // 4:03d}" for number in range(60)]
    return replace(photos, table=photos.table.assign(group=group)), pixels


@pytest.mark.parametrize("changes", [{}, {"control": "cross-fitted"}, {"resplit": "fresh"}])
def test_groups_stay_whole_in_all_rounds_of_a_run_and_stand_in_its_split(themed, tmp_path, changes):
    run = rounds.repeat(*themed, tmp_path / "run", altered(rounds=2, **changes))
    assert list(run.split) == ["photo", "score", "label", "part", "digest", "group"]
    assert run.split.group.tolist() == themed[0].table.group.tolist()  # 000 stays 000
    group = np.tile(run.split.group, 2)
    assert run.samples.groupby(["round", group]).part.nunique().max() == 1


@pytest.mark.parametrize("control", ["cross-fitted", "none"])
def test_no_photo_is_judged_by_who_has_seen_one_of_its_group(
    themed, tmp_path, monkeypatch, control
):
    groups = themed[0].table.group.to_numpy()
    apart = []
    for module, name in ((rounds, "half_of_each"), (rounds, "fold_of_each")):
        real = getattr(module, name)

        def watched(labels, *rest, real=real, **how):
            numbers = real(labels, *rest, **how)
            apart.append((numbers, how))
            return numbers

        monkeypatch.setattr(module, name, watched)
    changes = {"control": control, "rounds": 2}
    if control == "none":
        changes |= {"tune": "head", "weights": "starter"}
    run = rounds.repeat(*themed, tmp_path / "run", altered(**changes))
    of_training = groups[run.split.part == "train"]
    assert apart
    for numbers, how in apart:
        assert how["each_counts"]
        assert pd.Series(numbers).groupby(of_training).nunique().max() == 1


def test_a_run_goes_on_with_its_groups_and_parts_and_with_no_others(themed, coloured, tmp_path):
    run = rounds.repeat(*themed, tmp_path / "run", altered(rounds=1))
    split = run.split
    assert rounds.repeat(*themed, run.folder, altered(rounds=2)).split.equals(split)
    photos, pixels = themed
    for other in (coloured[0], replace(photos, table=photos.table.assign(group="a"))):
        with pytest.raises(InputError, match="holds a run with different groups; give another"):
            rounds.repeat(other, pixels, run.folder, altered(rounds=2))
    part = np.resize(["train", "validation", "train", "test"], 60)
    given = replace(coloured[0], table=coloured[0].table.assign(part=part))
    with pytest.raises(InputError, match="different groups and given parts"):
        rounds.repeat(given, pixels, run.folder, altered(rounds=2))
    run = rounds.repeat(given, pixels, tmp_path / "given", altered(rounds=1))
    assert run.split.part.tolist() == part.tolist()
    with pytest.raises(InputError, match="holds a run with different given parts"):
        rounds.repeat(coloured[0], pixels, run.folder, altered(rounds=1))


def test_a_run_says_what_given_parts_leave_unread_and_tear_apart(themed, tmp_path):
    photos, pixels = themed
    part = np.resize(["train", "validation", "train", "test"], 60)
    digests = pixels.digests.copy()
    digests[[0, 3]] = "copy"
    table = photos.table.assign(part=part)
    recipe = altered(rounds=1, fold=2, rare="train")
    torn = replace(photos, table=table), replace(pixels, digests=digests)
    said = rounds.repeat(*torn, tmp_path / "run", recipe).info["notices"]
    assert said[:3] == [
        "The part of each photo is given: fold 2, rare train have no effect.",
        "Of the files that are there twice or more, 1 lies in two or more of the parts that are "
        "given (first: 00.png in train, 03.png in test): what is tested there was partly trained "
        "on.",
        "Of the groups, 15 lie in two or more of the parts that are given (first: 00.png in train, "
        "01.png in validation): what is tested there was partly trained on.",
    ]
    assert "they lie in the parts that are given" in said[3]
    whole = table.assign(part=np.repeat(part[:15], 4), group="")
    plain = replace(photos, table=whole), pixels
    assert rounds.repeat(*plain, tmp_path / "plain", altered(rounds=2)).info["notices"] == []


def test_a_part_that_a_setting_needs_and_nobody_has_is_told(coloured, tmp_path):
    photos, pixels = coloured
    part = np.resize(["train", "test"], 60)
    given = replace(photos, table=photos.table.assign(part=part))
    with pytest.raises(InputError, match="choose 'validation' needs validation photos, and there"):
        rounds.repeat(given, pixels, tmp_path / "run", RECIPE)
    assert not (tmp_path / "run" / "run.json").exists()


def test_rare_scores_that_stay_are_nodes_that_no_photo_tests_and_a_sentence_says_so(
    coloured, tmp_path
):
    photos, pixels = coloured
    score = photos.table.score.to_numpy().copy()
    score[20:22] = 9
    table = photos.table.assign(score=score, mean_score=score.astype(float))
    rare = replace(photos, table=table)
    run = rounds.repeat(rare, pixels, tmp_path / "run", altered(rounds=1, rare="train"))
    assert run.merged_scores == {} and run.network().scores[-1] == 9
    assert (run.split.part[20:22] == "train").all()
    assert "Score 9 has 2 photos, too few for every part: all train" in run.info["notices"][0]
    run = rounds.repeat(rare, pixels, tmp_path / "merged", altered(rounds=2))
    assert run.merged_scores == {9: 5} and run.info["notices"] == []


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"train_share": 0.9}, "train_share must lie above 0 and be at most 0.8"),
        ({"train_share": 0.0}, "or be 1, not 0"),
        ({"train_share": "half"}, "train_share must be a finite number"),
        ({"rare": "keep"}, "rare must be one of merge, train"),
        ({"near_duplicates": 17}, "near_duplicates must be at most 16, not 17"),
        ({"near_duplicates": -1}, "near_duplicates must be 0 or more"),
        ({"train_share": 0.5, "resplit": "fresh"}, "resplit 'fresh' divides 64/16/20"),
        ({"rare": "train", "resplit": "rotating"}, "found are train_share 0.64 and rare 'train'"),
        ({"train_share": 0.8, "decide": "prior", "choose": "test"}, "train_share 0.8 leaves none"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, says):
    with pytest.raises(InputError, match=says):
        Recipe(**settings)


def test_with_all_photos_training_a_fold_and_rare_scores_mean_nothing():
    from rsrl_lib.notices import unread

    said = unread(Recipe(train_share=1, fold=2, rare="train", choose="test"))
    assert said == [f"{name} has no effect: all photos train." for name in ("fold", "rare")]


@pytest.fixture(scope="module")
def with_copies(tmp_path_factory):
    """60 photos of noise, ten of them saved again as JPEG and smaller."""
    folder = tmp_path_factory.mktemp("near")
    rng = np.random.default_rng(0)
    for n in range(60):
        coarse = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        photo = Image.fromarray(coarse).resize((192, 192), Image.Resampling.BICUBIC)
        photo.save(folder / f"{n:02d}.png")
        if n < 10:
            photo.resize((128, 128)).save(folder / f"again {n}.jpg", quality=60)
    names = sorted(path.name for path in folder.iterdir())
    table = pd.DataFrame({"photo": names, "score": np.resize([3, 4, 4, 5], 70)})
    table.to_csv(folder / "scores.csv", index=False)
    return folder


def test_near_duplicates_lie_in_one_part_and_are_shown(with_copies, tmp_path, monkeypatch):
    folder = with_copies
    words = ["rsrl", "train", "--photos", folder, "--scores", folder / "scores.csv"]
    words += ["--run", tmp_path / "run", "--cache", tmp_path, "--near-duplicates", "6"]
    words += ["--backbone", "squeezenet1_1", "--weights", "starter", "--tune", "head"]
    monkeypatch.setattr(sys, "argv", [str(word) for word in [*words, "--rounds", "1"]])
    cli.main()
    run = tmp_path / "run"
    table = pd.read_csv(run / "near_duplicates.csv")
    assert len(table) == 20 and table.group.tolist() == np.repeat(range(1, 11), 2).tolist()
    assert table.groupby("group").part.nunique().max() == 1
    assert (table.distance <= 6).all()
    numbers = table.photo.str.extract(r"(\d+)\.")[0].astype(int)
    assert numbers.groupby(table.group).nunique().max() == 1
    said = json.loads((run / "run.json").read_text())["notices"]
    assert said[0].startswith("Near-duplicates: 10 groups of 20 photos whose hashes differ in at")
    with Image.open(run / "near_duplicates.png") as sheet:
        assert sheet.height > 10 * 144
    before = (run / "split.csv").read_bytes()
    monkeypatch.setattr(sys, "argv", [str(word) for word in [*words, "--rounds", "2"]])
    cli.main()
    assert (run / "split.csv").read_bytes() == before

    scored = sources.read_folder(folder, folder / "scores.csv")
    pixels, _ = decode(scored.table, cache=tmp_path)
    pair = scored.table.photo.str.extract(r"(\d+)\.")[0].astype(int)
    recipe = Recipe(near_duplicates=None)
    torn = [divide(scored, pixels, replace(recipe, fold=n))[2].groupby(pair) for n in range(5)]
    assert max(parts.nunique().max() for parts in torn) > 1  # chance would tear some apart
    for fold in range(5):
        _, _, parts = divide(scored, pixels, Recipe(near_duplicates=6, fold=fold))
        assert parts.groupby(pair).nunique().max() == 1


def test_the_command_takes_groups_and_parts_and_refuses_groups_of_public_sets(
    tmp_path, monkeypatch
):
    theme = np.arange(60) // 3
    scores = write(tmp_path, theme=theme, role=np.resize(WORDS[:4], 60))
    words = ["rsrl", "train", "--photos", tmp_path, "--scores", scores, "--cache", tmp_path / "c"]
    words += ["--backbone", "squeezenet1_1", "--weights", "starter", "--tune", "head"]
    words += ["--rounds", "1"]

    def train(run, *more):
        more = [*words, "--run", tmp_path / run, *more]
        monkeypatch.setattr(sys, "argv", [str(word) for word in more])
        cli.main()
        return pd.read_csv(tmp_path / run / "split.csv")

    split = train("a", "--group-column", "theme")
    assert split.groupby("group").part.nunique().max() == 1 and len(split.group.unique()) == 20
    assert train("b", "--part-column", "role").part.tolist()[:3] == ["train", "validation", "test"]
    monkeypatch.setattr(
        sys, "argv", ["rsrl", "train", "--photos", "p", "--run", str(tmp_path / "r")]
    )
    for option in (["--group-column", "a"], ["--group-by-folder"], ["--part-column", "a"]):
        with pytest.raises(SystemExit, match=f"found is {option[0]} with --source eva"):
            train("c", "--source", "eva", "--scores", "None", *option)


GRID = """[photos]
folder = "."
scores = "scores.csv"
options = {{ {options} }}
[grid]
{grid}
[arms.all]
train_share = 0.8
choose = "test"
rare = "train"
"""


def test_grids_give_options_and_shares_and_refuse_folds_of_given_parts(tmp_path):
    path = tmp_path / "grid.toml"
    path.write_text(GRID.format(options='group_column = "theme"', grid="folds = [0, 1]"))
    recipe = read_grid(path)[1].recipe
    assert (recipe.train_share, recipe.rare, recipe.fold) == (0.8, "train", 1)
    path.write_text(GRID.format(options='parts = "parts.csv"', grid="folds = [0]"))
    source = json.loads(read_grid(path)[0].source)
    assert source["options"]["parts"] == str(tmp_path / "parts.csv")
    path.write_text(GRID.format(options='parts = "parts.csv"', grid="folds = [0, 1]"))
    with pytest.raises(InputError, match=r"is given \(parts\), so that all folds \[0, 1\]"):
        read_grid(path)


def test_a_file_of_parts_is_found_from_where_a_chapter_or_the_page_lies(tmp_path, monkeypatch):
    options = {"parts": "parts.csv", "votes": "votes.csv", "group_column": "theme"}
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    placed = batch._placed({"options": options}, tmp_path / "out")["options"]
    assert placed == options | {"parts": "../parts.csv", "votes": "../votes.csv"}

    scores = write(tmp_path)
    pd.read_csv(scores)[["photo"]].assign(part="train").to_csv("parts.csv", index=False)
    given = app._photos(tmp_path, scores, "folder", "{parts: parts.csv}")
    assert given["options"]["parts"] == str(tmp_path / "parts.csv")
