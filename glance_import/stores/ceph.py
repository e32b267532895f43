"""A Ceph cluster as a store uses it: connected late, asked with a limit.

librados and librbd are C: a call cannot be interrupted, and the process must
not wait for a cluster that hangs. So each operation has a time limit inside
Ceph, and what somebody may want to stop runs in a thread that can be left
behind (``within``). Touches the cluster.
"""

from __future__ import annotations

import collections.abc
from concurrent import futures
import contextlib
import ctypes
import errno
import os
import threading
import time
import typing

from glance_import.stores import base

T = typing.TypeVar('T')

# What an operation may take in a cluster that is paused, or loses an OSD.
OPERATION_SECONDS = 30
# How soon who waits notices that it is no longer wanted.
NOTICE_SECONDS = 0.2

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_PASSING = frozenset({
    errno.ETIMEDOUT, errno.ESHUTDOWN, errno.ENOTCONN, errno.EAGAIN,
    errno.EBUSY, errno.EINTR, errno.EIO, errno.EROFS, errno.ECANCELED,
    errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH})
# After these a connection may never work again.
_LOST = frozenset({errno.ETIMEDOUT, errno.ESHUTDOWN, errno.ENOTCONN})


class Cluster:
    """One connection of a process, made when it is first needed."""

    def __init__(self, store_id: str, conffile: str, user: str | None,
                 pool: str, seconds: int) -> None:
        """:param seconds: the limit for connecting; under 1, our own"""
        self._store_id = store_id
        self._conffile = conffile
        self._user = user
        self._pool = pool
        limit = seconds if seconds > 0 else OPERATION_SECONDS
        self._options = {
            'client_mount_timeout': limit, 'rados_mon_op_timeout': limit,
            'rados_osd_op_timeout': max(limit, OPERATION_SECONDS),
            # What was written is in the cluster, and its errors are told.
            'rbd_cache': 'false',
            # Nobody changes what we write while it is on its way.
            'rbd_disable_zero_copy_writes': 'false'}
        self._limit = limit
        self._lock = threading.Lock()
        self._connected: tuple[int, typing.Any] | None = None
        self._fsid: str | None = None
        self._file_was_read = False

    def connection(self) -> typing.Any:
        """:raises base.StoreError: there is none to be had"""
        # Whoever holds it is bound to the same limit.
        if not self._lock.acquire(timeout=2 * self._limit):
            raise self._away('it is not connected')
        try:
            if self._connected and self._connected[0] != os.getpid():
                # Its threads stayed in the parent: it cannot even be freed.
                ctypes.pythonapi.Py_IncRef(
                    ctypes.py_object(self._connected[1]))
                self._connected = None
            if self._connected is None:
                self._connected = os.getpid(), self._connect()
            return self._connected[1]
        finally:
            self._lock.release()

    def _client(self) -> typing.Any:
        import rados

        return rados.Rados(
            conffile=self._conffile, rados_id=self._user or None,
            conf={name: str(value) for name, value in self._options.items()})

    def _connect(self) -> typing.Any:
        import rados

        try:
            client = self._client()
            client.connect()
        except rados.Error as failure:
            number = getattr(failure, 'errno', None)
            text = (f'store {self._store_id}: the cluster cannot be '
                    f'connected to: {one_line(failure)}')
            if number in (errno.ENOENT, errno.EACCES, errno.EPERM,
                          errno.EINVAL):
                raise base.StoreUnwritable(text) from failure
            raise base.StoreUnavailable(text) from failure
        self._fsid = client.get_fsid()
        return client

    def forget(self, client: typing.Any) -> None:
        """The next call connects anew, if it was by this connection."""
        with self._lock:
            if self._connected and self._connected[1] is client:
                self._connected = None

    def fsid(self) -> str:
        """:raises base.StoreError: the cluster cannot be asked"""
        self.connection()
        assert self._fsid is not None
        return self._fsid

    def known_fsid(self) -> str | None:
        """The same without asking the cluster; None if it is not known."""
        import rados

        if self._fsid is None and not self._file_was_read:
            self._file_was_read = True
            with contextlib.suppress(rados.Error):
                # Of a file that has none it is all zeros.
                found = self._client().conf_get('fsid')
                self._fsid = found if found and found.strip('0-') else None
        return self._fsid

    @contextlib.contextmanager
    def pool(self) -> collections.abc.Iterator[typing.Any]:
        """The pool, for calls of librbd; their errors as ours."""
        client = self.connection()
        try:
            with self.errors():
                io = self._open_pool(client)
                try:
                    yield io
                finally:
                    io.close()
        except base.StoreUnavailable as failure:
            if getattr(failure.__cause__, 'errno', None) in _LOST:
                self.forget(client)
            raise

    def _open_pool(self, client: typing.Any) -> typing.Any:
        import rados

        try:
            io = client.open_ioctx(self._pool)
        except rados.ObjectNotFound as failure:
            raise base.StoreUnwritable(
                f'store {self._store_id}: there is no pool {self._pool}'
            ) from failure
        # To a full pool: an error, not a wait without end; and what is in
        # it can be removed.
        io.set_osdmap_full_try()
        return io

    @contextlib.contextmanager
    def errors(self) -> collections.abc.Iterator[None]:
        """Errors of librados and librbd as ours."""
        import rados
        import rbd

        try:
            yield
        except (rbd.ImageNotFound, rados.ObjectNotFound) as failure:
            raise base.ObjectGone(
                'the data of the image is not in its store') from failure
        except (rbd.Error, rados.Error) as failure:
            raise self.error(getattr(failure, 'errno', None) or 0,
                             one_line(failure)) from failure

    def error(self, number: int, text: str) -> base.StoreError:
        """What an error number of Ceph's means to us."""
        if number in _FULL:
            return base.StoreFull(f'no room in store {self._store_id}')
        if number in _PASSING:
            return self._away(text)
        return base.StoreUnwritable(
            f'store {self._store_id} does not do what is asked: {text}')

    def _away(self, text: str) -> base.StoreUnavailable:
        return base.StoreUnavailable(
            f'store {self._store_id} does not answer: {text}')

    def within(self, call: collections.abc.Callable[[], T], *,
               seconds: float | None = None,
               cancelled: base.IsCancelled | None = None) -> T:
        """What ``call`` gives; it is left behind when that takes too long.

        :raises base.StoreUnavailable: it took more than ``seconds``
        :raises base.Cancelled: nobody wants it any more
        """
        done: futures.Future[T] = futures.Future()

        def run() -> None:
            try:
                done.set_result(call())
            except BaseException as failure:  # noqa: BLE001
                done.set_exception(failure)

        # One that is not waited for when the process ends.
        threading.Thread(target=run, name=f'ceph-{self._store_id}',
                         daemon=True).start()
        end = None if seconds is None else time.monotonic() + seconds
        while True:
            with contextlib.suppress(futures.TimeoutError):
                # Not the call's own: that is set on the future.
                return done.result(NOTICE_SECONDS)
            if done.done():
                return done.result()
            if cancelled is not None and cancelled():
                raise base.Cancelled('storing the data was cancelled')
            if end is not None and time.monotonic() > end:
                raise self._away(f'no answer within {seconds:.0f} s')


def one_line(failure: BaseException) -> str:
    """Without the brackets that Ceph puts around it."""
    return ' '.join(str(failure).split())[:300] or type(failure).__name__
