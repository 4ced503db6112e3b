"""Similarities against their formulas in float64: scores and gradients, on all code paths."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from xmodal_cli import catalog
from xmodal_cli.models import array_similarity as array_similarity_module
from xmodal_cli.models import order_gradients
from xmodal_cli.models.array_similarity import array_similarity
from xmodal_cli.models.order_kernel import exact_order_scores, order_scores

SIZES = [(1, 1, 1), (5, 7, 3), (3, 33, 16), (8, 70, 130), (2, 4, 5), (128, 31, 8)]


def formula(images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """-||max(0, t - v)||^2 for each pair, as in equation 2 of arXiv 1511.06361."""
    return -torch.stack([torch.stack([((t - v).clamp(min=0) ** 2).sum() for t in texts]) for v in images])


def random_vectors(num_images: int, num_texts: int, dim: int, dtype: torch.dtype = torch.float32):
    generator = torch.Generator().manual_seed(num_images + 10 * num_texts + 100 * dim)
    images, texts = (torch.randn(n, dim, generator=generator, dtype=dtype) for n in (num_images, num_texts))
    return images.requires_grad_(), texts.requires_grad_()


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])  # the compiled and the blocked path
@pytest.mark.parametrize("block_elements", [2**24, 40])
def test_order_scores_and_gradients_equal_the_formulas(sizes, dtype, block_elements, monkeypatch):
    monkeypatch.setattr(order_gradients, "BLOCK_ELEMENTS", block_elements)
    images, texts = random_vectors(*sizes, dtype)
    upstream = torch.randn(sizes[:2], dtype=dtype)
    upstream[upstream.abs() < 0.3] = 0  # the kernel skips pairs without a gradient
    scores = catalog.build("similarity", "order", {})(images, texts)
    actual = torch.autograd.grad((scores * upstream).sum(), (images, texts))

    exact = [t.detach().double().requires_grad_() for t in (images, texts)]
    expected_scores = formula(*exact)
    expected = torch.autograd.grad((expected_scores * upstream.double()).sum(), exact)
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(scores.double(), expected_scores, **tolerance)
    for gradient, exact_gradient in zip(actual, expected, strict=True):
        torch.testing.assert_close(gradient.double(), exact_gradient, **tolerance)


def test_the_gradients_of_the_blocked_path_pass_gradcheck(monkeypatch):
    monkeypatch.setattr(order_gradients, "BLOCK_ELEMENTS", 12)
    images, texts = random_vectors(4, 3, 5, torch.float64)
    assert torch.autograd.gradcheck(catalog.build("similarity", "order", {}), (images, texts))


def test_both_kernels_agree_with_the_formula():
    images, texts = (t.detach().numpy() for t in random_vectors(9, 70, 33))
    expected = formula(torch.from_numpy(images).double(), torch.from_numpy(texts).double()).numpy()
    np.testing.assert_allclose(order_scores(images, texts), expected, rtol=1e-5)
    np.testing.assert_allclose(exact_order_scores(images, texts), expected, rtol=1e-13)
    flipped = order_scores(images[::-1], np.asfortranarray(texts))
    np.testing.assert_allclose(flipped, expected[::-1], rtol=1e-5)


def test_upstream_gradients_may_be_strided_and_one_side_may_be_fixed():
    images, texts = random_vectors(6, 4, 8)
    order = catalog.build("similarity", "order", {})
    (order(images, texts.detach()).T * torch.arange(6.0)).sum().backward()
    exact = images.detach().double().requires_grad_()
    (formula(exact, texts.detach().double()).T * torch.arange(6.0)).sum().backward()
    torch.testing.assert_close(images.grad.double(), exact.grad, rtol=1e-5, atol=1e-5)


def test_the_largest_order_score_is_that_of_a_text_below_its_image():
    order = catalog.build("similarity", "order", {})
    images = torch.tensor([[0.5, 0.5, 0.1]])
    texts = torch.tensor([[0.2, 0.5, 0.0], [0.5, 0.6, 0.1]])
    torch.testing.assert_close(order(images, texts), torch.tensor([[0.0, -0.01]]))


def test_cosine_equals_its_formula():
    cosine = catalog.build("similarity", "cosine", {})
    images, texts = (t.detach() for t in random_vectors(5, 7, 3))
    actual = cosine(cosine.prepare(images), cosine.prepare(texts))
    for i in range(5):
        for c in range(7):
            a, b = images[i].double(), texts[c].double()
            assert actual[i, c].item() == pytest.approx((a @ b / (a.norm() * b.norm())).item(), abs=1e-6)


@pytest.mark.parametrize("name", catalog.names("similarity"))
def test_similarities_follow_the_contract(name):
    similarity = catalog.build("similarity", name, {})
    assert similarity.name == name
    images, texts = random_vectors(5, 7, 6)
    prepared = similarity.prepare(images), similarity.prepare(texts)
    torch.testing.assert_close(prepared[0].norm(dim=1), torch.ones(5))
    torch.testing.assert_close(similarity.prepare(prepared[0]), prepared[0])  # prepared vectors do not change
    scores = similarity(*prepared)
    assert scores.shape == (5, 7)
    assert scores.dtype == torch.float32
    scores.sum().backward()
    assert all(t.grad is not None and t.grad.isfinite().all() for t in (images, texts))
    self_scores = similarity(prepared[0], prepared[0])
    assert (self_scores.argmax(1) == torch.arange(5)).all()  # each vector is most similar to itself
    with torch.inference_mode():
        torch.testing.assert_close(similarity(*prepared), scores.detach())


@pytest.mark.parametrize("name", catalog.names("similarity"))
@pytest.mark.parametrize("generic", [False, True])
def test_arrays_agree_with_torch(name, generic, monkeypatch):
    """The module's ``arrays()``, and the generic ones from its torch function, in blocks."""
    similarity = catalog.build("similarity", name, {})
    if generic:
        monkeypatch.setattr(array_similarity_module, "BLOCK_ELEMENTS", 20)
        monkeypatch.delattr(catalog.load("similarity", name), "arrays")
    arrays = array_similarity.__wrapped__(name)
    images, texts = (similarity.prepare(t.detach()) for t in random_vectors(5, 7, 6))
    expected = similarity(images.double(), texts.double()).numpy()
    images, texts = images.numpy(), texts.numpy()
    scores, bound = arrays.score_matrix(images, texts), arrays.error_bound(images, texts)
    assert scores.dtype == np.float32
    assert 0 < bound < 1e-4
    np.testing.assert_allclose(scores, expected, rtol=0, atol=bound)
    np.testing.assert_allclose(arrays.exact_matrix(images, texts), expected, rtol=1e-12, atol=1e-15)
    pairs = np.arange(7) % 5, np.arange(7)
    actual = arrays.exact_pairs(images[pairs[0]].astype(np.float64), texts[pairs[1]].astype(np.float64))
    np.testing.assert_allclose(actual, expected[pairs], rtol=1e-12, atol=1e-15)
    scorer = arrays.query(list(texts[:2]), [2.0, -1.0], [True, True])
    weighted = (2 * expected[:, 0] - expected[:, 1]) / 3
    np.testing.assert_allclose(scorer.fine(images), weighted, rtol=1e-6, atol=1e-7)  # terms are normalized again
    np.testing.assert_allclose(scorer.coarse(images), weighted, rtol=0, atol=scorer.slack(1.0) + 1e-6)
    assert scorer.fine(images[[2, 2]])[0] == scorer.fine(images[[2, 2]])[1]


def test_a_similarity_with_weights_raises(monkeypatch):
    module = catalog.load("similarity", "cosine")
    monkeypatch.delattr(module, "arrays")
    monkeypatch.setattr(module, "build", lambda: torch.nn.Linear(2, 2))
    with pytest.raises(TypeError, match="has weights"):
        array_similarity.__wrapped__("cosine")


def test_arrays_do_not_import_torch():
    code = "import sys; from xmodal_cli.models.array_similarity import array_similarity as a; a('cosine'), a('order');"
    code += "print([m for m in ('torch', 'numba') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
