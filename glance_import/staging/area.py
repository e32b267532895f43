"""A directory where uploads grow and complete data waits.

``<image id>`` is complete data, ``<image id>.part`` is an upload that is
alive (its process holds the lock on it) or a partial one that was kept,
``<image id>.<epoch>-<n>.new`` is what a plugin made of the data in one attempt
at an import. One more file, whose name begins with a dot, holds the area's id
and serves as the lock under which names change hands; others that begin so
are scratch. Touches this directory and nothing else.
"""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import errno
import fcntl
import os
import stat
import time
import uuid

from glance_import.staging import digests as running
from glance_import.staging import errors
from glance_import.staging import identity as identities
from glance_import.staging import room as rooms
from glance_import.staging import scratch as scratches
from glance_import.staging import upload as uploads
from glance_import import state
from glance_import import uuids

SCHEME = 'file://'
OPTION = 'node_staging_uri'
ID_FILE = '.staging_area_id'
PART = '.part'
# Bytes that are there -> bytes to keep.
Confirm = collections.abc.Callable[[int], int]
PRODUCT = '.new'


@dataclasses.dataclass(frozen=True)
class Entry:
    """Something that lies in the area; ``size`` in bytes, time in ns."""

    image_id: str
    complete: bool
    live: bool
    size: int
    mtime_ns: int


@dataclasses.dataclass(frozen=True)
class Product:
    """What a plugin wrote in one attempt; time in ns."""

    image_id: str
    epoch: int
    number: int
    path: str
    mtime_ns: int


class Area:
    """A staging directory; see ``open``. Safe to use from many threads."""

    def __init__(self, directory: str, area_id: str,
                 readers: int | None = None) -> None:
        self.directory = directory
        self.id = area_id
        self._readers = readers
        # Of a file system that may be filled, until somebody says otherwise.
        self.room = rooms.Room(directory)
        self.suspended = running.SuspendedDigests()

    @classmethod
    def open(cls, uri: str, readers: int | None = None) -> Area:
        """The area at a ``file://`` URI, created when it is not there.

        :param readers: a group that may read what is staged, where this
            process is root's and so may give files to any group

        A host is refused, ``localhost`` too: Glance takes whatever follows
        ``file://`` as the path, so the two would disagree about the place.
        For the same reason percent escapes are refused.

        :raises StagingError: one line that names the option and the reason
        """
        path = _path_of(uri)
        try:
            os.makedirs(path, mode=0o700, exist_ok=True)
            _check_owner(uri, path)
            with _locked_id(path, str(uuid.uuid4())) as area_id:
                return cls(path, area_id, readers)
        except FileExistsError as failure:
            raise _refused(uri, 'is not a directory') from failure
        except OSError as failure:
            raise _refused(uri, failure.strerror or str(failure)) from failure

    @classmethod
    def existing(cls, uri: str) -> Area | None:
        """The area at a URI as it is; None where there is none yet.

        Makes nothing. An area without an id has an empty one.

        :raises StagingError: as ``open`` does
        """
        path = _path_of(uri)
        try:
            _check_owner(uri, path)
            if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
                raise _refused(uri, os.strerror(errno.EACCES))
            with open(os.path.join(path, ID_FILE), encoding='ascii',
                      errors='replace') as file:
                return cls(path, file.read(64).strip())
        except FileNotFoundError:
            return cls(path, '') if os.path.isdir(path) else None
        except OSError as failure:
            raise _refused(uri, failure.strerror or str(failure)) from failure

    def path(self, image_id: str) -> str:
        """Where the complete data of an image is.

        :raises StagingError: the id is not a UUID
        """
        return os.path.join(self.directory, _checked(image_id))

    def uri(self, image_id: str) -> str:
        return SCHEME + self.path(image_id)

    def begin(self, image_id: str, hash_algo: str, *,
              size_limit: int | None = None, legacy_checksum: bool = True,
              also: collections.abc.Sequence[uploads.Digest] = (),
              ) -> uploads.Upload:
        """Start an upload; an earlier partial one is thrown away.

        Complete data of the image stays until the new upload finishes.

        :param size_limit: bytes, None for no limit
        :param also: more objects with ``update(block)``, called in order in
            a borrowed thread; what they raise comes out of the next
            ``write`` or of ``finish``
        :raises UploadInProgress: somebody alive is uploading this image
        :raises StagingFull, StagingUnwritable: the part file cannot be made
        """
        fd = self._lock_part(image_id)
        try:
            os.ftruncate(fd, 0)
            return uploads.Upload(
                fd, _Names(self, image_id),
                running.Digests(hash_algo, legacy_checksum),
                size_limit=size_limit, also=also)
        except OSError as failure:
            uploads.unlock_and_close(fd)
            raise errors.from_os(failure) from failure
        except BaseException:
            uploads.unlock_and_close(fd)
            raise

    def resume(self, image_id: str, hash_algo: str, *,
               confirm: Confirm, size_limit: int | None = None,
               legacy_checksum: bool = True,
               also: collections.abc.Sequence[uploads.Digest] = (),
               ) -> uploads.Upload:
        """Go on with a partial upload, suspended or not.

        Its bytes are read once where this process does not have their
        digests any more. What is not there is an upload of size 0.

        :param confirm: called with the bytes that are there, when nobody
            else can change them any more; returns how many of them to keep,
            or raises what comes out of here
        :raises UploadInProgress, StagingFull, StagingUnwritable: as in
            ``begin``
        """
        fd = self._lock_part(image_id)
        names = _Names(self, image_id)
        try:
            size = os.lseek(fd, 0, os.SEEK_END)
            try:
                most = confirm(size)
            except BaseException:
                if not size:
                    names.remove(fd)
                raise
            if most < size:
                os.ftruncate(fd, most)
                size = os.lseek(fd, most, os.SEEK_SET)
            digests = self.suspended.take(
                image_id, identities.Identity.of_fd(fd))
            if digests is None or (
                    digests.hash_algo != hash_algo
                    or (digests.checksum is not None) != legacy_checksum):
                digests = running.Digests(hash_algo, legacy_checksum)
                digests.read(fd, size)
            return uploads.Upload(
                fd, names, digests, size=size, size_limit=size_limit,
                also=also)
        except OSError as failure:
            uploads.unlock_and_close(fd)
            raise errors.from_os(failure) from failure
        except BaseException:
            uploads.unlock_and_close(fd)
            raise

    def take_back(self, image_id: str,
                  confirm: collections.abc.Callable[[], object],
                  size: int | None = None) -> bool:
        """Make complete data a partial upload again.

        For an upload that was published by a process which died before it
        could say so. False when there is a part, or no such data.

        :param confirm: called when that process is known to be over, and
            raises what comes out of here if it has said so after all
        :param size: bytes it must have; None for any
        :raises UploadInProgress: that process is alive
        """
        path = self.path(image_id)
        try:
            fd, locked = _locked_for_reading(path)
        except FileNotFoundError:
            return False
        try:
            if size not in (None, os.fstat(fd).st_size) \
                    or os.path.lexists(self._part(image_id)):
                return False
            if not locked:
                raise errors.UploadInProgress(
                    'another upload is just being completed')
            confirm()
            with self._names():
                if not _same(fd, path) \
                        or os.path.lexists(self._part(image_id)):
                    return False
                os.rename(path, self._part(image_id))
            return True
        finally:
            uploads.unlock_and_close(fd)

    def is_live(self, image_id: str) -> bool:
        """Whether a process is uploading this image now."""
        # Under the lock on names a part's lock may change hands between two
        # descriptors of one upload, so only there it tells the truth.
        with self._names():
            try:
                fd = os.open(self._part(image_id),
                             os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                return False
            try:
                return not _try_lock(fd, fcntl.LOCK_SH)
            finally:
                uploads.unlock_and_close(fd)

    def identity(self, image_id: str) -> identities.Identity | None:
        """What lies complete under this image's name, None when nothing."""
        return identities.Identity.of_path(self.path(image_id))

    def part_size(self, image_id: str) -> int | None:
        """Bytes of an upload, under way or partial; None if there is none."""
        found = identities.Identity.of_path(self._part(image_id))
        return found.size if found else None

    def discard(self, image_id: str) -> None:
        """Remove the image's data, complete or not.

        An upload that is alive goes on and learns of it when it finishes.

        :raises StagingUnwritable: the directory refuses
        """
        try:
            with self._names():
                for path in (self.path(image_id), self._part(image_id)):
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(path)
        except OSError as failure:
            raise errors.from_os(failure) from failure

    def list(self) -> collections.abc.Iterator[Entry]:
        """Everything of ours in the area, in no order."""
        with os.scandir(self.directory) as found:
            names = [entry.name for entry in found]
        for name in names:
            image_id = name.removesuffix(PART)
            if not uuids.is_uuid(image_id):
                continue
            with contextlib.suppress(FileNotFoundError):
                status = os.lstat(os.path.join(self.directory, name))
                complete = image_id == name
                yield Entry(
                    image_id, complete,
                    live=not complete and self.is_live(image_id),
                    size=status.st_size, mtime_ns=status.st_mtime_ns)

    def new_product(self, image_id: str, epoch: int, number: int) -> str:
        """An empty file for what a plugin makes of the data; its path.

        ``epoch`` is that of the lease, so that no two attempts share a name;
        ``number`` tells the plugins of one attempt apart. What lay there is
        removed, and what the same plugin made in earlier attempts. What the
        others made stays: an attempt goes on with what an earlier one did.

        :raises StagingFull, StagingUnwritable: it cannot be made
        """
        path = f'{self.path(image_id)}.{epoch}-{number}{PRODUCT}'
        try:
            for old in self.products():
                if (old.image_id, old.number) == (image_id, number) \
                        and old.epoch < epoch:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(old.path)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL
                         | os.O_CLOEXEC, 0o600)
            self._let_read(fd)
            os.close(fd)
        except OSError as failure:
            raise errors.from_os(failure) from failure
        return path

    def products(self) -> collections.abc.Iterator[Product]:
        """What plugins made and nobody has removed yet."""
        for name in os.listdir(self.directory):
            image_id, _, rest = name.removesuffix(PRODUCT).partition('.')
            epoch, _, number = rest.partition('-')
            if not name.endswith(PRODUCT) or not uuids.is_uuid(image_id) \
                    or not epoch.isdecimal() or not number.isdecimal():
                continue
            path = os.path.join(self.directory, name)
            with contextlib.suppress(FileNotFoundError):
                yield Product(image_id, int(epoch), int(number), path,
                              os.lstat(path).st_mtime_ns)

    def scratch(self) -> contextlib.AbstractContextManager[
            scratches.Scratch]:
        """A file for a moment, readable by whom staged data is.

        :raises StagingFull, StagingUnwritable: it cannot be made
        """
        return scratches.make(self.directory, self._let_read)

    def clean_scratch(self, min_age: float) -> int:
        """Remove what dead processes left of those; how many.

        :param min_age: seconds; younger ones stay
        """
        return scratches.clean(self.directory, min_age, time.time())

    def _part(self, image_id: str) -> str:
        return self.path(image_id) + PART

    def _names(self) -> contextlib.AbstractContextManager[str]:
        """The lock under which names change hands; held for microseconds.

        Without it a part file could be renamed that is no longer the one
        that was checked.
        """
        return _locked_id(self.directory, self.id)

    def _let_read(self, fd: int) -> None:
        """Give the file to those who may read it, once.

        Before its bytes are known: it changes the identity of a file. In an
        area that is shared with a group they are that group, which may
        import what another user of it has staged; else the group of
        readers. Where the file system refuses, they do without.
        """
        with contextlib.suppress(OSError):
            state.share(fd, self.directory, 0o640)
        if self._readers is None or os.geteuid() \
                or os.fstat(fd).st_gid == self._readers:
            return
        with contextlib.suppress(OSError):
            os.fchown(fd, -1, self._readers)
            os.fchmod(fd, 0o640)

    def _lock_part(self, image_id: str) -> int:
        """The part, made if it was not there, and locked for us."""
        try:
            with self._names():
                fd = os.open(self._part(image_id),
                             os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
                             | os.O_NOFOLLOW, 0o600)
                try:
                    if not _try_lock(fd, fcntl.LOCK_EX):
                        raise errors.UploadInProgress(
                            'another upload of this image is under way')
                    self._let_read(fd)
                except BaseException:
                    os.close(fd)
                    raise
                return fd
        except OSError as failure:
            raise errors.from_os(failure) from failure


class _Names:
    """See ``upload.Names``: those of one image in the area."""

    def __init__(self, area: Area, image_id: str) -> None:
        self._area = area
        self._image_id = image_id
        self.part = area._part(image_id)

    def publish(self, fd: int) -> int:
        try:
            held = os.open(self.part,
                           os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            raise _discarded() from None
        try:
            with self._area._names():
                if not _same(fd, self.part) or not _same(held, self.part):
                    raise _discarded()
                # Two descriptors, one file: both may only share its lock.
                fcntl.flock(fd, fcntl.LOCK_SH)
                fcntl.flock(held, fcntl.LOCK_SH)
                os.replace(self.part, self._area.path(self._image_id))
            sync_directory(self._area.directory)
        except BaseException:
            uploads.unlock_and_close(held)
            raise
        return held

    def remove(self, fd: int) -> None:
        with self._area._names():
            if _same(fd, self.part):
                os.unlink(self.part)

    def reopen(self, fd: int) -> int:
        # Nobody looks for the lock before the one on names is free again.
        with self._area._names():
            try:
                if not _same(fd, self.part):
                    raise _discarded()
            finally:
                uploads.unlock_and_close(fd)
            fd, locked = _locked_for_reading(self.part)
            if not locked:
                os.close(fd)
                raise _discarded()
            return fd

    def sync(self) -> None:
        sync_directory(self._area.directory)

    def keep_digests(self, fd: int, digests: running.Digests) -> None:
        self._area.suspended.put(
            self._image_id, identities.Identity.of_fd(fd), digests)


def _discarded() -> errors.UploadGone:
    return errors.UploadGone(
        'the upload was discarded before it was complete')


def sync_directory(path: str) -> None:
    """Make the names in a directory durable.

    :raises OSError: the disk refuses
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as failure:
        # Some file systems cannot sync a directory; they say so like this.
        if failure.errno != errno.EINVAL:
            raise
    finally:
        os.close(fd)


def _refused(uri: str, reason: str) -> errors.StagingError:
    shown = uri.encode('unicode_escape').decode('ascii')
    return errors.StagingError(f'{OPTION} = {shown}: {reason}')


def _path_of(uri: str) -> str:
    if not uri.startswith(SCHEME):
        raise _refused(uri, 'must be file:// and an absolute path')
    path = uri[len(SCHEME):]
    if not path.startswith('/'):
        raise _refused(uri, 'must be file:// and an absolute path, '
                            'without a host')
    if '?' in path or '#' in path or '%' in path:
        raise _refused(uri, 'the path may not have the characters ? # %')
    if not path.isprintable():
        raise _refused(uri, 'the path has characters that cannot be printed')
    if '..' in path.split('/'):
        raise _refused(uri, 'the path may not have .. in it')
    path = os.path.normpath('/' + path.lstrip('/'))
    if path == '/':
        raise _refused(uri, 'the root directory is no staging area')
    return path


def _check_owner(uri: str, path: str) -> None:
    us = os.geteuid()
    link = os.lstat(path)
    # In a directory like /tmp anybody can plant a link to where we can write.
    if stat.S_ISLNK(link.st_mode) and link.st_uid not in (us, 0):
        raise _refused(uri, 'is a symbolic link of another user')
    found = os.stat(path)
    if not stat.S_ISDIR(found.st_mode):
        raise _refused(uri, 'is not a directory')
    if found.st_uid != us and not state.is_shared(path):
        raise _refused(uri, f'belongs to user {found.st_uid}, not to the '
                            f'user {us} that this service runs as (or share '
                            'it with a group of this service: mode 2770)')
    if found.st_mode & stat.S_IWOTH:
        raise _refused(uri, 'can be written by others; '
                            f'try: chmod o-w {path}')


@contextlib.contextmanager
def _locked_id(directory: str, default: str
               ) -> collections.abc.Iterator[str]:
    """Hold the lock on the id file; its content, ``default`` if it had none.

    A lock rather than a file moved into place: it also works where hard
    links do not, and whoever died while writing is simply overwritten.
    """
    fd = os.open(os.path.join(directory, ID_FILE), os.O_RDWR | os.O_CREAT
                 | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        found = os.pread(fd, 64, 0).decode('ascii', 'replace').strip()
        if not uuids.is_uuid(found):
            with contextlib.suppress(OSError):
                state.share(fd, directory, 0o660)
            found = default
            os.ftruncate(fd, 0)
            os.pwrite(fd, default.encode('ascii') + b'\n', 0)
            os.fsync(fd)
            sync_directory(directory)
        yield found
    finally:
        uploads.unlock_and_close(fd)


def _locked_for_reading(path: str) -> tuple[int, bool]:
    """A descriptor, and whether the lock is ours alone."""
    try:
        return _try_lock_of(path, os.O_RDONLY)
    except OSError as failure:
        if failure.errno != errno.EBADF:
            raise
    # NFS locks only what is open for writing.
    return _try_lock_of(path, os.O_RDWR)


def _try_lock_of(path: str, mode: int) -> tuple[int, bool]:
    fd = os.open(path, mode | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        return fd, _try_lock(fd, fcntl.LOCK_EX)
    except BaseException:
        os.close(fd)
        raise


def _try_lock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False


def _same(fd: int, path: str) -> bool:
    """Whether ``path`` still names the file that ``fd`` is open on."""
    found = identities.Identity.of_path(path)
    ours = os.fstat(fd)
    return found is not None and (
        (found.device, found.inode) == (ours.st_dev, ours.st_ino))


def _checked(image_id: str) -> str:
    if not uuids.is_uuid(image_id):
        raise errors.StagingError('an image id is a UUID')
    return image_id
