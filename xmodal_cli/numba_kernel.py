"""``compiled``: numba's ``njit`` with a cache on disk, as a typed decorator. Numba is imported when it is applied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(*, parallel: bool = False, fastmath: bool = False) -> Callable[[Function], Function]:
    """Decorate a function of numpy arrays and numbers: compiled at its first call, then read from numba's cache.

    With ``parallel`` the loops over ``numba.prange`` run on all cores; ``fastmath`` allows sums in another order.
    """
    from numba import njit

    return cast(Callable[[Function], Function], njit(cache=True, parallel=parallel, fastmath=fastmath))
