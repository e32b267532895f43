"""Chromium for tests, and pages for it that tell what they have done.

The browser is Debian's, without a window and with a profile of its own; it is
ended by its pid. What runs in a page comes from npm, pinned here.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import pathlib
import queue
import signal
import subprocess
import tarfile
import threading
import typing

from tests import environments
from tests import servers

TUS = 'tus-js-client@4.3.1'
SECONDS = 120


def package(wanted: str, file: str, cache: pathlib.Path) -> bytes:
    """A file of a package of npm's registry, name@version."""
    node = environments.make('node', cache)
    directory = cache / wanted.replace('/', '_')
    directory.mkdir(exist_ok=True)
    if not list(directory.glob('*.tgz')):
        try:
            subprocess.run(
                [node.program('npm'), 'pack', wanted, '--pack-destination',
                 str(directory)], check=True, cwd=directory,
                env={**os.environ, 'PATH': os.pathsep.join(
                    [str(node.directory / 'bin'), os.environ['PATH']])},
                capture_output=True, text=True, timeout=SECONDS)
        except subprocess.SubprocessError as failure:
            servers.missing(f'npm cannot fetch {wanted}: '
                            f'{getattr(failure, "stderr", failure)}')
    with tarfile.open(next(directory.glob('*.tgz'))) as archive:
        member = archive.extractfile(f'package/{file}')
        assert member is not None
        return member.read()


class Pages(http.server.ThreadingHTTPServer):
    """Serves ``files``; what a page posts to /report comes from ``told``."""

    daemon_threads = True

    def __init__(self, files: dict[str, tuple[str, bytes]]) -> None:
        """:param files: path -> (media type, content)"""
        self.files = files
        self.reports: queue.Queue[typing.Any] = queue.Queue()
        super().__init__(('127.0.0.1', 0), _PageHandler)
        self.origin = f'http://127.0.0.1:{self.server_address[1]}'
        threading.Thread(target=self.serve_forever, args=(0.05,),
                         daemon=True).start()

    def told(self) -> typing.Any:
        """The next report of a page, waiting for it."""
        return self.reports.get(timeout=SECONDS)

    def __enter__(self) -> Pages:
        return self

    def __exit__(self, *exc: object) -> None:
        self.shutdown()
        self.server_close()


class _PageHandler(http.server.BaseHTTPRequestHandler):
    server: Pages

    def do_GET(self) -> None:
        media, content = self.server.files.get(
            self.path.partition('?')[0], ('text/plain', b''))
        self.send_response(200)
        self.send_header('Content-Type', media)
        self.send_header('Content-Length', str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self) -> None:
        length = int(self.headers['Content-Length'])
        self.server.reports.put(json.loads(self.rfile.read(length)))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_args: typing.Any) -> None:
        pass


@contextlib.contextmanager
def showing(url: str, directory: pathlib.Path) -> typing.Iterator[None]:
    """A browser that has a page open."""
    program = servers.program('chromium', '/usr/lib/chromium')
    with open(directory / 'chromium.log', 'ab') as log:
        process = subprocess.Popen(
            [program, '--headless', '--no-sandbox', '--disable-gpu',
             '--disable-dev-shm-usage', '--no-first-run',
             '--remote-debugging-port=0',
             f'--user-data-dir={directory / "profile"}', url],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env={**os.environ, 'HOME': str(directory)},
            start_new_session=True)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
