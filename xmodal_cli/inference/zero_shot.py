"""Pretrained matchers of open_clip: ``open_clip/ARCH/TAG`` or ``open_clip/ARCH@FILE``.

The image encoder is the identity over global features of the backbone, the text encoder the text tower of the same
weights, the similarity cosine. Headers are cached, so that a second call imports neither torch nor open_clip.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmodal_cli.backbones.image import open_clip
from xmodal_cli.backbones.names import resolve_name
from xmodal_cli.errors import StorageError
from xmodal_cli.features.store import FileStamp
from xmodal_cli.file_errors import parse_json_object
from xmodal_cli.models.header_check import check_fields
from xmodal_cli.models.model_file import ModelHeader
from xmodal_cli.paths import cache_dir, write_text
from xmodal_cli.version import __version__

if TYPE_CHECKING:
    from torch import nn

    from xmodal_cli.models.tokenizer import Tokenizer


def supports(what: str) -> bool:
    """Whether ``what`` is such a name and not an existing path."""
    return open_clip.supports(what) and not Path(what).exists()


def describe(what: str) -> tuple[str, Path, ModelHeader]:
    """The name with an absolute path, the weights file, and a header as in a model file.

    Raises UnknownName, MissingData, DownloadError.
    """
    name = resolve_name(what)
    cache_file = cache_dir() / "open_clip" / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        cached = parse_json_object(cache_file.read_bytes())
        check_fields(cached["header"])
        stamp, header = FileStamp(**cached["weights"]), ModelHeader(**cached["header"])
        if stamp.is_current() and header.version == __version__:
            return name, Path(stamp.path), header
    meta, file = open_clip.read_matcher_meta(name)
    header = _build_header(asdict(meta), open_clip.vocab_size(name))
    with contextlib.suppress(StorageError):
        write_text(cache_file, json.dumps({"weights": asdict(FileStamp.of(file)), "header": asdict(header)}))
    return name, file, header


def build(name: str) -> tuple[nn.Module, Tokenizer]:
    """The matcher in evaluation mode, on the CPU, and its tokenizer. Raises like ``describe``, and BadData."""
    from torch import nn

    from xmodal_cli import catalog
    from xmodal_cli.models.tokenizer import Tokenizer

    tower, tokenizer = open_clip.text_tower(name)
    parts: dict[str, Any] = {"image_encoder": nn.Identity(), "text_encoder": tower}
    similarity = catalog.build("similarity", "cosine", {})
    dim = describe(name)[2].architecture["embed_dim"]
    model: nn.Module = catalog.build("matcher", "vse", {}, **parts, similarity=similarity, embed_dim=dim)
    return model.eval(), Tokenizer.from_json(tokenizer)


def _build_header(backbone: dict[str, Any], vocab_size: int) -> ModelHeader:
    sizes = {"image_dim": backbone["dim"], "embed_dim": backbone["dim"], "vocab_size": vocab_size}
    header = ModelHeader("matcher", {"name": "open-clip", **sizes}, "", backbone, "cosine", {}, {})
    return replace(header, fingerprint=backbone["fingerprint"])
