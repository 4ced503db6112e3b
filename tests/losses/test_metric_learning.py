"""The adapter on scores against pytorch-metric-learning on vectors with its cosine similarity, in float64."""

from __future__ import annotations

import ast
from itertools import chain
from pathlib import Path

import pytest
import torch
from helpers.loss_batches import BATCHES, WITH_NEGATIVES, batch, terms
from pytorch_metric_learning import losses, miners
from pytorch_metric_learning.distances import CosineSimilarity
from torch.nn.functional import normalize

from xmodal_cli import catalog
from xmodal_cli.errors import ConfigError, UnknownName
from xmodal_cli.losses import metric_learning as metric_learning_module
from xmodal_cli.losses.metric_learning import LOSSES, MINERS, PROXY_LOSSES

DIM = 6
ARGS = {
    "CircleLoss": {"m": 0.3, "gamma": 20},
    "ContrastiveLoss": {"pos_margin": 0.9, "neg_margin": 0.1},
    "GeneralizedLiftedStructureLoss": {"neg_margin": 0.2},
    "LiftedStructureLoss": {"neg_margin": 0.2},
    "MarginLoss": {"beta": 0.4, "nu": 0.1, "learn_beta": True},
    "MultiSimilarityLoss": {"alpha": 3, "beta": 20, "base": 0.3},
    "NCALoss": {"softmax_scale": 8},
    "NTXentLoss": {"temperature": 0.2},
    "SupConLoss": {"temperature": 0.2},
    "TripletMarginLoss": {"margin": 0.3, "smooth_loss": True},
}
MINER_ARGS = {
    "BatchEasyHardMiner": {"pos_strategy": "all", "neg_strategy": "hard"},
    "HDCMiner": {"filter_percentage": 0.3},
    "MultiSimilarityMiner": {"epsilon": 0.4},
    "PairMarginMiner": {"pos_margin": 0.6, "neg_margin": -0.1},
    "TripletMarginMiner": {"margin": 0.3, "type_of_triplets": "semihard"},
    "UniformHistogramMiner": {"num_bins": 5, "pos_per_bin": 2, "neg_per_bin": 3},
}


def metric_learning(num_images=2, embed_dim=2, **args):
    return catalog.build("loss", "metric-learning", args, num_images=num_images, embed_dim=embed_dim)


def vectors(image_of_caption, seed=0):
    """Image and caption vectors with ``requires_grad``, captions similar to their images."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(max(image_of_caption) + 1, DIM, generator=generator, dtype=torch.float64)
    captions = 0.7 * images[image_of_caption] + torch.randn(
        len(image_of_caption), DIM, generator=generator, dtype=torch.float64
    )
    return images.requires_grad_(), captions.requires_grad_()


def library_loss(image_of_caption, images, captions, loss, loss_args, miner, miner_args):
    """The loss of the library on vectors: the mean of both directions."""
    criterion = getattr(losses, loss)(distance=CosineSimilarity(), **{**LOSSES[loss], **loss_args})
    miner_args = {**MINERS.get(miner, {}), **miner_args}
    mine = getattr(miners, miner)(distance=CosineSimilarity(), **miner_args) if miner else None
    if loss == "LiftedStructureLoss":
        return library_lifted_structure(image_of_caption, images, captions, criterion)
    of_images, of_captions = torch.arange(len(images)), torch.tensor(image_of_caption)
    total = 0.0
    for direction in ((images, of_images, captions, of_captions), (captions, of_captions, images, of_images)):
        vectors, labels, others, other_labels = direction
        mined = mine(vectors, labels, others, other_labels) if mine else None
        total = total + criterion(vectors, labels, mined, others, other_labels) / 2
    return total


def library_lifted_structure(image_of_caption, images, captions, criterion):
    """The loss of the library on images and captions as one batch, with all pairs of an image and a caption."""
    labels = [*range(len(images)), *image_of_caption]
    mixed = [(a, b) for a in range(len(labels)) for b in range(len(labels)) if (a < len(images)) != (b < len(images))]
    same = torch.tensor([pair for pair in mixed if labels[pair[0]] == labels[pair[1]]]).T
    other = torch.tensor([pair for pair in mixed if labels[pair[0]] != labels[pair[1]]]).T
    return criterion(torch.cat((images, captions)), torch.tensor(labels), (*same, *other))


def slow_lifted_structure(scores, positives, neg_margin=0.0):
    """Song et al. (arXiv 1511.06452), equation 4, with similarities instead of distances."""
    total, count = 0.0, 0
    for i, j in positives.nonzero().tolist():
        negatives = [s for s, same in zip(scores[i], positives[i], strict=True) if not same]
        negatives += [s for s, same in zip(scores[:, j], positives[:, j], strict=True) if not same]
        value = torch.stack(negatives).sub(neg_margin).exp().sum().log() + 1 - scores[i, j]
        total, count = total + 2 * value.clamp(min=0) ** 2 / 2, count + 2
    return total / count


def test_lifted_structure_is_its_formula():
    scores, positives = batch([0, 0, 1, 2, 2])
    scores = scores.detach()
    value = metric_learning(loss="LiftedStructureLoss")(scores, positives)
    assert value.item() == pytest.approx(float(slow_lifted_structure(scores, positives)), rel=1e-5)


def compare(image_of_caption, seed, loss, loss_args, miner="", miner_args=None):
    """Compare value and gradients of the adapter on scores and the library on vectors; returns the value."""
    images, captions = vectors(image_of_caption, seed)
    positives = torch.tensor(image_of_caption)[None, :] == torch.arange(len(images))[:, None]
    torch.manual_seed(seed)
    expected = library_loss(image_of_caption, images, captions, loss, loss_args, miner, miner_args or {})
    expected_gradients = torch.autograd.grad(expected, (images, captions))
    torch.manual_seed(seed)
    adapter = metric_learning(loss=loss, loss_args=loss_args, miner=miner, miner_args=miner_args)
    torch.manual_seed(seed)
    value = adapter(normalize(images) @ normalize(captions).T, positives)
    gradients = torch.autograd.grad(value, (images, captions))
    assert value.item() == pytest.approx(expected.item(), abs=1e-9)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        assert torch.allclose(gradient, expected_gradient, rtol=0, atol=1e-9)
    return value.item()


def test_all_supported_losses_and_miners_are_tested():
    assert set(ARGS) == set(LOSSES)
    assert set(MINER_ARGS) | {"BatchHardMiner"} == set(MINERS)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("image_of_caption", WITH_NEGATIVES.values(), ids=WITH_NEGATIVES)
@pytest.mark.parametrize("with_args", [False, True], ids=["defaults", "arguments"])
def test_a_loss_equals_that_of_the_library(loss, image_of_caption, with_args):
    values = [compare(image_of_caption, seed, loss, ARGS[loss] if with_args else {}) for seed in range(2)]
    assert min(values) > 0


@pytest.mark.parametrize("miner", MINERS)
@pytest.mark.parametrize("loss", ["NTXentLoss", "TripletMarginLoss", "ContrastiveLoss", "MultiSimilarityLoss"])
def test_a_miner_equals_that_of_the_library(miner, loss):
    values = [
        compare(image_of_caption, seed, loss, {}, miner, args)
        for image_of_caption in WITH_NEGATIVES.values()
        for seed in range(2)
        for args in ({}, MINER_ARGS.get(miner, {}))
    ]
    assert max(values) > 0


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("miner", ["", "BatchHardMiner", "MultiSimilarityMiner", "TripletMarginMiner"])
@pytest.mark.parametrize("image_of_caption", [BATCHES["one image"], BATCHES["one pair"]])
def test_a_batch_without_negatives_stays_finite(loss, miner, image_of_caption):
    if loss == "LiftedStructureLoss" and miner:
        pytest.skip("takes no miner")
    scores, positives = batch(image_of_caption)
    value = metric_learning(loss=loss, miner=miner)(scores, positives)
    assert value.shape == () and value.isfinite()
    value.backward()
    assert scores.grad.isfinite().all()
    assert (scores.grad <= 0).all()  # scores of positives are only increased


@pytest.mark.parametrize("miner", ["", *MINERS])
def test_the_scores_are_not_changed(miner):
    """Some miners change the matrix of the distance in place."""
    scores, positives = batch(BATCHES["one or three, unsorted"])
    before = scores.detach().clone()
    metric_learning(loss="MultiSimilarityLoss", miner=miner)(scores, positives)
    assert torch.equal(scores, before)


def test_the_default_equals_infonce():
    scores, positives = batch(BATCHES["one or three, unsorted"])
    expected = catalog.build("loss", "infonce", {"temperature": 0.07})(scores, positives)
    assert metric_learning()(scores, positives).item() == pytest.approx(expected.item(), rel=1e-9)


def test_the_triplet_loss_is_the_mean_over_margin_violations():
    """The library computes the mean of the costs above 0 per direction."""
    scores, positives = batch(BATCHES["several captions per image"])
    costs = [[0.2 - own + n for n in negatives if 0.2 - own + n > 0] for own, negatives in terms(scores, positives)]
    of_images, of_captions = (list(chain.from_iterable(costs[direction::2])) for direction in (0, 1))
    expected = (sum(of_images) / len(of_images) + sum(of_captions) / len(of_captions)) / 2
    loss = metric_learning(loss="TripletMarginLoss", loss_args={"margin": 0.2})
    assert loss(scores, positives).item() == pytest.approx(expected, rel=1e-12)


def test_learned_values_of_a_loss_are_parameters():
    assert list(metric_learning().parameters()) == []
    loss = metric_learning(loss="MarginLoss", loss_args={"learn_beta": True})
    assert [name for name, _ in loss.named_parameters()] == ["loss.beta"]
    scores, positives = batch(BATCHES["several captions per image"])
    loss(scores, positives).backward()
    assert loss.loss.beta.grad.item() != 0


@pytest.mark.parametrize(
    ("args", "name"),
    [
        *(({"loss": name}, name) for name in ("SphereFaceLoss", "AngularLoss", "NPairsLoss")),
        *(({"loss": name}, name) for name in ("VICRegLoss", "CrossBatchMemory", "IntraPairVarianceLoss")),
        *(({"miner": name}, name) for name in ("AngularMiner", "DistanceWeightedMiner")),
    ],
)
def test_a_loss_that_needs_more_than_scores_is_rejected_with_a_list_of_others(args, name):
    with pytest.raises(ConfigError) as caught:
        metric_learning(**args)
    assert name in caught.value.message and "needs more than the scores or vectors of a batch" in caught.value.message
    supported = ", ".join(MINERS if "miner" in args else sorted([*LOSSES, *PROXY_LOSSES]))
    assert caught.value.hint == f"choose one of: {supported}"


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        ({"loss": "NTXenLoss"}, "did you mean 'NTXentLoss'?"),
        ({"loss": "TripletLoss"}, "did you mean 'SoftTripleLoss'?"),
        ({"miner": "BatchHardMinner"}, "did you mean 'BatchHardMiner'?"),
        ({"loss_args": {"temprature": 0.1}}, "did you mean 'temperature'?"),
        ({"miner": "TripletMarginMiner", "miner_args": {"margn": 0.1}}, "did you mean 'margin'?"),
        ({"loss": "TripletMarginLoss", "loss_args": {"swap": True}}, "known: margin, smooth_loss, triplets_per_anchor"),
        ({"loss": "MarginLoss", "loss_args": {"num_classes": 9}}, "known: beta, learn_beta, margin, nu"),
        ({"loss": "ContrastiveLoss", "loss_args": {"distance": "cosine"}}, "known: neg_margin, pos_margin"),
        ({"loss": "__name__"}, "known: "),
    ],
)
def test_the_hint_for_a_misspelled_name_is_the_closest_one(args, hint):
    with pytest.raises(UnknownName) as caught:
        metric_learning(**args)
    assert caught.value.hint.startswith(hint)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"loss_args": {"temperature": "warm"}}, "invalid arguments"),
        ({"loss_args": {"temperature": 0.0}}, "not a finite number"),
        ({"loss_args": 3}, "loss_args must be a table"),
        ({"miner_args": {"margin": 0.1}}, "no miner"),
        ({"miner": "BatchEasyHardMiner", "miner_args": {"neg_strategy": "wild"}}, "neg_strategy"),
        ({"miner": "BatchHardMiner", "miner_args": {"neg_strategy": "easy"}}, "neg_strategy"),
    ],
)
def test_invalid_arguments_are_errors(args, message):
    with pytest.raises(ConfigError, match=message):
        metric_learning(**args)


def test_building_uses_no_random_numbers():
    """The random numbers of a run depend on its seed, not on its loss."""
    before = torch.get_rng_state()
    metric_learning(loss="MarginLoss", miner="UniformHistogramMiner", miner_args={"num_bins": 3})
    assert torch.equal(torch.get_rng_state(), before)


def test_the_library_is_imported_only_when_it_is_used():
    tree = ast.parse(Path(metric_learning_module.__file__).read_text(encoding="utf-8"))
    imported = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert imported and not any("pytorch_metric_learning" in ast.unparse(node) for node in imported)


def test_the_page_on_extending_lists_all_losses_and_miners():
    page = (Path(__file__).resolve().parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for name in [*LOSSES, *PROXY_LOSSES, *MINERS])


# ---------------------------------------------------------------------------- proxies

PROXY_ARGS = {
    "ArcFaceLoss": {"margin": 20, "scale": 30},
    "CosFaceLoss": {"margin": 0.2, "scale": 30},
    "NormalizedSoftmaxLoss": {"temperature": 0.1},
    "ProxyAnchorLoss": {"margin": 0.2, "alpha": 16},
    "ProxyNCALoss": {"softmax_scale": 3},
    "SoftTripleLoss": {"centers_per_class": 3, "la": 10, "gamma": 0.2, "margin": 0.05},
}


@pytest.mark.parametrize("loss", PROXY_LOSSES)
@pytest.mark.parametrize("with_args", [False, True], ids=["defaults", "arguments"])
def test_a_loss_with_proxies_equals_that_of_the_library(loss, with_args):
    assert set(PROXY_ARGS) == set(PROXY_LOSSES)
    args = PROXY_ARGS[loss] if with_args else {}
    torch.manual_seed(3)
    adapter = metric_learning(loss=loss, loss_args=args, num_images=9, embed_dim=DIM)
    torch.manual_seed(3)
    library = getattr(losses, loss)(9, DIM, **args)
    before = library(torch.eye(DIM)[:4], torch.arange(4)).item()
    library.load_state_dict(adapter.loss.state_dict())  # the same directions, with the length 1
    assert library(torch.eye(DIM)[:4], torch.arange(4)).item() == pytest.approx(before, rel=1e-5)
    images, captions = (part.detach().float().requires_grad_() for part in vectors([0, 0, 1, 2, 2, 3]))
    classes = torch.tensor([7, 2, 0, 8])  # of the images of the batch
    caption_classes = classes[[0, 0, 1, 2, 2, 3]]
    value = adapter(images, captions, classes, caption_classes)
    expected = (library(images, classes) + library(captions, caption_classes)) / 2
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    gradients = torch.autograd.grad(value, (images, captions, *adapter.parameters()))
    expected_gradients = torch.autograd.grad(expected, (images, captions, *library.parameters()))
    assert len(gradients) == 3
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", PROXY_LOSSES)
def test_proxies_start_as_unit_vectors(loss):
    (weights,) = metric_learning(loss=loss, num_images=9, embed_dim=DIM).parameters()
    proxies = weights if weights.shape[1] == DIM else weights.T
    torch.testing.assert_close(proxies.norm(dim=1), torch.ones(len(proxies)))


@pytest.mark.parametrize("loss", [*PROXY_LOSSES, "LiftedStructureLoss"])
def test_a_loss_over_all_pairs_takes_no_miner(loss):
    with pytest.raises(ConfigError, match="takes no miner"):
        metric_learning(loss=loss, miner="BatchHardMiner")


@pytest.mark.parametrize(
    ("loss", "args", "error"),
    [
        ("ArcFaceLoss", {"num_classes": 3}, UnknownName),
        ("ArcFaceLoss", {"embedding_size": 3}, UnknownName),
        ("ArcFaceLoss", {"margin": "wide"}, ConfigError),
        ("SoftTripleLoss", {"gamma": 0}, ConfigError),
        ("ProxyAnchorLoss", {"margn": 1}, UnknownName),
    ],
)
def test_invalid_arguments_of_losses_with_proxies(loss, args, error):
    with pytest.raises(error):
        metric_learning(loss=loss, loss_args=args)
