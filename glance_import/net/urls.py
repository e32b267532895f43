"""What a URL shows by itself: scheme, host, port, and nothing in disguise.

A host is a name, or an address in its usual form; every other notation that
some resolver would take for an address is refused, as is whatever two
programs could read differently. Touches nothing but memory.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import socket
import urllib.parse

import idna

from glance_import.net import addresses

DEFAULT_PORTS = {'http': 80, 'https': 443}
MAX_LENGTH = 2048
# ASCII but for the blank.
_NOT_QUOTED = bytes(set(range(128)) - {ord(' ')})
_LABEL = re.compile(r'(?!-)[a-z0-9_-]{1,63}(?<!-)')
_NUMBER = re.compile(r'([0-9]+|0x[0-9a-f]*)')
_LOCAL = ('localhost', 'localhost.localdomain', 'localhost6',
          'localhost6.localdomain6', 'ip6-localhost', 'ip6-loopback')


class UrlRefused(Exception):
    """The URL may not be followed; the text is a sentence about it."""


@dataclasses.dataclass(frozen=True)
class Target:
    """A URL taken apart; ``host`` in lower case, without a final dot.

    ``address`` is there when the host is one; ``path`` is what is asked of
    the server, with the query.
    """

    url: str
    scheme: str
    host: str
    port: int
    path: str
    address: addresses.Address | None

    @property
    def authority(self) -> str:
        """The Host header."""
        host = f'[{self.host}]' if ':' in self.host else self.host
        if self.port == DEFAULT_PORTS[self.scheme]:
            return host
        return f'{host}:{self.port}'


@dataclasses.dataclass(frozen=True)
class Filter:
    """What [import_filtering_opts] says; an empty ``allowed`` allows all."""

    allowed_schemes: frozenset[str] = frozenset(DEFAULT_PORTS)
    disallowed_schemes: frozenset[str] = frozenset()
    allowed_hosts: frozenset[str] = frozenset()
    disallowed_hosts: frozenset[str] = frozenset()
    allowed_ports: frozenset[int] = frozenset((80, 443))
    disallowed_ports: frozenset[int] = frozenset()
    ranges: addresses.Rules = addresses.Rules()

    def check(self, url: str) -> Target:
        """The URL taken apart, when nothing in it speaks against it.

        :raises UrlRefused: something does
        """
        target = parse(url)
        for what, value, allowed, disallowed in (
                ('scheme', target.scheme, self.allowed_schemes,
                 self.disallowed_schemes),
                ('host', target.host, self.allowed_hosts,
                 self.disallowed_hosts),
                ('port', target.port, self.allowed_ports,
                 self.disallowed_ports)):
            if value in disallowed or allowed and value not in allowed:
                raise UrlRefused(f'the {what} {value} is not allowed here')
        if target.address is not None:
            self.judge_address(target.host, target.address)
        elif target.host in _LOCAL or target.host.endswith('.localhost'):
            self.judge_address(target.host,
                               ipaddress.IPv4Address('127.0.0.1'))
        return target

    def judge_address(self, host: str, address: addresses.Address) -> None:
        """:raises UrlRefused: the address may not be reached

        The text does not tell the address: to whoever asks, what an inner
        name stands for is news.
        """
        kind = self.ranges.check(address)
        if kind is not None:
            raise UrlRefused(f'the host {host} is {kind}, which cannot be '
                             'reached from here')


def public(url: str) -> str:
    """What of a URL anybody may see: no user, no password, no query.

    A signature is in the query of an URL that was signed. Stores have
    locations with a password in them that holds slashes, so of theirs only
    what follows the last @ is shown.
    """
    scheme, separator, rest = url.partition('://')
    if not separator:
        scheme, rest = '', url
    if scheme.lower() in DEFAULT_PORTS:
        rest = rest.partition('?')[0].partition('#')[0]
        host, slash, path = rest.partition('/')
        rest = host.rpartition('@')[2] + slash + path
    else:
        rest = rest.rpartition('@')[2].partition('?')[0].partition('#')[0]
    return scheme + separator + rest


def public_text(text: str) -> str:
    """A sentence in which each URL is as ``public`` has it."""
    return ' '.join(public(word) if '://' in word else word
                    for word in text.split(' '))


def redirected(url: str, location: str) -> str:
    """Where a redirect leads; what its server did not encode is encoded.

    Blanks and bytes that are not ASCII become %XX, as curl and browsers have
    it, and a host in Unicode its ASCII form. What else a URL must not have
    stays, to be refused.

    :param url: what was asked for
    :param location: of the answer, its bytes read as ISO-8859-1
    :raises UrlRefused: its host cannot be written in ASCII
    """
    quoted = _quoted(location.strip(' \t').encode('latin-1'))
    try:
        parts = urllib.parse.urlsplit(urllib.parse.urljoin(url, quoted))
        host = urllib.parse.unquote(parts.netloc, errors='strict')
        # Not one that its server has encoded: it has another meaning to
        # other programs.
        if not host.isascii() and parts.netloc == _quoted(host.encode()):
            name, colon, port = host.partition(':')
            # As browsers and curl have it; the codec is that of IDNA 2003,
            # for which some names are those of others (UTS 46, 1.3).
            name = idna.encode(name, uts46=True).decode()
            parts = parts._replace(netloc=name + colon + port)
    except ValueError as failure:
        raise UrlRefused(f'it is not a URL: {failure}') from failure
    return parts.geturl()


def _quoted(text: bytes) -> str:
    return urllib.parse.quote(text, safe=_NOT_QUOTED)


def normal_host(host: str) -> str:
    """A host as it is compared."""
    return host.strip().lower().removesuffix('.')


def parse(url: str) -> Target:
    """Take an http or https URL apart.

    :raises UrlRefused: it is none, or can be read in two ways
    """
    if len(url) > MAX_LENGTH:
        raise UrlRefused(f'the URL is longer than {MAX_LENGTH} characters')
    if not url.isascii() or re.search(r'[\x00-\x20\x7f\\]', url):
        raise UrlRefused(
            'the URL has characters that must be percent-encoded, '
            'or a name that must be in its ASCII form (xn--...)')
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError as failure:
        raise UrlRefused(f'it is not a URL: {failure}') from failure
    if parts.scheme not in DEFAULT_PORTS:
        raise UrlRefused(
            f'the scheme {parts.scheme[:20] or "(none)"} is not allowed '
            'here')
    if '@' in parts.netloc:
        raise UrlRefused('the URL has a user name or a password in it')
    if port == 0:
        raise UrlRefused('the port 0 is not allowed here')
    host, address = _host(parts.netloc)
    path = parts.path or '/'
    if parts.query:
        path += '?' + parts.query
    return Target(url, parts.scheme, host,
                  port or DEFAULT_PORTS[parts.scheme], path, address)


def _host(netloc: str) -> tuple[str, addresses.Address | None]:
    if netloc.startswith('['):
        inner, bracket, rest = netloc[1:].partition(']')
        if not bracket or (rest and not rest.startswith(':')):
            raise UrlRefused('the host of the URL is malformed')
        try:
            found = ipaddress.IPv6Address(inner)
            if found.scope_id is not None:
                raise ValueError('with a zone')
        except ValueError as failure:
            raise UrlRefused(
                f'the host [{inner[:60]}] is no IPv6 address') from failure
        return str(found), found
    host = normal_host(netloc.partition(':')[0])
    if not host:
        raise UrlRefused('the URL has no host')
    labels = host.split('.')
    if _NUMBER.fullmatch(labels[-1]) or _is_address(host):
        try:
            return host, ipaddress.IPv4Address(host)
        except ValueError as failure:
            raise UrlRefused(
                f'the host {host[:60]} is no address in its usual form '
                '(four decimal numbers with dots)') from failure
    if len(host) > 253 or not all(map(_LABEL.fullmatch, labels)):
        raise UrlRefused(f'the host {host[:60]} is no host name')
    return host, None


def _is_address(host: str) -> bool:
    """Whether the C library takes the text for an IPv4 address."""
    try:
        socket.inet_aton(host)
    except (OSError, ValueError):
        return False
    return True
