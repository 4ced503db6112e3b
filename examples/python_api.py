"""The commands as Python functions: make pictures, train a matcher on them, evaluate it, index and search.

python examples/python_api.py [NUMBER OF PICTURES]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from xmodal_cli.config import load_config
from xmodal_cli.data.shapes import make_shapes
from xmodal_cli.recipes.evaluate import evaluate
from xmodal_cli.recipes.index import index
from xmodal_cli.recipes.search import search
from xmodal_cli.recipes.train import train_model


def main(num_pictures: int = 600) -> None:
    folder = Path(tempfile.mkdtemp(prefix="xmodal-example-"))
    shapes = make_shapes(folder / "shapes", 0, num_pictures, num_pictures // 8, num_pictures // 8)
    config = load_config("demo", ["model.embed_dim=64", "training.epochs=3", "training.batch_size=32"])
    result = train_model(config, str(shapes), out=folder / "run")
    print(f"val rsum {result.metrics['rsum']:.1f}, model in {result.model}")

    (figures,) = evaluate([str(result.model)], str(shapes), "test")
    print(f"test R@1 {figures['text_to_image']['R@1']:.1f} over {figures['images']} pictures")

    index([shapes / "images"], str(folder / "index"), str(result.model))
    for hit in search(["a red circle above a blue square"], str(folder / "index"), 3).hits:
        print(f"{hit.rank}  {hit.score:.3f}  {hit.path}")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
