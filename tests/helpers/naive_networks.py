"""Reference implementations in float64, one item at a time and without padding, as plain loops."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def naive_positional_encoding(length: int, dim: int) -> Tensor:
    """(length, dim): the formulas of section 3.5 of arXiv 1706.03762."""
    rows = []
    for position in range(length):
        angles = [position / 10_000 ** (2 * (n // 2) / dim) for n in range(dim)]
        rows.append([math.cos(a) if n % 2 else math.sin(a) for n, a in enumerate(angles)])
    return torch.tensor(rows, dtype=torch.float64)


def affine(layer: nn.Module, vector: Tensor) -> Tensor:
    product = layer.weight.double() @ vector
    return product if layer.bias is None else product + layer.bias.double()


def recurrence(network: nn.GRU, inputs: Tensor, suffix: str = "") -> Tensor:
    """The states (length, dim) of one direction of a GRU, by its equations (arXiv 1406.1078, PyTorch variant)."""
    weights = {
        name: getattr(network, f"{name}_l0{suffix}").double()
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    }
    state = torch.zeros(network.hidden_size, dtype=torch.float64)
    states = []
    for vector in inputs:
        from_input = (weights["weight_ih"] @ vector + weights["bias_ih"]).chunk(3)
        from_state = (weights["weight_hh"] @ state + weights["bias_hh"]).chunk(3)
        reset, update = (1 / (1 + torch.exp(-(from_input[n] + from_state[n]))) for n in (0, 1))
        candidate = torch.tanh(from_input[2] + reset * from_state[2])
        state = (1 - update) * candidate + update * state
        states.append(state)
    return torch.stack(states)


def softmax(scores: list[float]) -> list[float]:
    largest = max(scores)
    exponentials = [math.exp(score - largest) for score in scores]
    return [exponential / sum(exponentials) for exponential in exponentials]


def generalized_pooling(pool: nn.Module, states: Tensor) -> Tensor:
    """(length, dim) -> (dim,): section 3.2 of arXiv 2011.04305."""
    encoding = naive_positional_encoding(len(states), pool.position_dim)
    forward = recurrence(pool.recurrence, encoding)
    backward = recurrence(pool.recurrence, encoding.flip(0), "_reverse").flip(0)
    scores = [float(affine(pool.score, (f + b) / 2)) for f, b in zip(forward, backward, strict=True)]
    weights = softmax([score / pool.temperature for score in scores])
    columns = [sorted(column.tolist(), reverse=True) for column in states.double().T]
    return torch.tensor([sum(w * v for w, v in zip(weights, c, strict=True)) for c in columns], dtype=torch.float64)


def attention_pooling(pool: nn.Module, states: Tensor) -> Tensor:
    """(length, dim) -> (dim,)."""
    states = states.double()
    first, _, last = pool.score
    weights = softmax([float(affine(last, torch.tanh(affine(first, state)))) for state in states])
    return sum(weight * state for weight, state in zip(weights, states, strict=True))


def layer_norm(norm: nn.LayerNorm, states: Tensor) -> Tensor:
    rows = []
    for row in states:
        mean = row.sum() / len(row)
        variance = ((row - mean) ** 2).sum() / len(row)
        rows.append((row - mean) / torch.sqrt(variance + norm.eps) * norm.weight.double() + norm.bias.double())
    return torch.stack(rows)


def self_attention(attention: nn.MultiheadAttention, states: Tensor) -> Tensor:
    """(length, width) -> (length, width), one head and one position at a time."""
    weight, bias = attention.in_proj_weight.double(), attention.in_proj_bias.double()
    queries, keys, values = (states @ w.T + b for w, b in zip(weight.chunk(3), bias.chunk(3), strict=True))
    head_dim = states.shape[1] // attention.num_heads
    rows = []
    for i in range(len(states)):
        heads = []
        for start in range(0, states.shape[1], head_dim):
            part = slice(start, start + head_dim)
            scores = [float(queries[i, part] @ key[part]) / math.sqrt(head_dim) for key in keys]
            heads.append(sum(w * value[part] for w, value in zip(softmax(scores), values, strict=True)))
        rows.append(affine(attention.out_proj, torch.cat(heads)))
    return torch.stack(rows)


def randomize_zeros(model: nn.Module) -> nn.Module:
    """``model`` with random weights in place of zeros, so that every part affects the output."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            if not value.any():
                nn.init.normal_(value, std=0.5 * value.shape[-1] ** -0.5 if name.endswith("weight") else 0.1)
    return model


def post_norm_transformer(layers: nn.TransformerEncoder, states: Tensor) -> Tensor:
    """(length, width) -> (length, width): section 3.1 of arXiv 1706.03762, post-norm layers with ReLU."""
    states = states.double()
    for layer in layers.layers:
        states = layer_norm(layer.norm1, states + self_attention(layer.self_attn, states))
        inner = torch.stack([affine(layer.linear1, row) for row in states]).clamp(min=0)
        states = layer_norm(layer.norm2, states + torch.stack([affine(layer.linear2, row) for row in inner]))
    return states


def transformer(layers: nn.TransformerEncoder, states: Tensor) -> Tensor:
    """(length, width) -> (length, width): pre-norm layers with GELU."""
    states = states.double()
    for layer in layers.layers:
        states = states + self_attention(layer.self_attn, layer_norm(layer.norm1, states))
        inner = torch.stack([affine(layer.linear1, row) for row in layer_norm(layer.norm2, states)])
        inner = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
        states = states + torch.stack([affine(layer.linear2, row) for row in inner])
    return states
