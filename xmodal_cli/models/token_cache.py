"""The tokens of many captions on disk: encoded once, then read through the memory map.

A folder ``cache/tokens/DIGEST`` has the files ``ids.bin`` and ``lengths.bin``, arrays without a header, and
``tokens.json``, which describes them. The digest is that of the captions and the tokenizer. The folder appears as a
whole; one that does not match its description is written again.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from xmodal_cli import atomic_folder, json_checksum, paths
from xmodal_cli.file_identity import sha256_of
from xmodal_cli.models.flat_tokens import Encode, FlatTokens, dtype_of, encode_flat, encode_in_chunks
from xmodal_cli.models.tokenizer import Tokenizer
from xmodal_cli.reporter import SILENT, Reporter

FORMAT = 1
MIN_CAPTIONS = 50_000  # fewer are encoded in about a second
IDS, LENGTHS, DESCRIPTION = "ids.bin", "lengths.bin", "tokens.json"
_LENGTH = np.dtype("<i4")


def cached_tokens(
    captions: Sequence[str], tokenizer: Tokenizer, encode: Encode, reporter: Reporter = SILENT
) -> FlatTokens:
    """What ``encode``, a method of ``tokenizer``, returns for the captions; from the cache if there are many.

    Another process that needs the same tokens waits. Raises BadData for invalid Unicode, StorageError.
    """
    if len(captions) < MIN_CAPTIONS:
        return encode_flat(captions, encode, tokenizer.vocab_size)
    folder = paths.cache_dir() / "tokens" / _digest(captions, tokenizer, encode)[:32]
    if (tokens := _read(folder)) is not None:
        return tokens
    with atomic_folder.write_lock(folder, "tokens", reporter, math.inf):
        atomic_folder.recover(folder)
        if (tokens := _read(folder)) is None:  # another process may have written it meanwhile
            _write(folder, captions, tokenizer, encode, reporter)
            tokens = _read(folder)
    assert tokens is not None
    return tokens


def _digest(captions: Sequence[str], tokenizer: Tokenizer, encode: Encode) -> str:
    """Of the captions with their number and lengths, the tokenizer, and the name of the method."""
    digest = hashlib.sha256(repr((FORMAT, len(captions), encode.__name__, tokenizer.to_json())).encode())
    for caption in captions:
        content = caption.encode(errors="surrogatepass")  # ``encode`` raises the error
        digest.update(len(content).to_bytes(4, "little") + content)
    return digest.hexdigest()


def _write(folder: Path, captions: Sequence[str], tokenizer: Tokenizer, encode: Encode, reporter: Reporter) -> None:
    size = tokenizer.vocab_size
    with paths.storage_errors(folder), atomic_folder.draft_path(folder) as draft:
        with (
            open(draft / IDS, "wb") as ids,
            open(draft / LENGTHS, "wb") as lengths,
            reporter.task("tokens", len(captions), "captions") as task,
        ):
            for part, counts in encode_in_chunks(captions, encode, size):
                ids.write(part.tobytes())
                lengths.write(np.array(counts, _LENGTH).tobytes())
                task.advance(len(counts))
        checksums = {name: sha256_of(draft / name) for name in (IDS, LENGTHS)}
        description = {"format": FORMAT, "dtype": np.dtype(dtype_of(size)).str, "checksums": checksums}
        paths.write_text(draft / DESCRIPTION, json_checksum.to_text(description, indent=2) + "\n")
        atomic_folder.replace_folder(draft, folder)


def _read(folder: Path) -> FlatTokens | None:
    """The tokens in a folder; None if it does not exist or is damaged."""
    try:
        description = json_checksum.parse((folder / DESCRIPTION).read_bytes())
        if any(sha256_of(folder / name) != description["checksums"][name] for name in (IDS, LENGTHS)):
            return None
        lengths = np.fromfile(folder / LENGTHS, _LENGTH).astype(np.int64)
        ids = np.memmap(folder / IDS, np.dtype(description["dtype"]), mode="r")
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return FlatTokens(ids, torch.from_numpy(lengths)) if int(lengths.sum()) == len(ids) else None
