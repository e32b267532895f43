"""CPU of processes and of everything they have started.

A sandbox's first process outlives the program that starts it, so what it
used is counted for whoever it is given to then. ``adopt`` makes that this
process, and ``spent`` takes it into account. Linux only.
"""

from __future__ import annotations

import collections.abc
import contextlib
import ctypes
import os
import resource

import psutil

_PR_SET_CHILD_SUBREAPER = 36


def adopt() -> None:
    """Orphans of what this process starts become its own children."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), 'PR_SET_CHILD_SUBREAPER')


def _reap() -> None:
    """Have the kernel count the adopted ones that have ended."""
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error, ChildProcessError):
            # Ours by birth are waited for by who started them.
            if child.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(child.pid, os.WNOHANG)


def of(pid: int) -> float:
    """Seconds that a process and its ended children have used so far."""
    return sum(psutil.Process(pid).cpu_times()[:4])


def spent(pids: collections.abc.Iterable[int] = ()) -> float:
    """Seconds of those processes, this one, and all that ended below."""
    _reap()
    used = [resource.getrusage(who) for who in (
        resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return (sum(map(of, pids))
            + sum(each.ru_utime + each.ru_stime for each in used))


def adopted() -> float:
    """Seconds of children of this process that have ended."""
    _reap()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
