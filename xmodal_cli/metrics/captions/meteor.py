"""METEOR 1.5 (Denkowski and Lavie, 2014), computed by the Java program that the COCO evaluation uses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xmodal_cli.errors import Unavailable
from xmodal_cli.metrics.java import LineProcess, jar, java, line_process
from xmodal_cli.metrics.token_rows import Words, check_pairs
from xmodal_cli.types import CaptionMetric, MetricScores

ORDER = 20
LABELS = {"meteor": "METEOR"}
PERCENT = True

SEPARATOR = "|||"  # between the fields of a line


def build(seconds: float = 1800.0) -> CaptionMetric:
    """The score ``meteor`` in [0, 1]; the total is corpus-level, not a mean over candidates.

    The metric raises Unavailable if Java is missing, or if the program fails or runs longer than ``seconds``.
    """

    def meteor(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> MetricScores:
        check_pairs(candidates, references)
        program = [java(), "-Xmx2G", "-Dfile.encoding=UTF-8", "-jar", str(jar("meteor", "meteor-1.5.jar"))]
        # METEOR does not find its own file of paraphrases in a folder with a space in its path
        options = ["-stdio", "-l", "en", "-norm", "-a", str(jar("meteor", "data", "paraphrase-en.gz"))]
        with line_process("METEOR", [*program, "-", "-", *options], seconds) as process:
            return _scores(process, candidates, references)

    return meteor


def _scores(process: LineProcess, candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> MetricScores:
    statistics = [
        process.request(f" {SEPARATOR} ".join(("SCORE", *(_join(words) for words in of_image), _join(candidate))))
        for candidate, of_image in zip(candidates, references, strict=True)
    ]
    process.write(f" {SEPARATOR} ".join(("EVAL", *statistics)))
    try:
        scores = np.array([float(process.read()) for _ in candidates])
        return MetricScores({"meteor": float(process.read())}, {"meteor": scores})
    except ValueError as error:
        raise Unavailable(f"the output of METEOR is not a number: {error}", "check `java -version`") from error


def _join(words: Words) -> str:
    """The sentence without line breaks and separators."""
    return " ".join(" ".join(words).replace(SEPARATOR, "").split())
