# ruff: noqa: D100
# %% [markdown]
# # xmodal in a notebook
# Generate a small dataset, train a matcher on it, evaluate it, index its images and search them. Each `# %%` is a cell
# (VS Code, PyCharm and Jupytext open this file as a notebook); `python examples/notebook.py` runs them all.

# %% A sample dataset: images of colored shapes with five captions each
import os
import tempfile
from pathlib import Path

import xmodal_cli as xmodal
from xmodal_cli.data.shapes import make_shapes

NUM_IMAGES = int(os.environ.get("NUM_IMAGES", "600"))
folder = Path(tempfile.mkdtemp(prefix="xmodal-example-"))
shapes = make_shapes(folder / "shapes", 0, NUM_IMAGES, NUM_IMAGES // 8, NUM_IMAGES // 8)
dataset = xmodal.load_dataset(shapes)
print(dataset.splits)
print(dataset.captions[:2])

# %% Image features, extracted once and cached
features = xmodal.extract_features(shapes)
print(features.values.shape, features.values.dtype)

# %% Train
settings = {"model.embed_dim": 64, "training.epochs": 3, "training.batch_size": 32}
result = xmodal.train("demo", shapes, out=folder / "run", settings=settings)
print(f"val rsum {result.metrics['rsum']:.1f} after epoch {result.best_epoch}")

# %% Evaluate on the test split
metrics = xmodal.evaluate(result.model, shapes)
print(f"test R@1 {metrics.text_to_image['R@1']:.1f} over {metrics.images} images")

# %% Encode images and sentences
model = xmodal.load(result.model)
assert isinstance(model, xmodal.MatcherModel)
paths = [example.path for example in dataset.select("test").examples[:4] if example.path is not None]
images = model.encode_image(paths)
texts = model.encode_text(["a red circle above a blue square", "a green triangle"])
print(model.similarity(images, texts).round(2))

# %% Index the images and search them
xmodal.index(shapes / "images", str(folder / "index"), model=str(result.model))
with xmodal.open_index(folder / "index") as index:
    for hit in index.search("a red circle above a blue square", k=3).hits:
        print(f"{hit.rank}  {hit.score:.3f}  {hit.path}")
