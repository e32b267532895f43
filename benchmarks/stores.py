"""What storing costs: three file stores at once, S3, and Swift.

    python -m benchmarks.stores [--mib 512] [--rounds 5] [--directory DIR]

Uses the stores as the service does, without the service. File stores are on
file systems of their own (loop mounts as root, in memory otherwise), S3 is
the server of the tests, and so is Swift; CPU time is that of this process.
Each figure and its floor are run in turn; of the
rounds the best of each counts. Ends with 1 when a bound is not kept.
"""

from __future__ import annotations

import argparse
import collections.abc
import contextlib
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import typing
import uuid

from glance_import import conf as configuration
from glance_import import staging
from glance_import.stores import base
from glance_import.stores import configured as registry
from glance_import.stores import file as file_store
from glance_import.stores import multi_store
from tests import environments
from tests import s3
from tests import swift

MIB = 1 << 20


def make_source(path: pathlib.Path, mib: int) -> staging.Staged:
    """A file of bytes that repeat only after 64 MiB, and its digests."""
    block = os.urandom(64 * MIB)
    sha512, md5 = hashlib.sha512(), hashlib.md5(usedforsecurity=False)
    with open(path, 'wb') as file:
        for start in range(0, mib, 64):
            piece = block[:min(64, mib - start) * MIB]
            file.write(piece)
            sha512.update(piece)
            md5.update(piece)
        file.flush()
        os.fsync(file.fileno())
    identity = staging.Identity.of_path(str(path))
    assert identity is not None
    return staging.Staged(mib * MIB, md5.hexdigest(), 'sha512',
                          sha512.hexdigest(), identity)


def read_so_far() -> int:
    """Bytes this process has read, from files and elsewhere."""
    for line in open('/proc/self/io'):
        if line.startswith('rchar:'):
            return int(line.split()[1])
    raise AssertionError('/proc/self/io has no rchar')


def store(stores: collections.abc.Sequence[base.Store], path: pathlib.Path,
          known: staging.Staged) -> tuple[float, float]:
    """(seconds, how often the source was read)."""
    before, began = read_so_far(), time.perf_counter()
    outcome = multi_store.add_file(
        stores, str(path), known, multi_store.Order(str(uuid.uuid4()), 1))
    took = time.perf_counter() - began
    read = (read_so_far() - before) / known.size
    for each in stores:
        each.delete(outcome.stored[each.id].uri)
    os.sync()
    return took, read


# -- three files

@contextlib.contextmanager
def file_systems(directory: pathlib.Path, mib: int
                 ) -> collections.abc.Iterator[list[pathlib.Path]]:
    """Three of their own, each with room for three copies.

    What was deleted is not free before the journal is written.
    """
    if os.geteuid() != 0 or shutil.which('mkfs.ext4') is None:
        top = pathlib.Path(tempfile.mkdtemp(dir='/dev/shm'))
        places = [top / name for name in 'abc']
        for place in places:
            place.mkdir()
        try:
            yield places
        finally:
            shutil.rmtree(top)
        return
    mounted: list[pathlib.Path] = []
    try:
        for name in 'abc':
            disk, place = directory / f'{name}.disk', directory / name
            place.mkdir()
            # All of it: who wrote to a hole first would pay for the others.
            with open(disk, 'wb') as file:
                for _ in range(3 * mib + 64):
                    file.write(bytes(MIB))
                os.fsync(file.fileno())
            subprocess.run(['mkfs.ext4', '-q', '-E', 'nodiscard', str(disk)],
                           check=True)
            subprocess.run(['mount', '-o', 'loop,nodiscard', str(disk),
                            str(place)],
                           check=True)
            mounted.append(place)
        yield mounted
    finally:
        for place in mounted:
            subprocess.run(['umount', str(place)], check=True)


def write(source: pathlib.Path, target: pathlib.Path) -> None:
    """cp, and all of it on the disk."""
    with open(source, 'rb') as reading, open(target, 'wb') as writing:
        while os.sendfile(writing.fileno(), reading.fileno(), None,
                          1 << 30):
            pass
        os.fsync(writing.fileno())


def write_three(source: pathlib.Path, places: list[pathlib.Path], *,
                together: bool) -> float:
    """Seconds that three copies take, one after the other or at once."""
    began = time.perf_counter()
    threads = [threading.Thread(target=write, args=[source, place / 'floor'])
               for place in places]
    for thread in threads:
        thread.start()
        if not together:
            thread.join()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    for place in places:
        (place / 'floor').unlink()
    os.sync()
    return took


def three_files(options: argparse.Namespace, directory: pathlib.Path,
                source: pathlib.Path, known: staging.Staged) -> bool:
    with file_systems(directory, options.mib) as places:
        stores = [file_store.FileStore(str(place / 'images'), place.name)
                  for place in places]
        for each in stores:
            each.prepare()
        floors, mine, reads = [], [], []
        for _ in range(options.rounds):
            floors.append(min(write_three(source, places, together=way)
                              for way in (False, True)))
            took, read = store(stores, source, known)
            mine.append(took)
            reads.append(read)
    ratio = min(mine) / min(floors)
    print(f'import to three file stores   {min(mine):6.2f} s; three copies '
          f'{min(floors):6.2f} s: {ratio:.2f} x (at most 1.2); the source '
          f'was read {max(reads):.2f} times (at most 1.01)')
    return ratio <= 1.2 and max(reads) <= 1.01


# -- S3

def configured(kind: str, values: dict[str, typing.Any]) -> typing.Any:
    """A store of a type, with these options."""
    conf = configuration.new()
    conf([], default_config_files=[])
    conf.set_override('enabled_backends', {'far': kind})
    conf.set_override('default_backend', 'far', 'glance_store')
    registry.register(conf)
    for name, value in values.items():
        conf.set_override(name, value, 'far')
    return registry.build(conf).default


def boto_alone(client: typing.Any, chosen: typing.Any,
               source: pathlib.Path) -> float:
    """Seconds of boto3's own upload, with parts like ours."""
    from boto3.s3 import transfer

    began = time.perf_counter()
    client.upload_file(
        str(source), s3.BUCKET, 'floor', Config=transfer.TransferConfig(
            multipart_threshold=chosen.driver.s3_store_large_object_size,
            multipart_chunksize=chosen.part_size(source.stat().st_size),
            max_concurrency=chosen.threads))
    took = time.perf_counter() - began
    client.delete_object(Bucket=s3.BUCKET, Key='floor')
    return took


def to_s3(options: argparse.Namespace, cache: pathlib.Path,
          source: pathlib.Path, known: staging.Staged) -> bool:
    server = s3.Server(environments.make('moto', cache))
    try:
        chosen = configured('s3', server.options())
        chosen.prepare()
        floors, mine = [], []
        for _ in range(options.rounds):
            # The same client, so the same way of signing.
            floors.append(boto_alone(chosen.client, chosen, source))
            mine.append(store([chosen], source, known)[0])
    finally:
        server.stop()
    ratio = min(floors) / min(mine)
    print(f'import to S3                  {min(mine):6.2f} s; boto3 alone  '
          f'{min(floors):6.2f} s: {ratio:.2f} of its speed (at least 0.8)')
    return ratio >= 0.8


# -- Swift

def swift_alone(server: swift.Server, chosen: typing.Any,
                source: pathlib.Path) -> float:
    """Seconds of swiftclient's own upload, in segments as large as ours."""
    began = time.perf_counter()
    client = chosen.client
    step, size = chosen.driver.large_object_chunk_size, source.stat().st_size
    with open(source, 'rb') as file:
        for number, start in enumerate(range(0, size, step)):
            client.put_object(
                swift.CONTAINER, f'floor-{number:05d}', file,
                content_length=min(step, size - start))
    client.put_object(swift.CONTAINER, 'floor', b'', headers={
        'X-Object-Manifest': f'{swift.CONTAINER}/floor-'})
    took = time.perf_counter() - began
    server.clear()
    return took


def to_swift(options: argparse.Namespace, source: pathlib.Path,
             known: staging.Staged) -> bool:
    server = swift.Server()
    try:
        # As many segments as a large image has.
        chosen = configured('swift', server.options(
            swift_store_large_object_size=50,
            swift_store_large_object_chunk_size=50))
        floors, mine, used = [], [], []
        for _ in range(options.rounds):
            floors.append(swift_alone(server, chosen, source))
            before = time.process_time()
            mine.append(store([chosen], source, known)[0])
            used.append(time.process_time() - before)
    finally:
        server.stop()
    ratio = min(mine) / min(floors)
    print(f'import to Swift               {min(mine):6.2f} s '
          f'({min(used):.2f} s of CPU); swiftclient alone '
          f'{min(floors):6.2f} s: {ratio:.2f} x (at most 1.2)')
    return ratio <= 1.2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--mib', type=int, default=512)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--directory', type=pathlib.Path)
    parser.add_argument('--cache', type=pathlib.Path,
                        default=pathlib.Path('.pytest_cache/d/environments'))
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        directory = pathlib.Path(name)
        source = directory / 'source'
        known = make_source(source, options.mib)
        kept = [three_files(options, directory, source, known),
                to_s3(options, options.cache.resolve(), source, known),
                to_swift(options, source, known)]
    return 0 if all(kept) else 1


if __name__ == '__main__':
    sys.exit(main())
