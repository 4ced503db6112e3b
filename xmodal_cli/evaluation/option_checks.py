"""Which options of an evaluation apply to which kinds of models."""

from __future__ import annotations

from collections.abc import Mapping

from xmodal_cli.errors import ConfigError

MATCHERS, CAPTIONERS = ("matchers",), ("captioners",)
APPLIES_TO = {
    "--folds": MATCHERS,
    "--bootstrap": MATCHERS,
    "--top-k": MATCHERS,
    "--ndcg": MATCHERS,
    "--ranks": MATCHERS,
    "--report": (*MATCHERS, *CAPTIONERS),
    "--ensemble": (*MATCHERS, *CAPTIONERS),
    "--beam": CAPTIONERS,
    "--set": CAPTIONERS,
    "decoding": CAPTIONERS,  # what --set is in Python
}


def check_options(kind: str, given: Mapping[str, object]) -> None:
    """Raise ConfigError for an option that is given and does not apply to ``kind``: matchers, captioners or taggers."""
    for option, value in given.items():
        if value and kind not in APPLIES_TO[option]:
            raise ConfigError(f"{option} applies only to {' and '.join(APPLIES_TO[option])}", f"remove {option}")
