"""Back-pointers of a beam search: the parent row and the token of each hypothesis at each step."""

from __future__ import annotations

from typing import Any

from xmodal_cli.captioning.array_library import library_of


class BeamHistory:
    """Back-pointers of all hypotheses of all images. Stored steps are never reordered."""

    def __init__(self, num_images: int, like: Any) -> None:
        """``like`` is an array of the library and device to use."""
        self._library = library_of(like)
        self._parents: list[Any] = []  # per step, (images, rows): the row that each row extends
        self._tokens: list[Any] = []
        self._start = self._library.integers([[0]] * num_images, like)

    def add(self, parents: Any, tokens: Any) -> None:
        """(images, rows) int64 each: the rows that are extended, and their next tokens."""
        self._parents.append(parents)
        self._tokens.append(tokens)

    def __len__(self) -> int:
        return len(self._tokens)

    def tokens(self) -> Any:
        """(images, rows, length) int64: the tokens of the current hypotheses."""
        num_rows = self._tokens[-1].shape[1] if self._tokens else 1
        first = self._library.integers(list(range(num_rows)), self._start)
        rows = self._library.broadcast_to(first, (len(self._start), num_rows))
        return self.trace(rows, rows * 0 + len(self._tokens))[0]

    def trace(self, rows: Any, lengths: Any) -> tuple[Any, Any]:
        """(images, n) rows at step ``lengths`` -> their tokens and their parent rows, (images, n, longest).

        Both are padded with 0 after the length of a caption.
        """
        take, where = self._library.take, self._library.where
        tokens = self._library.zeros((*rows.shape, len(self._tokens)), rows)
        parents = self._library.zeros(tokens.shape, rows)
        for step in reversed(range(len(self._tokens))):
            mask = step < lengths
            index = where(mask, rows, 0)
            tokens[..., step] = where(mask, take(self._tokens[step], index, 1), 0)
            parent = where(mask, take(self._parents[step], index, 1), 0)
            parents[..., step] = parent
            rows = where(mask, parent, rows)
        return tokens, parents
