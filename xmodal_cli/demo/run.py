"""The demo: the whole pipeline on the generated sample set, then the bundled models on the user's photos.

Finished steps of an earlier demo are not repeated: features are cached, training is resumed.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import torch

from xmodal_cli import interrupts, paths
from xmodal_cli.config import Config, from_dict, load_config, to_dict, with_data
from xmodal_cli.data.registry import load_dataset
from xmodal_cli.demo.captions import caption_test
from xmodal_cli.demo.index import find, make_index
from xmodal_cli.demo.own_photos import find_own_photos, index_and_caption
from xmodal_cli.demo.page import draw_page
from xmodal_cli.demo.results import CaptionerPart, DemoResult, MatcherPart, OwnPhotos, SearchExample
from xmodal_cli.errors import XmodalError
from xmodal_cli.evaluation.scoring import RetrievalResult
from xmodal_cli.features.cache import load_features
from xmodal_cli.paths import numbered_names, write_bytes
from xmodal_cli.recipes.evaluate import evaluate
from xmodal_cli.recipes.train import train_model
from xmodal_cli.reporter import SILENT, Reporter
from xmodal_cli.reports.contact_sheet import Row, draw_contact_sheet
from xmodal_cli.shell_commands import xmodal_command
from xmodal_cli.trainers.resume import run_folder
from xmodal_cli.types import Example, ImageTextDataset

DATA, MATCHER, CAPTIONER, INDEX = "shapes", "demo", "demo-captioner", "demo"
NUM_QUERIES = 3


def demo(folder: Path | None = None, reporter: Reporter = SILENT) -> DemoResult:
    """Run every step; with ``folder``, also index and caption the photos below it.

    Raises MissingData, before the first step, if ``folder`` has no photos; StorageError if the disk is full;
    KeyboardInterrupt, after which the demo can be resumed.
    """
    with interrupts.resumable(lambda: interrupts.RERUN):
        return _run(folder, reporter)


def _run(folder: Path | None, reporter: Reporter) -> DemoResult:
    photos = find_own_photos(folder) if folder is not None else None
    steps, num_threads = _Steps(reporter, 7 if photos is None else 9), _idle_threads()
    with steps("the sample set"):
        dataset = load_dataset(DATA)
        test = dataset.select("test")
    with steps("image features"):
        load_features(dataset, load_config(CAPTIONER).features, reporter=reporter)  # of both models
    with steps("training a matcher"):
        run = _train(MATCHER, num_threads, reporter)
    with steps("training a captioner"):
        captioner_run = _train(CAPTIONER, num_threads, reporter)
    with steps("evaluation on the test images"):
        (metrics,) = evaluate([str(run)], DATA, "test", reporter=reporter)
    samples = [test.examples[len(test.examples) * n // NUM_QUERIES] for n in range(NUM_QUERIES)]
    with steps("index and searches"):
        matcher = _search_part(run, metrics, test, samples, reporter)
    with steps("captions"):
        captioner = caption_test(captioner_run, DATA, samples, reporter)
    own = index_and_caption(photos, steps, reporter) if photos is not None else None
    return _write_report(matcher, captioner, own, steps.seconds, test)


class _Steps:
    """Reports each step when it starts, and records its duration in seconds."""

    def __init__(self, reporter: Reporter, total: int) -> None:
        self._reporter, self._total = reporter, total
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self._reporter.info(f"{len(self.seconds) + 1}/{self._total}  {name}")
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started


# ---------------------------------------------------------------------------- training


def _train(preset: str, num_threads: int, reporter: Reporter) -> Path:
    """Train a preset on the sample set, or resume it. Raises KeyboardInterrupt if it was interrupted."""
    config = load_config(preset)
    run = _find_run(config)
    if _is_finished(run, config):
        reporter.info(f"{run} is already trained")
        return run
    with _threads(num_threads):
        if train_model(config, DATA, run, resume=True, reporter=reporter).interrupted:
            raise KeyboardInterrupt
    return run


def _idle_threads() -> int:
    """2 if a core is idle, else 1.

    The training steps of models this small are too short for more threads; on a busy machine two threads spend
    several times longer on synchronization than on computing.
    """
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return 2 if (os.cpu_count() or 1) - busy >= 1 else 1


@contextlib.contextmanager
def _threads(num_threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _find_run(config: Config) -> Path:
    """The first of ``demo-shapes``, ``demo-shapes-2``, ... without a run of other settings."""
    first, wanted = run_folder(config, DATA), to_dict(with_data(config, ""))
    numbered = (first.with_name(name) for name in numbered_names(first.name))
    return next(run for run in numbered if not (run / "config.toml").exists() or _settings(run) == wanted)


def _settings(run: Path) -> dict[str, object] | None:
    try:
        saved = from_dict(tomllib.loads((run / "config.toml").read_text(encoding="utf-8")))
    except (OSError, ValueError, XmodalError):  # of a newer version, or damaged
        return None
    return to_dict(with_data(saved, ""))  # a run records the dataset too


def _is_finished(run: Path, config: Config) -> bool:
    try:
        epochs = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["epochs"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(epochs == config.training.epochs)


# ---------------------------------------------------------------------------- results


def _search_part(
    run: Path, metrics: RetrievalResult, test: ImageTextDataset, samples: list[Example], reporter: Reporter
) -> MatcherPart:
    files = [example.path for example in test.examples if example.path is not None]
    indexed = make_index(files, INDEX, str(run), reporter)
    searches = [find(example.captions[0].rstrip("."), INDEX, example.path) for example in samples]
    return MatcherPart(run, metrics, indexed, searches)


def _write_report(
    matcher: MatcherPart,
    captioner: CaptionerPart,
    own: OwnPhotos | None,
    seconds: dict[str, float],
    test: ImageTextDataset,
) -> DemoResult:
    """Write the contact sheet and the HTML page."""
    folder = paths.home() / "demo"
    contact_sheet = draw_contact_sheet([_row(search) for search in matcher.searches], folder / "results.png")
    page = folder / "index.html"
    result = DemoResult(matcher, captioner, own, dict(seconds), _next_commands(own), contact_sheet, page)
    write_bytes(page, draw_page(result, test.examples[1::7]))
    return result


def _row(search: SearchExample) -> Row:
    photos = [Path(hit.path) for hit in search.hits]
    return Row(search.query, photos, frozenset(photos[search.rank - 1 : search.rank] if search.rank else ()))


def _next_commands(own: OwnPhotos | None) -> list[str]:
    if own is None:
        return ["xmodal demo ~/Pictures", 'xmodal search "a red circle" --index demo', "xmodal index ~/Pictures"]
    search = xmodal_command("search", "two dogs", "--index", own.index.index)
    return [search, xmodal_command("index", own.folder), xmodal_command("caption", own.folder)]
