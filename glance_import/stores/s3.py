"""The S3 store: glance_store's driver, and an upload of our own.

Options, locations and the client are the driver's, so either can serve what
the other has stored. The driver's own upload keeps all of a large image in
memory, leaves the parts of an interrupted one to be paid for, and computes
digests that are known; ours has a bounded number of parts on their way,
aborts what it does not complete, and finds what a killed attempt left by the
object's name, ``<image id>.<epoch>``. An object is visible when S3 has been
told to complete it, not before. Touches the bucket.
"""

from __future__ import annotations

import collections.abc
from concurrent import futures
import contextlib
import io
import math
import os
import threading
import typing

from oslo_config import cfg

from glance_import.stores import base
from glance_import.stores import bulkhead
from glance_import.stores import library

MIB = 1 << 20
MAX_PARTS = 10000
# What S3 itself does not let a part be smaller than, but for the last one.
MIN_PART = 5 * MIB
_GONE = frozenset({'404', 'NoSuchKey', 'NotFound', 'NoSuchUpload',
                   'NoSuchBucket'})
_NOT_ALLOWED = frozenset({'401', '403', 'AccessDenied', 'InvalidAccessKeyId',
                          'SignatureDoesNotMatch', 'Forbidden'})
_NO_ROOM = frozenset({'507', 'EntityTooLarge', 'QuotaExceeded',
                      'XMinioStorageFull', 'InsufficientStorage',
                      'StorageFull'})


class S3Store(library.LibraryStore):
    """See ``base.Store``."""

    def __init__(self, conf: cfg.ConfigOpts, kind: str, store_id: str, *,
                 group: str | None) -> None:
        super().__init__(conf, kind, store_id, group=group)
        self._clients: dict[int, typing.Any] = {}
        self._lock = threading.Lock()
        self._prepared = False
        self.threads = self.driver.s3_store_thread_pools
        self.bucket = self.driver.bucket

    @property
    def client(self) -> typing.Any:
        """The driver's client; making one reads files for a long time."""
        with self._lock:
            # Connections do not survive a fork.
            found = self._clients.get(os.getpid())
            if found is None:
                self._clients.clear()
                found = self._clients[os.getpid()] = (
                    self.driver._create_s3_client())
            return found

    def part_size(self, size: int) -> int:
        """Bytes of each part of an object of ``size`` bytes."""
        return max(self.driver.s3_store_large_object_chunk_size,
                   math.ceil(size / MAX_PARTS))

    def multipart(self, size: int) -> bool:
        return size >= max(self.driver.s3_store_large_object_size,
                           MIN_PART)

    def uri(self, key: str) -> str:
        location = self.driver.get_store_location_class()(
            {'scheme': self.driver.scheme, 'bucket': self.bucket, 'key': key,
             's3serviceurl': self.driver.full_s3_host}, self._conf,
            backend_group=self._group)
        return location.get_uri()

    def prepare(self) -> None:
        """Make the bucket when it is not there and the options say so.

        :raises base.StoreError: it is not there, or cannot be asked for
        """
        if self._prepared:
            return
        with self.errors():
            try:
                self.client.head_bucket(Bucket=self.bucket)
                self._prepared = True
                return
            except Exception as failure:
                if _code(failure) not in _GONE:
                    raise
            if not self.option('s3_store_create_bucket_on_put'):
                raise self._no_bucket()
            self.driver._create_bucket(
                self.client, self.option('s3_store_host'), self.bucket,
                self.option('s3_store_region_name'))

    def check(self) -> bool:
        """See ``base.Store.check``."""
        try:
            with self.errors():
                self.client.head_bucket(Bucket=self.bucket)
        except base.ObjectGone as failure:
            # It answers, and makes the bucket when that is needed.
            if not self.option('s3_store_create_bucket_on_put'):
                raise self._no_bucket() from failure
        return True

    def _no_bucket(self) -> base.StoreError:
        return base.StoreUnwritable(
            f'store {self.id}: the bucket {self.bucket} does not exist, and '
            's3_store_create_bucket_on_put is off')

    def attempt(self, image_id: str, epoch: int) -> base.Attempt:
        """See ``base.Store.attempt``."""
        return Attempt(self, library.object_name(image_id, epoch))

    def sweep(self, image_id: str, below: int,
              keep: collections.abc.Collection[str]) -> list[str]:
        """See ``base.Store.sweep``."""
        def over(key: str) -> bool:
            epoch = base.epoch_of(key, image_id)
            return epoch is not None and epoch < below

        removed: list[str] = []
        with contextlib.suppress(base.ObjectGone):
            removed += self.abort_uploads(base.checked(image_id), over)
            for each in self._listed('list_objects_v2', 'Contents',
                                     f'{image_id}.'):
                key = each['Key']
                if not over(key) or self.uri(key) in keep:
                    continue
                with self.errors():
                    self.client.delete_object(Bucket=self.bucket, Key=key)
                removed.append(self.uri(key))
        return removed

    def strays(self) -> collections.abc.Iterator[base.Stray]:
        """See ``base.Store.strays``; asks for every object of the bucket.

        A page at a time: there may be very many.
        """
        for listing, found, when in (
                ('list_multipart_uploads', 'Uploads', 'Initiated'),
                ('list_objects_v2', 'Contents', 'LastModified')):
            for each in self._listed(listing, found):
                image_id = each['Key'].partition('.')[0]
                epoch = base.epoch_of(each['Key'], image_id)
                if epoch is None:
                    continue
                with contextlib.suppress(base.BadLocation):
                    yield base.Stray(base.checked(image_id), epoch,
                                     self.uri(each['Key']),
                                     each[when].timestamp())

    def _listed(self, listing: str, found: str, prefix: str = ''
                ) -> collections.abc.Iterator[dict[str, typing.Any]]:
        """What the bucket has; nothing when it is not there."""
        pages = iter(self.client.get_paginator(listing).paginate(
            Bucket=self.bucket, Prefix=prefix))
        while True:
            try:
                with self.errors():
                    page = next(pages, None)
            except base.ObjectGone:
                return
            if page is None:
                return
            yield from page.get(found, ())

    def abort_uploads(self, image_id: str,
                      which: collections.abc.Callable[[str], bool]
                      ) -> list[str]:
        """Throw away parts that nobody will complete; their URIs."""
        with self.errors():
            found = [each for each in self._listed(
                'list_multipart_uploads', 'Uploads', f'{image_id}.')
                if which(each['Key'])]
            for each in found:
                self.abort_upload(each['Key'], each['UploadId'])
        return [self.uri(each['Key']) for each in found]

    def abort_upload(self, key: str, upload_id: str) -> None:
        """Throw the parts of an upload away; one that is gone is fine."""
        try:
            self.client.abort_multipart_upload(
                Bucket=self.bucket, Key=key, UploadId=upload_id)
        except Exception as failure:
            if _code(failure) not in _GONE:
                raise

    def location(self, uri: str) -> typing.Any:
        """See ``library.LibraryStore.location``; only of our own bucket."""
        found = super().location(uri)
        if found.store_location.bucket != self.bucket \
                or uri != self.uri(found.store_location.key):
            raise self._foreign()
        return found

    def _key(self, uri: str) -> str:
        return self.location(uri).store_location.key

    def open(self, uri: str, *, offset: int = 0) -> typing.BinaryIO:
        """See ``base.Store.open``."""
        key = self._key(uri)
        with self.errors():
            size = self._head(key)
            if offset >= size:
                return io.BytesIO()
            answer = self.client.get_object(
                Bucket=self.bucket, Key=key,
                **({'Range': f'bytes={offset}-'} if offset else {}))
        return io.BufferedReader(
            _Body(self, answer['Body'], size - offset), library.BLOCK)

    def _head(self, key: str) -> int:
        return self.client.head_object(
            Bucket=self.bucket, Key=key)['ContentLength']

    def size(self, uri: str) -> int:
        """See ``base.Store.size``."""
        key = self._key(uri)
        with self.errors():
            return self._head(key)

    def delete(self, uri: str) -> None:
        """See ``base.Store.delete``."""
        key = self._key(uri)
        with self.errors():
            self._head(key)
            self.client.delete_object(Bucket=self.bucket, Key=key)

    @contextlib.contextmanager
    def errors(self) -> collections.abc.Iterator[None]:
        """boto's errors as ours."""
        try:
            with library.errors(self.id):
                yield
        except base.StoreUnwritable as failure:
            code = _code(failure.__cause__)
            if code in _GONE:
                raise base.ObjectGone(
                    'the data of the image is not in its store') from failure
            if code in _NOT_ALLOWED:
                raise base.StoreUnwritable(
                    f"store {self.id} does not take this service's "
                    'credentials, or does not let it do this; its operator '
                    'has to look at s3_store_access_key and the rights of '
                    f'that user ({code})') from failure
            if _passing(failure.__cause__):
                raise base.StoreUnavailable(str(failure)) from failure
            if code in _NO_ROOM:
                raise base.StoreFull(
                    f'no room in store {self.id}: '
                    f'{library.one_line(failure)}') from failure
            raise


def _code(failure: BaseException | None) -> str:
    """What S3 calls an error, '' of anything that is not S3's word."""
    answer = getattr(failure, 'response', None) or {}
    error = answer.get('Error', {}).get('Code', '')
    status = answer.get('ResponseMetadata', {}).get('HTTPStatusCode')
    return str(error or status or '')


def _passing(failure: BaseException | None) -> bool:
    """Whether the same request may succeed a little later."""
    from botocore import exceptions

    if isinstance(failure, exceptions.ClientError):
        status = failure.response.get(
            'ResponseMetadata', {}).get('HTTPStatusCode', 0)
        return status >= 500 and status != 507 or _code(failure) in (
            'SlowDown', 'RequestTimeout')
    return isinstance(failure, (
        exceptions.HTTPClientError, exceptions.ConnectionError,
        exceptions.IncompleteReadError))


class _Body(io.RawIOBase):
    """What S3 sends; fewer bytes than there are is an error, not an end."""

    def __init__(self, store: S3Store, body: typing.Any, length: int) -> None:
        self._store = store
        self._body = body
        self._left = length

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: typing.Any) -> int:
        """:raises base.StoreError: the store stopped sending"""
        if not self._left:
            return 0
        with self._store.errors():
            piece = self._body.read(min(len(buffer), self._left))
            if not piece:
                raise base.StoreUnwritable(
                    f'store {self._store.id} stopped sending, '
                    f'{self._left} bytes before the end')
        self._left -= len(piece)
        buffer[:len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        self._body.close()
        super().close()


class Attempt:
    """See ``base.Attempt``. Small objects go in one request."""

    def __init__(self, store: S3Store, key: str) -> None:
        self.store = store
        self._key = key
        self._hash_algo = ''
        self._size = 0
        self._part = 0
        self._upload: str | None = None
        self._pending: list[base.Block] = []
        self._pending_bytes = 0
        self._sent = 0
        self._parts: dict[int, futures.Future] = {}
        # One thread takes the blocks, the others send parts.
        self._lane: bulkhead.Daemons | None = None
        self._senders: bulkhead.Daemons | None = None
        self._room: threading.Semaphore | None = None

    @property
    def pool(self) -> futures.Executor:
        assert self._lane is not None
        return self._lane

    def same_filesystem(self, source: base.Source) -> bool:
        """Never."""
        return False

    def adopt(self, source: base.Source, report: typing.Any) -> None:
        """Never: what an earlier attempt left is not looked at."""

    def begin(self, size: int, hash_algo: str) -> None:
        """See ``base.Attempt.begin``."""
        self._hash_algo, self._size = hash_algo, size
        self._sent, self._parts = 0, {}
        self._pending, self._pending_bytes = [], 0
        self._part = self.store.part_size(size)
        self.store.prepare()
        self._lane = bulkhead.Daemons(1, f's3-{self.store.id}')
        if not self.store.multipart(size):
            return
        self._senders = bulkhead.Daemons(
            self.store.threads, f's3-{self.store.id}')
        # One part more than are being sent is made ready.
        self._room = threading.Semaphore(self.store.threads + 1)
        # An earlier life of this very attempt may have left parts.
        image_id = self._key.rpartition('.')[0]
        self.store.abort_uploads(image_id, lambda key: key == self._key)
        with self.store.errors():
            self._upload = self.store.client.create_multipart_upload(
                Bucket=self.store.bucket, Key=self._key)['UploadId']

    def write(self, block: base.Block) -> None:
        """See ``base.Attempt.write``."""
        while len(block):
            taken = block
            if self._upload is not None:
                taken = block[:self._part - self._pending_bytes]
            self._pending.append(taken)
            self._pending_bytes += len(taken)
            self._sent += len(taken)
            block = block[len(taken):]
            if self._upload is not None and self._pending_bytes == self._part:
                self._send_part()

    def _send_part(self) -> None:
        assert self._senders is not None and self._room is not None
        self._check_parts()
        self._room.acquire()
        body = self._take()
        number = len(self._parts) + 1
        self._parts[number] = self._senders.submit(
            self._upload_part, number, body)

    def _check_parts(self) -> None:
        """:raises base.StoreError: one of them was not taken"""
        for each in list(self._parts.values()):
            if each.done():
                each.result()

    def _take(self) -> bytes:
        body = b''.join(self._pending)
        self._pending, self._pending_bytes = [], 0
        return body

    def _upload_part(self, number: int, body: bytes) -> str:
        assert self._room is not None
        try:
            with self.store.errors():
                return self.store.client.upload_part(
                    Bucket=self.store.bucket, Key=self._key,
                    PartNumber=number, UploadId=self._upload,
                    Body=body)['ETag']
        finally:
            self._room.release()

    def commit(self, digests: base.Digests) -> base.Stored:
        """See ``base.Attempt.commit``."""
        try:
            if self._sent != digests.size:
                raise base.ObjectChanged(
                    f'{self._sent} bytes came, {digests.size} were expected')
            if self._upload is None:
                with self.store.errors():
                    self.store.client.put_object(
                        Bucket=self.store.bucket, Key=self._key,
                        Body=self._take())
            else:
                self._complete()
            self._confirm(digests.size)
        except BaseException:
            self.abort()
            raise
        self._end()
        return base.Stored(
            self.store.uri(self._key), digests.size, digests.checksum,
            self._hash_algo, digests.hash_value, {'store': self.store.id})

    def _complete(self) -> None:
        if self._pending_bytes:
            self._send_part()
        parts = [{'PartNumber': number, 'ETag': each.result()}
                 for number, each in self._parts.items()]
        with self.store.errors():
            self.store.client.complete_multipart_upload(
                Bucket=self.store.bucket, Key=self._key,
                UploadId=self._upload, MultipartUpload={'Parts': parts})
        self._upload = None

    def _confirm(self, size: int) -> None:
        """What is not there as a whole, or cannot be seen, is not kept."""
        try:
            with self.store.errors():
                found = self.store._head(self._key)
            if found != size:
                raise base.StoreUnwritable(
                    f'store {self.store.id} has {found} bytes of {size} '
                    'after the upload')
        except base.StoreError:
            with contextlib.suppress(base.StoreError), self.store.errors():
                self.store.client.delete_object(
                    Bucket=self.store.bucket, Key=self._key)
            raise

    def abort(self) -> None:
        """See ``base.Attempt.abort``."""
        upload, self._upload = self._upload, None
        for each in self._parts.values():
            each.cancel()
        futures.wait(self._parts.values())
        try:
            if upload is not None:
                with self.store.errors():
                    self.store.abort_upload(self._key, upload)
        finally:
            self._end()

    def _end(self) -> None:
        for pool in (self._lane, self._senders):
            if pool is not None:
                pool.shutdown(wait=False, cancel_futures=True)
        self._lane = self._senders = None
        self._pending, self._parts = [], {}
