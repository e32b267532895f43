"""HTTP and DNS servers that tests download from, well or badly behaved.

An ``Origin`` listens on a free port of 127.0.0.1 and answers each request by
a function of the test's; a ``Names`` answers DNS questions from a dictionary.
"""

from __future__ import annotations

import collections.abc
import http.server
import pathlib
import socket
import ssl
import subprocess
import threading
import typing

import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from tests import servers


class Handler(http.server.BaseHTTPRequestHandler):
    """One request; what the test's function uses."""

    protocol_version = 'HTTP/1.1'
    server: Origin

    def do_GET(self) -> None:
        self.server.requests.append((self.path, dict(self.headers)))
        self.close_connection = True
        try:
            self.server.answer(self)
        except (ConnectionError, ssl.SSLError):
            pass

    def begin(self, status: int = 200, **headers: typing.Any) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace('_', '-'), str(value))
        self.end_headers()

    @property
    def start(self) -> int:
        """First byte of the range asked for, 0 when none is."""
        found = self.headers.get('Range', 'bytes=0-')
        return int(found.removeprefix('bytes=').rstrip('-'))

    def log_message(self, *_args: typing.Any) -> None:
        pass


Answer = collections.abc.Callable[[Handler], None]


class Origin(http.server.ThreadingHTTPServer):
    """Answers with ``answer``; ``requests`` are (path, headers)."""

    daemon_threads = True
    allow_reuse_address = False

    def __init__(self, answer: Answer, *, tls: pathlib.Path | None = None,
                 host: str = '127.0.0.1') -> None:
        """:param tls: a directory with key.pem and cert.pem"""
        self.answer = answer
        self.requests: list[tuple[str, dict[str, str]]] = []
        super().__init__((host, 0), Handler)
        self.scheme = 'http'
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls / 'cert.pem', tls / 'key.pem')
            self.names: list[str | None] = []
            context.sni_callback = (
                lambda _sock, name, _context: self.names.append(name))
            self.socket = context.wrap_socket(self.socket, server_side=True)
            self.scheme = 'https'
        threading.Thread(target=self.serve_forever, args=(0.05,),
                         daemon=True).start()

    @property
    def port(self) -> int:
        return self.server_address[1]

    def url(self, path: str = '/image', host: str = '127.0.0.1') -> str:
        return f'{self.scheme}://{host}:{self.port}{path}'

    def handle_error(self, *_args: typing.Any) -> None:
        pass

    def close(self) -> None:
        self.shutdown()
        self.server_close()

    def __enter__(self) -> Origin:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def serve(data: bytes, **headers: typing.Any) -> Answer:
    """A good server: length, ETag and ranges."""
    headers = {'ETag': '"one"', **headers}

    def answer(handler: Handler) -> None:
        start = handler.start
        if start and handler.headers.get('If-Range') == headers['ETag']:
            handler.begin(206, Content_Length=len(data) - start,
                          Content_Range=f'bytes {start}-{len(data) - 1}/'
                          f'{len(data)}', **headers)
            handler.wfile.write(data[start:])
        else:
            handler.begin(Content_Length=len(data), **headers)
            handler.wfile.write(data)
    return answer


def certificate(directory: pathlib.Path, *names: str) -> pathlib.Path:
    """key.pem and a self-signed cert.pem for names and addresses."""
    openssl = servers.program('openssl')
    alternatives = ','.join(
        f'IP:{name}' if name[0].isdigit() else f'DNS:{name}'
        for name in names)
    subprocess.run(
        [openssl, 'req', '-x509', '-newkey', 'ec', '-pkeyopt',
         'ec_paramgen_curve:prime256v1', '-nodes', '-keyout',
         directory / 'key.pem', '-out', directory / 'cert.pem', '-days', '2',
         '-subj', f'/CN={names[0]}', '-addext',
         f'subjectAltName={alternatives}'],
        check=True, capture_output=True, timeout=60)
    return directory


class Names:
    """A DNS server: name -> addresses, or a function that gives them.

    Or a dictionary, for each kind of record: addresses, the name of an error
    (``SERVFAIL``), ``garbage``, or ``silence``.
    """

    def __init__(self, table: dict[str, typing.Any]) -> None:
        self.table = table
        self.asked: list[str] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(('127.0.0.1', 0))
        self.address = f'127.0.0.1:{self._socket.getsockname()[1]}'
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                packet, sender = self._socket.recvfrom(4096)
            except OSError:
                return
            if packet == b'end':
                return
            answer = self._answer(packet)
            if answer is not None:
                self._socket.sendto(answer, sender)

    def _answer(self, packet: bytes) -> bytes | None:
        query = dns.message.from_wire(packet)
        response = dns.message.make_response(query)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True)
        found = self.table.get(name)
        kind = dns.rdatatype.to_text(question.rdtype)
        if kind == 'A':
            self.asked.append(name)
            if callable(found):
                found = found()
        if isinstance(found, dict):
            found = found[kind]
        if found in ('silence', 'garbage'):
            return packet[:2] + b'\x81' if found == 'garbage' else None
        if isinstance(found, str):
            response.set_rcode(dns.rcode.from_text(found))
        elif found is None:
            response.set_rcode(dns.rcode.NXDOMAIN)
        elif not callable(found):
            wanted = [each for each in found
                      if (':' in each) == (kind == 'AAAA')]
            if wanted:
                response.answer.append(dns.rrset.from_text(
                    question.name, 0, 'IN', kind, *wanted))
        return response.to_wire()

    def close(self) -> None:
        self._socket.sendto(b'end', self._socket.getsockname())
        self._socket.close()

    def __enter__(self) -> Names:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
