"""Ensembles: the mean similarity of several models, represented by concatenated vectors and evaluated like one model.

The inner product of concatenated vectors is the sum of the cosines of the members, and the order penalty is the sum of
their penalties; other similarities are not additive and cannot be combined. The sum gives the same ranks as the mean.
It is not divided by the number of members, which avoids rounding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from xmodal_cli.errors import ConfigError, IncompatibleFeatures
from xmodal_cli.evaluation.extras import ENSEMBLE_HINT
from xmodal_cli.evaluation.scoring import EmbeddedModel, Embeddings
from xmodal_cli.models.array_similarity import array_similarity


def with_ensemble(members: Iterable[EmbeddedModel]) -> Iterator[EmbeddedModel]:
    """Yield each member, then their ensemble. Raises as ``join``, before the next member is requested."""
    evaluated: list[EmbeddedModel] = []
    for member in members:
        for first in evaluated[:1]:
            _check_compatible(first, member)
        evaluated.append(member)
        yield member
    yield join(evaluated)


def join(members: Sequence[EmbeddedModel]) -> EmbeddedModel:
    """The ensemble of ``members``, named ``a + b``.

    Raises ConfigError for a single member, IncompatibleFeatures for different or non-additive similarities and for
    different images or captions.
    """
    first = members[0]
    if len(members) == 1:
        raise ConfigError(f"an ensemble of {first.name} needs another model", ENSEMBLE_HINT)
    for other in members[1:]:
        _check_compatible(first, other)
    images = np.hstack([member.vectors.images for member in members])
    texts = np.hstack([member.vectors.texts for member in members])
    vectors = Embeddings(images, texts, first.vectors.image_of_caption, first.vectors.similarity)
    dataset = next((member.dataset for member in members if member.dataset is not None), None)
    return EmbeddedModel(" + ".join(member.name for member in members), vectors, dataset)


def check_similarities(names: Sequence[str], similarities: Sequence[str]) -> None:
    """Raise IncompatibleFeatures if models with these similarities cannot be combined."""
    for name, similarity in zip(names[1:], similarities[1:], strict=True):
        _check_kinds(f"{names[0]} and {name}", (similarities[0], similarity))


def _check_compatible(first: EmbeddedModel, other: EmbeddedModel) -> None:
    pair = f"{first.name} and {other.name}"
    _check_kinds(pair, (first.vectors.similarity, other.vectors.similarity))
    if not _have_same_images(first, other):
        sizes = " and ".join(
            f"{len(s.vectors.images):,} images and {len(s.vectors.texts):,} captions" for s in (first, other)
        )
        raise IncompatibleFeatures(
            f"{pair} cannot be combined: they have different images or captions ({sizes})",
            "images that a backbone could not read are missing for its model; evaluate both on the other images",
        )


def _check_kinds(pair: str, kinds: tuple[str, str]) -> None:
    if kinds[0] != kinds[1]:
        raise IncompatibleFeatures(
            f"{pair} cannot be combined: one uses the {kinds[0]}, the other the {kinds[1]} similarity",
            "combine models with the same similarity, or omit --ensemble to compare them",
        )
    if not array_similarity(kinds[0]).additive:
        raise IncompatibleFeatures(
            f"{pair} cannot be combined: the {kinds[0]} similarity is not additive",
            "omit --ensemble to compare them",
        )


def _have_same_images(first: EmbeddedModel, other: EmbeddedModel) -> bool:
    same_pairs = np.array_equal(first.vectors.image_of_caption, other.vectors.image_of_caption)
    if not same_pairs or len(first.vectors.images) != len(other.vectors.images):
        return False
    origins = first.vectors.origin, other.vectors.origin
    if origins[0] is not None and origins[1] is not None:
        return origins[0].fingerprint == origins[1].fingerprint
    if first.dataset is None or other.dataset is None:
        return True
    return first.dataset.ids == other.dataset.ids and first.dataset.captions == other.dataset.captions
