"""The warning for a model whose image features were declared and never compared with those of photos."""

from __future__ import annotations

from collections.abc import Iterable

from xmodal_cli.inference.models import ModelInfo
from xmodal_cli.reporter import Reporter
from xmodal_cli.shell_commands import xmodal_command


def unchecked_warnings(models: Iterable[ModelInfo]) -> tuple[str, ...]:
    """What to report before the models read their first photo; empty if their features are of images, or checked."""
    return tuple(dict.fromkeys(filter(None, (_warning(model) for model in models))))


def report_unchecked(models: Iterable[ModelInfo], reporter: Reporter) -> None:
    """Report ``unchecked_warnings``."""
    for text in unchecked_warnings(models):
        reporter.warn(text)


def _warning(info: ModelInfo) -> str:
    source = info.header.features_from
    if source is None or source.cosine is not None:
        return ""
    return (
        f"{info.name} was trained on precomputed features that were declared as {source.backbone} and never compared "
        f"with photos; compare them: {xmodal_command('models', 'check', info.word)} --photos DIR (photos of its "
        f"dataset {info.header.dataset.get('name')})"
    )
