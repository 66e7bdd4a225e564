"""The page of findings says what the kept tables say."""

import importlib
import re

import pandas as pd
import pytest

from rsrl_lib.comparing.comparisons import MEASURES
from rsrl_lib.files import InputError
from tests.conftest import ROOT

WORDS = (ROOT / "studies" / "findings_words.md").read_text()
SHORT_WORDS = (ROOT / "studies" / "readme_words.md").read_text()
README = (ROOT / "README.md").read_text()
OWN = "RSRL's rule, 67 % kept"


@pytest.fixture(scope="module")
def studies():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "studies")
        names = ("findings", "of_dropping", "of_other_studies", "said")
        yield {name: importlib.import_module(name) for name in names}


def test_the_page_is_what_the_kept_tables_and_the_words_give(studies):
    assert studies["findings"].page(WORDS) == (ROOT / "docs" / "findings.md").read_text()


def test_the_findings_of_the_readme_are_what_the_kept_tables_give(studies):
    findings = studies["findings"]
    assert findings.with_findings(README, findings.page(SHORT_WORDS)) == README
    block = README.partition(findings.BEGIN)[2].partition(findings.END)[0]
    assert block.count("\n- **") == 5
    for line in re.findall(r"^  \*.*\*$", block, flags=re.M):
        assert re.search(r"SqueezeNet .* pixels.* \d+ photos", line), line
    assert len(re.findall(r"^  \*", block, flags=re.M)) == 5


def test_a_readme_without_its_two_comments_is_refused(studies):
    findings = studies["findings"]
    for readme in ("# Title", findings.BEGIN, findings.END, findings.END + findings.BEGIN):
        with pytest.raises(InputError, match=r"README\.md needs the lines"):
            findings.with_findings(readme, "new")
    readme = f"a\n{findings.BEGIN}old\n{findings.END}\nz"
    assert findings.with_findings(readme, "new\n") == readme.replace("old", "new")


@pytest.mark.parametrize(
    ("words", "allowed"),
    [  # K, the level, and what the documents report
        (WORDS, {"0.9", ".05", ".90", ".45"}),
        (SHORT_WORDS, {"0.9"}),
    ],
    ids=["the page", "the README"],
)
def test_no_measured_figure_in_the_words_is_typed_by_hand(words, allowed):
    prose = re.sub(r"\{\{[^}]*\}\}", "", words)
    typed = set(re.findall(r"(?<![\w.])[+-]?\d*\.\d+", prose))
    assert typed == allowed


def test_the_readme_has_no_measured_figure_beside_its_findings(studies):
    before, _, rest = README.partition(studies["findings"].BEGIN)
    prose = before + rest.partition(studies["findings"].END)[2]
    prose = re.sub(r"```.*?```", "", prose, flags=re.S)
    typed = set(re.findall(r"(?<![\w.])[+-]?0?\.\d+\b", prose))
    assert typed == {"0.9", "0.95", "0.99"}  # K of both versions of RSRL


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("{{difference: OASIS; RSRL's rule, K = 0.9; accuracy; better}}", "is 'better'.*'worse'"),
        (f"{{{{moves: train_accuracy; OASIS; {OWN}; down}}}}", "is 'down'.*'up'"),
        (f"{{{{dropped: glass-box; mislabelled; {OWN}; found}}}}", "is 'found'.*'not found'"),
        ("{{gap: spectral residual; ; auc; 0}}", "is '0'.*'above 0'"),
        ("{{weighting_verdict: better}}", "is 'better'.*'undecided'"),
        (f"{{{{two_found: {OWN}; frozen; found}}}}", "is 'found'.*'not found'"),
        (f"{{{{two_effect: {OWN}; test_accuracy; frozen; loses}}}}", "is 'loses'.*'unsure'"),
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
