"""What import methods and the bundled plugins cost, as ratios of one run.

``python -m benchmarks.methods [MIB]``: web-download from a server on
loopback beside curl to the same disk, and image_conversion beside qemu-img
alone; both sides sync what they wrote. Each is done ``ROUNDS`` times by
turns, and the best of each counts.
"""

from __future__ import annotations

import http.server
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time

from tests import service as services

ROUNDS = 5


class Server(http.server.ThreadingHTTPServer):
    """Sends one file to whoever asks, by sendfile."""

    daemon_threads = True

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        super().__init__(('127.0.0.1', 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = f'http://127.0.0.1:{self.server_address[1]}/image'


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def do_GET(self) -> None:
        with open(self.server.path, 'rb') as file:
            size = os.fstat(file.fileno()).st_size
            self.send_response(200)
            self.send_header('Content-Length', str(size))
            self.end_headers()
            self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF,
                                       1 << 20)
            at = 0
            while at < size:
                at += os.sendfile(self.connection.fileno(), file.fileno(),
                                  at, min(size - at, 8 << 20))

    def log_message(self, *_args: object) -> None:
        pass


def sync(path: pathlib.Path) -> None:
    with open(path, 'rb') as file:
        os.fsync(file.fileno())


def timed(work, *arguments) -> float:
    os.sync()
    begun = time.monotonic()
    work(*arguments)
    return time.monotonic() - begun


def curl(url: str, target: pathlib.Path) -> None:
    subprocess.run(['curl', '-sf', '-o', target, url], check=True)
    sync(target)


def web_download(service: services.Service, url: str) -> None:
    image_id = service.create()
    answer = service.request('POST', f'/v2/images/{image_id}/import', {
        'method': {'name': 'web-download', 'uri': url}})
    assert answer.status == 202, answer
    image = service.wait_status(image_id, 'active', 'queued')
    assert image['status'] == 'active', image
    service.request('DELETE', f'/v2/images/{image_id}')


def by_hand(source: pathlib.Path, target: pathlib.Path) -> None:
    subprocess.run(['qemu-img', 'convert', '-f', 'qcow2', '-O', 'raw',
                    source, target], check=True)
    sync(target)


def conversion(service: services.Service, source: pathlib.Path) -> float:
    """Seconds that the step took, by the log."""
    image_id = service.create(disk_format='qcow2')
    with open(source, 'rb') as file:
        assert service.stage(image_id, chunks=iter(
            lambda: file.read(1 << 20), b'')).status == 204
    # What others still have to write is not this step's.
    os.sync()
    service.start_import(image_id)
    image = service.wait_status(image_id, 'active', 'uploading')
    services.wait_for(lambda: service.show(image_id)['status'] == 'active')
    found = re.findall(r'image_conversion took ([0-9.]+) s for image '
                       + image['id'], service.text())
    service.request('DELETE', f'/v2/images/{image_id}')
    return float(found[-1])


def main(mib: int) -> None:
    with tempfile.TemporaryDirectory() as made:
        top = pathlib.Path(made)
        raw, qcow2, target = (top / name for name in (
            'disk.raw', 'disk.qcow2', 'target'))
        block = os.urandom(1 << 20)
        with open(raw, 'wb') as file:
            for number in range(mib):
                file.write(number.to_bytes(8, 'big') + block[8:])
        subprocess.run(['qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2',
                        raw, qcow2], check=True)
        (top / 'service').mkdir()
        service = services.Service(top / 'service', options={
            'DEFAULT': {'enabled_import_methods':
                        '[glance-direct, web-download]'},
            'image_import_opts': {
                'image_import_plugins': '[image_conversion]'},
            'import_filtering_opts': {'allowed_addresses': '[127.0.0.1/32]',
                                      'allowed_ports': '[]'}})
        service.start()
        server = Server(raw)
        try:
            report(mib, service, server.url, qcow2, target)
        finally:
            service.stop()
            server.shutdown()


def report(mib: int, service: services.Service, url: str,
           qcow2: pathlib.Path, target: pathlib.Path) -> None:
    pairs: dict[str, tuple[list[float], list[float]]] = {
        'web-download / curl': ([], []),
        'image_conversion / qemu-img': ([], [])}
    for _ in range(ROUNDS):
        ours, theirs = pairs['web-download / curl']
        theirs.append(timed(curl, url, target))
        target.unlink()
        ours.append(timed(web_download, service, url))
        ours, theirs = pairs['image_conversion / qemu-img']
        theirs.append(timed(by_hand, qcow2, target))
        target.unlink()
        ours.append(conversion(service, qcow2))
    print(f'{mib} MiB, best of {ROUNDS}; both sides sync')
    for name, (ours, theirs) in pairs.items():
        a, b = min(ours), min(theirs)
        print(f'{name}: {a:.2f} s / {b:.2f} s; time x {a / b:.2f}, '
              f'speed x {b / a:.2f}')


if __name__ == '__main__':
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1024)
