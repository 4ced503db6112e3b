"""Captions of a dataset split, from cached features, by one captioner or an ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from xmodal_cli.features.image_features import ImageFeatures, read_image_features
from xmodal_cli.inference.captioners import BATCH, LoadedCaptioner, caption_features, check_ensemble
from xmodal_cli.inference.encoding import check_features, embed_images, settings_for
from xmodal_cli.inference.reranking import load_reranker
from xmodal_cli.inference.tag_requests import dataset_prompts, find_tag_source
from xmodal_cli.reporter import Reporter
from xmodal_cli.types import Decoding, ImageTextDataset


def caption_dataset(
    captioners: Sequence[LoadedCaptioner], part: ImageTextDataset, settings: Decoding, reporter: Reporter
) -> tuple[ImageTextDataset, list[str], str | None]:
    """The dataset without unreadable images, the best caption of each image, and the tagger that gave tags, if any.

    Tags are those of the training of the first captioner. Raises ConfigError for different vocabularies, and the errors
    of ``find_tag_source``, ``load_reranker`` and feature extraction.
    """
    check_ensemble([loaded.info for loaded in captioners])
    compute = captioners[0].compute
    source = find_tag_source((), captioners[0], compute)
    settings, reranker = load_reranker(settings, compute)
    by_id: dict[str, np.ndarray] = {}
    if reranker is not None:
        part, vectors = embed_images(reranker.matcher, part, reporter)
        by_id = dict(zip(part.ids, vectors, strict=True))
    inputs: dict[Any, ImageFeatures] = {}
    for loaded in captioners:
        if loaded.meta.key() not in inputs:
            images = read_image_features(part, settings_for(loaded.info), compute, reporter)
            check_features(loaded.info, part, images.meta, reporter)
            part, inputs[loaded.meta.key()] = images.dataset, images
    prompts = dataset_prompts(source, captioners[0], part, reporter)
    image_vectors = [by_id[image_id] for image_id in part.ids] if reranker is not None else []
    candidates: list[str] = []
    with reporter.task("captions", len(part.examples), "images") as bar:
        for parts in zip(*(images.batches(BATCH) for images in inputs.values()), strict=True):
            by_key = dict(zip(inputs, parts, strict=True))
            batch, first = [by_key[loaded.meta.key()] for loaded in captioners], len(candidates)
            given = prompts[first : first + len(batch[0])]
            n_bests = caption_features(captioners, batch, settings, given, first=first)
            if reranker is not None:
                n_bests = reranker.rerank(n_bests, np.stack(image_vectors[first : first + len(batch[0])]))
            candidates += [n_best[0].text for n_best in n_bests]
            bar.advance(len(batch[0]))
    return part, candidates, None if source.tagger is None else source.tagger.name
