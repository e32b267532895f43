"""The Swift store: glance_store's options and locations, swiftclient's calls.

The driver of glance_store announces a full last segment for any image that
is not a whole number of them, reads a whole object for one byte of it, and
computes digests that are known. Here a large object goes in segments of the
size it has, under the same names and with the same manifest (a dynamic large
object), so that either can read and delete what the other has stored. What a
killed attempt left is found by the object's name, ``<image id>.<epoch>``.
Touches the containers of the store.
"""

from __future__ import annotations

import collections.abc
import contextlib
import datetime
import io
import threading
import time
import typing
from urllib import parse

from oslo_config import cfg
import requests
from swiftclient import exceptions
from swiftclient import utils

from glance_import.stores import base
from glance_import.stores import library

# Seconds that Swift may be silent; and that a listing may lag behind the
# segments it is to list.
TIMEOUT, SETTLES = 60, 30
_MANIFEST = 'x-object-manifest'
_SEGMENT = '{name}-{number:05d}'
_NO_ROOM = (413, 507)
_NOT_ALLOWED = (401, 403)


class SwiftStore(library.LibraryStore):
    """See ``base.Store``; one account, whose credentials the options have."""

    def __init__(self, conf: cfg.ConfigOpts, kind: str, store_id: str, *,
                 group: str | None) -> None:
        section = conf[group or 'glance_store']
        if section.swift_store_multi_tenant:
            raise base.StoreError(
                f'store {store_id}: swift_store_multi_tenant stores with the '
                'token of who asks, which nobody has any more when an '
                'import runs; use an account of the service')
        super().__init__(conf, kind, store_id, group=group)
        self._local = threading.local()
        # A container for each beginning of ids, or one.
        self._many = bool(section.swift_store_multiple_containers_seed)
        self._prepared: set[str] = set()

    # -- names ----------------------------------------------------------

    def _place(self, name: str) -> typing.Any:
        """glance_store's location of an object of that name."""
        return self.driver.create_location(name)

    def uri(self, name: str) -> str:
        """That of an object; Glance's form, credentials and all."""
        from glance_store._drivers.swift import utils

        return self._place(name).get_uri(
            credentials_included=not (
                utils.is_multiple_swift_store_accounts_enabled(
                    self._conf, backend=self._group)))

    def location(self, uri: str) -> typing.Any:
        """See ``library.LibraryStore.location``; of our own account only."""
        found = super().location(uri)
        own = self._place(found.store_location.obj)
        if found.store_location.swift_url != own.swift_url:
            raise self._foreign()
        return found

    def _object(self, uri: str) -> tuple[str, str]:
        """(container, name)"""
        found = self.location(uri).store_location
        return found.container, found.obj

    # -- asking ---------------------------------------------------------

    @property
    def client(self) -> typing.Any:
        """One for each thread: they are not to be shared."""
        found = getattr(self._local, 'client', None)
        if found is None:
            found = self._local.client = self._connection()
        return found

    def _connection(self) -> typing.Any:
        made = self.driver.get_connection(self._place('0'))
        # Steps try again by themselves; one retry is what a token that has
        # expired takes.
        made.retries, made.timeout = 1, TIMEOUT
        return made

    @contextlib.contextmanager
    def errors(self) -> collections.abc.Iterator[None]:
        """swiftclient's errors, and those of what it is built on, as ours."""
        try:
            with library.errors(self.id):
                yield
        except base.StoreUnwritable as failure:
            cause = failure.__cause__
            if isinstance(cause, exceptions.ClientException):
                raise self._of_status(cause) from failure
            if isinstance(cause, (requests.RequestException, OSError)):
                raise base.StoreUnavailable(
                    f'store {self.id} does not answer') from failure
            raise

    def _of_status(self, failure: typing.Any) -> base.StoreError:
        status = failure.http_status
        if status == 404:
            return base.ObjectGone(
                'the data of the image is not in its store')
        if status in _NO_ROOM:
            return base.StoreFull(
                f'no room in store {self.id}: a quota is reached, or its '
                'disks are full')
        if status in _NOT_ALLOWED or status is None and (
                'nauthorized' in str(failure)):
            return base.StoreUnwritable(
                f"store {self.id} does not take this service's credentials, "
                'or does not let it do this; its operator has to look at '
                'swift_store_user and the rights of that user')
        if not status or status >= 500 or status in (408, 429, 498):
            return base.StoreUnavailable(
                f'store {self.id} does not answer now'
                + (f' ({status})' if status else ''))
        return base.StoreUnwritable(
            f'store {self.id} does not do what is asked ({status})')

    def check(self) -> bool:
        """See ``base.Store.check``."""
        with self.errors():
            self.client.head_account()
        return True

    # -- what is stored -------------------------------------------------

    def open(self, uri: str, *, offset: int = 0) -> typing.BinaryIO:
        """See ``base.Store.open``."""
        container, name = self._object(uri)
        with self.errors():
            size = self._size(container, name)
            if offset >= size:
                return io.BytesIO()
            # A connection of its own: its answer is read for a long time.
            _headers, body = self._connection().get_object(
                container, name, resp_chunk_size=library.BLOCK,
                headers={'Range': f'bytes={offset}-'} if offset else {})
        return io.BufferedReader(_Body(self, body, size - offset),
                                 library.BLOCK)

    def _size(self, container: str, name: str) -> int:
        return int(self.client.head_object(container,
                                           name)['content-length'])

    def size(self, uri: str) -> int:
        """See ``base.Store.size``."""
        container, name = self._object(uri)
        with self.errors():
            return self._size(container, name)

    def delete(self, uri: str) -> None:
        """See ``base.Store.delete``; segments first, which it names."""
        container, name = self._object(uri)
        with self.errors():
            manifest = parse.unquote(self.client.head_object(
                container, name).get(_MANIFEST, ''))
            if manifest:
                where, _, prefix = manifest.partition('/')
                for each in self._listed(where, prefix):
                    self._remove(where, each['name'])
            self._remove(container, name)

    def _remove(self, container: str, name: str) -> None:
        """Delete an object; one that is gone is fine."""
        try:
            self.client.delete_object(container, name)
        except exceptions.ClientException as failure:
            if failure.http_status != 404:
                raise

    def _listed(self, container: str, prefix: str = ''
                ) -> collections.abc.Iterator[dict[str, typing.Any]]:
        """What a container has, a page at a time; nothing without it."""
        marker = ''
        while True:
            try:
                with self.errors():
                    found = self.client.get_container(
                        container, prefix=prefix, marker=marker)[1]
            except base.ObjectGone:
                return
            if not found:
                return
            yield from found
            marker = found[-1]['name']

    # -- storing --------------------------------------------------------

    def add(self, name: str, stream: library.Feed, size: int,
            hash_algo: str) -> tuple[str, int, str | None]:
        """See ``library.LibraryStore.add``."""
        container = self._place(name).container
        with self.errors():
            self._prepare(container)
            if size < self.driver.large_object_size or not size:
                self._put(container, name, stream, size)
            else:
                self._add_segments(container, name, stream, size)
            self._confirm(container, name, size)
        return self.uri(name), size, None

    def _prepare(self, container: str) -> None:
        if container not in self._prepared:
            self.driver._create_container_if_missing(container, self.client)
            self._prepared.add(container)

    def _add_segments(self, container: str, name: str, stream: library.Feed,
                      size: int) -> None:
        """The parts, and then what makes them one object.

        Those of an earlier life of this attempt go first: the manifest
        takes whatever has the prefix.
        """
        for each in self._listed(container, f'{name}-'):
            self._remove(container, each['name'])
        step = self.driver.large_object_chunk_size
        for number, start in enumerate(range(0, size, step), 1):
            length = min(step, size - start)
            self._put(container, _SEGMENT.format(name=name, number=number),
                      stream, length)
        self.client.put_object(
            container, name, b'', headers={
                'X-Object-Manifest': parse.quote(f'{container}/{name}-')})

    def _put(self, container: str, name: str, stream: library.Feed,
             size: int) -> None:
        client = self.client
        # Gets a new token where that is due: a stream is not sent twice.
        client.head_container(container)
        client.retries, retries = 0, client.retries
        try:
            client.put_object(container, name, _Bytes(stream, size),
                              content_length=size)
        finally:
            client.retries = retries

    def _confirm(self, container: str, name: str, size: int) -> None:
        """What cannot be seen as a whole is not there.

        :raises base.StoreUnavailable: not all of it is listed so far
        """
        deadline = time.monotonic() + SETTLES
        while (found := self._size(container, name)) != size:
            if time.monotonic() > deadline:
                raise base.StoreUnavailable(
                    f'store {self.id} lists {found} bytes of {size} after '
                    'the upload')
            time.sleep(1)

    # -- what attempts left ---------------------------------------------

    def forget(self, name: str) -> None:
        """See ``library.LibraryStore.forget``."""
        container = self._place(name).container
        for each in list(self._listed(container, name)):
            if each['name'] == name or each['name'].startswith(f'{name}-'):
                with self.errors():
                    self._remove(container, each['name'])

    def sweep(self, image_id: str, below: int,
              keep: collections.abc.Collection[str]) -> list[str]:
        """See ``base.Store.sweep``."""
        container = self._place(base.checked(image_id)).container
        found = {name for name in (
            _object_of(each['name'])
            for each in self._listed(container, f'{image_id}.'))
            if (epoch := base.epoch_of(name, image_id)) is not None
            and epoch < below and self.uri(name) not in keep}
        for name in found:
            self.forget(name)
        return sorted(map(self.uri, found))

    def strays(self) -> collections.abc.Iterator[base.Stray]:
        """See ``base.Store.strays``."""
        for container in self._containers():
            for each in self._listed(container):
                name = _object_of(each['name'])
                image_id = name.partition('.')[0]
                epoch = base.epoch_of(name, image_id)
                if epoch is None:
                    continue
                with contextlib.suppress(base.BadLocation):
                    yield base.Stray(base.checked(image_id), epoch,
                                     self.uri(name), _seconds(each))

    def _containers(self) -> list[str]:
        if not self._many:
            return [self.driver.container]
        with self.errors():
            return [each['name'] for each in self.client.get_account(
                prefix=f'{self.driver.container}_', full_listing=True)[1]]


def _object_of(name: str) -> str:
    """The object that a segment belongs to; any other name as it is."""
    found, dash, number = name.rpartition('-')
    is_segment = dash and '.' in found and number.isdecimal()
    return found if is_segment else name


def _seconds(listed: dict[str, typing.Any]) -> float:
    """When it was stored, in seconds since 1970."""
    return datetime.datetime.fromisoformat(listed['last_modified']).replace(
        tzinfo=datetime.timezone.utc).timestamp()


class _Bytes(utils.LengthWrapper):
    """So many bytes of a stream, in larger pieces than are asked for."""

    def read(self, _size: int = -1) -> bytes:
        """:raises base.ObjectChanged: the stream ends before"""
        block = self._readable.read(min(self._remaining, library.BLOCK))
        if not block and self._remaining:
            raise base.ObjectChanged(
                f'the data ends {self._remaining} bytes before its end')
        self._remaining -= len(block)
        return block


class _Body(io.RawIOBase):
    """What Swift sends; fewer bytes than there are is an error, not an end.
    """

    def __init__(self, store: SwiftStore, body: typing.Any, length: int
                 ) -> None:
        self._store = store
        self._body = body
        self._left = length
        self._rest = memoryview(b'')

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: typing.Any) -> int:
        """:raises base.StoreError: the store stopped sending"""
        if not self._left:
            return 0
        if not self._rest:
            with self._store.errors():
                piece = next(self._body, b'')
            if not piece:
                raise base.StoreUnavailable(
                    f'store {self._store.id} stopped sending, {self._left} '
                    'bytes before the end')
            self._rest = memoryview(piece)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        self._left -= count
        return count

    def close(self) -> None:
        if not self.closed:
            self._body.close()
        super().close()
