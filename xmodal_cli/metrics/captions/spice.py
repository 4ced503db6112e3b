"""SPICE (Anderson et al., arXiv 1607.08822), computed by its Java program if its models are installed."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xmodal_cli.errors import Unavailable
from xmodal_cli.metrics.java import jar, java
from xmodal_cli.metrics.token_rows import Words, check_pairs
from xmodal_cli.types import CaptionMetric, MetricScores

ORDER = 50
LABELS = {"spice": "SPICE"}
PERCENT = True

MODELS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
SOURCE = "stanford-corenlp-full-2015-12-09.zip from nlp.stanford.edu/software"
# reflection that Java 8 allows by default; Java 8 ignores JDK_JAVA_OPTIONS
JAVA_OPTIONS = " ".join(f"--add-opens=java.base/{name}=ALL-UNNAMED" for name in ("java.lang", "java.math", "java.util"))


def build(seconds: float = 3600.0) -> CaptionMetric:
    """The score ``spice`` in [0, 1]; the total is the mean over the candidates.

    The metric raises Unavailable if Java or the models are missing, or if the program fails or runs longer than
    ``seconds``.
    """

    def spice(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> MetricScores:
        check_pairs(candidates, references)
        program = jar("spice", "spice-1.0.jar")
        missing = [name for name in MODELS if not (program.parent / "lib" / name).is_file()]
        if missing:
            hint = f"copy it from {SOURCE} to {program.parent / 'lib'}"
            raise Unavailable(f"SPICE needs {missing[0]}, which is not installed", hint)
        items = [
            {"image_id": n, "test": " ".join(candidate), "refs": [" ".join(words) for words in of_image]}
            for n, (candidate, of_image) in enumerate(zip(candidates, references, strict=True))
        ]
        scores = np.array(_run([java(), "-Xmx8G", "-jar", str(program)], items, seconds), np.float64)
        return MetricScores({"spice": float(scores.mean())}, {"spice": scores})

    return spice


def _run(command: Sequence[str], items: list[dict[str, Any]], seconds: float) -> list[float]:
    """The F score of each item, in order. Raises Unavailable."""
    with tempfile.TemporaryDirectory(prefix="xmodal-spice-") as folder:
        input_file, output_file, cache = (Path(folder) / name for name in ("in.json", "out.json", "cache"))
        cache.mkdir()
        input_file.write_text(json.dumps(items), encoding="utf-8")
        options = [str(input_file), "-cache", str(cache), "-out", str(output_file), "-subset", "-silent"]
        environment = {**os.environ, "JDK_JAVA_OPTIONS": JAVA_OPTIONS}
        try:
            subprocess.run([*command, *options], env=environment, check=True, capture_output=True, timeout=seconds)
            results = json.loads(output_file.read_bytes())
            scores = {int(item["image_id"]): item["scores"]["All"]["f"] for item in results}
            return [float(scores[n]) for n in range(len(items))]
        except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as error:
            raise Unavailable(f"SPICE failed: {error}", "it needs Java 8 and 8 GB of memory") from error
