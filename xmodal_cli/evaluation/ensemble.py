"""Several models as one: the mean of their similarities, as vectors, so that every figure is computed as for one model.

The inner product of joined vectors is the sum of the members' cosines, and the order penalty of joined vectors is the
sum of the members' penalties; a similarity that does not add up has no ensembles. Ranks by the sum are ranks by the
mean; not dividing by the number of members keeps the vectors, and so the ranks, free of rounding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from xmodal_cli.errors import ConfigError, IncompatibleFeatures
from xmodal_cli.evaluation.scoring import EmbeddedModel, Embeddings
from xmodal_cli.models.array_similarity import array_similarity


def with_ensemble(members: Iterable[EmbeddedModel]) -> Iterator[EmbeddedModel]:
    """The members one by one, and the ensemble of them last. Raises as ``join``."""
    seen: list[EmbeddedModel] = []
    for member in members:
        for other in seen[:1]:
            _check(other, member)
        seen.append(member)
        yield member
    yield join(seen)


def join(members: Sequence[EmbeddedModel]) -> EmbeddedModel:
    """The ensemble, called ``a + b``.

    Raises ConfigError for a single member, IncompatibleFeatures where they do not score the same pairs alike.
    """
    first = members[0]
    if len(members) == 1:
        raise ConfigError(f"{first.name} alone is no ensemble", "name two models or more, or leave --ensemble out")
    for other in members[1:]:
        _check(first, other)
    images = np.hstack([member.vectors.images for member in members])
    texts = np.hstack([member.vectors.texts for member in members])
    vectors = Embeddings(images, texts, first.vectors.image_of_caption, first.vectors.similarity)
    part = next((member.part for member in members if member.part is not None), None)
    return EmbeddedModel(" + ".join(member.name for member in members), vectors, part)


def _check(first: EmbeddedModel, other: EmbeddedModel) -> None:
    pair = f"{first.name} and {other.name}"
    kinds = first.vectors.similarity, other.vectors.similarity
    if kinds[0] != kinds[1]:
        raise IncompatibleFeatures(
            f"{pair} make no ensemble: one compares by {kinds[0]}, the other by {kinds[1]} similarity",
            "join models of one similarity, or leave --ensemble out to see them side by side",
        )
    if not array_similarity(kinds[0]).additive:
        raise IncompatibleFeatures(
            f"{pair} cannot be an ensemble: the {kinds[0]} similarity of joined vectors is not the sum of theirs",
            "leave --ensemble out to see them side by side",
        )
    if not _same_pictures(first, other):
        sizes = " and ".join(
            f"{len(s.vectors.images):,} images and {len(s.vectors.texts):,} captions" for s in (first, other)
        )
        raise IncompatibleFeatures(
            f"{pair} make no ensemble: they were not given the same images and captions ({sizes})",
            "pictures that one backbone could not read are missing for its model; evaluate both on the rest",
        )


def _same_pictures(first: EmbeddedModel, other: EmbeddedModel) -> bool:
    same_owners = np.array_equal(first.vectors.image_of_caption, other.vectors.image_of_caption)
    if not same_owners or len(first.vectors.images) != len(other.vectors.images):
        return False
    if first.part is None or other.part is None:
        return True
    return first.part.ids == other.part.ids and first.part.captions == other.part.captions
