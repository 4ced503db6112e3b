"""Vectors in batches: the same rows in any batch size, also where a batch does not fit in memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from xmodal_cli.batch_size import BatchSizeWarning
from xmodal_cli.device import Compute
from xmodal_cli.inference.matchers import embed_features, embed_tokens

CPU = Compute("cpu", "fp32", "torch")


class ToyMatcher(nn.Module):
    """Mean of the features, and mean of the tokens of a caption; at most ``limit`` rows fit in memory."""

    embed_dim = 4

    def __init__(self, limit: int = 10**9) -> None:
        super().__init__()
        self.limit = limit

    def encode_image(self, features: Tensor) -> Tensor:
        self._allocate(features)
        return features.float().mean(1) if features.ndim == 3 else features.float()

    def encode_text(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        self._allocate(tokens)
        is_word = torch.arange(tokens.shape[1]) < lengths[:, None]
        return ((tokens * is_word).sum(1) / lengths)[:, None].expand(-1, 4)

    def _allocate(self, rows: Tensor) -> None:
        if len(rows) > self.limit:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.mark.parametrize("shape", [(50, 4), (50, 3, 4), (0, 4)])
def test_features_in_halved_batches(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float16)
    expected = values.astype(np.float32)
    expected = expected.mean(1) if len(shape) == 3 else expected
    np.testing.assert_allclose(embed_features(ToyMatcher(), values, CPU), expected, atol=1e-6)
    if shape[0]:
        with pytest.warns(BatchSizeWarning, match="50 images at once do not fit in memory; continuing with 6"):
            halved = embed_features(ToyMatcher(7), torch.from_numpy(values), CPU)
        np.testing.assert_allclose(halved, expected, atol=1e-6)


def test_captions_in_halved_batches() -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 9, (40,), generator=generator)
    tokens = torch.randint(4, 99, (40, 8), generator=generator)

    def gather(rows: Tensor, longest: int) -> Tensor:
        return tokens[rows, :longest]

    expected = [[float(tokens[i, : lengths[i]].double().mean())] * 4 for i in range(40)]
    np.testing.assert_allclose(embed_tokens(ToyMatcher(), gather, lengths, CPU), expected, rtol=1e-6)
    with pytest.warns(BatchSizeWarning, match="40 sentences at once"):
        np.testing.assert_allclose(embed_tokens(ToyMatcher(3), gather, lengths, CPU), expected, rtol=1e-6)
