"""Image-to-text models of the Hugging Face hub, decoded by their ``generate``: BLIP, GIT, ViT-GPT2 and similar ones.

The name is ``hf/NAME`` or a folder with safetensors weights. Remote code is not run and nothing is unpickled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmodal_cli.backbones.hugging_face_names import CAPTIONER_FILES, PREFIX, check_folder, is_hugging_face_name, repo_of
from xmodal_cli.captioning.decoding import check_decoding
from xmodal_cli.data.images import ImageReader
from xmodal_cli.device import Compute
from xmodal_cli.errors import BadData, BadModel, ConfigError
from xmodal_cli.inference.image_inputs import ImageInput, image_inputs
from xmodal_cli.paths import expand_home
from xmodal_cli.types import Decoding, ImageOpener, Unreadable

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from xmodal_cli.inference.caption_types import Caption, CaptionResults


BATCH = 16  # images per batch


def supports(name: str) -> bool:
    """Whether ``name`` is a model of the hub, or a folder in the format of the transformers library."""
    return is_hugging_face_name(name)


def check_name(name: str) -> None:
    """Raise ConfigError for a name that the hub cannot have, MissingData for a folder without a required file."""
    if name.startswith(PREFIX):
        repo_of(name)
    else:
        check_folder(f"the captioner {name}", expand_home(name), CAPTIONER_FILES)


def load(name: str, compute: Compute = Compute()) -> HFCaptioner:
    """Load the model ``name``. Raises DownloadError, MissingData, BadModel, ConfigError."""
    from xmodal_cli.backbones.hub import hugging_face_folder, quiet

    compute = compute.resolve()
    check_name(name)
    if name.startswith(PREFIX):
        folder = hugging_face_folder(repo_of(name), name)
        check_folder(f"the captioner {name}", folder, CAPTIONER_FILES)
    else:
        folder = expand_home(name)
    with quiet():
        tokenizer, processor = _load_processors(folder)
        model = _load_network(folder).eval().to(compute.device, compute.dtype)
    if model.generation_config.pad_token_id is None:
        model.generation_config.pad_token_id = model.generation_config.eos_token_id
    return HFCaptioner(name, model, tokenizer, processor)


@dataclass(frozen=True)
class HFCaptioner:
    """A model with its tokenizer and image processor."""

    name: str
    model: Any
    tokenizer: Any
    processor: Any

    def caption_images(
        self, images: Sequence[ImageInput], settings: Decoding, reader: ImageReader | None = None, first: int = 0
    ) -> CaptionResults:
        """In order: (path, ``settings.num`` captions, best first, or Unreadable).

        Lengths are in tokens of the model. ``first`` is the index of the first image in the job. Raises ConfigError for
        settings that its ``generate`` does not support.
        """
        arguments = generate_arguments(settings)
        inputs, opener = image_inputs(images, partial(self._open, reader or ImageReader()))
        paths = list(inputs)
        for start in range(0, len(paths), BATCH):
            chunk = paths[start : start + BATCH]
            opened = [_try_open(path, opener) for path in chunk]
            readable = [image for image in opened if not isinstance(image, Unreadable)]
            seed = settings.seed + first + start
            captions = iter(self._captions(readable, arguments, settings, seed) if readable else ())
            for path, image in zip(chunk, opened, strict=True):
                yield path, image if isinstance(image, Unreadable) else next(captions)

    def _open(self, reader: ImageReader, path: Path) -> Image:
        sides = [side for side in dict(self.processor.size).values() if isinstance(side, int)]
        return reader.open(path, max_side=2 * max(sides) if sides else None)

    def _captions(
        self, images: list[Image], arguments: dict[str, Any], settings: Decoding, seed: int
    ) -> list[list[Caption]]:
        import torch

        from xmodal_cli.backbones.hub import quiet
        from xmodal_cli.inference.caption_types import Caption

        pixels = self.processor(images=images, return_tensors="pt")["pixel_values"]
        pixels = pixels.to(self.model.device, self.model.dtype)
        devices = [self.model.device] if self.model.device.type == "cuda" else []
        try:
            with torch.inference_mode(), torch.random.fork_rng(devices), quiet():
                torch.manual_seed(seed)
                output = self.model.generate(pixel_values=pixels, **arguments)
        except (TypeError, ValueError, RuntimeError, AttributeError, KeyError) as error:
            reason = str(error).partition("\n")[0][:200]
            hint = "use an image captioning model (BLIP, GIT, ViT-GPT2), or other decoding settings"
            raise ConfigError(f"{self.name} cannot caption images with these settings: {reason}", hint) from error
        texts = self.tokenizer.batch_decode(output.sequences, skip_special_tokens=True)
        scores = self._scores(output, settings).tolist()
        rows = [Caption(text.strip(), score, text.split()) for text, score in zip(texts, scores, strict=True)]
        rows_of_image = [rows[first : first + settings.num] for first in range(0, len(rows), settings.num)]
        return [sorted(captions, key=lambda caption: -caption.score) for captions in rows_of_image]

    def _scores(self, output: Any, settings: Decoding) -> Tensor:
        """(captions,): log-probability divided by the number of tokens to the power of the length penalty."""
        import torch

        if getattr(output, "sequences_scores", None) is not None:
            scores: Tensor = output.sequences_scores.float()
            return scores
        log_probs = torch.stack(output.logits, dim=1).float().log_softmax(-1)  # (captions, tokens, vocab)
        tokens = output.sequences[:, -log_probs.shape[1] :]
        is_eos = torch.isin(tokens, torch.tensor(self._eos_ids(), device=tokens.device))
        mask = is_eos.cumsum(1) - is_eos.int() == 0  # EOS included
        total = (log_probs.gather(-1, tokens[..., None])[..., 0] * mask).sum(1)
        return total / mask.sum(1) ** settings.length_penalty

    def _eos_ids(self) -> list[int]:
        """The ids of tokens that end a caption."""
        configured = self.model.generation_config.eos_token_id
        configured = configured if isinstance(configured, list) else [configured]
        ids = (*configured, self.tokenizer.eos_token_id, self.tokenizer.sep_token_id)
        return [token for token in ids if token is not None]


def generate_arguments(settings: Decoding) -> dict[str, Any]:
    """The decoding settings as arguments of ``generate``. Raises ConfigError."""
    check_decoding(settings)
    if settings.num_beam_groups > 1:
        raise ConfigError(
            "diverse beam search is not supported for Hugging Face models",
            "use decoding.num_beam_groups=1, or --sample",
        )
    if settings.rerank:
        raise ConfigError(
            "re-ranking by a matcher is not supported for Hugging Face models",
            "omit decoding.rerank, or use a captioner",
        )
    arguments: dict[str, Any] = {
        "max_new_tokens": settings.max_length + 1,  # EOS included
        "min_new_tokens": settings.min_length,
        "no_repeat_ngram_size": settings.no_repeat_ngram_size,
        "num_return_sequences": settings.num,
        "return_dict_in_generate": True,
        "output_scores": True,
        "output_logits": True,
        "do_sample": settings.sample,
    }
    if settings.sample:
        sampling = {"temperature": settings.temperature, "top_k": settings.top_k, "top_p": settings.top_p}
        return arguments | {"num_beams": 1} | sampling
    early_stopping = "never" if settings.early_stopping == "exact" else False  # the names of transformers
    beam = {"num_beams": settings.beam, "length_penalty": settings.length_penalty, "early_stopping": early_stopping}
    return arguments | beam


def _load_processors(folder: Path) -> tuple[Any, Any]:
    """Load the tokenizer and the image processor. Raises BadModel."""
    from transformers import AutoImageProcessor, AutoTokenizer

    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        return (
            AutoTokenizer.from_pretrained(str(folder), **options),
            AutoImageProcessor.from_pretrained(str(folder), **options),
        )
    except Exception as error:  # invalid files: transformers may raise anything
        raise _unusable(folder, error) from error


def _load_network(folder: Path) -> Any:
    """Load the network. Raises BadModel, also for missing weights, which transformers would initialize randomly."""
    import torch
    from transformers import AutoModelForImageTextToText

    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False, "use_safetensors": True}
    options |= {"output_loading_info": True, "dtype": torch.float32}
    try:
        model, report = AutoModelForImageTextToText.from_pretrained(str(folder), **options)
    except Exception as error:
        raise _unusable(folder, error) from error
    if missing := sorted(name for name in report["missing_keys"] if ".pooler." not in name):  # captions need no pooler
        raise BadModel(f"the weights in {folder} lack {missing[0]}", "download the model again")
    return model


def _unusable(folder: Path, error: Exception) -> BadModel:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = " ".join(lines[:1])[:200] or type(error).__name__
    hint = "use an image-to-text model of the transformers library: BLIP, GIT, ViT-GPT2"
    return BadModel(f"{folder} cannot be read as a captioner: {reason}", hint)


def _try_open(path: Path, opener: ImageOpener) -> Image | Unreadable:
    try:
        opened: Image = opener(path)
        return opened
    except BadData as error:
        return Unreadable.of(path, error)
