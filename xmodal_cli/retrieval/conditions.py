"""Conditions on the table ``items`` of an index, and the names that they use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SECONDS = "mtime_ns / 1000000000"  # an indexed expression: queries have to write it like this
# ISO 8601, local time
DATE = f"coalesce(taken, strftime('%Y-%m-%dT%H:%M:%S', {SECONDS}, 'unixepoch', 'localtime'))"
CAPTIONS = "item_captions"  # the full-text table of captions


@dataclass(frozen=True)
class Condition:
    """An SQL expression, and the values of its parameters."""

    sql: str = "1"
    values: tuple[str | bytes, ...] = ()

    def and_also(self, sql: str, values: Sequence[str | bytes]) -> Condition:
        """The condition that an expression holds too."""
        return Condition(f"({sql})" if self.sql == "1" else f"{self.sql} AND ({sql})", (*self.values, *values))


ALL = Condition()
