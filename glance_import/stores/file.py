"""The file store: an object is a file in one directory.

Object names and URIs are what Glance's own file store writes, so either can
serve what the other has stored: ``<image id>`` for the first attempt at an
image, ``<image id>.<epoch>`` for a later one. No two attempts share a name,
so whoever deletes its own can never hit another's. An attempt works under
``.<image id>.<epoch>.part`` and publishes by a rename that never replaces.
Touches its directory, and the file to be stored for reading.
"""

from __future__ import annotations

import contextlib
import os
import stat
import typing
import uuid

from glance_import import staging
from glance_import.staging import area
from glance_import.stores import base
from glance_import.stores import copying

SCHEME = 'file://'
OPTION = 'filesystem_store_datadir'
# Read-only also for us: a stored object is never written to again, and one
# that shares its file with the staging area shall not be by mistake.
MODE = 0o440


class Stray(typing.NamedTuple):
    """A file that bears an epoch; ``part`` is one not published."""

    image_id: str
    epoch: int
    path: str
    part: bool
    mtime: float


class FileStore:
    """See ``base.Store``; call ``prepare`` before anything else.

    Safe to use from many threads and processes at once.
    """

    def __init__(self, datadir: str, store_id: str = 'file', *,
                 legacy_checksum: bool = True) -> None:
        """:param legacy_checksum: take an md5 of bytes that are not known"""
        self.id = store_id
        self.legacy_checksum = legacy_checksum
        self.datadir = os.path.normpath(datadir)

    def prepare(self) -> None:
        """Create the directory when it is not there, and check it.

        :raises StoreError: one line that names the option and the reason
        """
        reason = None
        if not os.path.isabs(self.datadir):
            reason = 'must be an absolute path'
        else:
            try:
                os.makedirs(self.datadir, mode=0o750, exist_ok=True)
                probe = os.path.join(self.datadir, f'.{uuid.uuid4()}.probe')
                os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                os.unlink(probe)
            except FileExistsError:
                reason = 'is not a directory'
            except OSError as failure:
                reason = failure.strerror or str(failure)
        if reason:
            raise base.StoreError(f'{OPTION} = {self.datadir}: {reason}')

    def add_file(self, image_id: str, source_path: str,
                 expected: staging.Staged | None, *, epoch: int,
                 hash_algo: str = 'sha512',
                 progress: base.Progress | None = None,
                 cancelled: base.Asked | None = None) -> base.Stored:
        """See ``base.Store.add_file``."""
        attempt = Attempt(self, image_id, expected, epoch, hash_algo,
                          progress, cancelled)
        source = _open_source(source_path)
        try:
            return attempt.run(source)
        except OSError as failure:
            raise base.from_os(self.id, failure) from failure
        finally:
            os.close(source)

    def forget(self, image_id: str, epoch: int) -> None:
        """See ``base.Store.forget``.

        Removes the names that carry the epoch. ``<image id>`` itself does
        not: see ``leftovers``.
        """
        try:
            for name in (part_name(image_id, epoch),
                         object_names(image_id, epoch)[-1]):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.path(name))
            area.sync_directory(self.datadir)
        except OSError as failure:
            raise base.from_os(self.id, failure) from failure

    def leftovers(self, image_id: str, below: int) -> list[str]:
        """URIs of objects that attempts before epoch ``below`` stored.

        Once an attempt is recorded none of these can be any more; and what
        is no location of the image is nobody's.
        """
        return [self.uri(name) for name in self.earlier(image_id, below)]

    def earlier(self, image_id: str, below: int) -> list[str]:
        """Names of objects that attempts before epoch ``below`` stored."""
        candidates = (name for epoch in range(1, below)
                      for name in object_names(image_id, epoch))
        return [name for name in candidates
                if os.path.lexists(self.path(name))]

    def discard_parts(self, image_id: str, below: int) -> None:
        """Remove what attempts before epoch ``below`` left half written.

        Only once nothing of theirs can be recorded any more.
        """
        for epoch in range(1, below):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path(part_name(image_id, epoch)))

    def strays(self) -> typing.Iterator[Stray]:
        """Everything here whose name holds an epoch, in no order.

        What was recorded is among it: the caller knows what was.
        """
        for name in os.listdir(self.datadir):
            part = name.startswith('.') and name.endswith('.part')
            image_id, _, epoch = name.removeprefix('.').removesuffix(
                '.part').partition('.')
            if (part != name.startswith('.') or not epoch.isdecimal()
                    or not _is_uuid(image_id)):
                continue
            with contextlib.suppress(FileNotFoundError):
                yield Stray(image_id, int(epoch), self.path(name), part,
                            os.lstat(self.path(name)).st_mtime)

    def owns(self, path: str) -> bool:
        """Whether a file is in this store's directory."""
        return os.path.dirname(os.path.normpath(path)) == self.datadir

    def open(self, uri: str, *, offset: int = 0) -> typing.BinaryIO:
        """See ``base.Store.open``; a real file, fit for sendfile."""
        path = self._path_of(uri)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError as failure:
            raise _gone(uri) from failure
        except OSError as failure:
            raise base.StoreUnwritable(
                f'cannot read from store {self.id}: '
                f'{failure.strerror}') from failure
        file = open(fd, 'rb')
        file.seek(offset)
        return file

    def size(self, uri: str) -> int:
        """See ``base.Store.size``."""
        try:
            return os.lstat(self._path_of(uri)).st_size
        except FileNotFoundError as failure:
            raise _gone(uri) from failure

    def exists(self, uri: str) -> bool:
        """See ``base.Store.exists``."""
        return os.path.lexists(self._path_of(uri))

    def delete(self, uri: str) -> None:
        """See ``base.Store.delete``."""
        path = self._path_of(uri)
        try:
            os.unlink(path)
            area.sync_directory(self.datadir)
        except FileNotFoundError as failure:
            raise _gone(uri) from failure
        except OSError as failure:
            raise base.from_os(self.id, failure) from failure

    def path(self, name: str) -> str:
        return os.path.join(self.datadir, name)

    def uri(self, name: str) -> str:
        return SCHEME + self.path(name)

    def _path_of(self, uri: str) -> str:
        path = uri.removeprefix(SCHEME)
        name = os.path.basename(path)
        # Exactly a name in the directory, written in exactly one way.
        if (path == uri or '\0' in path or not name or name.startswith('.')
                or os.path.dirname(path) != self.datadir):
            raise base.BadLocation(
                f'the location is not one of store {self.id}')
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG(os.lstat(path).st_mode):
                raise base.BadLocation(
                    f'the location in store {self.id} is not a file')
        return path


class Attempt:
    """One call of ``add_file``."""

    def __init__(self, store: FileStore, image_id: str,
                 expected: staging.Staged | None, epoch: int,
                 hash_algo: str, progress: base.Progress | None,
                 cancelled: base.Asked | None) -> None:
        self._store = store
        self._expected = expected
        self._hash_algo = expected.hash_algo if expected else hash_algo
        self._with_checksum = (store.legacy_checksum if expected is None
                               else expected.checksum is not None)
        self._progress = progress
        self._cancelled = cancelled
        self._names = object_names(image_id, epoch)
        self._earlier = store.earlier(image_id, epoch)
        self._part = store.path(part_name(image_id, epoch))
        self._total = 0

    def run(self, source: int) -> base.Stored:
        """:raises OSError, base.StoreError: nothing of ours is left then"""
        self._total = os.fstat(source).st_size
        self._report(0)
        # Ours alone, so left by an earlier life of this very attempt.
        self._unlink_part()
        try:
            if self._expected is None:
                return self._by_copy(source)
            found = (self._adopted(source, self._expected)
                     or self._by_reference(source, self._expected))
            return found or self._by_copy(source)
        finally:
            self._unlink_part()

    def _adopted(self, source: int, expected: staging.Staged
                 ) -> base.Stored | None:
        """What an attempt stored that was killed before it could say so.

        It gets a name of ours: its own attempt, should it only have slept,
        may delete what it made.
        """
        for name in (*self._names, *self._earlier):
            path = self._store.path(name)
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC
                             | os.O_NOFOLLOW)
            except FileNotFoundError:
                continue
            try:
                if self._holds(fd, source, expected):
                    ours = self._named_ours(fd, name)
                    if ours is not None:
                        area.sync_directory(self._store.datadir)
                        return self._stored(ours, expected)
            finally:
                os.close(fd)
        return None

    def _named_ours(self, fd: int, name: str) -> str | None:
        return name if name in self._names else self._link(fd)

    def _holds(self, fd: int, source: int, expected: staging.Staged) -> bool:
        before = staging.Identity.of_fd(fd)
        names = 2 if _same_file(fd, source) else 1
        if (before.size != expected.size
                or os.fstat(fd).st_nlink != names):
            return False
        digests = self._copy(fd, None)
        digests.run(self._report)
        with copying.unchanged(fd, before) as proved:
            if not proved or digests.hash_value != expected.hash_value:
                return False
            os.fsync(fd)
            return True

    def _by_reference(self, source: int, expected: staging.Staged
                      ) -> base.Stored | None:
        """No byte read or written; None where that is not possible."""
        identity = expected.identity
        if os.stat(self._store.datadir).st_dev != identity.device:
            return None
        if self._cloned(source, identity):
            # A file of its own: nothing can reach it from the source.
            return self._publish_part(expected)
        # The mode changes the times, so it comes after they were compared;
        # the digests were not taken of the mode.
        with copying.unchanged(source, identity) as proved:
            # Through one more name somebody could write to it later on.
            if not proved or os.fstat(source).st_nlink != 1:
                return None
            os.fsync(source)
            name = self._link(source)
        if name is None:
            return None
        os.chmod(self._store.path(name), MODE)
        area.sync_directory(self._store.datadir)
        self._report_done()
        return self._stored(name, expected)

    def _cloned(self, source: int, identity: staging.Identity) -> bool:
        target = self._create_part()
        try:
            with copying.unchanged(source, identity) as proved:
                return proved and copying.reflink(source, target)
        finally:
            os.close(target)

    def _link(self, source: int) -> str | None:
        for name in self._free_names():
            with contextlib.suppress(FileExistsError):
                linked = copying.link_open_file(
                    source, self._store.path(name))
                return name if linked else None
        return None

    def _by_copy(self, source: int) -> base.Stored:
        self._unlink_part()
        target = self._create_part()
        try:
            copy = self._copy(source, target)
            copy.run(self._report)
        finally:
            os.close(target)
        return self._publish_part(copy)

    def _publish_part(self, told: copying.Copy | staging.Staged
                      ) -> base.Stored:
        fd = os.open(self._part, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fchmod(fd, MODE)
            os.fsync(fd)
        finally:
            os.close(fd)
        for name in self._free_names():
            with contextlib.suppress(FileExistsError):
                copying.rename_new(self._part, self._store.path(name))
                area.sync_directory(self._store.datadir)
                self._report_done()
                return self._stored(name, told)
        raise base.StoreUnwritable(
            f'store {self._store.id} has other data under the name of this '
            'image')

    def _free_names(self) -> typing.Iterator[str]:
        """Names to try, best first.

        The last holds our epoch and so is ours alone; what is there already
        is not what was expected, or it would have been adopted.
        """
        yield from self._names[:-1]
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._store.path(self._names[-1]))
        yield self._names[-1]

    def _copy(self, source: int, target: int | None) -> copying.Copy:
        return copying.Copy(source, target, self._hash_algo,
                            self._with_checksum)

    def _create_part(self) -> int:
        return os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_EXCL
                       | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def _unlink_part(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._part)

    def _stored(self, name: str, told: copying.Copy | staging.Staged
                ) -> base.Stored:
        return base.Stored(
            uri=self._store.uri(name), size=told.size,
            checksum=told.checksum, hash_algo=self._hash_algo,
            hash_value=told.hash_value,
            metadata={'store': self._store.id})

    def _report(self, done: int) -> None:
        if self._cancelled is not None and self._cancelled():
            raise base.Cancelled('storing the data was cancelled')
        if self._progress is not None:
            self._progress(done, self._total)

    def _report_done(self) -> None:
        # Too late to be cancelled: the object is there.
        if self._progress is not None:
            self._progress(self._total, self._total)


def object_names(image_id: str, epoch: int) -> tuple[str, ...]:
    """Names that only the attempt of that epoch gives to an object.

    The first attempt prefers the usual name, and has another for the case
    that somebody else's data lies there.
    """
    own = f'{_checked(image_id)}.{int(epoch)}'
    return (_checked(image_id), own) if epoch == 1 else (own,)


def part_name(image_id: str, epoch: int) -> str:
    return f'.{_checked(image_id)}.{int(epoch)}.part'


def _checked(image_id: str) -> str:
    if _is_uuid(image_id):
        return image_id
    raise base.BadLocation('an image id is a UUID')


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


def _open_source(path: str) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
                     | os.O_NONBLOCK)
    except FileNotFoundError as failure:
        raise base.SourceGone('the staged data is not there') from failure
    except OSError as failure:
        raise base.SourceGone('the staged data cannot be read: '
                              f'{failure.strerror}') from failure
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise base.SourceGone('the staged data is not a file')
    return fd


def _same_file(one: int, other: int) -> bool:
    return os.path.samestat(os.fstat(one), os.fstat(other))


def _gone(uri: str) -> base.ObjectGone:
    return base.ObjectGone('the data of the image is not in its store')
