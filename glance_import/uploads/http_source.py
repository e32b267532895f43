"""A download: bytes that are fetched from another server.

They are received as an upload's are. What is known of the data (length, ETag,
Last-Modified) is kept with the job, so that a download that was interrupted -
and one whose process was killed - goes on where it stopped, if the server
says that the data is still the same, and begins anew if not. Complete means:
as long as the server said, or of the digest that the request names. Touches
what the receiver does, the job, and the server through the opener it is given.
"""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import functools
import json
import threading
import time
import typing
import urllib.parse

from oslo_log import log

from glance_import.db import jobs as db_jobs
from glance_import.db import staging as db_staging
from glance_import.domain import free_space
from glance_import.domain import quotas
from glance_import import errors
from glance_import.net import client
from glance_import.net import urls
from glance_import import staging
from glance_import import states
from glance_import.stores import base as stores
from glance_import.uploads import integrity
from glance_import.uploads import receiving
from glance_import.uploads import staged_state

if typing.TYPE_CHECKING:
    import sqlalchemy as sa

    from glance_import import services

LOG = log.getLogger(__name__)

# (request headers, statuses that are answers) -> the response
Opener = collections.abc.Callable[
    [dict[str, str], tuple[int, ...]], client.Response]
# Another attempt at the same image lets go of its part within seconds.
_LOCK_SECONDS = 30.0
_LONGEST_PAUSE = 30.0


@dataclasses.dataclass(frozen=True)
class Source:
    """What is fetched.

    ``expected``: digests that the bytes must have; ``size``: how many are
    known to come; ``immutable``: a name of the data that never means other
    data, where the server sends no ETag.
    """

    open: Opener
    expected: tuple[integrity.ExpectedDigest, ...] = ()
    size: int | None = None
    immutable: str | None = None


@dataclasses.dataclass(frozen=True)
class Import:
    """The import that fetches.

    ``transaction``: a write transaction that raises errors.LeaseLost if the
    lease is lost; ``report``: told the bytes so far, and in all or None;
    ``stopped``: set when the import is to stop.
    """

    lease: db_jobs.Lease
    image_id: str
    transaction: collections.abc.Callable[
        [], contextlib.AbstractContextManager[sa.Connection]]
    report: collections.abc.Callable[[int, int | None], None]
    stopped: threading.Event

    def check_stop(self) -> None:
        """:raises stores.Cancelled: the import is to stop"""
        if self.stopped.is_set():
            raise stores.Cancelled('the import was stopped')

    def pause(self, seconds: float) -> None:
        """:raises stores.Cancelled: the import is to stop"""
        self.stopped.wait(seconds)
        self.check_stop()


@dataclasses.dataclass(frozen=True)
class Mark:
    """Which data a part is of. ``boot`` names the run of the machine.

    What a process had written survives it, but not the machine: after a
    power cut a part is not gone on with.
    """

    total: int | None
    etag: str | None
    modified: str | None
    boot: str

    @classmethod
    def of(cls, response: client.Response, immutable: str | None) -> Mark:
        """What a server says of the data it sends."""
        etag = (f'"{immutable}"' if immutable
                else response.headers.get('ETag'))
        length = response.length
        if response.status == 206:
            length = response.range()[1]
        return cls(length, etag if etag and etag.startswith('"') else None,
                   response.headers.get('Last-Modified'), _boot_id())

    @property
    def validator(self) -> str | None:
        """What If-Range is to say; None when a part is good for nothing."""
        return self.etag or self.modified

    def continued_by(self, other: Mark, response: client.Response,
                     start: int) -> bool:
        """Whether a response goes on with the same data at ``start``.

        ``other`` is what it says of its data.
        """
        if response.status != 206:
            return False
        return (response.range()[0] == start and other.etag == self.etag
                and other.modified == self.modified
                and (self.total is None or other.total == self.total))


@functools.cache
def _boot_id() -> str:
    with open('/proc/sys/kernel/random/boot_id', encoding='ascii') as file:
        return file.read().strip()


def _encodings(response: client.Response) -> list[str]:
    """The Content-Encoding; empty when there is none."""
    given = ','.join(response.headers.get_all('Content-Encoding', []))
    return [each for each in map(str.strip, given.lower().split(','))
            if each not in ('', 'identity')]


def _is_gzip(response: client.Response) -> bool:
    """Whether the file itself is compressed, by its name or its type.

    Then the Content-Encoding is a label that the server has put on the file
    as it lies there, as Apache's AddEncoding does, and the bytes that come
    are the file's.
    """
    media = response.headers.get('Content-Type', '').partition(';')[0]
    return 'gzip' in media.lower() or any(
        urllib.parse.unquote(urllib.parse.urlsplit(url).path).lower()
        .endswith(('.gz', '.tgz')) for url in (response.asked, response.url))


class Download:
    """One attempt at one image's bytes; ``run`` it once."""

    def __init__(self, services: services.Services, source: Source,
                 work: Import) -> None:
        self._services = services
        self._source = source
        self._work = work
        self._cap = quotas.to_stage(services, work.image_id)
        self._receiver = receiving.Receiver(
            services, receiving.DOWNLOAD, work.image_id, cap=self._cap,
            digests=source.expected)
        self._mark: Mark | None = None
        self._deadline = (time.monotonic()
                          + services.conf.import_downloads.total_timeout)

    def run(self) -> None:
        """Leave complete staged data that the import uses.

        :raises errors.DomainError: why there is none
        :raises stores.Cancelled: the import was stopped; what came is kept
        """
        if self._is_done():
            return
        with self._receiver:
            self._resume()
            self._receive_all()
            self._receiver.verify()
            staged = self._receiver.upload.finish()
            self._record_complete(staged)
        LOG.info('fetched image %s: %d bytes', self._work.image_id,
                 staged.size)

    @property
    def _size(self) -> int:
        """Bytes so far."""
        return self._receiver.upload.size

    # -- what is there already

    def _is_done(self) -> bool:
        with self._services.db.read() as conn:
            record = db_staging.get(conn, self._work.image_id)
        return (record is not None and record.state == states.IN_USE
                and record.area == self._services.area.id
                and staged_state.compare(self._services, record).intact)

    def _resume(self) -> None:
        """Lock the part, with as much in it as can be gone on with."""
        image_id, receiver = self._work.image_id, self._receiver
        with self._services.db.read() as conn:
            found = db_jobs.source(conn, self._work.lease.job_id)
        mark = Mark(**found) if found else None
        usable = (mark is not None and mark.validator is not None
                  and mark.boot == _boot_id())
        receiver.resume(lambda size: size if usable else 0,
                        seconds=_LOCK_SECONDS, pause=self._work.pause,
                        # Nobody but the holder of the lease records it.
                        unrecorded=(lambda: None) if usable else None)
        if self._size:
            self._mark = mark
            self._catch_up()
            LOG.info('image %s: going on after %d bytes', image_id,
                     self._size)
        with self._work.transaction() as conn:
            receiving.record_begin(
                conn, receiving.DOWNLOAD, image_id,
                upload_id=receiver.upload_id, area=self._services.area.id)

    def _catch_up(self) -> None:
        """Have the digests that only the request names see the part."""
        digests = self._receiver.check.also
        if not digests:
            return
        with open(self._receiver.upload.part, 'rb') as part:
            left = self._size
            while left and (block := part.read(min(left, client.BLOCK))):
                left -= len(block)
                for each in digests:
                    each.update(block)

    # -- receiving

    def _receive_all(self) -> None:
        """Try until all is there.

        :raises errors.ImportFailed: it does not come
        """
        options = self._services.conf.import_downloads
        for tries in range(options.retries + 1):
            try:
                if self._size and not self._may_go_on():
                    self._begin_anew()
                if not self._is_whole():
                    self._request()
                return
            except client.Passing as failure:
                LOG.info('image %s: %s, after %d bytes', self._work.image_id,
                         failure, self._size)
                if tries == options.retries:
                    raise errors.ImportFailed(
                        f'The download failed {tries + 1} times, the last '
                        f'time because {failure}.',
                        code='source.unreachable') from failure
                self._work.pause(min(options.retry_interval * 2 ** tries,
                                     _LONGEST_PAUSE))
            except (client.FetchError, urls.UrlRefused) as failure:
                raise errors.ImportFailed(
                    f'The download failed: {failure}.',
                    code='source.failed') from failure

    def _may_go_on(self) -> bool:
        return self._mark is not None and self._mark.validator is not None

    def _is_whole(self) -> bool:
        return (self._mark is not None and self._mark.total is not None
                and self._size == self._mark.total)

    def _begin_anew(self) -> None:
        """Throw away what came; it cannot be gone on with."""
        self._mark = None
        self._receiver.open_anew()

    def _request(self) -> None:
        """One request, and all that it brings.

        :raises client.FetchError: it did not bring all
        """
        start, headers = self._size, {}
        if start:
            assert self._mark is not None and self._mark.validator
            headers = {'Range': f'bytes={start}-'}
            if self._source.immutable is None:
                headers['If-Range'] = self._mark.validator
        with self._source.open(headers, (200, 206, 416) if start else (200,)
                               ) as response:
            mark = Mark.of(response, self._source.immutable)
            if start and not (self._mark and self._mark.continued_by(
                    mark, response, start)):
                LOG.info('image %s: the server does not go on with the same '
                         'data', self._work.image_id)
                self._begin_anew()
                if response.status != 200:
                    raise client.Passing(
                        'the server does not go on where it stopped')
            self._check_response(response)
            self._remember(mark)
            self._receive(response, self._source.size
                          if mark.total is None else mark.total)

    def _check_response(self, response: client.Response) -> None:
        """What is wrong before the first byte."""
        encodings = _encodings(response)
        if encodings and not (
                encodings in (['gzip'], ['x-gzip']) and _is_gzip(response)):
            raise client.FetchError(
                'the server sends the data encoded as '
                f'{", ".join(encodings)[:40]}, which was not asked for')
        known = self._source.size
        if not (response.framed or self._source.expected
                or known is not None):
            raise client.FetchError(
                'the server does not say how long the data is, so that a cut '
                'could not be told from its end; name a checksum in the '
                'request')
        if response.length is not None:
            total = self._size + response.length
            if known not in (None, total):
                raise client.FetchError(
                    f'the server has {total} bytes instead of {known}')
            self._cap.check(total)
            free_space.require(self._services.area.directory,
                               response.length, 'to download the image')

    def _remember(self, mark: Mark) -> None:
        if mark == self._mark:
            return
        self._mark = mark
        with self._work.transaction() as conn:
            db_jobs.check_fence(conn, self._work.lease,
                                source=json.dumps(dataclasses.asdict(mark)))

    def _receive(self, response: client.Response, total: int | None) -> None:
        self._receiver.receive(self._watched(response, total))
        if total is not None and self._size != total:
            raise client.Passing(
                f'{self._size} bytes came instead of {total}')

    def _watched(self, response: client.Response, total: int | None
                 ) -> collections.abc.Iterator[staging.Block]:
        """The blocks, as long as the import may go on.

        :raises stores.Cancelled: it is to stop
        :raises errors.ImportFailed: it has taken too long
        """
        for block in response.blocks():
            self._work.check_stop()
            if time.monotonic() > self._deadline:
                limit = self._services.conf.import_downloads.total_timeout
                raise errors.ImportFailed(
                    f'The download took longer than {limit} seconds, the '
                    'most it may take here (total_timeout); '
                    f'{self._size} bytes had come.',
                    code='source.unreachable')
            yield block
            # Or its buffer would live until the next block comes.
            del block
            self._work.report(self._size, total)

    def _record_complete(self, staged: staging.Staged) -> None:
        work = self._work
        with work.transaction() as conn:
            if not receiving.record_complete(
                    conn, receiving.DOWNLOAD, work.image_id,
                    self._receiver.upload_id, staged):
                raise errors.ImportFailed(
                    'The image is not being imported any more.',
                    code='image.gone')
            db_jobs.check_fence(conn, work.lease, source=None, secret=None)
