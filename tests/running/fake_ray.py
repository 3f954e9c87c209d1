"""A Ray whose nodes are values: their answers to a probe, their replies and their death are set."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from types import SimpleNamespace
from typing import Any

from archsearch.running.runners.software import Answer, software


class RayError(Exception):
    """Raised by `FakeRay.get` for a task whose worker died."""


class TaskUnschedulableError(RayError):
    """Raised by `FakeRay.get` for a task whose node died before it had it."""


@dataclass
class FakeNode:
    """``changes`` is what differs from the software of this machine."""

    name: str
    cpus: int = 1
    address: str = "10.0.0.9"
    changes: dict[str, str] = field(default_factory=dict)
    alive: bool = True
    answers: bool = True
    sees_folder: bool = True
    protected: bool = True

    def answer(self, path: str, modules: Sequence[str] = ()) -> dict[str, Any]:
        content = path.rpartition("/")[2] if self.sees_folder else "FileNotFoundError: no such file"
        return asdict(Answer(content, self.protected, {**software(modules), **self.changes}))


def hex_id(node: FakeNode) -> str:
    """An id in Ray's form."""
    return f"{id(node):056x}"


@dataclass(eq=False)
class Task:
    """A task on a node: a probe, or a job whose ``reply`` comes when a test sets it."""

    node: FakeNode
    job: dict[str, Any] | None
    reply: Any = None
    path: str = ""

    @property
    def ready(self) -> bool:
        return self.reply is not None


class FakeRay:
    """What the runner calls of the module `ray`. `tasks` are the jobs that were sent."""

    exceptions = SimpleNamespace(RayError=RayError, TaskUnschedulableError=TaskUnschedulableError)

    def __init__(self, *nodes: FakeNode) -> None:
        self.list, self.head_answers = list(nodes), True
        self.tasks, self.probes = list[Task](), list[Task]()

    def nodes(self) -> list[dict[str, Any]]:
        if not self.head_answers:
            raise RayError("no answer")
        return [
            {
                "NodeID": hex_id(node), "Alive": node.alive, "Resources": {"CPU": node.cpus},
                "NodeManagerHostname": node.name, "NodeManagerAddress": node.address,
            }
            for node in self.list
        ]  # fmt: skip

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": sum(node.cpus for node in self.list if node.alive)}

    def remote(self, **options: Any) -> Callable[[Any], "Remote"]:
        return lambda function: Remote(self, function.__name__, options)

    def wait(self, refs: list[Task], **_: Any) -> tuple[list[Task], list[Task]]:
        return [r for r in refs if r.ready], [r for r in refs if not r.ready]

    def get(self, ref: Task) -> Any:
        if isinstance(ref.reply, Exception):
            raise ref.reply
        return ref.reply

    def cancel(self, ref: Task, **_: Any) -> None: ...


class Remote:
    """A remote function, bound to a node by its options."""

    def __init__(self, ray: FakeRay, name: str, options: dict[str, Any]) -> None:
        self._ray, self._name, self._options = ray, name, options

    def options(self, **more: Any) -> "Remote":
        return Remote(self._ray, self._name, {**self._options, **more})

    def remote(self, argument: Any, other: Any) -> Task:
        node_id = self._options["scheduling_strategy"].node_id
        node = next(node for node in self._ray.list if hex_id(node) == node_id)
        if self._name == "probe":
            answer = node.answer(argument, other) if node.answers else None
            self._ray.probes.append(Task(node, None, answer, argument))
            return self._ray.probes[-1]
        task = Task(node, argument)
        self._ray.tasks.append(task)
        return task
