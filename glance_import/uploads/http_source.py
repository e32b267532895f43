"""Downloads: the service fetches an image's bytes into the staging area.

Bytes come by the way of an upload, with digests and inspection while they
come. What is known of the data (length, ETag, Last-Modified) is kept with
the job, so that a cut download - and one whose process was killed - goes on
where it stopped, if the server says that the data is still the same, and
begins anew if not. Complete means: as long as the server said, or of the
digest that the request names. Touches the database, the staging area, and
the server through the opener it is given.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import json
import threading
import time
import typing
import uuid

from oslo_log import log

from glance_import.db import images as db_images
from glance_import.db import jobs as db_jobs
from glance_import.db import staging as db_staging
from glance_import.domain import free_space
from glance_import.domain import quotas
from glance_import import errors
from glance_import.imports import life
from glance_import.net import client
from glance_import.net import urls
from glance_import import staging
from glance_import import states
from glance_import.stores import base as stores
from glance_import.uploads import integrity
from glance_import.uploads import stage
from glance_import.uploads import staged_state

if typing.TYPE_CHECKING:
    from glance_import import services

LOG = log.getLogger(__name__)

# (request headers, statuses that are answers) -> the response
Opener = collections.abc.Callable[
    [dict[str, str], tuple[int, ...]], client.Response]
# Bytes so far, bytes in all or None.
Report = collections.abc.Callable[[int, int | None], None]
# Another attempt at the same image lets go of its part within seconds.
_LOCK_SECONDS = 30.0
_LONGEST_PAUSE = 30.0


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


class Download:
    """One attempt at one image's bytes; ``run`` it once."""

    def __init__(self, box: services.Services, claim: db_jobs.Claim,
                 image_id: str, opener: Opener, *, report: Report,
                 stopped: threading.Event,
                 claimed: tuple[integrity.ExpectedDigest, ...] = (),
                 size: int | None = None,
                 immutable: str | None = None) -> None:
        """``size``: bytes that are known to come, if they are.

        :param immutable: a name of the data that never means other data,
            where the server sends no ETag
        """
        self._services = box
        self._claim = claim
        self._image_id = image_id
        self._open = opener
        self._report = report
        self._stopped = stopped
        self._claimed = claimed
        self._size = size
        self._immutable = immutable
        self._cap = quotas.to_stage(box, image_id)
        self._upload_id = str(uuid.uuid4())
        self._check = self._new_check()
        self._mark: Mark | None = None
        self._deadline = (time.monotonic()
                          + box.conf.import_downloads.total_timeout)

    def run(self) -> None:
        """Leave complete staged data, claimed by the import.

        :raises errors.DomainError: why there is none
        :raises stores.Cancelled: the import was stopped; what came is kept
        """
        if self._is_done():
            return
        try:
            self._upload = self._begin()
            try:
                self._receive_all()
                self._check.verify(self._upload.drain())
                staged = self._upload.finish()
                self._record_complete(staged)
            finally:
                self._upload.keep_partial()
        except staging.StagingError as failure:
            raise stage.as_domain_error(
                failure, self._image_id, self._cap) from failure
        LOG.info('fetched image %s: %d bytes', self._image_id, staged.size)

    # -- what is there already

    def _is_done(self) -> bool:
        with self._services.db.read() as conn:
            record = db_staging.get(conn, self._image_id)
        return (record is not None and record.state == states.IN_USE
                and record.area == self._services.area.id
                and staged_state.compare(self._services, record).intact)

    def _begin(self) -> staging.Upload:
        """The part, with as much in it as can be gone on with."""
        area, conf = self._services.area, self._services.conf
        with self._services.db.read() as conn:
            found = db_jobs.source(conn, self._claim.job_id)
        mark = Mark(**found) if found else None
        usable = (mark is not None and mark.validator is not None
                  and mark.boot == _boot_id())
        until = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                if usable:
                    self._take_back()
                upload = area.resume(
                    self._image_id, conf.hashing_algorithm,
                    confirm=lambda size: size if usable else 0,
                    size_limit=self._cap.size,
                    legacy_checksum=conf.legacy_checksum,
                    also=self._check.also)
                break
            except staging.UploadInProgress:
                if time.monotonic() > until:
                    raise
                self._pause(0.5)
        self._mark = mark if upload.size else None
        try:
            if upload.size:
                self._catch_up(upload)
                LOG.info('image %s: going on after %d bytes',
                         self._image_id, upload.size)
            with life.claimed(self._services, self._claim) as conn:
                db_images.lock(conn, self._image_id)
                db_staging.begin(conn, self._image_id, area=area.id,
                                 upload_id=self._upload_id, expected=None)
            return upload
        except BaseException:
            upload.keep_partial()
            raise

    def _take_back(self) -> None:
        """Published by a process that died before it could say so."""
        area = self._services.area
        complete = area.identity(self._image_id)
        if complete is not None:
            area.take_back(self._image_id, complete.size)

    def _catch_up(self, upload: staging.Upload) -> None:
        """Have the digests that only the request names see the part."""
        if not self._check.also:
            return
        with open(upload.part, 'rb') as part:
            left = upload.size
            while left and (block := part.read(min(left, client.BLOCK))):
                left -= len(block)
                for each in self._check.also:
                    each.update(block)

    def _new_check(self) -> integrity.Check:
        return integrity.Check(
            self._claimed, integrity.computed_by(self._services.conf))

    # -- receiving

    def _receive_all(self) -> None:
        """Try until all is there.

        :raises errors.ImportFailed: it does not come
        """
        options = self._services.conf.import_downloads
        for tries in range(options.retries + 1):
            try:
                if self._upload.size and not self._may_go_on():
                    self._begin_anew()
                if not self._is_whole():
                    self._receive()
                return
            except client.Passing as failure:
                LOG.info('image %s: %s, after %d bytes', self._image_id,
                         failure, self._upload.size)
                if tries == options.retries:
                    raise errors.ImportFailed(
                        f'The download failed {tries + 1} times, the last '
                        f'time because {failure}.') from failure
                self._pause(min(options.retry_interval * 2 ** tries,
                                _LONGEST_PAUSE))
            except (client.FetchError, urls.Refused) as failure:
                raise errors.ImportFailed(
                    f'The download failed: {failure}.') from failure

    def _may_go_on(self) -> bool:
        return self._mark is not None and self._mark.validator is not None

    def _is_whole(self) -> bool:
        return (self._mark is not None and self._mark.total is not None
                and self._upload.size == self._mark.total)

    def _begin_anew(self) -> None:
        """Throw away what came; it cannot be gone on with."""
        self._upload.discard()
        self._check = self._new_check()
        self._mark = None
        self._upload = stage.begin(self._services, self._image_id,
                                   self._cap, also=self._check.also)

    def _receive(self) -> None:
        """One request, and all that it brings.

        :raises client.FetchError: it did not bring all
        """
        start, headers = self._upload.size, {}
        if start:
            assert self._mark is not None and self._mark.validator
            headers = {'Range': f'bytes={start}-'}
            if self._immutable is None:
                headers['If-Range'] = self._mark.validator
        with self._open(headers, (200, 206, 416) if start else (200,)
                        ) as response:
            mark = Mark.of(response, self._immutable)
            if start and not (self._mark and self._mark.continued_by(
                    mark, response, start)):
                LOG.info('image %s: the server does not go on with the same '
                         'data', self._image_id)
                self._begin_anew()
                if response.status != 200:
                    raise client.Passing(
                        'the server does not go on where it stopped')
            self._check_response(response)
            self._remember(mark)
            self._take(response)

    def _check_response(self, response: client.Response) -> None:
        """What is wrong before the first byte."""
        if response.headers.get('Content-Encoding', 'identity') != 'identity':
            raise client.FetchError(
                'the server sends the data encoded as '
                f"{response.headers['Content-Encoding'][:40]}, which was not "
                'asked for')
        if not (response.framed or self._claimed or self._size is not None):
            raise client.FetchError(
                'the server does not say how long the data is, so that a cut '
                'could not be told from its end; name a checksum in the '
                'request')
        if response.length is not None:
            total = self._upload.size + response.length
            if self._size is not None and total != self._size:
                raise client.FetchError(
                    f'the server has {total} bytes instead of {self._size}')
            self._cap.check(total)
            free_space.require(self._services.area.directory, response.length,
                               'to download the image')

    def _remember(self, mark: Mark) -> None:
        if mark == self._mark:
            return
        self._mark = mark
        with self._services.db.write() as conn:
            if not db_jobs.hold(conn, self._claim, source=json.dumps(
                    dataclasses.asdict(mark))):
                raise errors.ClaimLost(
                    f'import {self._claim.job_id} is no longer ours')

    def _take(self, response: client.Response) -> None:
        assert self._mark is not None
        total = self._mark.total
        if total is None:
            total = self._size
        for block in response.blocks():
            self._look_up()
            self._upload.write(block)
            # Or its buffer would live until the next block comes.
            del block
            self._report(self._upload.size, total)
        if total is not None and self._upload.size != total:
            raise client.Passing(
                f'{self._upload.size} bytes came instead of {total}')

    def _look_up(self) -> None:
        """Whether to go on.

        :raises stores.Cancelled: no, the import is to stop
        :raises errors.ImportFailed: no, it has taken too long
        """
        if self._stopped.is_set():
            raise stores.Cancelled('the import was stopped')
        if time.monotonic() > self._deadline:
            limit = self._services.conf.import_downloads.total_timeout
            raise errors.ImportFailed(
                f'The download took longer than {limit} seconds, the most '
                'it may take here (total_timeout); '
                f'{self._upload.size} bytes had come.')

    def _pause(self, seconds: float) -> None:
        self._stopped.wait(seconds)
        if self._stopped.is_set():
            raise stores.Cancelled('the import was stopped')

    def _record_complete(self, staged: staging.Staged) -> None:
        with life.claimed(self._services, self._claim) as conn:
            if not (db_images.update(
                        conn, self._image_id, expected=(states.IMPORTING,),
                        size=staged.size)
                    and db_staging.move(
                        conn, self._image_id, (states.OPEN,), states.IN_USE,
                        upload_id=self._upload_id,
                        **staged_state.columns(staged))):
                raise errors.ImportFailed(
                    'The image is not being imported any more.')
            db_jobs.hold(conn, self._claim, source=None, secret=None)
