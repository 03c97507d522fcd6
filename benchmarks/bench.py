"""A run of the benchmark: its folder, its servers, its targets and its figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import targets
from benchmarks.figures import Figures
from benchmarks.measure import Cost, cost
from benchmarks.peers import PEERS
from benchmarks.processes import (
    LOAD_CORE,
    BrokenTargetError,
    Launch,
    Pace,
    Process,
    Request,
    Target,
    compile_programs,
    start_mock,
    start_target,
    stop,
)
from benchmarks.targets import BARE, CONTROL, FULL, NGINX

CPU, INSTRUCTIONS, RATE, CORE = "CPU us", "instructions", "requests/s", "share of a core"
"""Names of figures. The name of a column is the target, a comma and the name of the figure."""

DIRECT, STORE = "no proxy", "Redis"


def column(target: str, figure: str) -> str:
    """Return the name of the column with a figure of a target."""
    return f"{target}, {figure}"


@dataclass
class Bench:
    """Starts servers and targets on their first use, and stops them at the end of the run."""

    folder: Path
    seconds: float
    """Length of one measurement."""
    quick: bool = False
    peers: tuple[str, ...] = ()
    """The other gateways to measure."""
    figures: Figures = field(default_factory=Figures)
    _running: list[Process] = field(default_factory=list)
    _targets: dict[str, Target | None] = field(default_factory=dict)
    _ports: dict[str, int | None] = field(default_factory=dict)
    _servers: dict[str, Process] = field(default_factory=dict)
    _launched: int = 0

    def __post_init__(self) -> None:
        """Compile the mock and the load generator."""
        compile_programs(self.folder)

    def close(self) -> None:
        """Stop all processes, the latest first."""
        for process in reversed(self._running):
            stop(process)
        self._running.clear()
        self._targets.clear()

    def upstream(self, cores: set[int] = LOAD_CORE) -> int:
        """Return the port of the mock on these cores."""
        return self._server(f"mock {sorted(cores)}", lambda: start_mock(self.folder, cores)) or 0

    def redis(self) -> int:
        """Return the port of Redis."""
        return self._server("redis", lambda: targets.start_redis(self.folder)) or 0

    def tls_front(self) -> int | None:
        """Return the port at which the mock is reached with TLS, or None if this machine cannot serve TLS."""
        return self._server("tls", lambda: targets.start_tls_front(self.folder, self.upstream()))

    def _server(self, name: str, start: Callable[[], tuple[Process, int] | None]) -> int | None:
        if name not in self._ports:
            started = start()
            self._ports[name] = started[1] if started else None
            if started:
                self._running.append(started[0])
                self._servers[name] = started[0]
        return self._ports[name]

    def place(self, name: str, cores: set[int] = LOAD_CORE) -> targets.Place:
        """Return a new folder for a target, the port of the mock on `cores`, and the function that returns the port of Redis."""
        self._launched += 1
        return targets.Place(self.folder / f"{self._launched}-{name.replace(' ', '-')}", self.upstream(cores), self.redis)

    def direct(self) -> Target:
        """Return the mock as a target, for the latency of calls without a proxy."""
        return Target(DIRECT, self.upstream(), self._running[0], 0)

    def launch(self, name: str) -> Launch | None:
        """Return the command that starts a target in a new folder, or None if it is not installed."""
        folder, upstream = self.place(name).folder, self.upstream()
        if name in (NGINX, CONTROL):
            return targets.nginx(name, folder, upstream)
        if name == "haproxy":
            return targets.haproxy(folder, upstream)
        if name in PEERS:
            return PEERS[name].launch(folder, upstream)
        return targets.gateway(name, self.place(name), full=name == FULL)

    def target(self, name: str, launch: Callable[[], Launch | None] | None = None) -> Target | None:
        """Return a running target, started on its first use, or None if it is not installed or does not start.

        The report notes a peer that does not start; the failure of any other target ends the run.
        """
        if name not in self._targets:
            how = launch() if launch else self.launch(name)
            try:
                self._targets[name] = start_target(self.folder, how) if how else None
            except BrokenTargetError as error:
                if name not in PEERS:
                    raise
                self._targets[name] = None
                self.figures.note("targets", f"{name}: {str(error).splitlines()[0][:300]}")
            target = self._targets[name]
            if target:
                self._running.append(target.process)
        return self._targets[name]

    def retire(self, name: str) -> None:
        """Stop a target, so that a later use starts it again."""
        target = self._targets.pop(name, None)
        if target:
            stop(target.process)
            self._running.remove(target.process)

    @contextmanager
    def alone(self, name: str, launch: Callable[[], Launch | None] | None = None) -> Iterator[Target | None]:
        """Yield a target that runs for one measurement only, or None if it is not installed or does not start."""
        self.retire(name)
        try:
            yield self.target(name, launch)
        finally:
            self.retire(name)

    def names(self, *, ours: tuple[str, ...] = (FULL, BARE), heavy: bool = False) -> list[str]:
        """Return the targets of a measurement: the gateway, nginx and, in a comparison, the peers.

        With `heavy`, peers that need minutes for this load are left out.
        """
        others = ["haproxy", *(name for name in self.peers if not (heavy and PEERS[name].slow))] if self.peers else []
        return [*ours, NGINX, *others]

    def compare(self, table: str, row: str, names: list[str], request: Request, connections: int) -> None:
        """Measure a request on several targets in turn, and add CPU time, instructions and rate to a row of the table."""
        for name in names:
            target = self.target(name)
            if target is None:
                continue
            try:
                store = self._servers["redis"].pid if name == FULL else None
                self.add(table, row, name, cost(self.folder, target, request, Pace(connections, self.seconds), store=store))
            except BrokenTargetError as error:
                self.refuse(table, row, name, error)

    def refuse(self, table: str, row: str, name: str, error: BrokenTargetError) -> None:
        """Note that a peer has no figure, because it gave a wrong answer. A wrong answer of any other target ends the run."""
        if name not in PEERS:
            raise error
        self.figures.note(table, f"{name} has no figure for {row}: {str(error).splitlines()[0][:200]}")

    def add(self, table: str, row: str, name: str, spent: Cost, parts: int = 1) -> None:
        """Add the costs of a request at a target to a row, divided by `parts`, such as the number of events. The rate is not divided."""
        self.figures.add(table, row, column(name, CPU), spent.microseconds / parts)
        self.figures.add(table, row, column(name, RATE), spent.load.per_second)
        self.figures.add(table, row, column(name, CORE), spent.microseconds * spent.load.per_second / 1e6)
        if spent.store_microseconds is not None:
            self.figures.add(table, row, column(STORE, CPU), spent.store_microseconds / parts)
        if spent.instructions is not None:
            self.figures.add(table, row, column(name, INSTRUCTIONS), spent.instructions / parts)
