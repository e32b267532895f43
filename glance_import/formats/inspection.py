"""The verdict on a file: its format, its virtual size, or why it is refused.

oslo.utils' inspectors say what it is and whether that is safe; ``own`` adds
refusals of ours. Only places that matter are read, whatever the file's size.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import logging

from oslo_config import cfg
from oslo_utils.imageutils import format_inspector

from glance_import.formats import own
from glance_import.formats import reader

LOG = logging.getLogger(__name__)
RAW = 'raw'
# Declared formats whose content nothing here can tell.
UNTOLD = frozenset({'ami', 'ari', 'aki', 'ploop'})
# The same thing under other names.
_NAMES = {'gpt': RAW, 'luks': RAW}
_PIECE = 64 << 10
# Every inspector has seen what it needs by then, or needs the end: bytes.
HEAD, TAIL = 4 << 20, 64 << 10


class FormatRefused(Exception):
    """The file is not to be accepted; one sentence why."""


@dataclasses.dataclass(frozen=True)
class Options:
    """[image_format]; sizes in bytes, 0 for no limit."""

    match: bool = True
    gpt_nonfatal: frozenset[str] = frozenset()
    vmdk_types: frozenset[str] = frozenset(
        {'streamoptimized', 'monolithicsparse'})
    max_virtual_size: int = 1 << 44

    @classmethod
    def of(cls, conf: cfg.ConfigOpts) -> Options:
        """As the operator has set them."""
        options = conf.image_format
        return cls(
            match=options.require_image_format_match,
            gpt_nonfatal=frozenset(options.gpt_safety_checks_nonfatal),
            vmdk_types=frozenset(
                each.lower() for each in options.vmdk_allowed_types),
            max_virtual_size=options.max_virtual_size)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """``format`` by Glance's names, ``virtual_size`` in bytes."""

    format: str
    virtual_size: int


def inspect_format(path: str, declared: str | None, options: Options
                   ) -> Verdict:
    """What a file is.

    :param declared: the disk_format it should have; None accepts any
    :raises FormatRefused: it is not to be accepted
    :raises OSError: it cannot be read
    """
    with open(path, 'rb') as opened:
        return inspect_data(reader.File(opened), declared, options)


def inspect_data(data: reader.Reader, declared: str | None, options: Options
                 ) -> Verdict:
    """The same of data that need not be a file.

    What its reader raises by itself, beside ``UnsafeFormat``, comes out.
    """
    try:
        own.text_descriptor(data)
        found, inspectors = _detect(data)
        _check_match(found, declared, options)
        for inspector in inspectors:
            _check_safety(inspector, options)
        size = own.CHECKS.get(found, own.whole)(data)
        if found == 'vmdk':
            _check_vmdk_type(data, options)
        if found == 'iso':
            size = max(size, inspectors[0].virtual_size)
    except reader.UnsafeFormat as refusal:
        raise FormatRefused(f'The image is refused: {refusal}.') from refusal
    if options.max_virtual_size and size > options.max_virtual_size:
        raise FormatRefused(
            f'The image is refused: its virtual size is {size} bytes, more '
            f'than {options.max_virtual_size}, the most that is accepted '
            'here (max_virtual_size).')
    return Verdict(found, size)


def _detect(file: reader.Reader
            ) -> tuple[str, list[format_inspector.FileInspector]]:
    """The format, and the inspectors that found it, ISO first."""
    if file.up_to(0, 4) == b'COWD':
        raise reader.UnsafeFormat('it is an extent of a VMDK of version 3')
    inspectors = _show(file)
    names = {str(each) for each in inspectors}
    if names == {'iso', 'gpt'}:
        # A disk image that is also a boot medium; usual.
        inspectors.sort(key=lambda each: str(each) != 'iso')
        return 'iso', inspectors
    if len(names) > 1:
        raise reader.UnsafeFormat(
            'it looks like several formats at once ('
            + ', '.join(sorted(names)) + ')')
    name = names.pop() if names else RAW
    if name in (RAW, 'gpt') and own.ends_as_vhd(file):
        return 'vhd', []
    return _NAMES.get(name, name), inspectors


def _show(file: reader.Reader) -> list[format_inspector.FileInspector]:
    """Those inspectors, other than raw's, that know the file.

    :raises reader.UnsafeFormat: it begins as a format does whose
        inspector cannot make sense of the rest
    """
    begins = own.begins_as(file)
    found: list[format_inspector.FileInspector] = []
    for name, make in format_inspector.ALL_FORMATS.items():
        if name == RAW:
            continue
        inspector = make()
        if _knows(inspector, file):
            found.append(inspector)
        elif name in begins:
            raise reader.UnsafeFormat(
                f'it begins as {name} does, and cannot be read as {name}')
    return found


def _knows(inspector: format_inspector.FileInspector,
           file: reader.Reader) -> bool:
    """Whether an inspector takes the file for one of its format."""
    for piece in _pieces(inspector, file):
        try:
            inspector.eat_chunk(piece)
        except Exception as failure:
            LOG.debug('not %s: %s', inspector, failure)
            return False
    inspector.finish()
    try:
        return bool(inspector.format_match)
    except Exception as failure:
        LOG.debug('not %s: %s', inspector, failure)
        return False


def _pieces(inspector: format_inspector.FileInspector, file: reader.Reader
            ) -> collections.abc.Iterator[bytes]:
    """The beginning, as far as it is wanted, and of a larger file the end."""
    at = 0
    while at < min(file.size, HEAD) and not inspector.complete:
        piece = file.up_to(at, _PIECE)
        yield piece
        at += len(piece)
    if not inspector.complete and at < file.size:
        yield file.up_to(max(at, file.size - TAIL), TAIL)


def _check_match(found: str, declared: str | None,
                 options: Options) -> None:
    if not options.match or declared in (None, RAW, found):
        return
    if declared in UNTOLD and found == RAW:
        return
    raise reader.UnsafeFormat(
        f'its disk_format is {declared}, but its content is '
        + (f'{found}' if found != RAW else f'not that of {declared}'))


def _check_safety(inspector: format_inspector.FileInspector,
                  options: Options) -> None:
    name = str(inspector)
    if name == 'luks' and inspector.complete:
        # Nothing of what is encrypted can be looked at.
        return
    try:
        inspector.safety_check()
    except format_inspector.SafetyCheckFailed as failure:
        fatal = {check: what for check, what in failure.failures.items()
                 if name != 'gpt' or check not in options.gpt_nonfatal}
        if fatal:
            raise reader.UnsafeFormat(
                f'as {name} it is not safe ('
                + '; '.join(f'{check}: {what}' for check, what
                            in sorted(fatal.items())) + ')') from failure
    except format_inspector.ImageFormatError as failure:
        raise reader.UnsafeFormat(
            f'as {name} it is not complete, so that nobody can say that it '
            'is safe') from failure


def _check_vmdk_type(file: reader.Reader, options: Options) -> None:
    kind = own.vmdk_type(file)
    if kind.lower() not in options.vmdk_types:
        raise reader.UnsafeFormat(
            f'VMDK files of the type {kind or "(none)"} are not allowed here '
            '(vmdk_allowed_types)')
