"""Write `docs/findings.md` anew from the kept tables: a verdict on each claim of the documents.

    .venv/bin/python studies/findings.py

It also writes the findings of `README.md`, between two comments. The words stand in
`findings_words.md` and `readme_words.md` beside this file, by hand and without a figure. Where they
need one, they name it in double braces, and it is put there from `data/results`. Where they say
that a difference is believable, or which way it goes, they name that too, and the command ends in
an error once the tables say otherwise.
"""

import re
from pathlib import Path

import of_dropping
import of_each_paper
import of_other_studies
import of_two_ways

from rsrl_lib.files import ROOT, InputError, replacing

WORDS = Path(__file__).with_name("findings_words.md")
PAGE = ROOT / "docs" / "findings.md"
SHORT_WORDS = Path(__file__).with_name("readme_words.md")
README = ROOT / "README.md"
BEGIN, END = "<!-- findings: written by studies/findings.py -->\n", "<!-- end of findings -->"
PARTS = {
    part.__name__: part
    for part in (
        of_dropping.believable,
        of_dropping.changes,
        of_dropping.claim,
        of_dropping.difference,
        of_dropping.dropped,
        of_dropping.effect,
        of_dropping.majority,
        of_dropping.mean,
        of_dropping.means,
        of_dropping.moves,
        of_dropping.over_rounds,
        of_dropping.overfitting,
        of_dropping.papers_protocol,
        of_dropping.rare_share,
        of_dropping.small_studies,
        of_dropping.spread,
        of_dropping.training_sets,
        of_dropping.twins,
        of_dropping.verdicts,
        of_dropping.visible,
        of_dropping.whom,
        of_each_paper.each_paper,
        of_each_paper.each_paper_photos,
        of_other_studies.activation_maps,
        of_other_studies.covered,
        of_other_studies.crops,
        of_other_studies.gap,
        of_other_studies.regions,
        of_other_studies.reported,
        of_other_studies.seen,
        of_other_studies.sides,
        of_other_studies.studies,
        of_other_studies.two_accuracies,
        of_other_studies.weighting,
        of_other_studies.weighting_effect,
        of_other_studies.weighting_verdict,
        of_two_ways.two_agreement,
        of_two_ways.two_agreements,
        of_two_ways.two_by_kept,
        of_two_ways.two_effect,
        of_two_ways.two_found,
        of_two_ways.two_gaps,
        of_two_ways.two_levels,
        of_two_ways.two_moves,
        of_two_ways.two_range,
        of_two_ways.two_ranks,
        of_two_ways.two_seconds,
        of_two_ways.two_settled,
        of_two_ways.two_settling,
        of_two_ways.two_sizes,
        of_two_ways.two_verdicts,
        of_two_ways.two_wrong,
    )
}


def main() -> None:
    """Write the page, and the findings of the README."""
    texts = {
        PAGE: page(WORDS.read_text()),
        README: with_findings(README.read_text(), page(SHORT_WORDS.read_text())),
    }
    for path, text in texts.items():
        with replacing(path) as partial:
            partial.write_text(text)
        print(f"Written: {path.relative_to(ROOT)}")


def with_findings(readme: str, findings: str) -> str:
    """The README with these findings between its two comments; `InputError` without them."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise InputError(
            f"README.md needs the lines {BEGIN.strip()} and {END} around its findings."
        )
    return before + begin + findings + end + after


def page(words: str) -> str:
    """The words, with each figure and table that they name; `InputError` for one there is not."""
    return re.sub(r"\{\{(\w+)(?:: *([^}]*))?\}\}", _part, words)


def _part(found: re.Match) -> str:
    name, given = found[1], found[2]
    if name not in PARTS:
        raise InputError(f"The words name {found[0]}; there are {', '.join(PARTS)}.")
    return PARTS[name](*([word.strip() for word in given.split(";")] if given else []))


if __name__ == "__main__":
    main()
