"""Synthetic regions, and writers of all region formats."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

DIM = 5
WIDTH, HEIGHT = 200, 100


@dataclass
class Made:
    """Synthetic regions of one image."""

    features: np.ndarray
    boxes: np.ndarray  # pixels
    scores: np.ndarray
    classes: np.ndarray

    @property
    def fractions(self) -> np.ndarray:
        """Boxes as fractions of the image's sides."""
        return self.boxes / np.array([WIDTH, HEIGHT, WIDTH, HEIGHT], dtype=np.float32)


def b64(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()


def bottom_up_line(name: str, made: Made) -> str:
    fields = [name, WIDTH, HEIGHT, len(made.boxes), b64(made.boxes), b64(made.features)]
    return "\t".join(map(str, fields)) + "\r\n"  # the line end of Python's csv module


def lxmert_line(name: str, made: Made) -> str:
    count = len(made.boxes)
    ids, confidence = b64(made.classes), b64(made.scores)
    attributes = b64(np.zeros(count, np.int64)), b64(np.zeros(count, np.float32))
    fields = [name, HEIGHT, WIDTH, ids, confidence, *attributes, count, b64(made.boxes), b64(made.features)]
    return "\t".join(map(str, fields)) + "\n"


def vinvl_rows(made: Made) -> np.ndarray:
    boxes = made.fractions
    return np.concatenate([made.features, boxes, boxes[:, 2:] - boxes[:, :2]], axis=1).astype(np.float32)


def vinvl_line(name: str, made: Made) -> str:
    return f"{name}\t{json.dumps({'num_boxes': len(made.boxes), 'features': b64(vinvl_rows(made))})}\n"


def label_line(name: str, made: Made) -> str:
    pairs = zip(made.boxes.tolist(), made.scores.tolist(), strict=True)
    return f"{name}\t{json.dumps([{'class': 'dog', 'rect': box, 'conf': score} for box, score in pairs])}\n"


def write_arrays(folder: Path, made: Mapping[str, Made]) -> None:
    """TERN's files, with all arrays of an image in one file."""
    for name, regions in made.items():
        info = {"image_w": WIDTH, "image_h": HEIGHT, "info": np.array({"pickled": True}, dtype=object)}
        np.savez(folder / f"{name}.npz", x=regions.features, bbox=regions.boxes, **info)


def write_box_folder(folder: Path, made: Mapping[str, Made]) -> None:
    """The folders of self-critical.pytorch, which TERN reads: boxes in pixels, no image sizes."""
    for subfolder in ("bu_att", "bu_box"):
        (folder / subfolder).mkdir()
    for name, regions in made.items():
        np.savez_compressed(folder / "bu_att" / f"{name}.npz", feat=regions.features)
        np.save(folder / "bu_box" / f"{name}.npy", regions.boxes)


def write_box_files(folder: Path, made: Mapping[str, Made]) -> None:
    for name, regions in made.items():
        np.save(folder / f"{name}.npy", regions.features[None])
        np.save(folder / f"{name}_box.npy", regions.fractions)


def write_bottom_up(folder: Path, made: Mapping[str, Made]) -> None:
    """Two files, the first with a header line."""
    names = list(made)
    header = "image_id\timage_w\timage_h\tnum_boxes\tboxes\tfeatures\n"
    (folder / "a.tsv").write_text(header + "".join(bottom_up_line(n, made[n]) for n in names[:2]), newline="")
    (folder / "a.tsv.1").write_text("".join(bottom_up_line(n, made[n]) for n in names[2:]), newline="")


def write_lxmert(folder: Path, made: Mapping[str, Made]) -> None:
    (folder / "obj36.tsv").write_text("".join(lxmert_line(n, m) for n, m in made.items()))


def write_vinvl(folder: Path, made: Mapping[str, Made]) -> None:
    (folder / "features.tsv").write_text("".join(vinvl_line(n, m) for n, m in made.items()))


def write_vinvl_labels(folder: Path, made: Mapping[str, Made]) -> None:
    write_vinvl(folder, made)
    (folder / "labels.tsv").write_text("".join(label_line(n, m) for n, m in made.items()))


def write_vinvl_columns(folder: Path, made: Mapping[str, Made]) -> None:
    lines = [f"{n}\t{len(m.boxes)}\t{b64(vinvl_rows(m))}\n" for n, m in made.items()]
    (folder / "train.feature.tsv").write_text("".join(lines))


def write_predictions(folder: Path, made: Mapping[str, Made]) -> None:
    with open(folder / "predictions.tsv", "w") as file:
        for name, regions in made.items():
            objects = [
                {
                    "rect": regions.boxes[n].tolist(),
                    "conf": float(regions.scores[n]),
                    "feature": b64(regions.features[n]),
                }
                for n in range(len(regions.boxes))
            ]
            file.write(f"{name}\t{json.dumps({'objects': objects, 'image_w': WIDTH, 'image_h': HEIGHT})}\n")


def write_stacked(folder: Path, made: Mapping[str, Made]) -> None:
    """SCAN's arrays, with boxes, sizes and a mapping; all images have the same number of regions."""
    for name, values in (("ims", "features"), ("boxes", "boxes")):
        np.save(folder / f"train_{name}.npy", np.stack([getattr(regions, values) for regions in made.values()]))
    np.save(folder / "train_img_sizes.npy", np.tile([WIDTH, HEIGHT], (len(made), 1)))
    (folder / "train_ids.txt").write_text("".join(f"{n}\n" for n in range(len(made))))
    (folder / "id_mapping.json").write_text(json.dumps({str(n): name for n, name in enumerate(made)}))


def make_regions(counts: Sequence[int]) -> dict[str, Made]:
    """Image id -> regions, ``counts`` of them: ``pic0``, ``pic1`` and so on."""
    rng = np.random.default_rng(0)
    regions = {}
    for index, count in enumerate(counts):
        first = rng.uniform(0, 0.5, (count, 2)) * (WIDTH, HEIGHT)
        second = first + rng.uniform(0.05, 0.4, (count, 2)) * (WIDTH, HEIGHT)
        boxes = np.concatenate([first, second], axis=1).astype(np.float32)
        features = rng.normal(size=(count, DIM)).astype(np.float32)
        scores = rng.uniform(0.1, 1, count).astype(np.float32)
        regions[f"pic{index}"] = Made(features, boxes, scores, rng.integers(1, 1600, count))
    return regions


# name -> (format, writer, whether it has scores, whether it has classes)
WRITERS: dict[str, tuple[str, Callable[[Path, Mapping[str, Made]], None], bool, bool]] = {
    "npz": ("arrays", write_arrays, False, False),
    "npz and npy in folders": ("arrays", write_box_folder, False, False),
    "npy": ("arrays", write_box_files, False, False),
    "bottom-up": ("bottom-up-tsv", write_bottom_up, False, False),
    "lxmert": ("bottom-up-tsv", write_lxmert, True, True),
    "vinvl": ("vinvl-tsv", write_vinvl, False, False),
    "vinvl with labels": ("vinvl-tsv", write_vinvl_labels, True, False),
    "vinvl in columns": ("vinvl-tsv", write_vinvl_columns, False, False),
    "predictions": ("vinvl-tsv", write_predictions, True, False),
}
