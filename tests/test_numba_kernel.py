"""The decorator compiles, and passes its options to numba."""

from __future__ import annotations

import pytest

from xmodal_cli.numba_kernel import compiled


def summed(count: int) -> int:
    total = 0
    for number in range(count):
        total += number
    return total


@pytest.mark.parametrize("options", [{}, {"fastmath": True}, {"parallel": True}])
def test_a_compiled_function_gives_the_same_and_is_cached(options: dict[str, bool]) -> None:
    kernel = compiled(**options)(summed)
    dispatcher = vars(kernel) | {name: getattr(kernel, name) for name in ("targetoptions", "py_func")}
    assert kernel(1000) == summed(1000)
    assert dispatcher["py_func"] is summed
    assert dispatcher["targetoptions"]["nopython"]
    assert {name: dispatcher["targetoptions"][name] for name in options} == options
    assert type(dispatcher["_cache"]).__name__ == "FunctionCache"
