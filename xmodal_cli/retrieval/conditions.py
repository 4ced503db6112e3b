"""Conditions on the table ``items`` of an index, and the names that they use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

# ISO 8601, local time
DATE = "coalesce(taken, strftime('%Y-%m-%dT%H:%M:%S', mtime_ns / 1000000000, 'unixepoch', 'localtime'))"
CAPTIONS = "item_captions"  # the full-text table of captions


@dataclass
class Condition:
    """An SQL expression, and the values of its parameters."""

    parts: list[str] = field(default_factory=list)
    values: list[str | bytes] = field(default_factory=list)

    def add(self, sql: str, values: Sequence[str | bytes]) -> None:
        """Add an expression that must hold too."""
        self.parts.append(f"({sql})")
        self.values += values

    @property
    def sql(self) -> str:
        return " AND ".join(self.parts) or "1"
