"""Loads GPT-2 from a folder in the format of the transformers library, and renames its weights for ``_gpt2.GPT2``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from xmodal_cli.backbones.hugging_face_names import FILES, check_folder
from xmodal_cli.backbones.weights import cached_fingerprint, read_weights
from xmodal_cli.errors import BadData
from xmodal_cli.file_errors import parse_json
from xmodal_cli.types import LanguageModel

HEAD_DIM = 64  # dimension of an attention head, in every published size
CONTEXT_LENGTH = 128  # position embeddings that are loaded; captions are short
TOP_LEVEL = {"words.weight": "wte.weight", "places.weight": "wpe.weight", "norm.weight": "ln_f.weight"}
TOP_LEVEL |= {"norm.bias": "ln_f.bias"}
# names per layer: ours -> (transformers, whether the weight is transposed there)
LAYER = {
    "attention_norm": ("ln_1", False),
    "attention": ("attn.c_attn", True),
    "attention_out": ("attn.c_proj", True),
    "network_norm": ("ln_2", False),
    "network": ("mlp.c_fc", True),
    "network_out": ("mlp.c_proj", True),
}
# required values of settings that change the network; also the defaults of transformers
REQUIRED_SETTINGS = {
    "activation_function": "gelu_new",
    "add_cross_attention": False,
    "layer_norm_epsilon": 1e-5,
    "n_inner": None,
    "scale_attn_by_inverse_layer_idx": False,
    "scale_attn_weights": True,
    "tie_word_embeddings": True,
}
HINT = "give the folder of a GPT-2 model: openai-community/gpt2, gpt2-medium, distilgpt2"


def load_folder(name: str, folder: Path) -> LanguageModel:
    """The language model in ``folder``. Raises MissingData for a missing file, BadData for an invalid one."""
    config_file, tokenizer_file = folder / "config.json", folder / "tokenizer.json"
    weights_file = folder / "model.safetensors"
    check_folder(f"the language model {name}", folder, FILES)
    config = _config(config_file)
    tokenizer, num_ids = _tokenizer(tokenizer_file)
    tensors = rename_weights(weights_file, read_weights(weights_file), config["n_layer"])
    sizes = {"vocab_size": num_ids, "embed_dim": config["n_embd"], "num_layers": config["n_layer"]}
    _check_shapes(weights_file, tensors, sizes)
    tensors["words.weight"] = tensors["words.weight"][:num_ids].clone()  # published tables are padded
    tensors["places.weight"] = tensors["places.weight"][:CONTEXT_LENGTH].clone()
    return LanguageModel(name, tensors, sizes, tokenizer, cached_fingerprint(weights_file))


def _config(file: Path) -> dict[str, Any]:
    """Read ``config.json``. Raises BadData if it is not a GPT-2 like the published ones."""
    try:
        config = parse_json(file.read_text(encoding="utf-8"))
        sizes = {key: config[key] for key in ("n_layer", "n_embd", "n_head")}
    except (ValueError, KeyError, TypeError) as error:
        raise BadData(f"{file} is not the configuration of a GPT-2: {error}", HINT) from error
    if config.get("model_type") != "gpt2" or not all(type(size) is int and size > 0 for size in sizes.values()):
        raise BadData(f"{file} is not the configuration of a GPT-2", HINT)
    for key, value in REQUIRED_SETTINGS.items():
        if config.get(key, value) != value:
            raise BadData(f"{file} is of an unsupported GPT-2 variant: {key} is {config[key]!r}, not {value!r}", HINT)
    if config["n_head"] != max(1, config["n_embd"] // HEAD_DIM) or (
        config["n_embd"] > HEAD_DIM and config["n_embd"] % HEAD_DIM
    ):
        reason = f"n_embd={config['n_embd']} with n_head={config['n_head']}; the head dimension must be {HEAD_DIM}"
        raise BadData(f"{file} is of an unsupported GPT-2 variant: {reason}", HINT)
    return {**config, **sizes}


def rename_weights(file: Path, source: dict[str, Tensor], num_layers: int) -> dict[str, Tensor]:
    """The weights under our names, in float32. Raises BadData if one is missing."""
    tensors = {name.removeprefix("transformer."): tensor.float() for name, tensor in source.items()}
    table = {ours: (name, False) for ours, name in TOP_LEVEL.items()}
    for layer in range(num_layers):
        for ours, (name, transposed) in LAYER.items():
            table[f"blocks.{layer}.{ours}.weight"] = (f"h.{layer}.{name}.weight", transposed)
            table[f"blocks.{layer}.{ours}.bias"] = (f"h.{layer}.{name}.bias", False)
    missing = sorted(name for name, _ in table.values() if name not in tensors)
    if missing:
        raise BadData(f"{missing[0]} is missing in the weights {file}", "download the language model again")
    return {
        ours: tensors[name].T.contiguous() if transposed else tensors[name]
        for ours, (name, transposed) in table.items()
    }


def _check_shapes(file: Path, tensors: dict[str, Tensor], sizes: dict[str, int]) -> None:
    """Raise BadData if the shapes of weights do not match the configuration and the tokenizer."""
    width = sizes["embed_dim"]
    shapes: dict[str, tuple[int, ...]] = {"attention.weight": (3 * width, width), "network.weight": (4 * width, width)}
    shapes |= {"attention_out.weight": (width, width), "network_out.weight": (width, 4 * width)}
    shapes |= {"attention.bias": (3 * width,), "network.bias": (4 * width,)}
    for name, tensor in tensors.items():
        part = ".".join(name.split(".")[-2:])
        min_rows = {"words.weight": sizes["vocab_size"], "places.weight": CONTEXT_LENGTH}.get(name)
        expected = (max(min_rows, tensor.shape[0]), width) if min_rows else shapes.get(part, (width,))
        if tuple(tensor.shape) != expected:
            reason = f"{name} has shape {tuple(tensor.shape)}, expected {expected}"
            raise BadData(f"the weights in {file} do not match config.json and tokenizer.json: {reason}", HINT)


def _tokenizer(file: Path) -> tuple[str, int]:
    """The JSON of the tokenizer without padding and truncation, and its number of ids. Raises BadData."""
    from tokenizers import Tokenizer

    try:
        rust = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises tensors Exception
        raise BadData(f"{file} cannot be read as a tokenizer: {error}", "download the language model again") from error
    rust.no_padding()
    rust.no_truncation()
    return json.dumps(json.loads(rust.to_str()), ensure_ascii=False), int(rust.get_vocab_size())
