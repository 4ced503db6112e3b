"""NDCG with ROUGE-L as relevance: how well a caption fits a picture is how much it shares with the picture's captions.

As in TERN (arXiv 2004.09144) and TERAN (arXiv 2008.05231): the relevance of an image and a caption, whichever is the
query, is ROUGE-L of the caption against the image's captions, its own among them; the first 25 answers count.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from xmodal_cli.evaluation.scoring import Fold
from xmodal_cli.metrics.rouge_kernel import WordRows, rouge_block, rouge_pairs
from xmodal_cli.models.tokenizer import Tokenizer
from xmodal_cli.retrieval.ndcg import dcg, ideal_dcg, ideal_dcg_of_columns, ndcg
from xmodal_cli.retrieval.top_k import Vectors, top_images, top_texts

DEPTH = 25
NAME = f"NDCG@{DEPTH}"
BLOCK_CELLS = 2**22  # relevances held at once: 32 MB


@dataclass(frozen=True)
class Relevance:
    """A gallery's words, and the best DCG of its queries: ``of_images`` (images,), ``of_captions`` (captions,)."""

    rows: WordRows
    of_images: np.ndarray
    of_captions: np.ndarray


def fold_ndcg(fold: Fold, captions: list[str]) -> dict[str, np.ndarray]:
    """NDCG@25 of every query of a fold whose captions are ``captions``, by direction; (queries,) from 0 to 1.

    Queries stand as in the fold's ranks; one to which nothing is relevant, a caption without a word, is NaN.
    """
    owner = fold.vectors.image_of_caption
    relevance = _relevance(tuple(captions), tuple(owner.tolist()), len(fold.vectors.images))
    rows, vectors = relevance.rows, Vectors(fold.vectors.images, fold.vectors.texts, fold.vectors.similarity)
    texts = top_texts(vectors, DEPTH, lambda image, text: rouge_pairs(rows, text, image))
    images = top_images(vectors, DEPTH, lambda image, text: rouge_pairs(rows, text, image))
    found_texts = rouge_pairs(rows, texts.ravel(), np.repeat(np.arange(len(texts)), texts.shape[1]))
    found_images = rouge_pairs(rows, np.repeat(np.arange(len(images)), images.shape[1]), images.ravel())
    of_images = ndcg(dcg(found_texts.reshape(texts.shape)), relevance.of_images)
    of_captions = ndcg(dcg(found_images.reshape(images.shape)), relevance.of_captions)
    return {"image_to_text": of_images[np.unique(owner)], "text_to_image": of_captions}


@lru_cache(maxsize=8)  # models side by side are judged by the same captions
def _relevance(captions: tuple[str, ...], owner: tuple[int, ...], num_images: int) -> Relevance:
    rows = WordRows.of(_word_numbers(captions), np.array(owner, np.int64), num_images)
    of_captions: list[np.ndarray] = []

    def blocks() -> Iterator[np.ndarray]:
        height = max(1, BLOCK_CELLS // num_images)
        for first in range(0, len(captions), height):
            block = rouge_block(rows, first, min(len(captions), first + height))
            of_captions.append(ideal_dcg(block, DEPTH))
            yield block

    of_images = ideal_dcg_of_columns(blocks(), DEPTH)
    return Relevance(rows, of_images, np.concatenate(of_captions))


def _word_numbers(captions: tuple[str, ...]) -> list[list[int]]:
    """Every caption as numbers of its words, in the words that the models read: no case, no punctuation."""
    tokenizer = Tokenizer.from_captions(captions)
    return [row[1:-1] for row in tokenizer.encode(captions)]
