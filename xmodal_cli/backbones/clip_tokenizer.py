"""The tokenizers of open_clip's text towers as `tokenizers` JSON, which is stored in model files.

CLIP's byte-pair encoding (Radford et al. 2021) is built from the vocabulary in open_clip; for a text tower with a
Hugging Face tokenizer, its ``tokenizer.json`` is used. The JSON cleans the text, adds special tokens and truncates to
the context length as open_clip does; the end token is never truncated.

Differences, because a JSON cannot express ftfy: text decoded with the wrong charset is not fixed, full-width letters
and terminal codes are kept, and only common HTML entities are decoded. Also, special tokens in a text are not parsed.
"""

from __future__ import annotations

import json
import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from xmodal_cli.backbones.weights import hugging_face_file
from xmodal_cli.errors import BadData, ConfigError

CONTEXT_LENGTH = 77  # default of open_clip
SUPPORTED_SETTINGS = ("clean", "strip_sep_token", "context_length")
WORD_PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
ENTITIES = {"lt": "<", "gt": ">", "quot": '"', "#34": '"', "apos": "'", "#39": "'", "#x27": "'", "nbsp": " "}
LIGATURES = {"\ufb00": "ff", "\ufb01": "fi", "\ufb02": "fl", "\ufb03": "ffi", "\ufb04": "ffl", "\ufb06": "st"}
SINGLE_QUOTES, DOUBLE_QUOTES = "[\u02bc\u2018-\u201b]", "[\u201c-\u201f]"
CONTROLS = "[\\x{00}-\\x{08}\\x{0b}\\x{0e}-\\x{1f}\\x{7f}\\x{206a}-\\x{206f}\\x{feff}\\x{fff9}-\\x{fffc}]"
FINAL_SIGMA = r"(?<=\p{L})\x{03a3}(?!\p{L})"  # has a different lower-case form at the end of a word


@dataclass(frozen=True)
class TextTowerTokenizer:
    """The tokenizer of a text tower, and the length and id of its padding."""

    json: str
    context_length: int
    pad_id: int


def build_tokenizer(text_config: Mapping[str, Any], name: str) -> TextTowerTokenizer:
    """The tokenizer of the text tower that open_clip's ``text_cfg`` describes.

    ``name`` is that of the backbone, for error messages. Raises DownloadError if a Hugging Face tokenizer is neither
    cached nor downloadable, ConfigError for unsupported tokenizer settings.
    """
    settings: Mapping[str, Any] = text_config.get("tokenizer_kwargs", {})
    if set(settings) - set(SUPPORTED_SETTINGS) or text_config.get("tokenizer_mode"):
        raise ConfigError(f"the tokenizer of {name} has unsupported settings", "use another model")
    length = int(settings.get("context_length", text_config.get("context_length", CONTEXT_LENGTH)))
    source = str(text_config.get("hf_tokenizer_name") or "")
    if not source:
        return TextTowerTokenizer(build_clip_tokenizer(length, settings.get("clean", "lower")).to_str(), length, 0)
    file, config_file = (_hub_file(source, part, name) for part in ("tokenizer.json", "tokenizer_config.json"))
    tokenizer, pad_id = _hub_tokenizer(file, config_file)
    tokenizer.normalizer = _prepend(_cleaning(settings.get("clean", "whitespace")), tokenizer.normalizer)
    strip = bool(settings.get("strip_sep_token"))
    if strip:
        _strip_end(tokenizer)
    tokenizer.enable_truncation(length - strip)  # open_clip truncates before it removes the end token
    return TextTowerTokenizer(tokenizer.to_str(), length, pad_id)


def build_clip_tokenizer(context_length: int = CONTEXT_LENGTH, clean: str = "lower") -> Tokenizer:
    """CLIP's tokenizer: start token, byte pairs, end token; at most ``context_length`` ids."""
    from open_clip.tokenizer import SimpleTokenizer

    simple = SimpleTokenizer()
    merges = sorted(simple.bpe_ranks, key=simple.bpe_ranks.__getitem__)
    tokenizer = Tokenizer(models.BPE(simple.encoder, merges, end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence(_cleaning(clean))
    split = pre_tokenizers.Split(Regex(WORD_PATTERN), behavior="removed", invert=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    words = {i: word for word, i in simple.encoder.items()}
    start, end = simple.sot_token_id, simple.eot_token_id
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{words[start]} $A {words[end]}", special_tokens=[(words[start], start), (words[end], end)]
    )
    tokenizer.enable_truncation(context_length)
    return tokenizer


def _cleaning(kind: str) -> list[Any]:
    """open_clip's cleaning functions ``lower``, ``whitespace`` and ``canonicalize`` as normalizers."""
    entities = [normalizers.Replace("&amp;", "&")] * 3
    entities += [normalizers.Replace(f"&{code};", text) for code, text in ENTITIES.items()]
    quotes = [normalizers.Replace(Regex(SINGLE_QUOTES), "'"), normalizers.Replace(Regex(DOUBLE_QUOTES), '"')]
    ligatures = [normalizers.Replace(old, new) for old, new in LIGATURES.items()]
    steps = [*entities, *ligatures, *quotes, normalizers.Replace(Regex(CONTROLS), ""), normalizers.NFC()]
    lower = [normalizers.Replace(Regex(FINAL_SIGMA), "\u03c2"), normalizers.Lowercase()]
    spaces = [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    if kind == "canonicalize":
        punctuation = "".join(f"\\{character}" for character in string.punctuation if character != "_")
        return [
            *steps,
            normalizers.Replace("_", " "),
            normalizers.Replace(Regex(f"[{punctuation}]"), ""),
            *lower,
            *spaces,
        ]
    return [*steps, *spaces, *(lower if kind == "lower" else [])]


def _prepend(cleaning: list[Any], normalizer: Any) -> Any:
    """``cleaning``, then the normalizer of the tokenizer, if any."""
    return normalizers.Sequence([*cleaning, normalizer] if normalizer is not None else cleaning)


def _hub_file(source: str, part: str, name: str) -> Path:
    """A file of a tokenizer, in the folder ``source`` or in the Hugging Face repository of that name."""
    if Path(source).is_dir():
        return Path(source) / part
    description = f"the tokenizer {source} of {name}"
    return hugging_face_file(source, (part,), description, f"put {part} of {source} into the Hugging Face cache")


def _hub_tokenizer(file: Path, config_file: Path) -> tuple[Tokenizer, int]:
    """The tokenizer in ``file`` and the id of its padding token. Raises BadData."""
    try:
        tokenizer = Tokenizer.from_file(str(file))
        token = json.loads(config_file.read_text(encoding="utf-8")).get("pad_token")
        pad_id = tokenizer.token_to_id(token["content"] if isinstance(token, dict) else str(token))
    except Exception as error:  # the library raises bare Exception
        raise BadData(f"the tokenizer {file} cannot be read: {error}", "download it again") from error
    return tokenizer, 0 if pad_id is None else int(pad_id)


def _strip_end(tokenizer: Tokenizer) -> None:
    """Remove the end token from the special tokens that the tokenizer adds, as open_clip does for CLIPA."""
    added = tokenizer.encode("")
    special = list(zip(added.tokens, added.ids, strict=True))[:-1]
    single = " ".join([*(token for token, _ in special), "$A"])
    tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=special)
