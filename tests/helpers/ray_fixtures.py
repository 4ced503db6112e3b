"""A Ray cluster on this machine, and one without processes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOTS = (Path(__file__).parents[1], Path(__file__).parents[2])


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of two nodes, each with one core and its own processes, on this machine."""
    patch = pytest.MonkeyPatch()  # before Ray is imported, which reads some of them then
    patch.setenv("PYTHONPATH", os.pathsep.join(map(str, ROOTS)))  # of the workers
    patch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    patch.setenv("RAY_worker_niceness", "0")
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    from xmodal_cli.features.ray_mapping import ray_cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 80 * 2**20})
    nodes.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    with ray_cluster(nodes.address):
        yield nodes
    nodes.shutdown()
    patch.undo()


@dataclass
class InlineRay:
    """The functions of the module ``ray`` that mappings use; tasks run in this process when they are submitted.

    ``tasks`` are their arguments.
    """

    cores: int = 2
    tasks: list[tuple[Any, ...]] = field(default_factory=list)

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": self.cores}

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": self.cluster_resources()}]

    def remote(self, **needs: Any) -> Callable[[Callable[..., Any]], Any]:
        assert needs["num_cpus"] <= self.cores

        def to_task(function: Callable[..., Any]) -> Any:
            def submit(*arguments: Any) -> Any:
                self.tasks.append(arguments)
                return function(*arguments)

            return type("Task", (), {"remote": staticmethod(submit)})

        return to_task

    def put(self, value: Any) -> Any:
        return value

    def get(self, value: Any) -> Any:
        return value

    def cancel(self, value: Any) -> None: ...


@pytest.fixture
def inline_ray(monkeypatch: pytest.MonkeyPatch) -> InlineRay:
    """Mappings run in this process instead of a cluster."""
    pytest.importorskip("ray")
    from xmodal_cli.features import ray_mapping

    ray = InlineRay()
    monkeypatch.setattr(ray_mapping, "ray_cluster", lambda address="": contextlib.nullcontext(ray))
    monkeypatch.setattr("xmodal_cli.inference.ray_captioning.has_gpu", lambda: False)
    return ray
