"""A folder with a GPT-2 in the form of the transformers library -> its weights under the names of our own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from xmodal_cli.backbones.weights import cached_fingerprint, read_weights
from xmodal_cli.errors import BadData, MissingData
from xmodal_cli.types import LanguageModel

HEAD_DIM = 64  # coordinates of an attention head, in every published size
CONTEXT_LENGTH = 128  # places that are kept; captions are short
OUTER = {"words.weight": "wte.weight", "places.weight": "wpe.weight", "norm.weight": "ln_f.weight"}
OUTER |= {"norm.bias": "ln_f.bias"}
# ours -> theirs, of one layer, and whether theirs is a weight that stands the other way round
LAYER = {
    "attention_norm": ("ln_1", False),
    "attention": ("attn.c_attn", True),
    "attention_out": ("attn.c_proj", True),
    "network_norm": ("ln_2", False),
    "network": ("mlp.c_fc", True),
    "network_out": ("mlp.c_proj", True),
}
# settings of transformers' GPT-2 that would make another network; absent they are as here
SETTINGS = {
    "activation_function": "gelu_new",
    "add_cross_attention": False,
    "layer_norm_epsilon": 1e-5,
    "n_inner": None,
    "scale_attn_by_inverse_layer_idx": False,
    "scale_attn_weights": True,
    "tie_word_embeddings": True,
}
OTHER = "give the folder of a GPT-2: openai-community/gpt2, gpt2-medium, distilgpt2"


def load_folder(name: str, folder: Path) -> LanguageModel:
    """Raises MissingData for a file that is not there, BadData for one that cannot be used."""
    config_file, tokenizer_file = folder / "config.json", folder / "tokenizer.json"
    weights_file = folder / "model.safetensors"
    for file in (config_file, tokenizer_file, weights_file):
        if not file.is_file():
            hint = "it needs config.json, tokenizer.json and model.safetensors"
            raise MissingData(f"the language model {name} has no {file.name} in {folder}", hint)
    config = _config(config_file)
    tokenizer, num_ids = _tokenizer(tokenizer_file)
    tensors = _renamed(weights_file, read_weights(weights_file), config["n_layer"])
    sizes = {"vocab_size": num_ids, "embed_dim": config["n_embd"], "num_layers": config["n_layer"]}
    _check_shapes(weights_file, tensors, sizes)
    tensors["words.weight"] = tensors["words.weight"][:num_ids].clone()  # tables are padded to round numbers
    tensors["places.weight"] = tensors["places.weight"][:CONTEXT_LENGTH].clone()
    return LanguageModel(name, tensors, sizes, tokenizer, cached_fingerprint(weights_file))


def _config(file: Path) -> dict[str, Any]:
    """Raises BadData where it is not that of a GPT-2 like the published ones."""
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        sizes = {key: config[key] for key in ("n_layer", "n_embd", "n_head")}
    except (ValueError, KeyError, TypeError) as error:
        raise BadData(f"{file} is not the configuration of a GPT-2: {error}", OTHER) from error
    if config.get("model_type") != "gpt2" or not all(type(size) is int and size > 0 for size in sizes.values()):
        raise BadData(f"{file} is not the configuration of a GPT-2", OTHER)
    for key, value in SETTINGS.items():
        if config.get(key, value) != value:
            raise BadData(f"{file} is of another kind of GPT-2: {key} is {config[key]!r}, not {value!r}", OTHER)
    if config["n_head"] != max(1, config["n_embd"] // HEAD_DIM) or (
        config["n_embd"] > HEAD_DIM and config["n_embd"] % HEAD_DIM
    ):
        told = f"{config['n_head']} heads share {config['n_embd']} coordinates; a head of GPT-2 has {HEAD_DIM}"
        raise BadData(f"{file} is of another kind of GPT-2: {told}", OTHER)
    return {**config, **sizes}


def _renamed(file: Path, theirs: dict[str, Tensor], num_layers: int) -> dict[str, Tensor]:
    """The weights under our names, in float32. Raises BadData for one that is lacking."""
    bare = {name.removeprefix("transformer."): tensor.float() for name, tensor in theirs.items()}
    table = {ours: (name, False) for ours, name in OUTER.items()}
    for layer in range(num_layers):
        for ours, (name, turned) in LAYER.items():
            table[f"blocks.{layer}.{ours}.weight"] = (f"h.{layer}.{name}.weight", turned)
            table[f"blocks.{layer}.{ours}.bias"] = (f"h.{layer}.{name}.bias", False)
    lacking = sorted(name for name, _ in table.values() if name not in bare)
    if lacking:
        raise BadData(f"the weights in {file} lack {lacking[0]}", "fetch the language model again")
    return {ours: bare[name].T.contiguous() if turned else bare[name] for ours, (name, turned) in table.items()}


def _check_shapes(file: Path, tensors: dict[str, Tensor], sizes: dict[str, int]) -> None:
    """Raise BadData where weights are not of the sizes that the configuration and the tokenizer tell."""
    width = sizes["embed_dim"]
    inner: dict[str, tuple[int, ...]] = {"attention.weight": (3 * width, width), "network.weight": (4 * width, width)}
    inner |= {"attention_out.weight": (width, width), "network_out.weight": (width, 4 * width)}
    inner |= {"attention.bias": (3 * width,), "network.bias": (4 * width,)}
    for name, tensor in tensors.items():
        part = ".".join(name.split(".")[-2:])
        least = {"words.weight": sizes["vocab_size"], "places.weight": CONTEXT_LENGTH}.get(name)
        wanted = (max(least, tensor.shape[0]), width) if least else inner.get(part, (width,))
        if tuple(tensor.shape) != wanted:
            told = f"{name} is {tuple(tensor.shape)} where {wanted} is needed"
            raise BadData(f"the weights in {file} do not fit config.json and tokenizer.json: {told}", OTHER)


def _tokenizer(file: Path) -> tuple[str, int]:
    """Its JSON without padding and truncation, and its number of ids. Raises BadData."""
    from tokenizers import Tokenizer

    try:
        rust = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception
        raise BadData(f"{file} cannot be read as a tokenizer: {error}", "fetch the language model again") from error
    rust.no_padding()
    rust.no_truncation()
    return json.dumps(json.loads(rust.to_str()), ensure_ascii=False), int(rust.get_vocab_size())
