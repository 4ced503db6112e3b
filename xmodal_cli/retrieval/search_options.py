"""The options of a search: how many photos, of which folders and dates, with which scores."""

from __future__ import annotations

from dataclasses import dataclass

from xmodal_cli.errors import ConfigError


@dataclass(frozen=True)
class SearchOptions:
    """``num_hits`` photos with a score of at least ``threshold``, in ``folders`` and between two dates.

    ``folders`` and dates are as they were typed: ``2024``, ``2024-06`` or ``2024-06-15``. A photo of the date ``after``
    is found, one of ``before`` is not. With ``fold``, copies of a photo are one hit.
    ``exact`` scores all photos of a large index.
    """

    num_hits: int = 10
    fold: bool = True
    threshold: float | None = None
    folders: tuple[str, ...] = ()
    after: str | None = None
    before: str | None = None
    exact: bool = False

    def check(self) -> None:
        """Raise ConfigError for a number of hits that is not a positive whole number, and a threshold that is NaN."""
        if isinstance(self.num_hits, bool) or not hasattr(self.num_hits, "__index__"):
            raise ConfigError(f"-k must be a whole number, not {self.num_hits!r}", "the default is 10")
        if self.num_hits < 1:
            raise ConfigError(f"-k must be at least 1, not {self.num_hits}", "the default is 10")
        if self.threshold is not None and self.threshold != self.threshold:
            raise ConfigError("--threshold is not a number", "scores are at most 1, for example: --threshold 0.3")

    @property
    def has_filters(self) -> bool:
        """Whether photos are selected by folder or date."""
        return bool(self.folders) or self.after is not None or self.before is not None
