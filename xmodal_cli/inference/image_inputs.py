"""Images as paths or PIL images, opened by one function, so that both get the same preprocessing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

from xmodal_cli.data.images import normalize_image
from xmodal_cli.errors import ConfigError
from xmodal_cli.paths import given_path
from xmodal_cli.types import ImageOpener, Unreadable

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

ImageInput: TypeAlias = Union[str, os.PathLike[str], "Image"]
# images -> (path, vector (embed_dim,) float32 or Unreadable), in order
InputVectors: TypeAlias = Callable[[Iterable[ImageInput]], Iterator[tuple[Path, "np.ndarray | Unreadable"]]]


def image_inputs(images: Iterable[ImageInput], opener: ImageOpener) -> tuple[Iterator[Path], ImageOpener]:
    """One path per image, generated lazily, and a function that opens these paths.

    A PIL image gets a placeholder path such as ``<image 3>``. The function returns upright RGB images and raises
    BadData with the path and the reason. The iterator raises ConfigError for an empty path and for other types.
    """
    in_memory: dict[Path, Image] = {}

    def paths() -> Iterator[Path]:
        for index, image in enumerate(images):
            if isinstance(image, str | os.PathLike):
                yield given_path(image)
            elif hasattr(image, "convert") and hasattr(image, "getexif"):
                path = Path(f"<image {index}>")
                in_memory[path] = image
                yield path
            else:
                raise ConfigError(
                    f"images must be paths or PIL images, not {type(image).__name__}", "open it with PIL.Image.open"
                )

    def open_input(path: Path) -> Image:
        opened: Image = normalize_image(in_memory[path], path) if path in in_memory else opener(path)
        return opened

    return paths(), open_input
