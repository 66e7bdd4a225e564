import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import ndimage

from rsrl_lib.drawing import glassbox
from rsrl_lib.drawing.glassbox import (
    ATTRIBUTES,
    BORDERS,
    DEMO_SCENES,
    OTHER_SCENES,
    SCORES,
    STARTER_SCENES,
    TAGS,
)
from rsrl_lib.files import InputError
from rsrl_lib.sources import read_folder

PERFECT = dict.fromkeys(ATTRIBUTES, 1.0) | {"clutter": 0.0}
SHARES = (0.04, 0.22, 0.50, 0.15, 0.06, 0.025, 0.0045, 0.0006)  # of scores 2..9 in xiheAA


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("glass")
    table = glassbox.write(folder, 60, seed=5)
    return folder, pd.read_csv(table), pd.read_csv(folder / "votes.csv")


@pytest.fixture
def draw_with(monkeypatch):
    """Draw a photo whose attributes are given, every other one perfect."""

    def draw(index, scene, **changed):
        fixed = PERFECT | changed
        monkeypatch.setattr(glassbox, "sample_attributes", lambda rng: fixed)
        photo = glassbox.draw(1, index, scenes=(scene,))
        pixels = np.asarray(photo.image, np.float32) / 255
        return pixels, np.asarray(photo.mask) > 127

    return draw


def mean_effect(draw_with, measure, attribute, low, high):
    """Mean of measure(high) - measure(low), the same 12 photos drawn with both values."""
    return np.mean(
        [
            measure(*draw_with(i, DEMO_SCENES[i % 4], **{attribute: high}))
            - measure(*draw_with(i, DEMO_SCENES[i % 4], **{attribute: low}))
            for i in range(12)
        ]
    )


def edges(pixels, sigma=1.0):
    return ndimage.gaussian_gradient_magnitude(pixels.mean(2), sigma)


def test_the_same_seed_and_index_draw_the_same_photo_and_other_ones_another():
    one, same, other = (glassbox.draw(3, i) for i in (7, 7, 8))
    assert one.image.tobytes() == same.image.tobytes()
    assert one.mask.tobytes() == same.mask.tobytes()
    assert one.attributes == same.attributes
    assert one.attributes != other.attributes
    assert glassbox.draw(4, 7).attributes != one.attributes


def test_a_written_photo_does_not_depend_on_how_many_are_written(written, tmp_path):
    folder, table, votes = written
    few = pd.read_csv(glassbox.write(tmp_path / "few", 3, seed=5))
    pd.testing.assert_frame_equal(few, table[:3])
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "few/votes.csv"), votes[:45])
    for name in [*few["photo"], *few["mask"]]:
        assert (tmp_path / "few" / name).read_bytes() == (folder / name).read_bytes()


def test_demo_and_starter_scenes_share_no_family_and_all_can_be_drawn():
    assert len(DEMO_SCENES) >= 4 and len(STARTER_SCENES) >= 4
    every = DEMO_SCENES + STARTER_SCENES + OTHER_SCENES
    assert len(set(every)) == len(every)
    for scene in every:
        photo = glassbox.draw(0, 0, scenes=(scene,))
        assert photo.scene == scene
        assert photo.image.mode == "RGB" and photo.mask.mode == "L"
        assert photo.image.size == photo.mask.size
        assert set(np.unique(photo.mask)) == {0, 255}
        assert tuple(photo.tags) == TAGS


def test_shares_of_scores_match_the_known_photo_set_and_a_quarter_is_mislabelled():
    rng = np.random.default_rng(0)
    quality = glassbox.quality(glassbox.sample_attributes(rng, 400_000))
    scores = glassbox.score_of(quality + glassbox.SCORE_NOISE * rng.standard_normal(quality.size))
    shares = [np.mean(scores == score) for score in SCORES]
    np.testing.assert_allclose(shares, SHARES, rtol=0.03, atol=3e-4)
    assert 0.25 <= np.mean(scores != glassbox.score_of(quality)) <= 0.30


def test_attributes_are_uniform_and_nearly_independent():
    sample = pd.DataFrame(glassbox.sample_attributes(np.random.default_rng(1), 100_000))
    np.testing.assert_allclose(sample.quantile([0.1, 0.5, 0.9]).T, [[0.1, 0.5, 0.9]] * 6, atol=0.01)
    correlations = sample.assign(clutter=1 - sample["clutter"]).corr().to_numpy()
    np.testing.assert_allclose(correlations[np.triu_indices(6, 1)], 0.19, atol=0.02)


def test_quality_runs_from_0_to_1_and_falls_with_clutter_alone():
    assert glassbox.quality(PERFECT) == pytest.approx(1)
    assert glassbox.quality({name: 1 - value for name, value in PERFECT.items()}) == pytest.approx(
        0
    )
    by_hand = 0.2 * 0.5 + 0.14 * 0.4 + 0.18 * 0.7 + 0.18 * 0.9 + 0.17 * 0.8 + 0.13 * 0.1
    values = dict(zip(ATTRIBUTES, (0.5, 0.4, 0.3, 0.9, 0.8, 0.1), strict=True))
    assert glassbox.quality(values) == pytest.approx(by_hand)


def test_a_border_belongs_to_the_score_above_it():
    assert glassbox.score_of(np.array(BORDERS)).tolist() == [3, 4, 5, 6, 7, 8, 9]
    assert glassbox.score_of(np.array(BORDERS) - 1e-9).tolist() == [2, 3, 4, 5, 6, 7, 8]


def test_the_written_table_agrees_with_itself(written):
    _, table, votes = written
    np.testing.assert_allclose(table["quality"], glassbox.quality(table))
    assert (table["noise_free_score"] == glassbox.score_of(table["quality"])).all()
    assert (table["mislabelled"] == (table["score"] != table["noise_free_score"])).all()
    nearest = np.abs(table["quality"].to_numpy()[:, None] - BORDERS).min(1)
    np.testing.assert_allclose(table["border_distance"], nearest)
    assert table["score"].isin(SCORES).all() and votes["score"].isin(SCORES).all()
    assert set(table["scene"]) <= set(DEMO_SCENES)
    assert table[list(TAGS)].isin([0, 1]).all(axis=None)
    crowd = votes.groupby("photo")
    assert (crowd["rater"].nunique() == glassbox.VOTES).all()
    np.testing.assert_allclose(crowd["score"].mean()[table["photo"]], table["crowd_mean"])
    assert np.corrcoef(table["crowd_mean"], table["quality"])[0, 1] > 0.9


def test_the_ordinary_reader_reads_the_written_photos(written):
    folder, table, _ = written
    votes = folder / "votes.csv"
    photos = read_folder(folder, folder / "photos.csv", votes=votes, attribute_columns=ATTRIBUTES)
    assert photos.table["photo"].tolist() == table["photo"].tolist()
    assert photos.table["score"].tolist() == table["score"].tolist()
    np.testing.assert_allclose(photos.table["mean_score"], table["crowd_mean"])
    np.testing.assert_allclose(photos.attributes, table[list(ATTRIBUTES)])
    assert len(photos.left_out) == 0


def test_some_photos_are_stored_turned_and_their_masks_are_as_a_viewer_shows_them(written):
    folder, table, _ = written
    turned = 0
    for index, row in table.iterrows():
        with Image.open(folder / row["photo"]) as stored, Image.open(folder / row["mask"]) as mask:
            if stored.getexif().get(0x0112) == 6:
                turned += 1
                assert stored.size == mask.size[::-1]
                assert mask.tobytes() == glassbox.draw(5, index).mask.tobytes()
            else:
                assert stored.size == mask.size
    assert 0 < turned < len(table) / 2


def test_an_unfinished_write_is_drawn_again_and_a_finished_one_left_alone(tmp_path):
    table = glassbox.write(tmp_path, 2, seed=1)
    finished = table.read_bytes()
    (tmp_path / "photos/00001.jpg").write_bytes(b"")
    assert glassbox.write(tmp_path, 2, seed=1) == table
    assert (tmp_path / "photos/00001.jpg").read_bytes() == b""
    table.unlink()
    assert glassbox.write(tmp_path, 2, seed=1).read_bytes() == finished
    assert (tmp_path / "photos/00001.jpg").stat().st_size > 1000


def test_a_folder_with_other_things_and_a_count_below_1_are_refused(tmp_path):
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(InputError, match="empty folder"):
        glassbox.write(tmp_path, 2)
    with pytest.raises(InputError, match="at least 1"):
        glassbox.write(tmp_path / "new", 0)
    with pytest.raises(InputError, match="seed of at least 0"):
        glassbox.write(tmp_path / "new", 1, seed=-1)
    glassbox.write(tmp_path / "new", 1)
    with pytest.raises(InputError, match="empty folder"):
        glassbox.write(tmp_path / "new", 2)


def test_placement_is_the_distance_of_the_masks_centre_from_a_thirds_point():
    errors = []
    for index in range(40):
        photo = glassbox.draw(2, index)
        mask = np.asarray(photo.mask) > 127
        frame = mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any()
        if not frame:
            centre = np.array(ndimage.center_of_mass(mask)) / mask.shape
            away = np.hypot(*(abs(centre - 0.5) - 1 / 6))
            errors.append(photo.attributes["placement"] - (1 - away / glassbox.THIRDS_REACH))
    assert len(errors) > 15
    assert np.abs(errors).max() < 0.06


def test_the_subject_is_where_the_mask_says(draw_with):
    for index, scene in enumerate(DEMO_SCENES):
        pixels, mask = draw_with(index, scene)
        ring = ndimage.binary_dilation(mask, iterations=9)
        contour = ndimage.binary_dilation(mask, iterations=2) & ~ndimage.binary_erosion(mask)
        assert edges(pixels)[contour].mean() > 2 * edges(pixels)[ring & ~mask & ~contour].mean()
        assert np.abs(pixels[mask].mean(0) - pixels[ring & ~mask].mean(0)).max() > 0.08


def test_distinctness_is_seen_as_contrast_and_size(draw_with):
    def contrast(pixels, mask):
        ring = ndimage.binary_dilation(mask, iterations=9)
        ring &= ~ndimage.binary_dilation(mask, iterations=2)
        return np.linalg.norm(pixels[mask].mean(0) - pixels[ring].mean(0))

    assert mean_effect(draw_with, contrast, "distinctness", 0.1, 0.9) > 0.15
    assert mean_effect(draw_with, lambda _, mask: mask.mean(), "distinctness", 0.1, 0.9) > 0.02


def test_clutter_is_seen_as_edges_around_the_subject(draw_with):
    def busy(pixels, mask):
        return (edges(pixels)[~ndimage.binary_dilation(mask, iterations=6)] > 0.05).mean()

    assert mean_effect(draw_with, busy, "clutter", 0.0, 0.5) > 0.01
    assert mean_effect(draw_with, busy, "clutter", 0.5, 1.0) > 0.01


def test_sharpness_is_seen_as_detail_on_the_subject(draw_with):
    def detail(pixels, mask):
        near = ndimage.binary_dilation(mask, iterations=2)
        return np.log(ndimage.laplace(ndimage.gaussian_filter(pixels.mean(2), 1))[near].var())

    assert mean_effect(draw_with, detail, "sharpness", 0.1, 0.5) > 0.3
    assert mean_effect(draw_with, detail, "sharpness", 0.5, 1.0) > 0.3


def test_exposure_is_seen_as_distance_from_middle_brightness(draw_with):
    def extremeness(pixels, mask):
        return abs(pixels.mean() - 0.47)

    assert mean_effect(draw_with, extremeness, "exposure", 0.1, 0.5) < -0.08
    assert mean_effect(draw_with, extremeness, "exposure", 0.5, 1.0) < -0.08


def test_harmony_is_seen_as_fewer_garish_colours(draw_with):
    def garish(pixels, mask):
        return (pixels.max(2) - pixels.min(2)).mean()

    assert mean_effect(draw_with, garish, "harmony", 0.1, 0.6) < -0.1
