"""Loads sentence encoders from folders in the format of the transformers library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xmodal_cli.backbones.hub import quiet
from xmodal_cli.backbones.hugging_face_names import FILES, check_folder
from xmodal_cli.backbones.weights import weights_errors
from xmodal_cli.errors import BadData, ConfigError
from xmodal_cli.file_identity import sha256_of
from xmodal_cli.length_mask import length_mask
from xmodal_cli.types import TextBackbone, TextMeta

BERT_TYPES = ("bert", "roberta", "xlm-roberta", "electra", "camembert")  # their layers take only states and mask
MAX_TOKENS = 64  # captions are short; longer sentences are truncated, with an end token


class TokenStates(nn.Module):
    """(captions, longest) int64, (captions,) int64 -> (captions, longest, dim): the last layer's states."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        mask = length_mask(lengths.to(tokens.device), tokens.shape[1])
        states: Tensor = self.network(input_ids=tokens, attention_mask=mask).last_hidden_state
        return states


class UpperLayers(nn.Module):
    """The last layers of an encoder: (captions, longest, dim) states, (captions,) int64 -> states."""

    def __init__(self, layers: nn.ModuleList) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        outside = ~length_mask(lengths.to(states.device), states.shape[1])
        states = states.float()
        mask = torch.zeros(outside.shape, device=states.device).masked_fill(outside, torch.finfo(torch.float16).min)
        for layer in self.layers:
            output = layer(states, mask[:, None, None, :])
            states = output[0] if isinstance(output, tuple) else output
        return states


def load_folder(name: str, folder: Path, tuned_layers: int = 0) -> TextBackbone:
    """The encoder in ``folder``; its word embeddings are frozen.

    Raises MissingData for a missing file, BadData for an invalid one, ConfigError for an invalid number of
    ``tuned_layers``.
    """
    weights, tokenizer = folder / "model.safetensors", folder / "tokenizer.json"
    check_folder(f"the sentence encoder {name}", folder, FILES)
    network = _network(folder, weights)
    dim = int(network.config.hidden_size)
    _freeze_embeddings(network)
    meta = TextMeta(name, sha256_of(weights), "tokens", dim)
    upper = _split_off_layers(name, network, tuned_layers) if tuned_layers else None
    return TextBackbone(TokenStates(network), _tokenizer(tokenizer), meta, upper)


def _network(folder: Path, weights: Path) -> Any:
    from transformers import AutoModel

    with weights_errors(weights), quiet():
        # eager attention trains twice as fast as the fused kernel for short sentences on a CPU
        options = {"local_files_only": True, "use_safetensors": True, "attn_implementation": "eager"}
        try:
            network, report = AutoModel.from_pretrained(str(folder), output_loading_info=True, **options)
        except OSError as error:
            raise BadData(f"{folder} cannot be read as an encoder: {error}", "give the folder of an encoder") from error
        if missing := sorted(name for name in report["missing_keys"] if not name.startswith("pooler.")):
            raise ValueError(f"{missing[0]} is missing")  # transformers would initialize it at random
    if getattr(network, "pooler", None) is not None:
        network.pooler = None  # of another task; the states do not depend on it
    return network.eval()


def _split_off_layers(name: str, network: Any, tuned_layers: int) -> UpperLayers:
    """Remove the last layers from ``network`` and return them. Raises ConfigError."""
    encoder = getattr(network, "encoder", None)
    layers = getattr(encoder, "layer", None)
    if encoder is None or layers is None or network.config.model_type not in BERT_TYPES:
        raise ConfigError(f"{name} does not support text.tuned_layers", "train all layers: set text.tuned_layers to 0")
    if not 1 <= tuned_layers < len(layers):
        raise ConfigError(
            f"{name} has {len(layers)} layers; text.tuned_layers cannot be {tuned_layers}",
            f"set it from 1 to {len(layers) - 1}",
        )
    encoder.layer, upper = layers[:-tuned_layers], layers[-tuned_layers:]
    return UpperLayers(upper)


def _freeze_embeddings(network: Any) -> None:
    """Training would update only the words of the training captions, which harms all other query words."""
    embeddings = getattr(network, "embeddings", None) or network.get_input_embeddings()
    embeddings.requires_grad_(False)


def _tokenizer(file: Path) -> str:
    from tokenizers import Tokenizer

    try:
        rust = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception
        raise BadData(f"{file} cannot be read as a tokenizer: {error}", "download the encoder again") from error
    rust.no_padding()
    rust.enable_truncation(MAX_TOKENS)
    return json.dumps(json.loads(rust.to_str()), ensure_ascii=False)
