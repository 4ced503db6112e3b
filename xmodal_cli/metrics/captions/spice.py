"""SPICE (Anderson et al., arXiv 1607.08822) by its Java program, where its models are. Fetches nothing."""

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
FROM = "stanford-corenlp-full-2015-12-09.zip from nlp.stanford.edu/software"
# newer Java needs to be told what older Java allowed; Java 8 does not read this variable
OPENED = " ".join(f"--add-opens=java.base/{name}=ALL-UNNAMED" for name in ("java.lang", "java.math", "java.util"))


def build(seconds: float = 3600.0) -> CaptionMetric:
    """A metric from 0 to 1, named ``spice``: the mean over the candidates. It takes ``seconds`` at most.

    The metric raises Unavailable where Java or the models are not there, or where the program fails.
    """

    def spice(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> MetricScores:
        check_pairs(candidates, references)
        program = jar("spice", "spice-1.0.jar")
        missing = [name for name in MODELS if not (program.parent / "lib" / name).is_file()]
        if missing:
            raise Unavailable(f"SPICE's {missing[0]} is not there", f"put it from {FROM} into {program.parent / 'lib'}")
        items = [
            {"image_id": n, "test": " ".join(candidate), "refs": [" ".join(r) for r in those]}
            for n, (candidate, those) in enumerate(zip(candidates, references, strict=True))
        ]
        each = np.array(_run([java(), "-Xmx8G", "-jar", str(program)], items, seconds), np.float64)
        return MetricScores({"spice": float(each.mean())}, {"spice": each})

    return spice


def _run(command: Sequence[str], items: list[dict[str, Any]], seconds: float) -> list[float]:
    """The F score of each item, in their order. Raises Unavailable."""
    with tempfile.TemporaryDirectory(prefix="xmodal-spice-") as folder:
        given, got, cache = (Path(folder) / name for name in ("in.json", "out.json", "cache"))
        cache.mkdir()
        given.write_text(json.dumps(items), encoding="utf-8")
        options = [str(given), "-cache", str(cache), "-out", str(got), "-subset", "-silent"]
        environment = {**os.environ, "JDK_JAVA_OPTIONS": OPENED}
        try:
            subprocess.run([*command, *options], env=environment, check=True, capture_output=True, timeout=seconds)
            found = {int(item["image_id"]): item["scores"]["All"]["f"] for item in json.loads(got.read_bytes())}
            return [float(found[n]) for n in range(len(items))]
        except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as error:
            raise Unavailable(f"SPICE failed: {error}", "it needs Java 8 and 8 GB of memory") from error
