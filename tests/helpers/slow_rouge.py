"""A slow reference implementation of ROUGE-L, by its definition."""

from __future__ import annotations


def slow_lcs(a, b):
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
    return table[len(a)][len(b)]


def slow_rouge(candidate, references, beta=1.2):
    """As in the COCO caption evaluation: the best precision and the best recall over all references."""
    if not candidate:
        return 0.0
    precision = max((slow_lcs(candidate, r) / len(candidate) for r in references), default=0)
    recall = max((slow_lcs(candidate, r) / len(r) for r in references if r), default=0)
    if precision == 0 or recall == 0:
        return 0.0
    return (1 + beta**2) * precision * recall / (recall + beta**2 * precision)
