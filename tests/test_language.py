"""The wording rules: no banned phrase in the package, the docs, the examples, the presets and the tests.

``python -m helpers.language`` prints what is left per file; see ``docs/contributing.md``.
"""

from __future__ import annotations

import pytest
from helpers.language import ALLOWED, BANNED, Hit, files, hits_in, report, scan

PLANTED = {
    "# how to mend it": "mend",
    "def _tell(result):": "tell",
    '"""The error\n    is told at once."""': "told",
    "raise ConfigError(f'{path} is there already')": "is there already",
    "# it is\n    # there already": "is\n    # there already",
    "file.is_told": "told",
    "It writes\nover files.": "writes\nover",
    "'7x' is no number": "is no",
    "Goes on with the run": "Goes on with",
    "a share of the learning rate": "share of the learning rate",
    "The figures of the paper": "figures",
    "num_answers = 3": "answers",
    "one sentence a line, please": "one sentence a line",
    "class CoarseCopy:": "CoarseCopy",
    "coarse copy": "coarse copy",
    "class Lineage:": "Lineage",
    "36 regions an image": "36 regions an image",
    "the model that speaks": "speaks",
    "Pictures on a photo_index": "Pictures",
    "words it was not taught": "taught",
    "draw what each word looked at": "draw what",
    "keeps it at home": "at home",
    "the optimiser's colour": "optimiser",
    "count_rivals(scores)": "rivals",
    "what_is_read(model)": "what_is_read",
}
CLEAN = (
    "import matplotlib.pyplot as plt\nfigure = plt.figure(figsize=(4, 3))",
    "There is no Java; it is no longer searched for.",
    "scores on held-out data",
    "xmodal index ~/Pictures",
    "replace it in place, to two decimal places",
    "recommendation, amend, foretell, broom, sheldon",
    "a progress bar, or several progress bars",
    "The loss is a sentence-level score; it becomes a caption.",
)


@pytest.fixture(scope="module")
def hits() -> list[Hit]:
    found = scan()
    print(report(found))
    return found


def test_no_banned_phrase_is_used(hits: list[Hit]) -> None:
    assert len(files()) > 400
    found = [f"{hit.file}:{hit.line}: {hit.text!r}; use: {hit.use}" for hit in hits]
    assert found == []


@pytest.mark.parametrize("text", PLANTED)
def test_a_planted_phrase_is_caught(text: str) -> None:
    assert PLANTED[text] in [hit.text for hit in hits_in("xmodal_cli/planted.py", text)]


@pytest.mark.parametrize("text", CLEAN)
def test_ordinary_text_is_not_caught(text: str) -> None:
    assert list(hits_in("docs/page.md", text)) == []


def test_each_phrase_has_a_replacement_and_each_exception_a_reason() -> None:
    assert len(BANNED) > 80
    assert all(banned.use for banned in BANNED)
    assert all(rule.reason and rule.around for rule in ALLOWED)


def test_a_hit_has_its_line() -> None:
    (hit,) = hits_in("README.md", "one\ntwo\nmend this")
    assert (hit.line, hit.text) == (3, "mend")
