"""The page of findings says what the kept tables say."""

import importlib
import re

import pandas as pd
import pytest

from rsrl_lib.comparisons import MEASURES
from rsrl_lib.files import InputError
from tests.conftest import ROOT

WORDS = (ROOT / "studies" / "findings_words.md").read_text()
OWN = "RSRL's rule, 67 % kept"


@pytest.fixture(scope="module")
def studies():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "studies")
        names = ("findings", "of_dropping", "of_other_studies", "said")
        yield {name: importlib.import_module(name) for name in names}


def test_the_page_is_what_the_kept_tables_and_the_words_give(studies):
    assert studies["findings"].page(WORDS) == (ROOT / "docs" / "findings.md").read_text()


def test_no_measured_figure_in_the_words_is_typed_by_hand():
    prose = re.sub(r"\{\{[^}]*\}\}", "", WORDS)
    typed = set(re.findall(r"(?<![\w.])[+-]?\d*\.\d+", prose))
    assert typed == {"0.9", ".05", ".90", ".45"}  # K, the level, and what the documents report


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("{{difference: OASIS; RSRL's rule, K = 0.9; accuracy; better}}", "is 'better'.*'worse'"),
        (f"{{{{moves: train_accuracy; OASIS; {OWN}; down}}}}", "is 'down'.*'up'"),
        (f"{{{{dropped: glass-box; mislabelled; {OWN}; found}}}}", "is 'found'.*'not found'"),
        ("{{gap: spectral residual; ; auc; 0}}", "is '0'.*'above 0'"),
        ("{{weighting_verdict: better}}", "is 'better'.*'undecided'"),
        ("{{differences: OASIS}}", "name {{differences: OASIS}}; there are"),
    ],
)
def test_words_that_the_tables_do_not_bear_out_are_an_error(studies, words, said):
    with pytest.raises(InputError, match=said):
        studies["findings"].page(words)


def test_what_single_arms_change_is_said_as_it_stands_in_the_tables(studies):
    said = studies["findings"].page("{{difference: glass-box; balanced batches; accuracy; worse}}")
    results = pd.read_csv(ROOT / "data" / "results" / "glassbox_arms.csv")
    wide = results.pivot(index=["seed", "fold"], columns="arm", values="accuracy")
    # 7 counts as 6 on the page, so a photo of the one answered by the other is right there.
    gain = (wide["class-balanced"] - wide["keep training"]).mean()
    assert float(said.split()[0]) == pytest.approx(gain, abs=0.03)


def test_claims_are_corrected_with_all_that_was_asked_of_a_set(studies):
    table = studies["of_dropping"].answers("claims")
    apart = studies["of_dropping"].answers("claims", apart=True)
    sure = table[table.verdict != "undecided"]
    assert sure[["photos", "measure", "verdict"]].to_numpy().tolist() == [
        ["glass-box", "rare_f1", "better"]
    ]
    smallest = table[table.photos == "glass-box"].p.min()
    count = (table.photos == "glass-box").sum()
    assert sure.p_holm.item() == pytest.approx(smallest * count)
    against_random = apart[(apart.key == "right") & (apart.verdict != "undecided")]
    assert against_random[["photos", "measure", "verdict"]].to_numpy().tolist() == [
        ["glass-box", "accuracy", "worse"]
    ]
    assert set(table.measure) <= set(MEASURES)
