"""The functions that decoding needs, for arrays of torch and of NumPy: each library has a module with the same names.

Captioners that run with torch return tensors, exported ones NumPy arrays, and decoding is written once. Functions that
both libraries have as methods of arrays, such as ``sum`` and ``reshape``, are used directly.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def library_of(array: Any) -> Any:
    """The module ``numpy_functions`` or ``torch_functions``, whichever computes with ``array``."""
    if isinstance(array, np.ndarray):
        from xmodal_cli.captioning import numpy_functions

        return numpy_functions
    from xmodal_cli.captioning import torch_functions

    return torch_functions
