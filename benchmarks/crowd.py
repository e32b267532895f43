"""Many clients that cost next to nothing, for what a server can do for them.

    python -m benchmarks.crowd PORT CONNECTIONS SECONDS < REQUEST

Each connection sends the request from standard input, and again as soon as it
has been answered. All answers must be as long as the first. Prints the number
of answers, and the seconds that they took. One thread, so that clients do not
compete with each other for their own interpreter.
"""

import select
import socket
import sys
import time


def ask(sock, request):
    """The length of one answer."""
    sock.sendall(request)
    answer = b''
    while b'\r\n\r\n' not in answer:
        answer += sock.recv(65536)
    head, _, data = answer.partition(b'\r\n\r\n')
    assert head.startswith(b'HTTP/1.1 200'), answer
    length = next(int(line.split(b':')[1]) for line in head.split(b'\r\n')
                  if line.lower().startswith(b'content-length:'))
    while len(data) < length:
        data += sock.recv(65536)
    return len(head) + 4 + length


def run(socks, request, size, seconds):
    """Answers, and seconds to the last of them."""
    epoll = select.epoll()
    left = {}
    for sock in socks:
        epoll.register(sock, select.EPOLLIN)
        left[sock.fileno()] = (sock, size)
        sock.send(request)
    count, begun = 0, time.monotonic()
    while time.monotonic() - begun < seconds:
        for fd, _ in epoll.poll():
            sock, missing = left[fd]
            missing -= len(sock.recv(65536))
            if not missing:
                count += 1
                missing = size
                sock.send(request)
            left[fd] = sock, missing
    return count, time.monotonic() - begun


def main():
    port, connections, seconds = map(int, sys.argv[1:])
    request = sys.stdin.buffer.read()
    socks = [socket.create_connection(('127.0.0.1', port))
             for _ in range(connections)]
    size = max(ask(sock, request) for sock in socks)
    print(*run(socks, request, size, seconds))


if __name__ == '__main__':
    main()
