"""Counts the fsyncs of a service, and makes them as slow as a cloud's disks.

A small library is compiled and preloaded into its processes. Needs a C
compiler.
"""

from __future__ import annotations

import pathlib
import shutil
import struct
import subprocess
import typing

_SOURCE = pathlib.Path(__file__).with_name('slow_fsync.c')


class Fsyncs:
    """The counter of one service, and the environment that has it counted.

    :param milliseconds: what each fsync takes, unless the disk takes longer
    """

    def __init__(self, directory: pathlib.Path,
                 milliseconds: float = 0.0) -> None:
        compiler = shutil.which('cc') or shutil.which('gcc')
        if compiler is None:
            raise SystemExit('a C compiler is needed to count fsyncs')
        library = directory / 'slow_fsync.so'
        subprocess.run([compiler, '-shared', '-fPIC', '-O2', '-o', library,
                        _SOURCE, '-ldl'], check=True)
        self._file = directory / 'fsyncs'
        self._file.write_bytes(bytes(8))
        self.environment: dict[str, typing.Any] = {
            'LD_PRELOAD': str(library), 'FSYNC_COUNT': str(self._file),
            'FSYNC_MICROSECONDS': str(int(milliseconds * 1000))}

    @property
    def count(self) -> int:
        """Of all processes together, since the beginning."""
        return struct.unpack('=Q', self._file.read_bytes())[0]
