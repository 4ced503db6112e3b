"""The losses and miners of pytorch-metric-learning, under the names of that library.

    --set loss.name=metric_learning --set loss.args.loss=MultiSimilarityLoss --set loss.args.miner=BatchHardMiner

That library computes distances between vectors. Here the "vector" of an item is its row of scores, and the distance
returns that row: the losses get the scores of the model's similarity and treat them as cosines. The loss is the mean of
two directions, with images and with captions as anchors. Labels are images: captions of one image are positives, which
each loss handles as published (SupConLoss has them in its denominator). LiftedStructureLoss needs the negatives of both
items of a pair, so it gets all pairs of an image and a caption at once.

``PROXY_LOSSES`` classify the vectors themselves: each training image is a class with trained weights, its proxy. The
loss is the mean of that of the images and that of the captions, with the distance of the library. Proxies are compared
by their directions only. Their initial lengths in the library are 0.1 to 30, and decide how fast Adam turns them; here
all start as unit vectors.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from xmodal_cli.errors import ConfigError, UnknownName

# name -> defaults for cosines, where the defaults of the library are for distances
LOSSES: dict[str, dict[str, Any]] = {
    "CircleLoss": {},
    "ContrastiveLoss": {"pos_margin": 1.0, "neg_margin": 0.0},
    "GeneralizedLiftedStructureLoss": {"pos_margin": 1.0, "neg_margin": 0.0},
    "LiftedStructureLoss": {"pos_margin": 1.0, "neg_margin": 0.0},
    "MarginLoss": {"beta": 0.28},  # the cosine of two unit vectors at the library's distance of 1.2
    "MultiSimilarityLoss": {},
    "NCALoss": {},
    "NTXentLoss": {},
    "SupConLoss": {},
    "TripletMarginLoss": {},
}
PROXY_LOSSES: dict[str, dict[str, Any]] = {
    "ArcFaceLoss": {},
    "CosFaceLoss": {},
    "NormalizedSoftmaxLoss": {},
    "ProxyAnchorLoss": {},
    "ProxyNCALoss": {},
    "SoftTripleLoss": {},
}
PROXY_DIMS = {"W": 0, "fc": 0, "proxies": 1}  # parameter -> its dimension along which a proxy lies
MINERS: dict[str, dict[str, Any]] = {
    "BatchEasyHardMiner": {},
    "BatchHardMiner": {},
    "HDCMiner": {},
    "MultiSimilarityMiner": {},
    "PairMarginMiner": {"pos_margin": 0.8, "neg_margin": 0.2},
    "TripletMarginMiner": {},
    "UniformHistogramMiner": {},
}
# unsupported arguments: objects of the library, those that need labels across batches or compare captions to captions
WITHHELD = {"self", "distance", "reducer", "embedding_regularizer", "embedding_reg_weight", "collect_stats"}
WITHHELD |= {"mat_based_loss", "num_classes", "embedding_size", "swap", "weight_init_func", "weight_regularizer"}
WITHHELD |= {"weight_reg_weight"}


class MetricLearning(nn.Module):
    """(images, captions) scores and positives -> scalar, the mean of both directions."""

    def __init__(self, loss: nn.Module, miner: nn.Module | None) -> None:
        super().__init__()
        self.loss, self.miner = loss, miner

    def forward(self, scores: Tensor, positives: Tensor) -> Tensor:
        if type(self.loss).__name__ == "LiftedStructureLoss":
            return self._all_pairs(scores, positives)
        images = torch.arange(len(positives), device=positives.device)
        image_of_caption = positives.long().argmax(0)
        image_to_text = self._direction(scores, images, image_of_caption)
        text_to_image = self._direction(scores.T, image_of_caption, images)
        return (image_to_text + text_to_image) / 2

    def _all_pairs(self, scores: Tensor, positives: Tensor) -> Tensor:
        """Images and captions as the items of one batch, whose pairs are those of an image and a caption."""
        num_images, num_captions = scores.shape
        within = (scores.new_zeros(num_images, num_images), scores.new_zeros(num_captions, num_captions))
        matrix = torch.cat((torch.cat((within[0], scores), 1), torch.cat((scores.T, within[1]), 1)))

        def pairs(mask: Tensor) -> tuple[Tensor, Tensor]:
            image, caption = mask.nonzero(as_tuple=True)
            caption = caption + num_images
            return torch.cat((image, caption)), torch.cat((caption, image))

        labels = torch.cat((torch.arange(num_images, device=positives.device), positives.long().argmax(0)))
        value: Tensor = self.loss(matrix, labels, (*pairs(positives), *pairs(~positives)))
        return value

    def _direction(self, scores: Tensor, labels: Tensor, other_labels: Tensor) -> Tensor:
        """(anchors, others) scores, (anchors,) and (others,) image indices -> scalar."""
        mined = None if self.miner is None else self.miner(scores, labels, scores.T, other_labels)
        value: Tensor = self.loss(scores, labels, mined, scores.T, other_labels)
        return value


class ProxyLoss(nn.Module):
    """(images, dim) and (captions, dim) vectors and their classes, (images,) and (captions,) int64 -> scalar."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, images: Tensor, captions: Tensor, image_classes: Tensor, caption_classes: Tensor) -> Tensor:
        of_images: Tensor = self.loss(images.float(), image_classes)
        of_captions: Tensor = self.loss(captions.float(), caption_classes)
        return (of_images + of_captions) / 2


def build(
    loss: str = "NTXentLoss",
    loss_args: Mapping[str, Any] | None = None,
    miner: str = "",
    miner_args: Mapping[str, Any] | None = None,
    num_images: int = 2,
    embed_dim: int = 2,
) -> MetricLearning | ProxyLoss:
    """``loss`` and ``miner`` ("" for none) are class names of the library, ``loss_args`` and ``miner_args`` arguments.

    ``num_images`` (of training) and ``embed_dim`` are the sizes of the proxies.

    Raises UnknownName for an unknown name, ConfigError for an unsupported loss or miner, ValueError for arguments.
    """
    from pytorch_metric_learning import losses, miners

    if miner_args and not miner:
        raise ValueError("miner_args are given, but no miner")
    for key, args in (("loss_args", loss_args), ("miner_args", miner_args)):
        if not isinstance(args or {}, Mapping):
            raise ValueError(f"{key} must be a table, not {args!r}")
    if miner and (loss in PROXY_LOSSES or loss == "LiftedStructureLoss"):
        raise ConfigError(f"{loss} uses all pairs of a batch, so it takes no miner", "leave out loss.args.miner")
    if loss in PROXY_LOSSES:
        return _build_proxy_loss(losses, loss, loss_args or {}, num_images, embed_dim)
    loss_module = _build_part("loss", losses, LOSSES, loss, loss_args or {})
    miner_module = _build_part("miner", miners, MINERS, miner, miner_args or {}) if miner else None
    module = MetricLearning(loss_module, miner_module)
    _check_arguments(module)
    return module


def _build_proxy_loss(
    module: ModuleType, name: str, args: Mapping[str, Any], num_images: int, embed_dim: int
) -> ProxyLoss:
    factory = getattr(module, name)
    _check_names(factory, args)
    try:
        loss = ProxyLoss(_with_unit_proxies(factory(num_images, embed_dim, **{**PROXY_LOSSES[name], **args})))
        value = loss(torch.eye(2, embed_dim), torch.eye(2, embed_dim), torch.arange(2), torch.arange(2))
    except Exception as error:  # the library checks most arguments only during the computation
        raise ValueError(f"invalid arguments of {name}: {error or type(error).__name__}") from error
    if not value.isfinite():
        raise ValueError("with these arguments the loss is not a finite number")
    return loss


def _with_unit_proxies(loss: nn.Module) -> nn.Module:
    for name, weights in loss.named_parameters():
        weights.data = nn.functional.normalize(weights.data, dim=PROXY_DIMS[name])
    return loss


def _check_names(factory: type, args: Mapping[str, Any]) -> None:
    """Raise UnknownName for an argument that the class of the library does not have, or that is withheld."""
    accepted = {key for base in factory.__mro__ for key in _arguments(base)} - WITHHELD
    for key in args:
        if key not in accepted:
            raise UnknownName.of(f"argument of {factory.__name__}", key, accepted)


def _build_part(
    kind: str, module: ModuleType, known: Mapping[str, Any], name: str, args: Mapping[str, Any]
) -> nn.Module:
    """The loss or miner ``name`` with scores as its distance."""
    if name not in known and inspect.isclass(getattr(module, name, None)):
        raise ConfigError(
            f"the {kind} {name} of pytorch-metric-learning needs more than the scores or vectors of a batch",
            f"choose one of: {', '.join(_supported(kind, known))}",
        )
    if name not in known:
        raise UnknownName.of(f"{kind} of pytorch-metric-learning", name, _supported(kind, known))
    factory = getattr(module, name)
    _check_names(factory, args)
    try:
        part: nn.Module = factory(distance=_scores_as_distance(), **{**known[name], **args})
    except TypeError as error:  # a value of the wrong type, which the library does not check
        raise ValueError(f"invalid arguments of {name}: {error}") from error
    return part


def _supported(kind: str, known: Mapping[str, Any]) -> list[str]:
    return sorted([*known, *(PROXY_LOSSES if kind == "loss" else ())])


def _arguments(base: type) -> set[str]:
    """The names of the constructor arguments of ``base``, those of its bases excluded."""
    if "__init__" not in vars(base) or base in (nn.Module, object):
        return set()
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {key for key, value in inspect.signature(base).parameters.items() if value.kind in named}


def _scores_as_distance() -> nn.Module:
    """The cosine distance of the library, for rows of scores instead of vectors."""
    from pytorch_metric_learning.distances import CosineSimilarity

    class Scores(CosineSimilarity):  # type: ignore[misc]
        def maybe_normalize(self, embeddings: Tensor, dim: int = 1) -> Tensor:
            return embeddings

        def compute_mat(self, query_emb: Tensor, ref_emb: Tensor) -> Tensor:
            return query_emb.clone()  # some miners change it in place

    return Scores()


def _check_arguments(module: MetricLearning) -> None:
    """Raise ValueError for invalid arguments, which the library checks only during the computation."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        positives = torch.eye(3, dtype=torch.bool)
        try:
            value = module(0.9 * torch.eye(3), positives)
        except Exception as error:
            raise ValueError(f"invalid arguments: {error or type(error).__name__}") from error
    if not value.isfinite():
        raise ValueError("with these arguments the loss is not a finite number")
