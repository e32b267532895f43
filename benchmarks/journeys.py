"""What a request or an import passes through, counted in a real service.

    python -m benchmarks.journeys [--functions] [--page]

An API process and a conductor run under benchmarks.recorder: how many modules
of the package each journey calls (those of the HTTP server apart), how often
it changes from one to another, its statements, its transactions that write,
and the fsyncs of all processes (SQLite, file store on the staging area's file
system). Nothing is timed. ``--page`` writes the table into the documentation.
"""

from __future__ import annotations

import argparse
import collections.abc
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import typing

from benchmarks import fsyncs
from tests import marker
from tests import service as services

_SIZE = 3 << 20
_PAGE = (pathlib.Path(__file__).parents[1] / 'doc' / 'source'
         / 'contributor' / 'journeys.inc')
_Wanted = collections.abc.Callable[[int], bool]
_COLUMNS = ('modules', 'server', 'functions', 'changes', 'statements',
            'writes', 'fsyncs')


class _Service(services.Service):
    """API and conductor, each under a recorder of its own."""

    recorders: pathlib.Path
    conductor: subprocess.Popen[bytes] | None = None

    def command(self, name: str, *arguments: str) -> list[str]:
        found = super().command(name, *arguments)
        at = found.index('-m')
        return [*found[:at], '-m', 'benchmarks.recorder',
                str(self.recorders), name, *found[at + 2:]]

    def start(self) -> _Service:
        super().start()
        with open(self.directory / 'conductor.log', 'ab') as file:
            self.conductor = subprocess.Popen(
                self.command('conductor'), env=self.environment,
                cwd=self.directory, stdout=file, stderr=file,
                start_new_session=True)
        return self

    def kill(self) -> None:
        if self.conductor is not None:
            self.conductor.kill()
            self.conductor.wait()
        super().kill()

    def tell(self, word: str, wanted: _Wanted
             ) -> list[dict[str, typing.Any]]:
        """Ask every recorder that still lives, of the processes wanted."""
        found = []
        for path in sorted(self.recorders.iterdir()):
            if not wanted(int(path.name)):
                continue
            with socket.socket(socket.AF_UNIX) as peer:
                try:
                    peer.connect(str(path))
                except OSError:
                    continue
                with peer.makefile('rw') as file:
                    file.write(word + '\n')
                    file.flush()
                    found.append(json.loads(file.readline()))
        return found


def _start(top: pathlib.Path, with_plugin: bool
           ) -> tuple[_Service, fsyncs.Fsyncs]:
    (top / 'plugin').mkdir()
    plugin = top / 'plugin' / 'marker.py'
    plugin.write_text(marker.SOURCE)
    for path in (top, top / 'plugin'):
        path.chmod(0o755)
    _Service.recorders = top / 'recorders'
    _Service.recorders.mkdir()
    counter = fsyncs.Fsyncs(top)
    service = _Service(
        top,
        # A conductor that looks by itself would look between two journeys.
        options={'taskflow_executor': {
            'embedded_conductor': False, 'poll_interval': 60.0},
            'DEFAULT': {'workers': 1}, 'image_import_opts': {
                'image_import_plugins': (f'[file:{plugin}:Marker]'
                                         if with_plugin else '[]')}})
    service.environment.update(counter.environment)
    service.environment['PYTHONPATH'] = os.pathsep.join(sys.path)
    service.start()
    return service, counter


class _Recording:
    """What some of the processes do while a journey is made."""

    def __init__(self, service: _Service, counter: fsyncs.Fsyncs,
                 wanted: _Wanted = lambda pid: True) -> None:
        self._service, self._counter = service, counter
        self._wanted = wanted
        time.sleep(0.3)
        service.tell('begin', wanted)
        self.restart_counter()

    def restart_counter(self) -> None:
        self._before = self._counter.count

    def end(self) -> dict[str, typing.Any]:
        time.sleep(0.3)
        fsynced = self._counter.count - self._before
        found = self._service.tell('end', self._wanted)
        names = sorted({name for each in found for name in each['functions']})
        modules = {name for each in found for name in each['modules']}
        of_server = {name for name in modules if name.startswith('server/')}
        return {
            'modules': len(modules - of_server), 'server': len(of_server),
            'functions': len(names), 'names': names,
            'changes': sum(each['changes'] for each in found),
            'statements': sum(len(each['statements']) for each in found),
            'writes': sum(each['writes'] for each in found),
            'fsyncs': fsynced}


def _journeys(service: _Service, counter: fsyncs.Fsyncs, data: bytes,
              end: str) -> dict[str, dict[str, typing.Any]]:
    """Of one image: staged, asked for, run to the status ``end``."""
    assert service.conductor is not None
    conductor = service.conductor.pid
    found = {}
    image_id = service.create()
    recording = _Recording(service, counter)
    service.stage(image_id, data)
    found['PUT stage'] = recording.end()
    # The conductor stands still while it is asked for, to be seen apart.
    running = _Recording(service, counter, lambda pid: pid == conductor)
    os.kill(conductor, signal.SIGSTOP)
    recording = _Recording(service, counter, lambda pid: pid != conductor)
    service.start_import(image_id)
    found['POST import'] = recording.end()
    running.restart_counter()
    os.kill(conductor, signal.SIGCONT)
    _wait(service, image_id, end)
    found['claim to the end'] = running.end()
    if end == 'active':
        recording = _Recording(service, counter)
        service.download(image_id)
        found['GET file'] = recording.end()
    return found


def _wait(service: _Service, image_id: str, end: str) -> None:
    # From the database file, so that no request is recorded.
    while (service.execute('SELECT status FROM images WHERE id = ?',
                           image_id) != [(end,)]
           or service.execute('SELECT count(*) FROM import_jobs')
           != [(0,)]):
        time.sleep(0.05)


def _table(found: dict[str, dict[str, typing.Any]]) -> str:
    lines = ['.. list-table::', '   :header-rows: 1', '']
    for name, cells in (('journey', _COLUMNS), *(
            (name, [row[column] for column in _COLUMNS])
            for name, row in found.items())):
        lines += [f'   * - {name}', *(f'     - {cell}' for cell in cells)]
    return '\n'.join(lines) + '\n'


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--functions', action='store_true',
                        help='name what was called')
    parser.add_argument('--page', action='store_true',
                        help='write doc/source/contributor/journeys.inc')
    words = parser.parse_args()
    good, evil = os.urandom(_SIZE), b'EVIL' + bytes(_SIZE)
    found: dict[str, dict[str, typing.Any]] = {}
    for plugin in (False, True):
        with tempfile.TemporaryDirectory() as name:
            service, counter = _start(pathlib.Path(name), plugin)
            try:
                # What is done once a process: imports, statements compiled.
                _journeys(service, counter, good, 'active')
                some = _journeys(service, counter, good, 'active')
                if plugin:
                    refused = _journeys(service, counter, evil, 'uploading')
                    found['claim to active, a plugin'] = some[
                        'claim to the end']
                    found['claim to refused by it'] = refused[
                        'claim to the end']
                else:
                    some['claim to active'] = some.pop('claim to the end')
                    found |= some
            finally:
                service.kill()
    if words.page:
        _PAGE.write_text(_table(found))
    print(f'{"journey":27}' + ''.join(f'{name:>12}' for name in _COLUMNS))
    for name, row in found.items():
        print(f'{name:27}' + ''.join(
            f'{row[column]:12}' for column in _COLUMNS))
        if words.functions:
            for each in row['names']:
                print('   ', each)


if __name__ == '__main__':
    main()
