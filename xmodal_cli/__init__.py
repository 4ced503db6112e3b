"""xmodal: train, evaluate and use image-text retrieval and captioning models. ``import xmodal_cli as xmodal``.

The names of ``xmodal_cli.api`` are attributes of this package. They are imported when first used, so that importing the
package loads no torch, numpy or typer.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from xmodal_cli.version import __version__

if TYPE_CHECKING:
    from xmodal_cli.api import *

# From version 1.29 on, onnxruntime sends telemetry and stores a device id in the user's home folder, unless this is set
# before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = [  # the only list of the public names; api.py defines or imports each of them
    "BadData",
    "BadImage",
    "BadModel",
    "CaptionerModel",
    "ConfigError",
    "DownloadError",
    "ImageCaptions",
    "ImageTags",
    "IncompatibleFeatures",
    "MatcherModel",
    "MissingData",
    "PhotoIndex",
    "Reporter",
    "ScoredCaption",
    "ScoredTag",
    "StorageError",
    "TaggerModel",
    "Unavailable",
    "UnknownName",
    "XmodalError",
    "__version__",
    "caption",
    "evaluate",
    "extract_features",
    "index",
    "load",
    "load_dataset",
    "open_index",
    "search",
    "to_json",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("xmodal_cli.api"), name)


def __dir__() -> list[str]:
    return __all__
