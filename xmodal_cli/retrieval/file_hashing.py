"""The digests of the bytes of files, computed by several threads ahead of their use."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

from xmodal_cli.data.image_content import check_content
from xmodal_cli.data.scan import FoundFile
from xmodal_cli.errors import Category
from xmodal_cli.file_identity import open_regular
from xmodal_cli.retrieval.items import RETRY, UnreadableFile

AHEAD = 64  # files hashed ahead of embedding: the second read comes from the page cache
DELETED = ""  # the reason of a file deleted during the update: it is not listed


@dataclass(frozen=True, slots=True)
class HashedFile:
    """A file and the digest of its bytes; its size and modification time are those when it was read."""

    file: FoundFile
    digest: bytes


def file_digest(path: str) -> bytes:
    """BLAKE2b-128 of a file's bytes. Raises OSError."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, _blake).digest()


def hash_ahead(pool: ThreadPoolExecutor, files: Sequence[FoundFile]) -> Iterator[HashedFile | UnreadableFile]:
    """Hash ``files`` in order, up to ``AHEAD`` of them ahead of the consumer."""
    remaining = iter(files)
    queue = deque(pool.submit(_hash_file, file) for file in islice(remaining, AHEAD))
    while queue:
        yield queue.popleft().result()
        queue.extend(pool.submit(_hash_file, file) for file in islice(remaining, 1))


def _hash_file(file: FoundFile) -> HashedFile | UnreadableFile:
    try:
        if (problem := check_content(file.path)) is not None:
            mtime_ns = RETRY if problem.may_change else file.mtime_ns
            return UnreadableFile(file.path, file.size, mtime_ns, problem.message, problem.category)
        with open_regular(file.path) as content:
            status = os.fstat(content.fileno())
            digest = hashlib.file_digest(content, _blake).digest()
        return HashedFile(FoundFile(file.path, status.st_size, status.st_mtime_ns), digest)
    except FileNotFoundError:
        return UnreadableFile(file.path, file.size, RETRY, DELETED)
    except OSError as error:  # may be temporary
        return UnreadableFile(file.path, file.size, RETRY, error.strerror or str(error), Category.UNREADABLE)


def _blake() -> Any:
    return hashlib.blake2b(digest_size=16)
