"""Computes something for each image by the workers of a Ray cluster, with the results of one process, in their order.

Blocks of paths are Ray tasks, which run on one GPU or on ``CPUS`` cores each; Ray repeats the blocks of workers and
nodes that have ended, on the others. A worker loads the model with its first block. A block is a multiple of the batch
size, so that the batches are those of one process. All nodes must have xmodal, and the images under the same paths;
relative paths are relative to the working folder of the process that has the results.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from xmodal_cli.data.image_settings import ImageSettings, image_settings
from xmodal_cli.device import require_ray
from xmodal_cli.errors import Category, Unavailable, XmodalError
from xmodal_cli.features.extraction import batches_of
from xmodal_cli.types import Defect, Unreadable

if TYPE_CHECKING:
    import numpy as np

    from xmodal_cli.data.images import ImageReader

BLOCK = 64  # images: a few seconds of work of two cores
GPU_BLOCK = 1024  # four batches
CPUS = 2
AHEAD = 3  # blocks of each worker that are sent, computed, or wait for an earlier one
CONNECT_SECONDS = 5
RETRIES = 5  # of a block whose worker has ended

Value = TypeVar("Value")
Packed = tuple[dict[str, "np.ndarray"], Any]  # arrays by name, and what JSON has
Block = tuple[int, list[Path]]  # paths, and the index of the first one
# a block of paths and the index of the first one -> (path, value or Unreadable) for each of them
MapBlock = Callable[[list[Path], int], Iterator[tuple[Path, Any]]]


@dataclass(frozen=True)
class ImageMapping(Generic[Value]):
    """What is computed for images, and how the values are sent; pickled by Ray.

    ``build`` runs once in each worker. ``pack`` returns the values of a block as arrays and JSON, ``unpack`` is its
    inverse.
    """

    build: Callable[[ImageReader], MapBlock]
    pack: Callable[[list[Value]], Packed]
    unpack: Callable[[Packed], Iterable[Value]]


@dataclass(frozen=True)
class _RayJob:
    """A mapping for the workers, with the working folder and the settings of this process."""

    key: str
    mapping: ImageMapping[Any]
    folder: str
    settings: ImageSettings


def has_gpu() -> bool:
    """In a worker: whether its task has a GPU."""
    import ray

    return bool(ray.get_gpu_ids())


@contextlib.contextmanager
def ray_cluster(address: str = "") -> Iterator[Any]:
    """The module ``ray``, connected to ``address``, the cluster of this machine or, if there is none, a new one.

    An existing connection is used and kept. Raises Unavailable.
    """
    require_ray()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"  # the workers have the environment of this process
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # of blocks that come after one that has failed
    os.environ.setdefault("RAY_worker_niceness", "0")  # of a new cluster: other processes do not slow it down
    import ray

    if ray.is_initialized():
        yield ray
        return
    try:
        _check_address(address)
        with _same_signal_handlers():
            ray._private.worker.print_to_stdstream = _print_nothing
            ray.init(address or None, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, OSError, RuntimeError, TimeoutError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        where = f"the Ray cluster at {address}" if address else "Ray"
        raise Unavailable(f"{where} cannot be used: {reason}", "see `ray status`") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def map_on_ray(
    mapping: ImageMapping[Value],
    paths: Iterable[Path],
    batch_size: int,
    defects: list[Defect],
    address: str = "",
    first: int = 0,
) -> Iterator[tuple[Path, Value | Unreadable]]:
    """Yield (path, value) or (path, Unreadable) for each of ``paths``, in order, as the function of ``mapping`` does.

    The defects of readable images are added to ``defects``. ``paths`` are read as they are needed; ``first`` is the
    index of the first one. Raises Unavailable, and the errors of the function.
    """
    with ray_cluster(address) as ray:
        has_gpus = bool(ray.cluster_resources().get("GPU"))
        cpus = min([CPUS, *_cores_of_nodes(ray)])
        needs = {"num_gpus": 1, "max_calls": 0} if has_gpus else {"num_cpus": cpus}
        task = ray.remote(max_retries=RETRIES, **needs)(_map_block)
        job = ray.put(_RayJob(uuid.uuid4().hex, mapping, _working_folder(), image_settings()))

        def submit(block: Block) -> Any:
            return task.remote(job, b"\0".join(os.fsencode(path) for path in block[1]), block[0])

        def num_ahead() -> int:
            resources = ray.cluster_resources()
            return AHEAD * max(1, int(resources.get("GPU", 0) if has_gpus else resources.get("CPU", 1) // cpus))

        size = GPU_BLOCK if has_gpus else BLOCK
        blocks = _numbered(batches_of(paths, -(-size // batch_size) * batch_size), first)
        with _errors_of_workers():
            for (_, block), result in _in_order(ray, blocks, submit, num_ahead):
                yield from _from_bytes(mapping, block, result, defects)


def _working_folder() -> str:
    """The working folder, "" if it was deleted."""
    try:
        return str(Path.cwd())
    except OSError:
        return ""


def _numbered(blocks: Iterable[list[Path]], first: int) -> Iterator[Block]:
    """Each block with the index of its first path."""
    for block in blocks:
        yield first, block
        first += len(block)


def _check_address(address: str) -> None:
    """Raise OSError if nothing listens at HOST:PORT; Ray would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()


def _cores_of_nodes(ray: Any) -> list[int]:
    """The cores of each node that computes; a task of more cores than a node has would wait forever."""
    return [int(cores) for node in ray.nodes() if node["Alive"] and (cores := node["Resources"].get("CPU", 0)) >= 1]


def _in_order(
    ray: Any, blocks: Iterator[Block], submit: Callable[[Block], Any], num_ahead: Callable[[], int]
) -> Iterator[tuple[Block, bytes]]:
    """Each block with its result; the next blocks are in progress."""
    queue: deque[tuple[Block, Any]] = deque()
    try:
        while True:
            queue.extend((block, submit(block)) for block in islice(blocks, max(0, num_ahead() - len(queue))))
            if not queue:
                return
            block, reference = queue.popleft()
            yield block, ray.get(reference)
    finally:
        for _, reference in queue:
            ray.cancel(reference)


_built: dict[str, tuple[ImageReader, MapBlock]] = {}  # of this worker, by job


def _map_block(job: _RayJob, block: bytes, first: int) -> bytes:
    """In a worker: a block of paths to safetensors with the arrays of the values, and the rest as metadata."""
    from safetensors.numpy import save

    if job.key not in _built:
        _built.clear()
        _built[job.key] = _build(job)
    reader, map_block = _built[job.key]
    reader.defects.clear()
    values, unreadable = [], {}
    paths = [Path(os.fsdecode(name)) for name in block.split(b"\0")]
    for number, (_, value) in enumerate(map_block(paths, first)):
        if isinstance(value, Unreadable):
            unreadable[number] = [value.reason, value.category.value, value.may_change, value.hint]
        else:
            values.append(value)
    defects = [[str(one.path), one.reason, one.category.value] for one in reader.defects]
    arrays, content = job.mapping.pack(values)
    facts = {"values": content, "unreadable": unreadable, "defects": defects}
    return bytes(save(arrays, {name: json.dumps(fact) for name, fact in facts.items()}))


def _build(job: _RayJob) -> tuple[ImageReader, MapBlock]:
    from xmodal_cli.data.images import ImageReader

    with contextlib.suppress(OSError):  # absolute paths need no folder
        os.chdir(job.folder)
    reader = ImageReader(settings=job.settings)
    return reader, job.mapping.build(reader)


def _from_bytes(
    mapping: ImageMapping[Value], block: list[Path], data: bytes, defects: list[Defect]
) -> Iterator[tuple[Path, Value | Unreadable]]:
    """The results of a block; its defects are added to ``defects``."""
    from safetensors.numpy import load

    metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    unreadable = {int(number): entry for number, entry in json.loads(metadata["unreadable"]).items()}
    defects += [Defect(Path(path), reason, Category(name)) for path, reason, name in json.loads(metadata["defects"])]
    values = iter(mapping.unpack((load(data), json.loads(metadata["values"]))))
    for number, path in enumerate(block):
        if number in unreadable:
            reason, category, may_change, hint = unreadable[number]
            yield path, Unreadable(path, reason, Category(category), may_change, hint)
        else:
            yield path, next(values)


@contextlib.contextmanager
def _errors_of_workers() -> Iterator[None]:
    """Raise the XmodalError of a worker as such, and errors of Ray as Unavailable."""
    from ray.exceptions import RayError

    try:
        yield
    except RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, XmodalError):
            raise cause from None
        reason = (str(cause or error).strip() or type(error).__name__).splitlines()[-1]
        raise Unavailable(f"a worker of Ray has failed: {reason}", "run the command again to resume") from error


def _print_nothing(*_: object, **__: object) -> None:
    """Ray prints errors of nodes on standard output, where the results are, and has no option for it."""


@contextlib.contextmanager
def _same_signal_handlers() -> Iterator[None]:
    """Ray replaces the handler of SIGTERM."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
