"""A client as cheap as can be: one request, timed. Run as a program.

    python -m benchmarks.client PORT SIZE CHUNK < HEAD

Sends the head from standard input and SIZE bytes after it, in chunks of CHUNK
bytes if that is not 0; with SIZE -1 nothing more. Prints the status of the
answer, the seconds from the first byte sent to the last received, and the two
instants on the clock that all processes share.
"""

import os
import socket
import sys
import time

MIB = 1 << 20


def body(size, chunk):
    block = os.urandom(MIB)
    if not chunk:
        for start in range(0, size, MIB):
            yield block[:min(MIB, size - start)]
        return
    framed = b'%x\r\n%b\r\n' % (chunk, block[:chunk])
    for _ in range(size // chunk):
        yield framed
    yield b'0\r\n\r\n'


def main():
    port, size, chunk = map(int, sys.argv[1:])
    head = sys.stdin.buffer.read()
    sock = socket.create_connection(('127.0.0.1', port))
    begun = time.monotonic()
    sock.sendall(head)
    if size >= 0:
        for block in body(size, chunk):
            sock.sendall(block)
    buffer = bytearray(MIB)
    status, got, wanted = b'', 0, None
    while wanted is None or got < wanted:
        count = sock.recv_into(buffer)
        if not count:
            break
        if wanted is None:
            text, _, rest = bytes(buffer[:count]).partition(b'\r\n\r\n')
            status = text.split()[1]
            lines = [line.split(b':') for line in text.lower().split(b'\r\n')]
            wanted = next((int(line[1]) for line in lines
                           if line[0] == b'content-length'), 0)
            got = len(rest)
            continue
        got += count
    if size >= 0 or got == wanted:
        ended = time.monotonic()
        print(status.decode(), ended - begun, begun, ended)


if __name__ == '__main__':
    main()
