"""HTTP requests to servers that nobody here trusts.

A name is looked up once, every address it has is judged, and the connection
goes to the address that was judged, with the name in Host and SNI; each
redirect begins anew. No proxy and no credentials are taken from the
environment. Touches the network.
"""

from __future__ import annotations

import base64
import collections.abc
import contextlib
import dataclasses
import http.client
import re
import socket
import ssl
import threading
import time
import typing
import urllib.parse

from glance_import.net import addresses
from glance_import.net import answers
from glance_import.net import resolver
from glance_import.net import urls

BLOCK = 1 << 20
_REDIRECTS = (301, 302, 303, 307, 308)
# The server may do better the next time.
_PASSING = (408, 425, 429, 500, 502, 503, 504)
USER_AGENT = 'glance-import'


FetchError = answers.FetchError


class Passing(FetchError):
    """It may go better the next time: no answer, cut, stalled, 503."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """How requests are made; times in seconds.

    ``proxy`` is the URL of a proxy for everything; it looks names up itself.
    """

    filter: urls.Filter = urls.Filter()
    resolve: resolver.Resolve = resolver.system
    connect_timeout: float = 10.0
    idle_timeout: float = 60.0
    max_redirects: int = 5
    ca_file: str | None = None
    proxy: str | None = None


class Response:
    """An answer whose body has not come yet; close it.

    ``length`` is that of the body in bytes, None when it is not known;
    ``framed`` says whether its end can be told from a cut; ``asked`` is the
    URL that redirects led here from, ``url`` itself when none did.
    """

    def __init__(self, response: http.client.HTTPResponse,
                 connection: http.client.HTTPConnection, url: str,
                 watch: _Watch) -> None:
        self._response = response
        self._connection = connection
        self._watch = watch
        self.asked = self.url = url
        self.status = response.status
        self.headers = response.headers
        self.length = response.length if not response.chunked else None
        self.framed = response.chunked or self.length is not None

    def range(self) -> tuple[int | None, int | None]:
        """(first byte, bytes in all) of a 206, as far as it says."""
        found = re.fullmatch(r'bytes (\d{1,19})-\d{1,19}/(\d{1,19}|\*)',
                             self.headers.get('Content-Range', '').strip(),
                             re.ASCII | re.IGNORECASE)
        if found is None:
            return None, None
        total = found[2]
        return int(found[1]), None if total == '*' else int(total)

    def blocks(self) -> collections.abc.Iterator[memoryview]:
        """The body, in blocks of any size up to 1 MiB.

        A block is yielded when it is full, or a second old.

        :raises Passing: it was cut, or nothing came for too long
        :raises FetchError: it is not sent as HTTP says
        """
        try:
            if self._response.chunked:
                yield from self._chunks()
            else:
                yield from self._plain()
        except TimeoutError as failure:
            raise Passing('the server stopped sending') from failure
        except http.client.IncompleteRead as failure:
            raise Passing('the connection was cut') from failure
        except (OSError, http.client.HTTPException) as failure:
            if not _is_too_much(failure):
                raise Passing(
                    f'the connection was cut ({_said(failure)})') from failure
            raise FetchError(
                'the server sends its data with lines that are too long'
            ) from failure
        except ValueError as failure:
            raise FetchError(
                'the server does not send its data as HTTP says'
            ) from failure

    def _plain(self) -> collections.abc.Iterator[memoryview]:
        # Not response.readinto(), which waits until the block is full and
        # so would let a slow server hold us for hours.
        stream = typing.cast(typing.Any, self._response.fp)
        left = self.length
        while left is None or left > 0:
            size = BLOCK if left is None else min(BLOCK, left)
            view = memoryview(bytearray(size))
            filled, due = 0, time.monotonic() + 1.0
            failure: OSError | None = None
            got = 1
            while got and filled < size and time.monotonic() < due:
                try:
                    got = stream.readinto1(view[filled:])
                except OSError as found:
                    # What came before it is still good.
                    failure, got = found, 0
                filled += got
            if left is not None:
                left -= filled
            if filled:
                yield view[:filled]
            if failure is not None:
                raise failure
            if not got:
                if left:
                    raise Passing(
                        f'the connection was cut {left} bytes before the '
                        'end')
                return

    def _chunks(self) -> collections.abc.Iterator[memoryview]:
        # What stands around the data may come forever too, byte by byte.
        while True:
            with self._watch:
                block = self._response.read1(BLOCK)
            if not block:
                break
            yield memoryview(block)

    def read(self, most: int) -> bytes:
        """All of a small body.

        :raises FetchError: it is larger than ``most`` bytes
        """
        found = bytearray()
        for block in self.blocks():
            found += block
            if len(found) > most:
                raise FetchError(
                    f'the answer is larger than {most} bytes')
        return bytes(found)

    def close(self) -> None:
        """Let go of the connection; the rest of the body is not read."""
        self._watch.end()
        self._response.close()
        self._connection.close()

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def get(settings: Settings, url: str,
        headers: collections.abc.Mapping[str, str] | None = None, *,
        accepted: collections.abc.Collection[int] = (200,)) -> Response:
    """GET, through redirects to wherever is allowed.

    :param headers: sent to every server on the way: nothing secret, see
        ``get_once``
    :raises urls.UrlRefused: the URL, or one it led to, may not be followed
    :raises Passing: it may go better the next time
    :raises FetchError: any other answer than one that is ``accepted``
    """
    asked = url
    for _ in range(settings.max_redirects + 1):
        response = get_once(settings, url, headers)
        if response.status in _REDIRECTS:
            location = response.headers.get('Location')
            response.close()
            if not location:
                raise FetchError('the server redirects to nowhere')
            url = urls.redirected(url, location)
            continue
        if response.status in accepted:
            response.asked = asked
            return response
        status = (f'{response.status} '
                  f'{http.client.responses.get(response.status, "")}'.strip())
        response.close()
        kind = Passing if response.status in _PASSING else FetchError
        raise kind(f'the server answered {status}')
    raise FetchError(
        f'there are more than {settings.max_redirects} redirects')


def get_once(settings: Settings, url: str,
             headers: collections.abc.Mapping[str, str] | None = None
             ) -> Response:
    """The answer to one GET, whatever it is; no redirect is followed.

    :raises urls.UrlRefused: the URL may not be followed
    :raises FetchError: there is no answer
    """
    target = settings.filter.check(url)
    try:
        connection = _connection(settings, target)
    except ssl.SSLCertVerificationError as failure:
        raise FetchError(
            f'the certificate of {target.host} is not to be trusted: '
            f'{failure.verify_message}') from failure
    except (OSError, http.client.HTTPException) as failure:
        raise Passing(f'{target.host} cannot be reached '
                      f'({_said(failure)})') from failure
    watch = _Watch(connection.sock, settings.idle_timeout)
    try:
        connection.putrequest('GET', _asked(settings, target),
                              skip_host=True, skip_accept_encoding=True)
        for name, value in {
                'Host': target.authority, 'User-Agent': USER_AGENT,
                'Accept': '*/*', 'Accept-Encoding': 'identity',
                'Connection': 'close', **_proxy_headers(settings, target),
                **(headers or {})}.items():
            connection.putheader(name, value)
        connection.endheaders()
        with watch:
            response = connection.getresponse()
    except BaseException as failure:
        watch.end()
        connection.close()
        if _is_too_much(failure):
            raise FetchError(
                f'the head of the answer of {target.host} is more than is '
                f'read here ({failure})') from failure
        if isinstance(failure, (OSError, http.client.HTTPException)):
            raise Passing(f'{target.host} does not answer '
                          f'({_said(failure)})') from failure
        raise
    return Response(response, connection, url, watch)


def _is_too_much(failure: BaseException) -> bool:
    """Whether a head has too many or too long lines: it will have again.

    The library has no class of its own for too many.
    """
    return (type(failure) is http.client.HTTPException
            or isinstance(failure, http.client.LineTooLong))


def _said(failure: BaseException) -> str:
    if isinstance(failure, TimeoutError):
        return 'timed out'
    if isinstance(failure, OSError) and failure.strerror:
        return failure.strerror
    return type(failure).__name__


class _Watch:
    """Shuts a socket when what is done inside it takes too long.

    The timeout of a socket is that of one reception, and a server that sends
    a byte now and then never meets it. It is one thread a connection.
    """

    def __init__(self, sock: socket.socket, seconds: float) -> None:
        self._sock = sock
        self._seconds = seconds
        self._due: float | None = None
        self._shut = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._ended = False

    def __enter__(self) -> None:
        with self._changed:
            self._due = time.monotonic() + self._seconds
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, daemon=True, name='fetch-watch')
                self._thread.start()

    def __exit__(self, *exc: object) -> None:
        with self._changed:
            self._due = None
            if self._shut:
                raise TimeoutError

    def end(self) -> None:
        """Nothing more is to be watched."""
        with self._changed:
            self._ended = True
            self._changed.notify()

    def _run(self) -> None:
        with self._changed:
            while not self._ended:
                left = (self._seconds if self._due is None
                        else self._due - time.monotonic())
                if left <= 0:
                    self._shut = True
                    with contextlib.suppress(OSError):
                        # The plain socket's, below TLS: no word to the peer.
                        socket.socket.shutdown(self._sock, socket.SHUT_RDWR)
                    return
                self._changed.wait(left)


class _Connection(http.client.HTTPConnection):
    """On a socket that is connected already."""

    response_class = answers.Answer

    def __init__(self, target: urls.Target, sock: socket.socket) -> None:
        super().__init__(target.host, target.port)
        self.sock = sock

    def connect(self) -> None:
        raise OSError('the connection is over')


def _connection(settings: Settings, target: urls.Target) -> _Connection:
    if settings.proxy:
        sock = _through_proxy(settings, target)
    else:
        sock = _first(settings, _judged(settings, target), target.port)
    try:
        sock.settimeout(settings.idle_timeout)
        if target.scheme == 'https':
            context = ssl.create_default_context(cafile=settings.ca_file)
            sock = context.wrap_socket(sock, server_hostname=target.host)
    except BaseException:
        sock.close()
        raise
    return _Connection(target, sock)


def _judged(settings: Settings, target: urls.Target
            ) -> list[addresses.Address]:
    """The addresses of a host; each may be reached.

    :raises urls.UrlRefused: one of them may not
    """
    if target.address is not None:
        return [target.address]
    try:
        found = settings.resolve(target.host)
    except resolver.NameUnknown as failure:
        raise FetchError(
            f'the name {target.host} is not known') from failure
    except resolver.NoAnswer as failure:
        raise Passing(
            f'the name {target.host} cannot be looked up at the moment'
        ) from failure
    if not found:
        raise FetchError(f'the name {target.host} has no address')
    for address in found:
        settings.filter.judge_address(target.host, address)
    return found


def _first(settings: Settings,
           found: collections.abc.Iterable[addresses.Address], port: int
           ) -> socket.socket:
    """Connected to the first of them that answers."""
    failure: OSError | None = None
    for address in found:
        try:
            return socket.create_connection(
                (str(addresses.plain(address)), port),
                settings.connect_timeout)
        except OSError as found_failure:
            failure = found_failure
    assert failure is not None
    raise failure


# -- by a proxy

def is_proxy(url: str) -> bool:
    """Whether a proxy is written as it must be."""
    try:
        parts = urllib.parse.urlsplit(url)
        return (parts.scheme == 'http' and bool(parts.hostname)
                and (parts.port or 1) > 0 and parts.path in ('', '/'))
    except ValueError:
        return False


def _through_proxy(settings: Settings, target: urls.Target
                   ) -> socket.socket:
    """A socket to the proxy, for https already through it.

    What our own resolver knows of the name is judged too. What the proxy
    finds under it, only the proxy can judge.
    """
    if target.address is None:
        try:
            found = settings.resolve(target.host)
        except (resolver.NameUnknown, resolver.NoAnswer):
            found = []
        for address in found:
            settings.filter.judge_address(target.host, address)
    proxy = urllib.parse.urlsplit(settings.proxy or '')
    sock = socket.create_connection(
        (proxy.hostname or '', proxy.port or 3128), settings.connect_timeout)
    if target.scheme != 'https':
        return sock
    try:
        host = f'[{target.host}]' if ':' in target.host else target.host
        lines = [f'CONNECT {host}:{target.port} HTTP/1.1',
                 f'Host: {host}:{target.port}']
        lines += [f'{name}: {value}' for name, value
                  in _authorization(settings).items()]
        sock.sendall('\r\n'.join([*lines, '', '']).encode('ascii'))
        answer = answers.Answer(sock, method='CONNECT')
        answer.begin()
        if answer.status != 200:
            raise ConnectionRefusedError(
                None, f'the proxy answered {answer.status}')
        return sock
    except BaseException:
        sock.close()
        raise


def _asked(settings: Settings, target: urls.Target) -> str:
    if settings.proxy and target.scheme == 'http':
        return f'http://{target.authority}{target.path}'
    return target.path


def _proxy_headers(settings: Settings, target: urls.Target
                   ) -> dict[str, str]:
    if settings.proxy and target.scheme == 'http':
        return _authorization(settings)
    return {}


def _authorization(settings: Settings) -> dict[str, str]:
    proxy = urllib.parse.urlsplit(settings.proxy or '')
    if proxy.username is None:
        return {}
    pair = ':'.join(urllib.parse.unquote(part or '') for part in
                    (proxy.username, proxy.password))
    return {'Proxy-Authorization':
            'Basic ' + base64.b64encode(pair.encode()).decode()}
