"""CPU of processes and of everything they have started.

Of children that have ended too: the sandbox of a plugin costs more than the
process that starts it. The first process in a sandbox outlives the program
that started it, and is then given to somebody else, who has to count it:
``adopt`` makes that this process. Linux only.
"""

from __future__ import annotations

import collections.abc
import contextlib
import ctypes
import os
import resource
import time

import psutil

_PR_SET_CHILD_SUBREAPER = 36
_SANDBOX = 'bwrap'
_adopted = 0.0


def adopt(wanted: bool = True) -> None:
    """Orphans of what this process starts become its own children, or not."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0):
        raise OSError(ctypes.get_errno(), 'PR_SET_CHILD_SUBREAPER')


def adopted() -> float:
    """Seconds of sandboxes that were given to this process and ended."""
    global _adopted
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error, ChildProcessError):
            # Others are waited for by who started them.
            if child.status() == psutil.STATUS_ZOMBIE \
                    and child.name() == _SANDBOX:
                _pid, _status, used = os.wait4(child.pid, os.WNOHANG)
                _adopted += used.ru_utime + used.ru_stime
    return _adopted


def family(pid: int) -> list[int]:
    """A process and all that it started and that is alive."""
    return [pid, *(child.pid for child in psutil.Process(pid).children(
        recursive=True))]


def of(pids: collections.abc.Iterable[int]) -> float:
    """Seconds that processes and their ended children have used so far."""
    total = 0.0
    for pid in pids:
        with contextlib.suppress(psutil.Error, OSError):
            # The clock of another process, as clock_getcpuclockid(3) makes
            # it: finer than the ticks of its children.
            total += time.clock_gettime(~pid << 3 | 2)
            times = psutil.Process(pid).cpu_times()
            total += times.children_user + times.children_system
    return total


def below(*roots: int) -> float:
    """Seconds of these processes and of all that they ever started."""
    return adopted() + of(pid for root in roots for pid in family(root))


def here() -> float:
    """The same of this process, which needs no ticks."""
    adopted()
    used = [resource.getrusage(who) for who in (
        resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)
