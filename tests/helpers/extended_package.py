"""A copy of the package with the files that docs/extending.md shows, and small data for them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "extending.md"
COLORS = {"red": (230, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 230), "white": (240, 240, 240)}
COLORS |= {"black": (10, 10, 10), "yellow": (230, 230, 20)}
DRIVER = """
import contextlib, io, json, sys
from xmodal_cli.__main__ import main
done = []
for line in json.load(open(sys.argv[1])):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(line)
    done.append([code, out.getvalue(), err.getvalue()])
json.dump(done, open(sys.argv[2], "w"))
"""


@dataclass(frozen=True)
class Ran:
    """What a command line gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)


def page_files() -> dict[str, str]:
    """Path in the repository -> code, of every complete file on the page."""
    text = PAGE.read_text(encoding="utf-8")
    return dict(re.findall(r"`(xmodal_cli/[\w/]+\.py)`:\n\n```python\n(.*?)```", text, re.S))


def write_package(folder: Path) -> Path:
    """The package as it is, with the page's files and the new command in the table."""
    ignored = shutil.ignore_patterns("*.safetensors", "__pycache__")
    shutil.copytree(ROOT / "xmodal_cli", folder / "xmodal_cli", ignore=ignored)
    for path, code in page_files().items():
        assert not (folder / path).exists(), f"{path} is in the package already"
        (folder / path).write_text(code, encoding="utf-8")
    app = folder / "xmodal_cli" / "cli" / "app.py"
    text = app.read_text(encoding="utf-8")
    assert text.count('    "doctor",\n') == 1
    app.write_text(text.replace('    "doctor",\n', '    "doctor",\n    "longest",\n'), encoding="utf-8")
    return folder


def run_lines(package: Path, home: Path, lines: list[list[str]]) -> list[Ran]:
    """Command lines one after the other, in one process with the package of ``write_package``."""
    given, taken = package / "lines.json", package / "done.json"
    given.write_text(json.dumps(lines))
    environment = {**os.environ, "PYTHONPATH": str(package), "XMODAL_HOME": str(home), "COLUMNS": "200"}
    environment.pop("XMODAL_DEBUG", None)
    environment["PATH"] = str(Path(sys.executable).parent)  # METEOR, which needs Java, would take most of the time
    command = [sys.executable, "-c", DRIVER, str(given), str(taken)]
    done = subprocess.run(command, cwd=package, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [Ran(*entry) for entry in json.loads(taken.read_text())]


def write_color_pairs(folder: Path) -> Path:
    """Images of two colors side by side with two captions each, in the page's format; returns the file."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = []
    for split, count in (("train", 60), ("val", 20), ("test", 20)):
        for number in range(count):
            left, right = (str(name) for name in rng.choice(list(COLORS), 2, replace=False))
            pixels = np.zeros((16, 16, 3), np.uint8)
            pixels[:, :8], pixels[:, 8:] = COLORS[left], COLORS[right]
            name = f"{split}-{number:02d}.png"
            Image.fromarray(np.clip(pixels + rng.integers(-9, 9, pixels.shape), 0, 255).astype(np.uint8)).save(
                folder / name
            )
            lines += [f"{name}\t{split}\t{left} beside {right}", f"{name}\t{split}\t{left} on the left of {right}"]
    (folder / "captions.tsv").write_text("\n".join(lines) + "\n")
    return folder / "captions.tsv"


def write_gpt2(folder: Path, width: int = 64) -> Path:
    """A folder with a tiny GPT-2 of random weights over bytes, as the transformers library writes it."""
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    folder.mkdir(parents=True)
    alphabet = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<|endoftext|>"]
    rust = Tokenizer(models.BPE({token: n for n, token in enumerate(alphabet)}, []))
    rust.pre_tokenizer, rust.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    rust.add_special_tokens(["<|endoftext|>"])
    rust.save(str(folder / "tokenizer.json"))
    config = {"model_type": "gpt2", "n_layer": 1, "n_embd": width, "n_head": 1}
    (folder / "config.json").write_text(json.dumps(config))
    shapes = {"wte.weight": (len(alphabet), width), "wpe.weight": (128, width)}
    shapes |= {"h.0.attn.c_attn.weight": (width, 3 * width), "h.0.attn.c_attn.bias": (3 * width,)}
    shapes |= {"h.0.attn.c_proj.weight": (width, width), "h.0.attn.c_proj.bias": (width,)}
    shapes |= {"h.0.mlp.c_fc.weight": (width, 4 * width), "h.0.mlp.c_fc.bias": (4 * width,)}
    shapes |= {"h.0.mlp.c_proj.weight": (4 * width, width), "h.0.mlp.c_proj.bias": (width,)}
    shapes |= {f"{norm}.{part}": (width,) for norm in ("h.0.ln_1", "h.0.ln_2", "ln_f") for part in ("weight", "bias")}
    rng = np.random.default_rng(0)
    tensors = {name: (0.1 * rng.normal(size=shape)).astype(np.float32) for name, shape in shapes.items()}
    save_file(tensors, folder / "model.safetensors")
    return folder
