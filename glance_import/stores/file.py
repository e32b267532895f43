"""The file store: an object is a file in one directory.

Object names and URIs are what Glance's own file store writes, so either can
serve what the other has stored: ``<image id>`` for the first attempt at an
image, ``<image id>.<epoch>`` for a later one. No two attempts share a name,
so whoever deletes its own can never hit another's. An attempt works under
``.<image id>.<epoch>.part`` and publishes by a rename that never replaces.
Touches its directory, and the file to be stored for reading.
"""

from __future__ import annotations

import collections.abc
from concurrent import futures
import contextlib
import os
import stat
import typing
import uuid

from glance_import import staging
from glance_import.staging import area
from glance_import.staging import pipeline
from glance_import.stores import base
from glance_import.stores import copying

SCHEME = 'file://'
OPTION = 'filesystem_store_datadir'
# Read-only also for us: a stored object is never written to again, and one
# that shares its file with the staging area shall not be by mistake.
MODE = 0o440


class FileStore:
    """See ``base.Store``; call ``prepare`` before anything else.

    Safe to use from many threads and processes at once.
    """

    kind = 'file'
    read_only = False

    def __init__(self, datadir: str, store_id: str = 'file') -> None:
        self.id = store_id
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

    def attempt(self, image_id: str, epoch: int) -> base.Attempt:
        """See ``base.Store.attempt``."""
        return Attempt(self, image_id, epoch)

    def leftovers(self, image_id: str, below: int) -> list[str]:
        """URIs of objects that attempts before epoch ``below`` stored.

        Once an attempt is recorded none of these can be any more; and what
        is no location of the image is nobody's.
        """
        return [self.uri(name) for name in self.earlier(image_id, below)]

    def sweep(self, image_id: str, below: int,
              keep: collections.abc.Collection[str]) -> list[str]:
        """See ``base.Store.sweep``."""
        found = [self.path(name) for epoch in range(1, below)
                 for name in (part_name(image_id, epoch),
                              *object_names(image_id, epoch))
                 if self.uri(name) not in keep
                 and os.path.lexists(self.path(name))]
        try:
            for path in found:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
            if found:
                area.sync_directory(self.datadir)
        except OSError as failure:
            raise base.from_os(self.id, failure) from failure
        return [SCHEME + path for path in found]

    def earlier(self, image_id: str, below: int) -> list[str]:
        """Names of objects that attempts before epoch ``below`` stored."""
        candidates = (name for epoch in range(1, below)
                      for name in object_names(image_id, epoch))
        return [name for name in candidates
                if os.path.lexists(self.path(name))]

    def strays(self) -> typing.Iterator[base.Stray]:
        """See ``base.Store.strays``."""
        for name in os.listdir(self.datadir):
            part = name.startswith('.') and name.endswith('.part')
            image_id = name.removeprefix('.').partition('.')[0]
            epoch = base.epoch_of(
                name[1:-len('.part')] if part else name, image_id)
            if epoch is None:
                continue
            with contextlib.suppress(FileNotFoundError, base.BadLocation):
                yield base.Stray(base.checked(image_id), epoch,
                                 self.uri(name),
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

    def accepts(self, uri: str) -> bool:
        """See ``base.Store.accepts``."""
        try:
            self._path_of(uri)
            return True
        except base.BadLocation:
            return False

    def exists(self, uri: str) -> bool:
        """See ``base.Store.exists``."""
        return os.path.lexists(self._path_of(uri))

    def in_use(self, uri: str) -> str | None:
        """See ``base.Store.in_use``: nothing can be."""
        return None

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

    def check(self) -> bool:
        """See ``base.Store.check``."""
        try:
            os.statvfs(self.datadir)
        except OSError as failure:
            raise base.from_os(self.id, failure) from failure
        if not os.access(self.datadir, os.W_OK | os.X_OK):
            raise base.StoreUnwritable(
                f'store {self.id}: {self.datadir} cannot be written')
        return True

    def properties(self) -> dict[str, typing.Any]:
        """See ``base.Store.properties``."""
        return {'data_dir': self.datadir, 'chunk_size': copying.BLOCK,
                'thin_provisioning': True}

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
    """See ``base.Attempt``."""

    def __init__(self, store: FileStore, image_id: str, epoch: int) -> None:
        self.store = store
        self._names = object_names(image_id, epoch)
        self._earlier = store.earlier(image_id, epoch)
        self._part = store.path(part_name(image_id, epoch))
        self._hash_algo = ''
        self._target: int | None = None
        self._writer: copying.FileWriter | None = None

    @property
    def pool(self) -> futures.Executor:
        return pipeline.pools().disk

    def same_filesystem(self, source: base.Source) -> bool:
        """See ``base.Attempt.same_filesystem``."""
        return (source.fd is not None
                and os.stat(self.store.datadir).st_dev
                == os.fstat(source.fd).st_dev)

    def adopt(self, source: base.Source,
              report: collections.abc.Callable[[int], None]
              ) -> base.Stored | None:
        """What is there already, or can be had by reference."""
        # Ours alone, so left by an earlier life of this very attempt.
        self._unlink_part()
        if source.fd is None or source.expected is None:
            return None
        self._hash_algo = source.expected.hash_algo
        try:
            return (self._adopted(source.fd, source.expected, report)
                    or self._by_reference(source, source.expected))
        finally:
            self._unlink_part()

    def begin(self, size: int, hash_algo: str) -> None:
        """See ``base.Attempt.begin``."""
        self._hash_algo = hash_algo
        self._target = self._create_part()
        self._writer = copying.FileWriter(self._target)

    def write(self, block: base.Block) -> None:
        """See ``base.Attempt.write``."""
        assert self._writer is not None
        self._writer.write(block)

    def commit(self, digests: base.Digests) -> base.Stored:
        """See ``base.Attempt.commit``."""
        assert self._writer is not None
        self._writer.finish()
        self._close()
        return self._publish_part(digests)

    def abort(self) -> None:
        """See ``base.Attempt.abort``."""
        self._close()
        self._unlink_part()

    def _close(self) -> None:
        target, self._target, self._writer = self._target, None, None
        if target is not None:
            os.close(target)

    def _adopted(self, source: int, expected: staging.Staged,
                 report: collections.abc.Callable[[int], None]
                 ) -> base.Stored | None:
        """What an attempt stored that was killed before it could say so.

        It gets a name of ours: its own attempt, should it only have slept,
        may delete what it made.
        """
        for name in (*self._names, *self._earlier):
            path = self.store.path(name)
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC
                             | os.O_NOFOLLOW)
            except FileNotFoundError:
                continue
            try:
                if self._holds(fd, source, expected, report):
                    ours = self._named_ours(fd, name)
                    if ours is not None:
                        area.sync_directory(self.store.datadir)
                        return self._stored(ours, expected)
            finally:
                os.close(fd)
        return None

    def _named_ours(self, fd: int, name: str) -> str | None:
        return name if name in self._names else self._link(fd)

    def _holds(self, fd: int, source: int, expected: staging.Staged,
               report: collections.abc.Callable[[int], None]) -> bool:
        before = staging.Identity.of_fd(fd)
        names = 2 if _same_file(fd, source) else 1
        if (before.size != expected.size
                or os.fstat(fd).st_nlink != names):
            return False
        read = copying.Copy(copying.blocks_of(fd), expected.hash_algo)
        read.run(report)
        with copying.unchanged(fd, before) as proved:
            if not proved or read.hash_value != expected.hash_value:
                return False
            os.fsync(fd)
            return True

    def _by_reference(self, source: base.Source, expected: staging.Staged
                      ) -> base.Stored | None:
        """No byte read or written; None where that is not possible."""
        identity = expected.identity
        if not self.same_filesystem(source):
            return None
        assert source.fd is not None
        if self._cloned(source.fd, identity):
            # A file of its own: nothing can reach it from the source.
            return self._publish_part(expected)
        # The mode changes the times, so it comes after they were compared;
        # the digests were not taken of the mode.
        with copying.unchanged(source.fd, identity) as proved:
            # Through one more name somebody could write to it later on.
            if not proved or os.fstat(source.fd).st_nlink != 1:
                return None
            os.fsync(source.fd)
            name = self._link(source.fd)
        if name is None:
            return None
        try:
            os.chmod(self.store.path(name), MODE)
        except PermissionError:
            # Another user's (CAP_FOWNER is missing): a file of our own then.
            os.unlink(self.store.path(name))
            return None
        area.sync_directory(self.store.datadir)
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
                    source, self.store.path(name))
                return name if linked else None
        return None

    def _publish_part(self, digests: base.Digests | staging.Staged
                      ) -> base.Stored:
        fd = os.open(self._part, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fchmod(fd, MODE)
            os.fsync(fd)
        finally:
            os.close(fd)
        for name in self._free_names():
            with contextlib.suppress(FileExistsError):
                copying.rename_new(self._part, self.store.path(name))
                area.sync_directory(self.store.datadir)
                return self._stored(name, digests)
        raise base.StoreUnwritable(
            f'store {self.store.id} has other data under the name of this '
            'image')

    def _free_names(self) -> typing.Iterator[str]:
        """Names to try, best first.

        The last holds our epoch and so is ours alone; what is there already
        is not what was expected, or it would have been adopted.
        """
        yield from self._names[:-1]
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.store.path(self._names[-1]))
        yield self._names[-1]

    def _create_part(self) -> int:
        self._unlink_part()
        return os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_EXCL
                       | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def _unlink_part(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._part)

    def _stored(self, name: str, digests: base.Digests | staging.Staged
                ) -> base.Stored:
        return base.Stored(
            uri=self.store.uri(name), size=digests.size,
            checksum=digests.checksum, hash_algo=self._hash_algo,
            hash_value=digests.hash_value,
            metadata={'store': self.store.id})


def object_names(image_id: str, epoch: int) -> tuple[str, ...]:
    """Names that only the attempt of that epoch gives to an object.

    The first attempt prefers the usual name, and has another for the case
    that somebody else's data lies there.
    """
    own = f'{base.checked(image_id)}.{int(epoch)}'
    return (base.checked(image_id), own) if epoch == 1 else (own,)


def part_name(image_id: str, epoch: int) -> str:
    return f'.{base.checked(image_id)}.{int(epoch)}.part'


def _same_file(one: int, other: int) -> bool:
    return os.path.samestat(os.fstat(one), os.fstat(other))


def _gone(uri: str) -> base.ObjectGone:
    return base.ObjectGone('the data of the image is not in its store')
