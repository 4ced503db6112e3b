"""The Python API: the names of ``xmodal_cli.__all__``. See ``docs/python.md``.

Every function calls the recipe of its command, or the loaded model, and returns a dataclass or an array. Heavy packages
are imported by the call that needs them. Errors are the subclasses of ``XmodalError``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from xmodal_cli.argument_types import check_arguments
from xmodal_cli.device import Compute
from xmodal_cli.errors import BadData as BadData
from xmodal_cli.errors import BadImage as BadImage
from xmodal_cli.errors import BadModel as BadModel
from xmodal_cli.errors import ConfigError as ConfigError
from xmodal_cli.errors import DownloadError as DownloadError
from xmodal_cli.errors import IncompatibleFeatures as IncompatibleFeatures
from xmodal_cli.errors import MissingData as MissingData
from xmodal_cli.errors import StorageError as StorageError
from xmodal_cli.errors import Unavailable as Unavailable
from xmodal_cli.errors import UnknownName as UnknownName
from xmodal_cli.errors import XmodalError as XmodalError
from xmodal_cli.inference.loaded_models import CaptionerModel as CaptionerModel
from xmodal_cli.inference.loaded_models import ImageCaptions as ImageCaptions
from xmodal_cli.inference.loaded_models import ImageTags as ImageTags
from xmodal_cli.inference.loaded_models import MatcherModel as MatcherModel
from xmodal_cli.inference.loaded_models import PathLike as PathLike
from xmodal_cli.inference.loaded_models import ScoredCaption as ScoredCaption
from xmodal_cli.inference.loaded_models import ScoredTag as ScoredTag
from xmodal_cli.inference.loaded_models import TaggerModel as TaggerModel
from xmodal_cli.inference.loaded_models import image_captions
from xmodal_cli.inference.loaded_models import load as load
from xmodal_cli.paths import given_path
from xmodal_cli.reporter import SILENT
from xmodal_cli.reporter import Reporter as Reporter
from xmodal_cli.result_json import to_json as to_json
from xmodal_cli.splits import canonical_split
from xmodal_cli.version import __version__ as __version__

if TYPE_CHECKING:
    from xmodal_cli.evaluation.caption_scores import CaptionResult
    from xmodal_cli.evaluation.scoring import RetrievalResult
    from xmodal_cli.evaluation.tag_scores import TagResult
    from xmodal_cli.inference.image_inputs import ImageInput
    from xmodal_cli.recipes.search import Searcher
    from xmodal_cli.recipes.train import TrainResult
    from xmodal_cli.retrieval.report import IndexReport
    from xmodal_cli.retrieval.search_result import SearchResult
    from xmodal_cli.types import Features, ImageTextDataset

    _EvalResult = RetrievalResult | CaptionResult | TagResult


def load_dataset(data: PathLike, split: str | None = None, *, format: str | None = None) -> ImageTextDataset:
    """A dataset by its registered name (``f8k``) or path, in any known format; all of it, or one split.

    Raises MissingData, BadData, UnknownName.
    """
    check_arguments(load_dataset, locals())
    from xmodal_cli.data.selection import load_split

    return load_split(str(data), split, format)


def extract_features(
    data: PathLike | ImageTextDataset,
    backbone: str = "efficientnet-lite2",
    *,
    kind: str = "global",
    crops: int = 1,
    device: str = "auto",
    precision: str = "auto",
    reporter: Reporter = SILENT,
) -> Features:
    """Features of all readable images of a dataset; extracted once and cached, as by ``xmodal features``.

    ``values`` is (images, dim) for ``kind="global"`` and (images, cells, dim) for ``grid`` and ``regions``, float16;
    row ``n`` belongs to ``ids[n]``. Raises UnknownName, MissingData, BadData, DownloadError, IncompatibleFeatures.
    """
    check_arguments(extract_features, locals())
    from xmodal_cli.config import FeaturesConfig
    from xmodal_cli.features.cache import load_features

    dataset = load_dataset(data) if isinstance(data, str | os.PathLike) else data
    settings = FeaturesConfig(backbone=backbone, kind=kind, crops=crops)
    return load_features(dataset, settings, Compute(device, precision), reporter)


def train(
    model: PathLike,
    data: PathLike | None = None,
    *,
    out: PathLike | None = None,
    settings: Mapping[str, Any] | None = None,
    resume: bool = False,
    init_from: PathLike | None = None,
    check_photos: PathLike | None = None,
    device: str = "auto",
    precision: str = "auto",
    reporter: Reporter = SILENT,
) -> TrainResult:
    """Train a preset (a name or a TOML file) as ``xmodal train`` does, and keep the best model on val.

    ``settings`` maps names to values: ``{"training.epochs": 10}``. ``data`` None is the dataset of the TOML file, or
    ``shapes``. ``out`` is the run's folder; by default ``runs/<preset>-<data>`` in ``XMODAL_HOME``. ``check_photos`` is
    a folder of photos, on which the declared backbone of precomputed features is checked. Raises UnknownName,
    ConfigError, MissingData, BadData, StorageError.
    """
    check_arguments(train, locals())
    from xmodal_cli.config import data_argument, load_config
    from xmodal_cli.recipes.train import train_model

    chosen = {"training.device": device, "training.precision": precision, **(settings or {})}
    if precision == "auto":
        chosen.pop("training.precision")  # the preset's own
    config = load_config(str(model), [f"{name}={_toml(value)}" for name, value in chosen.items()])
    origin = None if init_from is None else str(init_from)
    name = data_argument(config, None if data is None else str(data))
    photos = None if check_photos is None else given_path(check_photos)
    return train_model(config, name, None if out is None else given_path(out), resume, origin, reporter, photos)


def evaluate(
    models: PathLike | Sequence[PathLike],
    data: PathLike | None = None,
    *,
    split: str = "test",
    folds: int = 1,
    top_k: Sequence[int] | None = None,
    beam: int | None = None,
    decoding: Mapping[str, Any] | None = None,
    ensemble: bool = False,
    device: str = "auto",
    precision: str = "auto",
    reporter: Reporter = SILENT,
) -> _EvalResult | list[_EvalResult]:
    """Metrics of models, embeddings files or results files, as ``xmodal eval`` computes them.

    Matchers and embeddings files have a RetrievalResult, captioners and results files a CaptionResult, taggers a
    TagResult. One result for one model, a list for a list. ``top_k`` are the cut-offs of R@K of matchers, by default 1,
    5 and 10. ``decoding`` has settings of captioners, as ``{"length_penalty": 0.7}``; ``beam`` is short for its
    ``beam``. Raises UnknownName, MissingData, BadData, ConfigError, IncompatibleFeatures.
    """
    check_arguments(evaluate, locals())
    from xmodal_cli.evaluation.extras import Extras
    from xmodal_cli.evaluation.option_checks import check_options
    from xmodal_cli.inference.caption_types import decoding_settings
    from xmodal_cli.recipes import evaluate as matchers
    from xmodal_cli.recipes import evaluate_captions as captioners
    from xmodal_cli.recipes.evaluate_tags import evaluate_taggers, is_tag_evaluation

    single, split = isinstance(models, str | os.PathLike), canonical_split(split)
    names = [str(models)] if isinstance(models, str | os.PathLike) else [str(model) for model in models]
    source, compute = None if data is None else str(data), Compute(device, precision)
    results: Sequence[_EvalResult]
    found = captioners.find_models(names)
    given = {"--folds": folds > 1, "--ensemble": ensemble, "--beam": beam, "--top-k": top_k, "decoding": decoding}
    if is_tag_evaluation(found):
        check_options("taggers", given)
        results = evaluate_taggers(found, source, split, compute, reporter)
    elif captioners.is_caption_evaluation(found):
        check_options("captioners", given)
        chosen = decoding_settings({**({} if beam is None else {"beam": beam}), **(decoding or {})})
        results = captioners.evaluate_captions(found, source, split, chosen, ensemble, compute, reporter)
    else:
        check_options("matchers", given)
        extras = Extras(ensemble) if top_k is None else Extras(ensemble, top_k=tuple(top_k))
        results = matchers.evaluate(found, source, split, folds, compute, reporter, extras)
    return results[0] if single else list(results)


def index(
    folders: PathLike | Iterable[PathLike],
    name: str | None = None,
    *,
    model: PathLike | None = None,
    rebuild: bool = False,
    exclude: Sequence[str] = (),
    device: str = "auto",
    precision: str = "auto",
    runtime: str = "auto",
    reporter: Reporter = SILENT,
) -> IndexReport:
    """Make an index match its folders, as ``xmodal index`` does; the report counts what was added, updated and so on.

    ``exclude`` are patterns of files and folders to leave out, in the syntax of ``.gitignore``. ``runtime`` is
    ``onnx``, ``torch``, or ``auto`` for the faster one.

    Raises UnknownName, MissingData, BadData, ConfigError, IncompatibleFeatures, StorageError, and Unavailable for a
    model that needs torch if it is not installed.
    """
    check_arguments(index, locals())
    from xmodal_cli.recipes.index import Selection, Storage
    from xmodal_cli.recipes.index import index as run

    roots = [folders] if isinstance(folders, str | os.PathLike) else list(folders)
    paths = [given_path(root) for root in roots]
    compute, selection = Compute(device, precision, runtime), Selection(tuple(exclude))
    matcher = None if model is None else str(model)
    return run(paths, name, matcher, Storage(), rebuild, compute, reporter, selection)


def search(
    terms: str | Sequence[str],
    index: PathLike | None = None,
    *,
    k: int = 10,
    folders: PathLike | Sequence[PathLike] = (),
    after: str | None = None,
    before: str | None = None,
    threshold: float | None = None,
) -> SearchResult:
    """The ``k`` best photos of an index for one query; ``open_index`` is faster for many. See ``PhotoIndex.search``.

    Raises UnknownName, MissingData, BadData, ConfigError, IncompatibleFeatures.
    """
    check_arguments(search, locals())
    with open_index(index) as opened:
        return opened.search(terms, k=k, folders=folders, after=after, before=before, threshold=threshold)


def open_index(name: PathLike | None = None, *, runtime: str = "auto", reporter: Reporter = SILENT) -> PhotoIndex:
    """An index by name or folder, the one built last by default. Raises UnknownName, MissingData, BadData.

    ``runtime`` (``onnx``, ``torch``, ``auto``) encodes the photos of queries.
    """
    check_arguments(open_index, locals())
    from xmodal_cli.recipes.search import open_searcher

    return PhotoIndex(open_searcher(None if name is None else str(name), reporter, runtime))


class PhotoIndex:
    """An open index. It shows one snapshot: updates by ``index`` are seen after opening it again."""

    def __init__(self, searcher: Searcher) -> None:
        self._searcher = searcher
        self.name, self.folder, self.model = searcher.index_name, searcher.folder, searcher.model

    def __len__(self) -> int:
        """The number of photos."""
        return len(self._searcher)

    def search(
        self,
        terms: str | Sequence[str],
        *,
        k: int = 10,
        fold: bool = True,
        exact: bool = False,
        folders: PathLike | Sequence[PathLike] = (),
        after: str | None = None,
        before: str | None = None,
        threshold: float | None = None,
    ) -> SearchResult:
        """The ``k`` best photos, best first. ``terms`` are those of ``xmodal search``: one sentence, or several terms.

        A term is a sentence or the path of an image; ``+TERM`` and ``-TERM`` ask for more and less of it,
        ``TERM^0.5`` gives it half the weight. ``name:TEXT`` and ``caption:TEXT`` keep only photos with this text in
        their file name or caption, ``folders`` those in one of the folders, ``after`` and ``before`` (``2024-06``)
        those of this date or later, and of earlier dates; ``threshold`` is the lowest score. With ``fold``, copies of a
        photo are one hit, with their number. ``exact`` scores all photos of a large index.

        Raises ConfigError, MissingData, BadData.
        """
        check_arguments(PhotoIndex.search, locals())
        from xmodal_cli.retrieval.search_options import SearchOptions

        roots = [folders] if isinstance(folders, str | os.PathLike) else folders
        options = SearchOptions(k, fold, threshold, tuple(str(root) for root in roots), after, before, exact)
        return self._searcher.search([terms] if isinstance(terms, str) else list(terms), options)

    def close(self) -> None:
        """Close the files; a context manager does it too."""
        self._searcher.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def caption(
    images: ImageInput | Sequence[ImageInput],
    model: PathLike | Sequence[PathLike] | None = None,
    *,
    beam: int | None = None,
    num: int = 1,
    on_error: str = "raise",
    device: str = "auto",
    precision: str = "auto",
    runtime: str = "auto",
) -> list[ImageCaptions]:
    """Captions of images, ``num`` each, best first: by a captioner, by the default one if none is given.

    Several models form an ensemble; ``hf/NAME`` is an image-to-text model of the Hugging Face hub. ``load`` and
    ``CaptionerModel.caption`` are faster for many calls. Raises UnknownName, MissingData, BadModel, ConfigError,
    and BadData for an unreadable image unless ``on_error="skip"``.
    """
    check_arguments(caption, locals())
    from xmodal_cli.inference.caption_types import CaptionRequest
    from xmodal_cli.inference.image_captioning import load_generator

    models = (str(model),) if isinstance(model, str | os.PathLike) else tuple(map(str, model or ()))
    settings = (f"decoding.num={num}", *(() if beam is None else (f"decoding.beam={beam}",)))
    generator = load_generator(CaptionRequest(models, settings, compute=Compute(device, precision, runtime)))
    return image_captions(generator, images, on_error)


def _toml(value: Any) -> str:
    """A value as ``--set`` reads it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(str(value) if isinstance(value, os.PathLike) else value)
