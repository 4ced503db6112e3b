"""Starts the processes of a training on this machine with torchrun."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence

from xmodal_cli import interrupts
from xmodal_cli.errors import ConfigError

INTERRUPTED = 128 + signal.SIGINT


def run_processes(num_processes: int, arguments: Sequence[str]) -> int:
    """Run ``xmodal ARGUMENTS`` in ``num_processes`` processes; returns the exit status of the first that fails, or 0.

    When one fails, the others are ended. After Ctrl-C, which all of them receive, it returns 130, as a training by one
    process does. Raises ConfigError for fewer than one process, and inside torchrun.
    """
    if num_processes < 1:
        raise ConfigError(f"--nproc must be at least 1, not {num_processes}", "give one process per GPU")
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise ConfigError("--nproc starts torchrun, in which this process is running", "omit --nproc")
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=num_processes,
        run_id=f"xmodal-{os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.1,
    )
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the processes report their errors
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // num_processes)))
    interrupts.leave_to_children()
    try:
        elastic_launch(config, sys.executable)("-m", "xmodal_cli", *arguments)
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        return failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode
    except SignalException as error:
        return 128 + error.sigval
    return 0
