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
    from xmodal_cli.api import BadData as BadData
    from xmodal_cli.api import BadModel as BadModel
    from xmodal_cli.api import CaptionerModel as CaptionerModel
    from xmodal_cli.api import ConfigError as ConfigError
    from xmodal_cli.api import DownloadError as DownloadError
    from xmodal_cli.api import ImageCaptions as ImageCaptions
    from xmodal_cli.api import IncompatibleFeatures as IncompatibleFeatures
    from xmodal_cli.api import MatcherModel as MatcherModel
    from xmodal_cli.api import MissingData as MissingData
    from xmodal_cli.api import PhotoIndex as PhotoIndex
    from xmodal_cli.api import Reporter as Reporter
    from xmodal_cli.api import ScoredCaption as ScoredCaption
    from xmodal_cli.api import StorageError as StorageError
    from xmodal_cli.api import Unavailable as Unavailable
    from xmodal_cli.api import UnknownName as UnknownName
    from xmodal_cli.api import XmodalError as XmodalError
    from xmodal_cli.api import caption as caption
    from xmodal_cli.api import evaluate as evaluate
    from xmodal_cli.api import extract_features as extract_features
    from xmodal_cli.api import index as index
    from xmodal_cli.api import load as load
    from xmodal_cli.api import load_dataset as load_dataset
    from xmodal_cli.api import open_index as open_index
    from xmodal_cli.api import search as search
    from xmodal_cli.api import train as train

# From version 1.29 on, onnxruntime sends telemetry and stores a device id in the user's home folder, unless this is set
# before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = [  # the same as in api.py; a test compares them
    "BadData",
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
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("xmodal_cli.api"), name)


def __dir__() -> list[str]:
    return __all__
