"""Walk one image from a file to active and back, and show every request.

Starts the service of this clone with the sample configuration of etc/ and a
second --config-dir of overrides, then does what a user would do: create,
stage, import, wait, download, compare. Only the standard library is used, so
that what is shown is the HTTP interface and no client. Touches .quickstart/
in the clone and a TCP port of this machine's loopback address.
"""

import argparse
import collections.abc
import contextlib
import dataclasses
import fcntl
import hashlib
import http.client
import json
import os
import pathlib
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time

TOP = pathlib.Path(__file__).resolve().parent.parent
HOME = TOP / '.quickstart'
HOST = '127.0.0.1'
PORT = 9292
BLOCK = 1024 * 1024
MADE_IMAGE_MIB = 64
START_SECONDS = 60
# An import that takes longer than this and a second per 10 MB hangs.
IMPORT_SECONDS = 300

OVERRIDES = """\
# Written by the quickstart; what it changes of the samples in etc/.
[DEFAULT]
bind_port = {port}
enable_image_import = True
state_path = {home}/state
node_staging_uri = file://{home}/staging

[glance_store]
filesystem_store_datadir = {home}/images
"""

# disk_format: (offset, bytes found there)
MAGIC = (
    ('qcow2', 0, b'QFI\xfb'),
    ('vmdk', 0, b'KDMV'),
    ('vmdk', 0, b'# Disk DescriptorFile'),
    ('vhdx', 0, b'vhdxfile'),
    ('vhd', 0, b'conectix'),
    ('vdi', 64, b'\x7f\x10\xda\xbe'),
    ('iso', 0x8001, b'CD001'),
)
# Compressed files are no disk format; staging one as raw would be a lie.
COMPRESSED = {b'\x1f\x8b': 'gzip', b'\xfd7zXZ': 'xz', b'BZh': 'bzip2',
              b'\x28\xb5\x2f\xfd': 'zstd', b'PK\x03\x04': 'zip'}
SUFFIXES = ('qcow2', 'vmdk', 'vhdx', 'vhd', 'vdi', 'iso')


class Failure(Exception):
    """Something went wrong; its text is the one line the user sees."""


def disk_format(path: pathlib.Path) -> str:
    """The disk_format of a file: by its content, else its name, else raw.

    :raises Failure: the file is compressed, so it has none
    """
    with open(path, 'rb') as image:
        head = image.read(0x8001 + 5)
    for magic, kind in COMPRESSED.items():
        if head.startswith(magic):
            raise Failure(f'{path} is a {kind} file: decompress it first '
                          '(or say --disk-format)')
    for name, offset, magic in MAGIC:
        if head[offset:offset + len(magic)] == magic:
            return name
    suffix = path.suffix.lower().lstrip('.')
    return suffix if suffix in SUFFIXES else 'raw'


def make_image() -> pathlib.Path:
    """A qcow2 disk of 64 MiB, half of it random data.

    :raises Failure: qemu-img is missing and cannot be installed, or failed
    """
    path = HOME / 'example.qcow2'
    if path.exists():
        return path
    if not shutil.which('qemu-img'):
        subprocess.run(['bash', '-c', '. tools/bootstrap.sh; '
                        'install_debian qemu-utils'], cwd=TOP)
    if not shutil.which('qemu-img'):
        raise Failure('qemu-img is needed to make an image; install it, or '
                      'name an image file: ./quickstart IMAGE')
    raw = HOME / 'example.raw'
    with open(raw, 'wb') as disk:
        for _ in range(MADE_IMAGE_MIB // 2):
            disk.write(os.urandom(BLOCK))
        disk.truncate(MADE_IMAGE_MIB * BLOCK)
    made = path.with_suffix('.part')
    done = subprocess.run(['qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2',
                           raw, made])
    raw.unlink()
    if done.returncode:
        raise Failure('qemu-img could not make the image')
    made.rename(path)
    return path


@dataclasses.dataclass
class Progress:
    """One line on a terminal, four lines elsewhere; sizes in bytes."""

    label: str
    total: int
    done: int = 0
    shown: int = -1
    started: float = dataclasses.field(default_factory=time.monotonic)

    def add(self, count: int) -> None:
        self.done += count
        percent = 100 * self.done // self.total if self.total else 100
        step = 1 if sys.stdout.isatty() else 25
        if percent // step == self.shown:
            return
        self.shown = percent // step
        if sys.stdout.isatty():
            bar = ('#' * (percent * 30 // 100)).ljust(30, '.')
            end = '\n' if self.done >= self.total else ''
            print(f'\r   {self.label:9}[{bar}] {percent:3d} % '
                  f'{self.done / 1e6:10.1f} MB', end=end, flush=True)
        else:
            print(f'   {self.label:9}{percent:3d} % '
                  f'{self.done / 1e6:10.1f} MB', flush=True)

    @property
    def seconds(self) -> float:
        return max(time.monotonic() - self.started, 1e-6)


@dataclasses.dataclass
class Digests:
    """Size and digests of bytes as they pass."""

    algorithm: str = 'sha512'
    size: int = 0

    def __post_init__(self) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._hash = hashlib.new(self.algorithm)

    def update(self, block: bytes) -> None:
        self.size += len(block)
        self._md5.update(block)
        self._hash.update(block)

    def values(self) -> dict[str, object]:
        """Under the names that the image has for them."""
        return {'size': self.size, 'checksum': self._md5.hexdigest(),
                'os_hash_algo': self.algorithm,
                'os_hash_value': self._hash.hexdigest()}


class Client:
    """HTTP requests, each shown as the curl command that would send it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f'http://{HOST}:{port}'

    def show(self, *words: str) -> None:
        print('\n$ curl ' + ' '.join(shlex.quote(word) for word in words))

    def json(self, method: str, path: str, body: dict | None = None, *,
             expect: int = 200, quiet: bool = False) -> dict:
        """Send one small request, return the object that is answered."""
        headers = {}
        words = ['-X', method, self.url + path]
        data = None
        if body is not None:
            data = json.dumps(body)
            headers['Content-Type'] = 'application/json'
            words += ['-H', 'Content-Type: application/json',
                      '--data-binary', data]
        if not quiet:
            self.show(*words)
        with self._connection() as connection:
            connection.request(method, path, data, headers)
            return self._answer(connection, expect, quiet)

    def upload(self, path: str, image: pathlib.Path,
               blocks: collections.abc.Iterable[bytes]) -> None:
        """PUT the blocks of a file, as they come."""
        kind = 'application/octet-stream'
        self.show('-X', 'PUT', self.url + path, '-H', f'Content-Type: {kind}',
                  '-T', str(image))
        with self._connection() as connection:
            connection.putrequest('PUT', path)
            connection.putheader('Content-Type', kind)
            connection.putheader('Content-Length', str(image.stat().st_size))
            connection.endheaders()
            # A server that refuses answers, then hangs up: read its answer.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                for block in blocks:
                    connection.send(block)
            self._answer(connection, 204, False)

    def download(self, path: str) -> collections.abc.Iterator[bytes]:
        """The blocks of a GET, as they come."""
        self.show('-X', 'GET', self.url + path, '-o', 'downloaded')
        with self._connection() as connection:
            connection.request('GET', path)
            response = connection.getresponse()
            if response.status != 200:
                raise Failure(f'download answered {response.status}')
            while block := response.read(BLOCK):
                yield block

    @contextlib.contextmanager
    def _connection(self):
        connection = http.client.HTTPConnection(HOST, self.port, timeout=300)
        try:
            yield connection
        except (OSError, http.client.HTTPException) as exc:
            raise Failure(f'the service did not answer: {exc!r}') from exc
        finally:
            connection.close()

    def _answer(self, connection, expect: int, quiet: bool) -> dict:
        response = connection.getresponse()
        text = response.read().decode(errors='replace')
        if not quiet:
            print(f'   {response.status} {response.reason}')
        if response.status != expect:
            raise Failure(f'answered {response.status} where {expect} was '
                          f'expected: {" ".join(text.split())[:400]}')
        return json.loads(text) if text else {}


class Service:
    """glance-import-api of this virtual environment, on a free port."""

    def __init__(self) -> None:
        self.log = HOME / 'service.log'
        self.port = free_port()
        self.client = Client(self.port)
        conf = HOME / 'conf'
        for path in (HOME / 'state', HOME / 'staging', HOME / 'images', conf):
            path.mkdir(mode=0o700, exist_ok=True)
        # $ begins a reference in an oslo.config value.
        home = str(HOME).replace('$', '$$')
        (conf / 'quickstart.conf').write_text(
            OVERRIDES.format(port=self.port, home=home))
        self.command = [
            str(pathlib.Path(sys.executable).parent / 'glance-import-api'),
            '--config-dir', str(TOP / 'etc'), '--config-dir', str(conf)]
        self.process: subprocess.Popen | None = None

    def start(self) -> float:
        """Start, wait for the first answer; return the seconds it took."""
        print('$ ' + shlex.join(self.command))
        began = time.monotonic()
        with open(self.log, 'ab') as log:
            # A session of its own: Ctrl-C is ours, the service gets SIGTERM.
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True)
        while time.monotonic() - began < START_SECONDS:
            self.check()
            with contextlib.suppress(Failure):
                self.client.json('GET', '/versions', quiet=True)
                return time.monotonic() - began
            time.sleep(0.02)
        raise Failure(f'no answer within {START_SECONDS} s')

    def check(self) -> None:
        """:raises Failure: the service has ended by itself"""
        if self.process is None or self.process.poll() is None:
            return
        raise Failure('the service ended with exit status '
                      f'{self.process.returncode}')

    def stop(self) -> int:
        """SIGTERM, wait; return the exit status."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(timeout=90)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def free_port() -> int:
    """9292, or another when something else listens there."""
    for port in (PORT, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                print(f'== port {port} is taken, using a free one')
                continue
            return probe.getsockname()[1]
    raise Failure(f'no free TCP port on {HOST}')


def read_blocks(path: pathlib.Path, *watchers) -> \
        collections.abc.Iterator[bytes]:
    """The file in blocks of 1 MiB; each watcher is called before with it."""
    with open(path, 'rb') as image:
        while block := image.read(BLOCK):
            for watcher in watchers:
                watcher(block)
            yield block


def wait_until_active(service: Service, image_id: str, size: int) -> dict:
    """Poll the image and its task until the import has ended.

    :raises Failure: the import failed, with the reason the service gives
    """
    client = service.client
    client.show('-X', 'GET', f'{client.url}/v2/images/{image_id}')
    client.show('-X', 'GET', f'{client.url}/v2/images/{image_id}/tasks')
    limit = time.monotonic() + IMPORT_SECONDS + size / 10e6
    last = None
    pause = 0.01
    while time.monotonic() < limit:
        service.check()
        image = client.json('GET', f'/v2/images/{image_id}', quiet=True)
        tasks = client.json('GET', f'/v2/images/{image_id}/tasks',
                            quiet=True)['tasks']
        task = tasks[-1] if tasks else {}
        progress = task.get('progress') or {}
        seen = (image['status'], task.get('status'), progress.get('fraction'))
        if seen != last:
            done = f', {seen[2]:.0%} done' if seen[2] is not None else ''
            print(f'   image {seen[0]}, task {seen[1]}{done}')
            last = seen
        if image['status'] == 'active' and seen[1] in ('success', None):
            return image
        if seen[1] == 'failure' or image['status'] not in ('importing',
                                                           'active'):
            reason = image.get('os_glance_import_error') or task.get('message')
            raise Failure(f'the import failed: {reason}')
        time.sleep(pause)
        # Small imports end in milliseconds, large ones need no hurry.
        pause = min(pause * 1.5, 0.5)
    raise Failure(f'the import has not ended: {last}')


def compare(image: dict, sent: Digests, received: Digests) -> None:
    """:raises Failure: what was sent, kept and received is not the same"""
    expected = sent.values()
    for who, found in (('the image', image), ('the download',
                                              received.values())):
        for name, value in expected.items():
            if found.get(name) != value:
                raise Failure(f'{who} has {name} {found.get(name)!r}, the '
                              f'file has {value!r}')


def walk(service: Service, path: pathlib.Path, fmt: str) -> None:
    """Create, stage, import, wait, download, compare; print a summary."""
    client = service.client
    size = path.stat().st_size
    image_id = client.json(
        'POST', '/v2/images', expect=201,
        body={'name': path.name, 'disk_format': fmt,
              'container_format': 'bare'})['id']
    url = f'/v2/images/{image_id}'
    print(f'   image {image_id}')

    sent = Digests()
    staging = Progress('staging', size)
    client.upload(f'{url}/stage', path, read_blocks(
        path, sent.update, lambda block: staging.add(len(block))))
    stage_seconds = staging.seconds

    began = time.monotonic()
    client.json('POST', f'{url}/import', expect=202,
                body={'method': {'name': 'glance-direct'}})
    image = wait_until_active(service, image_id, size)
    import_seconds = time.monotonic() - began

    received = Digests(image.get('os_hash_algo') or sent.algorithm)
    reading = Progress('download', size)
    for block in client.download(f'{url}/file'):
        received.update(block)
        reading.add(len(block))
    download_seconds = reading.seconds
    if received.algorithm != sent.algorithm:
        sent = Digests(received.algorithm)
        for block in read_blocks(path):
            sent.update(block)
    compare(image, sent, received)

    print(f'\n{path.name}: {size / 1e6:.1f} MB, {fmt}, image {image_id}')
    for label, seconds in (('staged', stage_seconds),
                           ('downloaded', download_seconds)):
        print(f'   {label:11}{seconds:9.3f} s {size / 1e6 / seconds:9.1f} '
              'MB/s')
    print(f'   {"imported":11}{import_seconds:9.3f} s')
    print(f'   {sent.algorithm:11}{image["os_hash_value"]}')
    print(f'   {"md5":11}{image["checksum"]}')
    print('   the file, the image and the download are the same')


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='quickstart', description='Take an image from a file to active '
        'through stage and import, then keep serving.')
    parser.add_argument('image', nargs='?', type=pathlib.Path,
                        help='an image file; without one, a qcow2 of 64 MiB '
                             'is made with qemu-img')
    parser.add_argument('--once', action='store_true',
                        help='stop the service at the end')
    parser.add_argument('--disk-format',
                        help='disk_format of the image, instead of what its '
                             'content says')
    return parser.parse_args()


def lock_home():
    """Hold .quickstart/ for this process; two would share one database."""
    HOME.mkdir(mode=0o700, exist_ok=True)
    handle = open(HOME / 'lock', 'w')
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise Failure('another quickstart is running in this clone') from None
    return handle


def run(args: argparse.Namespace, service_made: list[Service]) -> None:
    image = args.image or make_image()
    if not image.is_file():
        raise Failure(f'{image} is not a file')
    fmt = args.disk_format or disk_format(image)
    service = Service()
    service_made.append(service)
    print(f'== first answer after {service.start():.2f} s; its log is '
          f'{service.log}')
    walk(service, image, fmt)
    if args.once:
        return
    print(f'\n== serving on {service.client.url} until Ctrl-C; try\n'
          f'$ curl {service.client.url}/v2/images')
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            service.check()
            time.sleep(0.5)
    print()


def log_tail(path: pathlib.Path) -> str:
    if not path.exists():
        return ''
    lines = path.read_text(errors='replace').splitlines()[-3:]
    return f'the end of {path}:\n' + '\n'.join(f'   {x}' for x in lines)


def main() -> int:
    # A closed terminal or a SIGTERM stops the service like Ctrl-C does.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    args = arguments()
    made: list[Service] = []
    status = 0
    try:
        held = lock_home()
        with held:
            try:
                run(args, made)
            finally:
                ended = made[0].stop() if made else 0
            if ended:
                raise Failure(f'the service stopped with exit status {ended}')
            if made:
                print('== the service has stopped')
    except KeyboardInterrupt:
        status = 130
        print('interrupted', file=sys.stderr)
    except (Failure, OSError) as exc:
        status = 1
        sys.stdout.flush()
        print(f'error: {exc}', file=sys.stderr)
        if made:
            print(log_tail(made[0].log), file=sys.stderr)
    return status


if __name__ == '__main__':
    sys.exit(main())
