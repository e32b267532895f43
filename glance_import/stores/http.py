"""Data that lies on web servers of others: read-only, by glance's http store.

glance_store's own driver goes wherever a URL and its redirects lead. A user
may name URLs here, so they are fetched as web-download fetches: to judged
addresses only, as [import_filtering_opts] says. Touches the network.
"""

from __future__ import annotations

import collections.abc
import contextlib
import io
import typing

from oslo_config import cfg

from glance_import.net import client
from glance_import.net import options
from glance_import.net import urls
from glance_import.stores import base

KIND = 'http'
_GONE = ('404', '410')


class HttpStore:
    """See ``base.Store``; nothing is ever written or deleted."""

    kind = KIND
    read_only = True

    def __init__(self, conf: cfg.ConfigOpts, _kind: str, store_id: str, *,
                 group: str | None) -> None:
        self.id = store_id
        try:
            self._settings = options.settings(conf)
        except ValueError as failure:
            raise base.StoreError(f'store {store_id}: {failure}') from failure

    def attempt(self, image_id: str, epoch: int) -> base.Attempt:
        """:raises base.StoreUnwritable: always"""
        raise base.StoreUnwritable(f'the store {self.id} is read-only')

    def sweep(self, image_id: str, below: int,
              keep: collections.abc.Collection[str]) -> list[str]:
        """Nothing was ever left."""
        return []

    def strays(self) -> collections.abc.Iterator[base.Stray]:
        """Nothing was ever left."""
        return iter(())

    def accepts(self, uri: str) -> bool:
        """See ``base.Store.accepts``."""
        return uri.partition('://')[0].lower() in urls.DEFAULT_PORTS

    def open(self, uri: str, *, offset: int = 0) -> typing.BinaryIO:
        """See ``base.Store.open``."""
        headers = {'Range': f'bytes={offset}-'} if offset else {}
        response = self._get(uri, headers, (200, 206))
        if response.status == 206 and response.range()[0] != offset:
            response.close()
            raise base.StoreUnwritable(
                f'store {self.id}: the server sent another part of its data '
                'than it was asked for')
        stream: typing.BinaryIO = io.BufferedReader(
            _Body(response), client.BLOCK)
        if offset and response.status == 200:
            # The server knows no ranges.
            _skip(stream, offset)
        return stream

    def size(self, uri: str) -> int:
        """See ``base.Store.size``.

        :raises base.BadLocation: also when the server does not tell
        """
        with self._get(uri, {}, (200,)) as response:
            if response.length is None:
                raise base.BadLocation(
                    'the server does not tell how large its data is')
            return response.length

    def exists(self, uri: str) -> bool:
        """See ``base.Store.exists``."""
        try:
            self.size(uri)
            return True
        except base.ObjectGone:
            return False

    def in_use(self, uri: str) -> str | None:
        """See ``base.Store.in_use``: nothing that is known."""
        return None

    def delete(self, uri: str) -> None:
        """It is not ours to delete."""

    def check(self) -> bool:
        """See ``base.Store.check``: it is as many servers as there are."""
        return False

    def properties(self) -> dict[str, typing.Any]:
        """See ``base.Store.properties``."""
        return {}

    def _get(self, uri: str, headers: dict[str, str],
             accepted: tuple[int, ...]) -> client.Response:
        if not self.accepts(uri):
            raise base.BadLocation(
                f'the location is not one of store {self.id}')
        with _errors():
            return client.get(self._settings, uri, headers,
                              accepted=accepted)


@contextlib.contextmanager
def _errors() -> collections.abc.Iterator[None]:
    try:
        yield
    except urls.UrlRefused as refusal:
        raise base.BadLocation(
            f'the location may not be followed: {refusal}') from refusal
    except client.Passing as failure:
        raise base.StoreUnavailable(str(failure)) from failure
    except client.FetchError as failure:
        gone = str(failure).startswith(tuple(
            f'the server answered {status}' for status in _GONE))
        raise (base.ObjectGone if gone else base.StoreUnwritable)(
            str(failure)) from failure


def _skip(stream: typing.BinaryIO, offset: int) -> None:
    while offset:
        skipped = len(stream.read(min(offset, client.BLOCK)))
        if not skipped:
            return
        offset -= skipped


class _Body(io.RawIOBase):
    """The body of an answer as a file to read from."""

    def __init__(self, response: client.Response) -> None:
        self._response = response
        self._blocks = response.blocks()
        self._rest = memoryview(b'')

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: typing.Any) -> int:
        """:raises base.StoreError: the server stopped sending"""
        if not self._rest:
            with _errors():
                self._rest = next(self._blocks, memoryview(b''))
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        if not self.closed:
            self._response.close()
        super().close()
