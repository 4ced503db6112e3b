"""``compiled``: numba's ``njit`` with an on-disk cache, as a typed decorator. Imports numba when it is applied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(*, parallel: bool = False, fastmath: bool = False) -> Callable[[Function], Function]:
    """Compile a function of numpy arrays and scalars at its first call; later processes load it from numba's cache.

    ``parallel`` runs loops over ``numba.prange`` on all cores; ``fastmath`` allows reordered floating-point sums.
    """
    from numba import njit

    return cast(Callable[[Function], Function], njit(cache=True, parallel=parallel, fastmath=fastmath))
