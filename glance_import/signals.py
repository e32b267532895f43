"""Signals that operators send out of habit, and that must not end a process.

SIGUSR1 and SIGUSR2 (other services rotate their log files by the one, and
report by the other) write to the log what every thread is doing, SIGUSR2 more
of it where a process has said so. Touches the handlers of these two.
"""

from __future__ import annotations

import _thread
import collections
import collections.abc
import logging
import signal
import sys
import threading
import traceback
import types

LOG = logging.getLogger(__name__)
REPORT = (signal.SIGUSR1, signal.SIGUSR2)
# What writes another report than the stacks; a child has it by its fork.
_writers: dict[int, collections.abc.Callable[[], None]] = {}


def survive() -> None:
    """In the main thread, as early as can be; children by fork do too."""
    for number in REPORT:
        signal.signal(number, _report)


def report_by(number: int, write: collections.abc.Callable[[], None]
              ) -> None:
    """What the signal asks for from now on; called in a thread of its own."""
    _writers[number] = write


def pass_over() -> None:
    """Before the exec of a program that calls ``survive`` by itself."""
    for number in REPORT:
        signal.signal(number, signal.SIG_IGN)


def _report(number: int, frame: types.FrameType | None) -> None:
    # The code that was interrupted may be writing to the log, or starting a
    # thread: nothing here may wait for what it holds.
    _thread.start_new_thread(_log, (number,))


def _log(number: int) -> None:
    name = signal.Signals(number).name
    try:
        if number in _writers:
            _writers[number]()
            return
        for what in stacks():
            LOG.info('%s: %s', name, what)
    except Exception:
        LOG.exception('cannot tell what the threads are doing')


def stacks() -> collections.abc.Iterator[str]:
    """What each thread and each green thread is doing; without our own."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        if ident != _thread.get_ident():
            yield f'thread {names.get(ident, ident)}:\n' + _text(frame)
    waiting = collections.Counter(map(_text, _green_frames()))
    for text, count in waiting.items():
        yield f'{count} green thread(s):\n' + text


def _green_frames() -> collections.abc.Iterator[types.FrameType]:
    """Of those that the event loop of our server has begun, if there is one.

    Not by gc.get_objects(): while that is looked through, other threads meet
    tuples that they are just making and that somebody else refers to, which
    CPython answers with a SystemError.
    """
    loop = sys.modules.get('glance_import.server.loop')
    for each in list(loop.GREEN_THREADS) if loop is not None else ():
        if each.gr_frame:
            yield each.gr_frame


def _text(frame: types.FrameType) -> str:
    return ''.join(traceback.format_stack(frame)).rstrip()
