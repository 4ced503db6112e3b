"""Python warnings of xmodal in the command line: lines on stderr, as those of a Reporter."""

from __future__ import annotations

import warnings
from typing import Any

from xmodal_cli.batch_size import BatchSizeWarning
from xmodal_cli.cli.output import TerminalReporter


def print_as_lines() -> None:
    """From now on, print warnings of smaller batches without the name of a source file; others as before."""
    default = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *rest: Any, **others: Any) -> None:
        if issubclass(category, BatchSizeWarning):
            TerminalReporter().warn(str(message))
        else:
            default(message, category, *rest, **others)

    warnings.showwarning = show
