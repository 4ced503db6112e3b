"""METEOR 1.5 (Denkowski and Lavie, 2014) by the Java program that the COCO evaluation uses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xmodal_cli.errors import Unavailable
from xmodal_cli.metrics.java import Talk, jar, java, talk
from xmodal_cli.metrics.token_rows import Words, check_pairs
from xmodal_cli.types import CaptionMetric, MetricScores

ORDER = 20
LABELS = {"meteor": "METEOR"}
PERCENT = True

BAR = "|||"  # what its lines are divided by


def build(seconds: float = 1800.0) -> CaptionMetric:
    """A metric from 0 to 1, named ``meteor``: the total is of the whole corpus, no mean. It takes ``seconds`` at most.

    The metric raises Unavailable where there is no Java, or where the program fails.
    """

    def meteor(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> MetricScores:
        check_pairs(candidates, references)
        program = [java(), "-Xmx2G", "-Dfile.encoding=UTF-8", "-jar", str(jar("meteor", "meteor-1.5.jar"))]
        with talk("METEOR", [*program, "-", "-", "-stdio", "-l", "en", "-norm"], seconds) as running:
            return _scores(running, candidates, references)

    return meteor


def _scores(running: Talk, candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> MetricScores:
    statistics = [
        running.ask(f" {BAR} ".join(("SCORE", *(_line(r) for r in those), _line(candidate))))
        for candidate, those in zip(candidates, references, strict=True)
    ]
    running.tell(f" {BAR} ".join(("EVAL", *statistics)))
    try:
        each = np.array([float(running.hear()) for _ in candidates])
        return MetricScores({"meteor": float(running.hear())}, {"meteor": each})
    except ValueError as error:
        raise Unavailable(f"METEOR gave no number: {error}", "see that `java -version` works") from error


def _line(words: Words) -> str:
    """A sentence that cannot end its line or look like a border."""
    return " ".join(" ".join(words).replace(BAR, "").split())
