"""Training by several processes that torchrun has started, one per GPU or per group of CPU cores.

Each process encodes its part of a global batch. The embeddings of all parts are gathered with their gradients, so that
every process has the loss of the global batch, in-batch negatives of other processes included; the losses of captioners
are summed. DistributedDataParallel averages the gradients of the processes, which are then those of one process with
the same batch.
"""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from xmodal_cli.device import Compute
from xmodal_cli.errors import ConfigError, XmodalError
from xmodal_cli.training.batches import Batch
from xmodal_cli.training.synchronized_norms import synchronized_norms
from xmodal_cli.training.task import BatchLoss

SECONDS_TO_END = 2.0  # in which torchrun ends the processes after one has failed
T = TypeVar("T")
TIMEOUT = timedelta(hours=12)  # the other processes wait while the main one extracts features


class ProcessEnded(XmodalError):
    """Another process of the same training has ended."""


@dataclass(frozen=True)
class ProcessGroup:
    """The processes of a training: this one has number ``rank`` of ``size``, and ``local_rank`` on its machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files and the messages of the run."""
        return self.rank == 0

    def compute(self, compute: Compute) -> Compute:
        """``compute``, resolved, on the GPU of this process if it is a GPU. Raises the errors of ``resolve``."""
        resolved = compute.resolve()
        if self.size == 1 or resolved.device != "cuda":
            return resolved
        return Compute(f"cuda:{self.local_rank}", resolved.precision, resolved.runtime)

    def part(self, count: int) -> slice:
        """Which of ``count`` rows are those of this process: parts of equal size, up to one row; it may be empty."""
        return _part(self.rank, self.size, count)

    def shard(self, rows: Tensor) -> Tensor:
        """(n, ...) -> the rows of this process, or the last one, which stands in, if its part is empty."""
        own = rows[self.part(len(rows))]
        return own if len(own) else rows[-1:]

    def blocks(self, count: int, size: int) -> list[int]:
        """The rows of this process where ``count`` rows are read in batches of ``size``: every batch is that of one
        process, so that its results are the same.
        """
        starts = range(self.rank * size, count, self.size * size)
        return [row for start in starts for row in range(start, min(start + size, count))]

    def merge(self, rows: Sequence[int], values: Sequence[T]) -> list[T]:
        """The values of all ``rows`` of all processes, by row."""
        if self.size == 1:
            return list(values)
        parts: list[Any] = [None] * self.size
        dist.all_gather_object(parts, (rows, values))
        by_row = {row: value for own_rows, own in parts for row, value in zip(own_rows, own, strict=True)}
        return [by_row[row] for row in sorted(by_row)]

    def gather(self, rows: Tensor, count: int, all_have_the_loss: bool = True) -> Tensor:
        """The rows of all shards, in order: (own rows, dim) -> (count, dim), with gradients.

        The gradient of the own rows is multiplied by ``size``, because gradients are averaged over the processes. It is
        that of this process, if ``all_have_the_loss`` of the whole batch, otherwise the sum over the processes.
        """
        if self.size == 1:
            return rows
        gathered: Tensor = _Gather.apply(rows, self, count, all_have_the_loss)
        return gathered

    def gather_array(self, rows: np.ndarray, count: int) -> np.ndarray:
        """``gather`` for a float32 array, without gradients."""
        if self.size == 1:
            return rows
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        with torch.no_grad():
            return self.gather(torch.from_numpy(rows).to(device), count).cpu().numpy()

    def broadcast(self, value: Any) -> Any:
        """``value`` of the main process, in all processes."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values)
        return values[0]

    @contextlib.contextmanager
    def main_first(self) -> Iterator[None]:
        """The main process runs the body before the others do; they then find what it has written to a cache."""
        if self.size > 1 and not self.is_main:
            dist.barrier()
        yield
        if self.size > 1 and self.is_main:
            dist.barrier()

    @contextlib.contextmanager
    def same_random_numbers(self, device: torch.device) -> Iterator[None]:
        """The body has the random numbers of the main process, after which the other processes continue with their own.

        For losses that sample negatives: all processes have the same loss.
        """
        if self.size == 1:
            yield
            return
        with contextlib.ExitStack() as stack:
            if not self.is_main:
                stack.enter_context(torch.random.fork_rng(devices=[device] if device.type == "cuda" else []))
            modules: list[Any] = [torch] if device.type == "cpu" else [torch, torch.cuda]
            for module in modules:
                state = module.get_rng_state().to(device)
                dist.broadcast(state, 0)
                module.set_rng_state(state.cpu())
            yield

    def parallel_loss(self, model: nn.Module, batch_loss: BatchLoss) -> BatchLoss:
        """``batch_loss`` of ``model``, whose backward pass averages the gradients over the processes."""
        if self.size == 1:
            return batch_loss
        module = _LossModule(model, batch_loss)
        return cast(BatchLoss, DistributedDataParallel(module, find_unused_parameters=True))


SINGLE = ProcessGroup()


def _part(rank: int, size: int, count: int) -> slice:
    return slice(rank * count // size, (rank + 1) * count // size)


class _Gather(torch.autograd.Function):
    """all_gather; backward, the gradient of the own rows times the number of processes, or summed over them."""

    @staticmethod
    def forward(context: Any, rows: Tensor, group: ProcessGroup, count: int, all_have_the_loss: bool) -> Tensor:
        context.group, context.count, context.shape = group, count, rows.shape
        context.all_have_the_loss = all_have_the_loss
        padded = rows.new_zeros(-(-count // group.size), *rows.shape[1:])  # the parts differ by one row
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in range(group.size)]
        dist.all_gather(parts, padded)
        slices = [_part(rank, group.size, count) for rank in range(group.size)]
        return torch.cat([part[: own.stop - own.start] for part, own in zip(parts, slices, strict=True)])

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        group = context.group
        if context.all_have_the_loss:
            own = gradient[group.part(context.count)] * group.size
        else:
            total = gradient.contiguous().clone()
            dist.all_reduce(total)
            own = total[group.part(context.count)]
        return own if len(own) else gradient.new_zeros(context.shape), None, None, None


class _LossModule(nn.Module):
    """A loss as a module with the weights that it depends on, for DistributedDataParallel."""

    def __init__(self, model: nn.Module, batch_loss: BatchLoss) -> None:
        super().__init__()
        self.model, self._batch_loss = model, batch_loss

    def forward(self, batch: Batch) -> Tensor:
        with synchronized_norms(self.model):
            return self._batch_loss(batch)


def is_main_process() -> bool:
    """Whether this process is the only one of a training, or the one that writes. Raises ConfigError."""
    return _read_environment().is_main


@contextlib.contextmanager
def process_group(device: str) -> Iterator[ProcessGroup]:
    """The group that torchrun describes in the environment; one process without it.

    A process that ends leaves the others waiting: errors of communication become ``ProcessEnded``. Raises ConfigError
    for an incomplete environment.
    """
    group = _read_environment()
    if group.size == 1:
        yield SINGLE
        return
    import torch.distributed.nn  # before a group exists, which its default arguments would keep alive

    uses_gpu = device != "cpu" and torch.cuda.is_available()
    if uses_gpu:
        torch.cuda.set_device(group.local_rank)
    with _communication_errors():
        dist.init_process_group("nccl" if uses_gpu else "gloo", timeout=TIMEOUT)
        try:
            yield group
        except XmodalError:
            if not group.is_main:  # an error that all have is reported by the main process only
                time.sleep(SECONDS_TO_END)
            raise
        gc.collect()  # a thread of gloo that releases a tensor while the interpreter ends would abort the process
        dist.destroy_process_group()


def _read_environment() -> ProcessGroup:
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return SINGLE
    try:
        rank, size, local_rank = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    except (KeyError, ValueError) as error:
        hint = "start it with torchrun --nproc-per-node N -m xmodal_cli train ..., or xmodal train --nproc N"
        raise ConfigError(
            f"WORLD_SIZE is set, but the environment of torchrun is incomplete or invalid: {error}", hint
        ) from error
    return ProcessGroup(rank, size, local_rank)


@contextlib.contextmanager
def _communication_errors() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo has no error class of its own
        is_gloo = any(word in str(error) for word in ("gloo", "Connection closed by peer", "Connection reset by peer"))
        if not (is_gloo or isinstance(error, dist.DistError)):
            raise
        reason = str(error).strip().splitlines()[0]
        hint = "see its error; the run can be resumed with --resume"
        raise ProcessEnded(f"another process of this training has ended ({reason})", hint) from error
