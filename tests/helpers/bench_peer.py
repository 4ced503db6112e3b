"""The peer: the published VSE++ loops in their straightforward form, written for this comparison alone.

Training: a DataLoader over rows of numpy arrays, a collate that sorts by length, packed sequences, float32, Adam, the
gradient norm clipped, the loss read at every step. Evaluation: one query after another, each sorted whole.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.data import DataLoader, Dataset


class CaptionRows(Dataset):
    """One item per caption: its image's row, its words."""

    def __init__(self, features: np.ndarray, captions: list[np.ndarray], image_of_caption: np.ndarray) -> None:
        self.features, self.captions, self.owner = features, captions, image_of_caption

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return torch.tensor(self.features[self.owner[index]]), torch.tensor(self.captions[index])


def collate(items: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, list[int]]:
    items.sort(key=lambda item: len(item[1]), reverse=True)
    lengths = [len(caption) for _, caption in items]
    padded = torch.zeros(len(items), max(lengths), dtype=torch.int64)
    for row, (_, caption) in enumerate(items):
        padded[row, : lengths[row]] = caption
    return torch.stack([image for image, _ in items]), padded, lengths


class Peer(nn.Module):
    """Linear image encoder, GRU text encoder, cosine similarity."""

    def __init__(self, image_dim: int, vocab_size: int, word_dim: int, embed_dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(image_dim, embed_dim)
        self.words = nn.Embedding(vocab_size, word_dim)
        self.recurrence = nn.GRU(word_dim, embed_dim, batch_first=True)

    def forward(self, images: Tensor, captions: Tensor, lengths: list[int]) -> Tensor:
        packed = pack_padded_sequence(self.words(captions), lengths, batch_first=True)
        states, _ = pad_packed_sequence(self.recurrence(packed)[0], batch_first=True)
        last = torch.tensor(lengths, device=states.device).view(-1, 1, 1).expand(-1, 1, states.shape[2]) - 1
        texts = states.gather(1, last).squeeze(1)
        images = self.project(images)
        images = images / images.norm(dim=1, keepdim=True)
        texts = texts / texts.norm(dim=1, keepdim=True)
        return images @ texts.T


def contrastive_loss(scores: Tensor, margin: float, hardest: bool) -> Tensor:
    right = scores.diag().view(-1, 1)
    itself = torch.eye(len(scores), device=scores.device) > 0.5
    of_captions = (margin + scores - right).clamp(min=0).masked_fill(itself, 0)
    of_images = (margin + scores - right.T).clamp(min=0).masked_fill(itself, 0)
    if hardest:
        return of_captions.max(1)[0].sum() + of_images.max(0)[0].sum()
    return of_captions.sum() + of_images.sum()


class PeerTraining:
    """Endless epochs; ``steps(n)`` takes n of them and returns the number of captions seen."""

    def __init__(self, rows: CaptionRows, model: Peer, batch_size: int, device: str, workers: int) -> None:
        self.model, self.device = model.to(device), device
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=2e-4)
        loader = DataLoader(
            rows, batch_size, shuffle=True, num_workers=workers, collate_fn=collate, pin_memory=device != "cpu"
        )
        self.batches = (batch for _ in iter(int, 1) for batch in loader)
        self.losses: list[float] = []

    def steps(self, count: int, hardest: bool) -> int:
        seen = 0
        for _ in range(count):
            images, captions, lengths = next(self.batches)
            scores = self.model(images.to(self.device), captions.to(self.device), lengths)
            loss = contrastive_loss(scores, 0.2, hardest)
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 2.0)
            self.optimizer.step()
            self.losses.append(loss.item())
            seen += len(lengths)
        return seen


def order_penalties(image: np.ndarray, text: np.ndarray) -> np.ndarray:
    """One vector against all of the other side: (items,)."""
    return -np.sqrt(np.square(np.maximum(text - image, 0)).sum(1))


def image_to_text_ranks(images: np.ndarray, texts: np.ndarray, queries: range, order: bool) -> np.ndarray:
    """0-based best rank of each image's five captions."""
    ranks = np.zeros(len(queries))
    for n, image in enumerate(queries):
        query = images[image : image + 1]
        scores = order_penalties(query, texts) if order else np.dot(query, texts.T).flatten()
        ordered = np.argsort(scores)[::-1]
        ranks[n] = min(np.where(ordered == caption)[0][0] for caption in range(5 * image, 5 * image + 5))
    return ranks


def text_to_image_ranks(images: np.ndarray, texts: np.ndarray, queries: range, order: bool) -> np.ndarray:
    """0-based rank of each caption's image; the five captions of an image go together."""
    ranks = np.zeros(len(queries))
    for first in range(0, len(queries), 5):
        five = texts[queries[first] : queries[first] + 5]
        scores = [order_penalties(images, text) for text in five] if order else np.dot(five, images.T)
        for n in range(5):
            ordered = np.argsort(scores[n])[::-1]
            ranks[first + n] = np.where(ordered == queries[first] // 5)[0][0]
    return ranks
