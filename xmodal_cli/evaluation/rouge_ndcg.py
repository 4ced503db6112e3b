"""NDCG@25 with ROUGE-L as relevance, as in TERN (arXiv 2004.09144) and TERAN (arXiv 2008.05231).

The relevance of an image and a caption, in both directions, is ROUGE-L of the caption against all captions of the
image, the query or result itself included.
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
BLOCK_CELLS = 2**22  # relevances in memory: 32 MB


@dataclass(frozen=True)
class Relevance:
    """The words of a gallery, and the ideal DCG of its queries, (images,) and (captions,)."""

    rows: WordRows
    ideal_of_images: np.ndarray
    ideal_of_captions: np.ndarray


def fold_ndcg(fold: Fold, captions: list[str]) -> dict[str, np.ndarray]:
    """NDCG@25 of every query of a fold with the given captions, by direction: (queries,) in [0, 1].

    Queries are in the order of the fold's ranks. It is NaN for a query without relevant results, such as a caption
    without words.
    """
    image_of_caption = fold.vectors.image_of_caption
    relevance = _relevance(tuple(captions), tuple(image_of_caption.tolist()), len(fold.vectors.images))
    rows, vectors = relevance.rows, Vectors(fold.vectors.images, fold.vectors.texts, fold.vectors.similarity)
    texts = top_texts(vectors, DEPTH, lambda image, text: rouge_pairs(rows, text, image))
    images = top_images(vectors, DEPTH, lambda image, text: rouge_pairs(rows, text, image))
    text_relevance = rouge_pairs(rows, texts.ravel(), np.repeat(np.arange(len(texts)), texts.shape[1]))
    image_relevance = rouge_pairs(rows, np.repeat(np.arange(len(images)), images.shape[1]), images.ravel())
    of_images = ndcg(dcg(text_relevance.reshape(texts.shape)), relevance.ideal_of_images)
    of_captions = ndcg(dcg(image_relevance.reshape(images.shape)), relevance.ideal_of_captions)
    return {"image_to_text": of_images[np.unique(image_of_caption)], "text_to_image": of_captions}


@lru_cache(maxsize=8)  # shared by all models that are evaluated on the same captions
def _relevance(captions: tuple[str, ...], image_of_caption: tuple[int, ...], num_images: int) -> Relevance:
    rows = WordRows.of(_word_ids(captions), np.array(image_of_caption, np.int64), num_images)
    ideal_of_captions: list[np.ndarray] = []

    def blocks() -> Iterator[np.ndarray]:
        height = max(1, BLOCK_CELLS // num_images)
        for first in range(0, len(captions), height):
            block = rouge_block(rows, first, min(len(captions), first + height))
            ideal_of_captions.append(ideal_dcg(block, DEPTH))
            yield block

    ideal_of_images = ideal_dcg_of_columns(blocks(), DEPTH)
    return Relevance(rows, ideal_of_images, np.concatenate(ideal_of_captions))


def _word_ids(captions: tuple[str, ...]) -> list[list[int]]:
    """The word ids of every caption, tokenized as for the models: lower case, without punctuation."""
    tokenizer = Tokenizer.from_captions(captions)
    return [row[1:-1] for row in tokenizer.encode(captions)]
