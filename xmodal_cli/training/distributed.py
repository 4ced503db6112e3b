"""Training by several processes that torchrun has started, one per GPU or per group of CPU cores.

Each process encodes its part of a global batch. The embeddings of all parts are gathered with their gradients, so that
every process has the loss of the global batch, in-batch negatives of other processes included. DistributedDataParallel
averages the gradients of the processes, which are then those of one process with the same batch.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from xmodal_cli.device import Compute
from xmodal_cli.errors import ConfigError, XmodalError
from xmodal_cli.training.batches import Batch
from xmodal_cli.training.task import BatchLoss

SECONDS_TO_END = 2.0  # in which torchrun ends the processes after one has failed
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

    def shard(self, rows: Tensor) -> Tensor:
        """(n, ...) -> (ceil(n / size), ...): the rows of this process; the last row fills the last shards."""
        if self.size == 1:
            return rows
        count = -(-len(rows) // self.size)
        chosen = torch.arange(self.rank * count, (self.rank + 1) * count).clamp(max=len(rows) - 1)
        return rows[chosen.to(rows.device)]

    def gather(self, rows: Tensor, count: int) -> Tensor:
        """The rows of all shards, in order: (ceil(count / size), dim) -> (count, dim), with gradients.

        The gradient of the own rows is multiplied by ``size``, because gradients are averaged over the processes.
        """
        if self.size == 1:
            return rows
        gathered: Tensor = _Gather.apply(rows, self)
        return gathered[:count]

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

    def parallel_loss(self, model: nn.Module, batch_loss: BatchLoss) -> BatchLoss:
        """``batch_loss`` of ``model``, whose backward pass averages the gradients over the processes."""
        if self.size == 1:
            return batch_loss
        module = _LossModule(model, batch_loss)
        return cast(BatchLoss, DistributedDataParallel(module, find_unused_parameters=True))


SINGLE = ProcessGroup()


class _Gather(torch.autograd.Function):
    """all_gather, whose backward pass returns the gradient of the own rows, times the number of processes."""

    @staticmethod
    def forward(context: Any, rows: Tensor, group: ProcessGroup) -> Tensor:
        context.group, context.count = group, len(rows)
        parts = [torch.empty_like(rows) for _ in range(group.size)]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        start = context.group.rank * context.count
        return gradient[start : start + context.count] * context.group.size, None


class _LossModule(nn.Module):
    """A loss as a module with the weights that it depends on, for DistributedDataParallel."""

    def __init__(self, model: nn.Module, batch_loss: BatchLoss) -> None:
        super().__init__()
        self.model, self._batch_loss = model, batch_loss

    def forward(self, batch: Batch) -> Tensor:
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
