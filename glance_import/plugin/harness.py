"""Tries a plugin's class in a test, without the service and without a wall.

Needs only the standard library. With pytest, the fixture ``image_plugin``
makes one.
"""

from __future__ import annotations

import collections.abc
import os
import tempfile
import time
from typing import Any

from glance_import.plugin import check
from glance_import.plugin import contract
from glance_import.plugin import data as plugin_data


class Harness:
    """One plugin with its options, ready to judge bytes.

    :param block: bytes of each block that iterating gives; the service's
        own size may change, so a plugin must not depend on it
    :raises ValueError: the class breaks the contract, saying how
    """

    def __init__(self, cls: type[contract.ImagePlugin],
                 options: dict[str, Any] | None = None, *,
                 block: int = plugin_data.BLOCK) -> None:
        problems = check.problems(cls)
        if problems:
            raise ValueError('; '.join(problems))
        self.cls = cls
        self.options = {option.name: option.default
                        for option in cls.options}
        unknown = set(options or {}) - set(self.options)
        if unknown:
            raise ValueError(f'not declared: {", ".join(sorted(unknown))}')
        self.options.update(options or {})
        self.block = block
        # What the plugin has logged.
        self.logged: list[str] = []
        # Set it to see what the plugin does when its import is called off.
        self.cancelled = False
        # What the last ``transform`` wrote.
        self.output = b''
        self.bytes_read = 0

    def precheck(self, **image: Any) -> contract.Verdict:
        """The verdict before a byte is read; ``image`` are its metadata."""
        return self._run('precheck', None, 0, image)

    def inspect(self, content: bytes | str | os.PathLike = b'',
                **image: Any) -> contract.Verdict:
        """The verdict on some bytes, or on the file at a path."""
        return self._run('inspect', content, 0, image)

    def transform(self, content: bytes | str | os.PathLike = b'', *,
                  limit: int = 1 << 40, **image: Any) -> contract.Verdict:
        """The verdict; what it wrote is in ``output`` then."""
        return self._run('transform', content, limit, image)

    def _run(self, do: str, content: bytes | str | os.PathLike | None,
             limit: int, image: dict[str, Any]) -> contract.Verdict:
        with tempfile.TemporaryDirectory() as tmp:
            given: dict[str, Any] = {'ctx': contract.Context(
                self.options, tmp, time.time() + 3600, self.logged.append,
                _ignore, lambda: self.cancelled)}
            with _Opened(content) as source, _Opened(b'') as target:
                size = os.fstat(source.fd).st_size
                data = plugin_data.Data(source.fd, size, block=self.block)
                given.update(data=data, source=data,
                             sink=plugin_data.Sink(target.fd, limit))
                given['image'] = contract.Image(**{
                    'id': '00000000-0000-0000-0000-000000000000',
                    'size': size, **image})
                plugin = self.cls()
                method = getattr(plugin, do)
                wanted = {name: given[name]
                          for name in contract.ARGUMENTS[do]}
                verdict = method(**check.arguments(method, wanted))
                self.bytes_read = data.bytes_read
                if do == 'transform':
                    written = os.fstat(target.fd).st_size
                    self.output = os.pread(target.fd, written, 0)
        if not isinstance(verdict, contract.Verdict):
            raise TypeError(f'{do} returned {verdict!r}, not a verdict')
        return verdict


def _ignore(percent: float | None) -> None:
    pass


class _Opened:
    """A descriptor on a file at a path, or on bytes."""

    def __init__(self, content: bytes | str | os.PathLike | None) -> None:
        if isinstance(content, (bytes, bytearray, memoryview, type(None))):
            self._file: Any = tempfile.TemporaryFile()
            self._file.write(content or b'')
            self._file.flush()
            self._file.seek(0)
        else:
            self._file = open(content, 'rb')
        self.fd = self._file.fileno()

    def __enter__(self) -> _Opened:
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()


def blocks(content: bytes, size: int) -> collections.abc.Iterator[bytes]:
    """``content`` in pieces of ``size`` bytes."""
    for at in range(0, len(content), size):
        yield content[at:at + size]
