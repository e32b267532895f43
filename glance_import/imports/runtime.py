"""What a flow finds at hand while it is built and run.

A flow's factory takes plain JSON, so that a flow can be made again in
another process. What its steps work with is found here instead: the services
of the process, the lease the import runs under, and who asked for it. It is
a context variable, set around the making of a flow, so that several services
can live in one process.
"""

from __future__ import annotations

import collections.abc
import contextlib
import contextvars
import dataclasses
import threading
import typing

from glance_import import context as contexts
from glance_import.db import jobs as db_jobs
from glance_import import errors
from glance_import.plugin import snapshot as snapshots

if typing.TYPE_CHECKING:
    import sqlalchemy as sa

    from glance_import.plugin import registry
    from glance_import import services as all_services


Interrupted = errors.Interrupted


class Stop(threading.Event):
    """Tells a running import to stop, and why.

    ``cancelled``: it fails, and undoes what it did. Otherwise it is handed
    over: somebody goes on with it where it stands.
    """

    def __init__(self) -> None:
        super().__init__()
        self.cancelled = False
        # What the import is at, which is written when its lease is renewed.
        self.step: str | None = None
        # The label of the step that runs; nothing is decided by it.
        self.at: str | None = None

    @property
    def handed_over(self) -> bool:
        return self.is_set() and not self.cancelled

    def cancel(self) -> None:
        self.cancelled = True
        self.set()

    def hand_over(self) -> None:
        """Also of one that was cancelled: it is no longer ours to undo."""
        self.cancelled = False
        self.set()


@dataclasses.dataclass(slots=True)
class Runtime:
    """One attempt at one import."""

    services: all_services.Services
    job: db_jobs.Job
    lease: db_jobs.Lease
    context: contexts.RequestContext
    # Set when the lease is lost or the import is to stop.
    stopped: Stop
    # What it is judged by; the plugins have the options of the import.
    snapshot: snapshots.Snapshot = snapshots.Snapshot()
    plugins: list[registry.Loaded] = dataclasses.field(default_factory=list)
    # Seconds of the steps that have ended under this lease, by label.
    times: dict[str, float] = dataclasses.field(default_factory=dict)
    # The label of the one that failed.
    failed: str | None = None
    # What is to be written in the transaction that records the next step.
    unwritten: list[collections.abc.Callable[[sa.Connection], None]] = (
        dataclasses.field(default_factory=list))

    def check_plugins(self) -> None:
        """Whether the plugins are still those of the import.

        :raises snapshot.NotHonoured: one of them is another one by now
        """
        self.services.honour(self.snapshot)


_current: contextvars.ContextVar[Runtime] = contextvars.ContextVar(
    'glance_import_runtime')


def current() -> Runtime:
    """The runtime of the flow that is being built.

    :raises LookupError: none is
    """
    return _current.get()


@contextlib.contextmanager
def use(runtime: Runtime) -> collections.abc.Iterator[None]:
    """Let the flows built inside find ``runtime``."""
    token = _current.set(runtime)
    try:
        yield
    finally:
        _current.reset(token)
