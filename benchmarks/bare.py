"""The floor: loops that do only what cannot be avoided.

Each is as short as its task allows and uses all cores the same way, so that
a ratio to it says what the service costs on top, on whatever machine.
"""

from __future__ import annotations

import hashlib
import os
import queue
import shutil
import socket
import subprocess
import sys
import threading
import time
import typing

MIB = 1 << 20


def send(port: int, head: bytes, size: int, *,
         chunk: int = 0) -> subprocess.Popen:
    """A client of its own process that sends ``size`` bytes after ``head``.

    :param chunk: bytes in a chunk of a chunked body, 0 for a plain one
    """
    client = subprocess.Popen(
        [sys.executable, '-m', 'benchmarks.client', str(port), str(size),
         str(chunk)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert client.stdin is not None
    client.stdin.write(head)
    client.stdin.close()
    return client


class Hashing:
    """md5 and sha512 beside each other."""

    def __init__(self) -> None:
        self._queues: list[queue.Queue] = []
        self._threads = []
        for name in ('md5', 'sha512'):
            blocks: queue.Queue = queue.Queue(4)
            thread = threading.Thread(
                target=self._work, args=(blocks, hashlib.new(name)))
            thread.start()
            self._queues.append(blocks)
            self._threads.append(thread)

    def update(self, block: typing.Any) -> None:
        for blocks in self._queues:
            blocks.put(block)

    def finish(self) -> None:
        self.update(None)
        for thread in self._threads:
            thread.join()

    @staticmethod
    def _work(blocks: queue.Queue, digest: typing.Any) -> None:
        while (block := blocks.get()) is not None:
            digest.update(block)


def stage(path: str, size: int) -> tuple[float, float]:
    """Receive, write, hash, fdatasync: seconds and CPU seconds."""
    listener = socket.create_server(('127.0.0.1', 0))
    client = send(listener.getsockname()[1], b'\n', size)
    sock, _ = listener.accept()
    begun, cpu = time.monotonic(), time.process_time()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    hashing = Hashing()
    left = size + 1
    while left:
        block = bytearray(min(MIB, left))
        got = sock.recv_into(block, len(block), socket.MSG_WAITALL)
        if not got:
            break
        left -= got
        view = memoryview(block)[:got]
        hashing.update(view)
        os.write(fd, view)
    hashing.finish()
    os.fdatasync(fd)
    took = time.monotonic() - begun, time.process_time() - cpu
    os.close(fd)
    sock.close()
    listener.close()
    client.wait()
    os.unlink(path)
    return took


def copy_and_hash(source: str, target: str) -> float:
    """``cp`` and parallel hashing, synced: seconds."""
    begun = time.monotonic()
    hashing = threading.Thread(target=_hash_file, args=(source,))
    hashing.start()
    shutil.copyfile(source, target)
    with open(target, 'rb') as file:
        os.fsync(file.fileno())
    hashing.join()
    took = time.monotonic() - begun
    os.unlink(target)
    return took


def _hash_file(path: str) -> None:
    hashing = Hashing()
    with open(path, 'rb', buffering=0) as file:
        while block := file.read(MIB):
            hashing.update(block)
    hashing.finish()


def download(path: str) -> float:
    """sendfile to a client that throws it away: seconds."""
    listener = socket.create_server(('127.0.0.1', 0))
    port = listener.getsockname()[1]
    client = receiver(port, b'GET\r\n\r\n')
    sock, _ = listener.accept()
    # Closing a socket with unread data would reset it.
    sock.recv(1000)
    with open(path, 'rb') as file:
        size = os.fstat(file.fileno()).st_size
        sock.sendall(f'HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n'
                     .encode())
        at = 0
        while at < size:
            at += os.sendfile(sock.fileno(), file.fileno(), at, size - at)
    sock.close()
    took = seconds_of(client)
    listener.close()
    return took


def receiver(port: int, head: bytes) -> subprocess.Popen:
    """A client that downloads and prints the seconds it took."""
    client = subprocess.Popen(
        [sys.executable, '-m', 'benchmarks.client', str(port), '-1', '0'],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert client.stdin is not None
    client.stdin.write(head)
    client.stdin.close()
    return client


def seconds_of(*clients: subprocess.Popen) -> float:
    """From the first byte that any of them sent to the last received."""
    told = [_told(client) for client in clients]
    return max(words[3] for words in told) - min(words[2] for words in told)


def _told(client: subprocess.Popen) -> list[float]:
    assert client.stdout is not None
    words = client.stdout.read().decode().split()
    client.wait()
    if not words or words[0] not in ('200', '202', '204'):
        raise AssertionError(f'a client was told: {words}')
    return [float(word) for word in words]
