"""Agreement of caption metrics with human judgments: Kendall's tau-c with the 17,000 expert ratings of Flickr8k.

python examples/judgments.py FOLDER [METRIC...]

FOLDER contains ExpertAnnotations.txt and dataset_flickr8k.json. The protocol is that of the papers: three experts
rate, from 1 to 4, how well a caption of one image describes another image. Each rating is paired with the metric's
score of the caption against the five captions of the rated image. Captions that are among those five are excluded.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from xmodal_cli import catalog
from xmodal_cli.metrics.ptb_tokenizer import ptb_words

METRICS = ("bleu", "rouge-l", "meteor", "cider")


def main(folder: str, *names: str) -> dict[str, float]:
    candidates, references, ratings = read(Path(folder))
    print(f"{len(candidates):,} captions, {ratings.size:,} ratings")
    taus = {}
    for name in names or METRICS:
        scores = catalog.build("caption_metric", name, {})(candidates, references)
        for metric, values in scores.per_candidate.items():
            taus[metric] = 100 * kendall_tau_c(np.repeat(values, ratings.shape[1]), ratings.ravel())
            print(f"{metric:<8} {taus[metric]:.1f}")
    return taus


def read(folder: Path) -> tuple[list[Sequence[str]], list[list[Sequence[str]]], np.ndarray]:
    """The rated captions, the references of the images they are rated for, and the ratings, (captions, 3)."""
    content = json.loads((folder / "dataset_flickr8k.json").read_text(encoding="utf-8"))
    captions = {i["filename"]: [ptb_words(s["raw"]) for s in i["sentences"]] for i in content["images"]}
    candidates, references, ratings = [], [], []
    for line in (folder / "ExpertAnnotations.txt").read_text(encoding="utf-8").splitlines():
        image, caption, *given = line.split("\t")
        of, _, number = caption.partition("#")
        candidate = captions[of][int(number)]
        if candidate not in captions[image]:
            candidates.append(candidate)
            references.append(captions[image])
            ratings.append([int(rating) for rating in given])
    return candidates, references, np.array(ratings)


def kendall_tau_c(scores: np.ndarray, grades: np.ndarray) -> float:
    """Stuart's tau-c of (items,) scores and (items,) integer grades with few distinct values.

    ``2 m (concordant - discordant) / (n^2 (m - 1))``, where m is the smaller number of distinct values.
    """
    values = np.unique(grades)
    groups = [np.sort(scores[grades == value]) for value in values]
    surplus = 0
    for low in range(len(groups)):
        for high in range(low + 1, len(groups)):
            below = np.searchsorted(groups[low], groups[high], side="left")
            above = len(groups[low]) - np.searchsorted(groups[low], groups[high], side="right")
            surplus += int(below.sum()) - int(above.sum())
    classes = min(len(values), len(np.unique(scores)))
    return 2 * classes * surplus / (len(scores) ** 2 * (classes - 1))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])
