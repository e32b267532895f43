"""A file system that remembers only what was synced. Run as a program.

    forgetful.py MOUNT LIVE DURABLE

passes everything on to the directory LIVE and notes in DURABLE what a disk
would have after a power cut: the content of a file as of its last fsync, the
names in a directory as of its last fsync. Nothing else: no order that some
file systems keep, no write-back after a while. DURABLE/armed may hold
"COUNT PGID": the power goes off at that many changes from then on; nothing
is noted any more and the process group is killed. DURABLE/refused may hold
lines "OPERATION ERRNO" of what cannot be done at the moment.
"""

import contextlib
import json
import os
import shutil
import signal
import sys

# Where both are installed mfusepy would take the older, whose file systems
# forget too little of what these tests ask for.
os.environ.setdefault('FUSE_LIBRARY_NAME', 'fuse3')

import mfusepy  # noqa: E402


class Forgetful(mfusepy.Operations):
    use_ns = True

    def __init__(self, live, durable):
        self.live = live
        self.durable = durable
        self.numbers = {}
        self.count = 0
        self.left = None
        self.off = False
        # What is there at the beginning is on the disk.
        for directory, _, files in os.walk(live):
            for name in files:
                self.note_file(os.path.join(directory, name))
            self.note_names(directory)

    # -- what is remembered

    def number(self, path, *, new=False):
        """Inodes are used again, these numbers are not."""
        inode = os.lstat(path).st_ino
        if new or inode not in self.numbers:
            self.count += 1
            self.numbers[inode] = self.count
        return self.numbers[inode]

    def note_file(self, path, fh=None):
        target = os.path.join(
            self.durable, str(self.numbers.get(os.fstat(fh).st_ino, 0)
                              if fh is not None else self.number(path)))
        with open(path if fh is None else f'/proc/self/fd/{fh}',
                  'rb') as source, open(target, 'wb') as sink:
            shutil.copyfileobj(source, sink)

    def note_names(self, directory):
        names = {name: self.number(os.path.join(directory, name))
                 for name in os.listdir(directory)
                 if os.path.isfile(os.path.join(directory, name))}
        key = os.path.relpath(directory, self.live).replace('/', ':')
        with open(os.path.join(self.durable, f'{key}.names'), 'w') as file:
            json.dump(names, file)

    def step(self, what, path=''):
        """Before each change: perhaps this one does not happen any more."""
        with contextlib.suppress(FileNotFoundError):
            with open(os.path.join(self.durable, 'refused')) as file:
                refused = dict(line.split() for line in file)
            if what in refused:
                raise mfusepy.FuseOSError(int(refused[what]))
        armed = os.path.join(self.durable, 'armed')
        with contextlib.suppress(FileNotFoundError):
            with open(armed) as file:
                self.left, self.group = map(int, file.read().split())
            os.unlink(armed)
        if self.off:
            raise mfusepy.FuseOSError(5)
        if self.left is None:
            return
        self.left -= 1
        with open(os.path.join(self.durable, 'steps'), 'a') as file:
            file.write(f'{what} {path}\n')
        if self.left <= 0:
            self.off = True
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.group, signal.SIGKILL)
            raise mfusepy.FuseOSError(5)

    # -- the file system

    def at(self, path):
        return os.path.join(self.live, path.lstrip('/'))

    @mfusepy.overrides(mfusepy.Operations)
    def init_with_config(self, conn_info, config_3):
        if config_3:
            config_3.contents.use_ino = 1
            for name in ('attr_timeout', 'entry_timeout',
                         'negative_timeout'):
                setattr(config_3.contents, name, 0)

    def getattr(self, path, fh=None):
        found = os.fstat(fh) if fh else os.lstat(self.at(path))
        result = {name: getattr(found, name) for name in (
            'st_mode', 'st_nlink', 'st_uid', 'st_gid', 'st_size', 'st_ino')}
        for name in ('st_atime', 'st_mtime', 'st_ctime'):
            result[name] = getattr(found, name + '_ns')
        return result

    def readdir(self, path, fh):
        return ['.', '..', *os.listdir(self.at(path))]

    def statfs(self, path):
        found = os.statvfs(self.at(path))
        return {name: getattr(found, name) for name in (
            'f_bavail', 'f_bfree', 'f_blocks', 'f_bsize', 'f_favail',
            'f_ffree', 'f_files', 'f_flag', 'f_frsize', 'f_namemax')}

    def create(self, path, mode, fi=None):
        self.step('create', path)
        fh = os.open(self.at(path), os.O_RDWR | os.O_CREAT, mode)
        self.number(self.at(path), new=True)
        return fh

    def open(self, path, flags):
        writable = flags & (os.O_WRONLY | os.O_RDWR)
        return os.open(self.at(path), os.O_RDWR if writable else os.O_RDONLY)

    def release(self, path, fh):
        os.close(fh)
        return 0

    def read(self, path, size, offset, fh):
        return os.pread(fh, size, offset)

    def write(self, path, data, offset, fh):
        self.step('write', path)
        return os.pwrite(fh, data, offset)

    def truncate(self, path, length, fh=None):
        self.step('truncate', path)
        os.truncate(fh or self.at(path), length)
        return 0

    def fsync(self, path, datasync, fh):
        self.step('fsync', path)
        self.note_file(path, fh)
        return 0

    def fsyncdir(self, path, datasync, fh):
        self.step('fsyncdir', path)
        self.note_names(self.at(path))
        return 0

    def unlink(self, path):
        self.step('unlink', path)
        os.unlink(self.at(path))
        return 0

    def rename(self, old, new):
        self.step('rename', new)
        os.rename(self.at(old), self.at(new))
        return 0

    def link(self, target, source):
        self.step('link', target)
        os.link(self.at(source), self.at(target))
        return 0

    def mkdir(self, path, mode):
        os.mkdir(self.at(path), mode)
        return 0

    def chmod(self, path, mode):
        os.chmod(self.at(path), mode)
        return 0

    def chown(self, path, uid, gid):
        os.chown(self.at(path), uid, gid)
        return 0

    def utimens(self, path, times=None):
        os.utime(self.at(path), ns=times)
        return 0


def remembered(durable, target):
    """Lay out in ``target`` what the disk has after the power cut."""
    made = {}
    for entry in os.listdir(durable):
        if not entry.endswith('.names'):
            continue
        directory = os.path.join(
            target, entry.removesuffix('.names').replace(':', '/'))
        os.makedirs(directory, mode=0o700, exist_ok=True)
        with open(os.path.join(durable, entry)) as file:
            names = json.load(file)
        for name, number in names.items():
            path = os.path.join(directory, name)
            if number in made:
                os.link(made[number], path)
                continue
            made[number] = path
            with open(path, 'wb'), contextlib.suppress(FileNotFoundError):
                shutil.copyfile(os.path.join(durable, str(number)), path)


if __name__ == '__main__':
    mount, live, durable = sys.argv[1:]
    mfusepy.FUSE(Forgetful(live, durable), mount, foreground=True,
                 nothreads=True, default_permissions=True)
