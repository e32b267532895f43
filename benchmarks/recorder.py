"""Runs a command of the service and records what its requests call.

    python -m benchmarks.recorder DIRECTORY COMMAND ARGUMENTS

Each process listens on a socket in the directory, named by its pid: ``begin``
clears what is recorded, ``end`` answers with it as one line of JSON. Recorded
are calls of the package's functions, by sys.setprofile in every thread, and
statements and commits, by SQLAlchemy's events. It slows everything down, so
nothing is timed here.
"""

from __future__ import annotations

import collections
import importlib
import json
import os
import pathlib
import socket
import sys
import threading
import typing

import sqlalchemy as sa

import glance_import

_ROOT = str(pathlib.Path(glance_import.__file__).parent) + os.sep
_NO_STATEMENT = ('BEGIN', 'COMMIT', 'ROLLBACK', 'PRAGMA')
_WRITES = ('INSERT', 'UPDATE', 'DELETE', 'REPLACE')


class Recorder:
    """What one process did between ``begin`` and ``end``."""

    def __init__(self) -> None:
        self.on = False
        self._clear()

    def _clear(self) -> None:
        self.functions: collections.Counter[tuple[str, str]] = (
            collections.Counter())
        self.changes = 0
        self.statements: list[str] = []
        self.writes = self.reads = 0
        self._last: dict[int, str] = {}
        self._open: dict[int, bool] = {}

    def begin(self) -> dict[str, typing.Any]:
        self._clear()
        self.on = True
        return {}

    def end(self) -> dict[str, typing.Any]:
        self.on = False
        return {'modules': sorted({name for name, _ in self.functions}),
                'functions': sorted(':'.join(each)
                                    for each in self.functions),
                'calls': sum(self.functions.values()),
                'changes': self.changes, 'writes': self.writes,
                'reads': self.reads, 'statements': self.statements}

    def profile(self, frame: typing.Any, event: str, _arg: typing.Any
                ) -> None:
        """For sys.setprofile."""
        if not self.on or event != 'call':
            return
        code = frame.f_code
        if not code.co_filename.startswith(_ROOT):
            return
        module = code.co_filename[len(_ROOT):]
        if module == 'signals.py':
            return
        thread = threading.get_ident()
        self.functions[module, code.co_qualname] += 1
        if self._last.get(thread, module) != module:
            self.changes += 1
        self._last[thread] = module

    def execute(self, connection: sa.Connection, _cursor: typing.Any,
                statement: str, *_more: typing.Any) -> None:
        """SQLAlchemy's before_cursor_execute."""
        word = statement.split(None, 1)[0].upper()
        if not self.on or word in _NO_STATEMENT:
            return
        self.statements.append(statement)
        found = self._open.setdefault(id(connection), False)
        self._open[id(connection)] = found or word in _WRITES

    def finish(self, connection: sa.Connection) -> None:
        """SQLAlchemy's commit and rollback."""
        wrote = self._open.pop(id(connection), None)
        if wrote is not None:
            self.writes += wrote
            self.reads += not wrote


def _answer(recorder: Recorder, directory: str) -> None:
    path = os.path.join(directory, str(os.getpid()))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        while True:
            peer, _ = listener.accept()
            with peer, peer.makefile('rw') as file:
                word = file.readline().strip()
                found = (recorder.begin() if word == 'begin'
                         else recorder.end())
                file.write(json.dumps(found) + '\n')


def _listen(recorder: Recorder, directory: str) -> None:
    threading.Thread(target=_answer, args=(recorder, directory),
                     daemon=True).start()


def main() -> None:
    directory, command, *arguments = sys.argv[1:]
    module = importlib.import_module(f'glance_import.cmd.{command}')
    recorder = Recorder()
    sa.event.listen(sa.engine.Engine, 'before_cursor_execute',
                    recorder.execute)
    for name in ('commit', 'rollback'):
        sa.event.listen(sa.engine.Engine, name, recorder.finish)
    _listen(recorder, directory)
    os.register_at_fork(
        after_in_child=lambda: _listen(recorder, directory))
    threading.setprofile(recorder.profile)
    sys.setprofile(recorder.profile)
    sys.argv = [command, *arguments]
    sys.exit(module.main(arguments))


if __name__ == '__main__':
    main()
