"""The verdict on a file: its format and size, or why it is refused.

oslo.utils' inspectors say what it is and whether that is safe; ``own`` adds
refusals of ours, and judges in their place where they refuse what is only
unusual. Only places that matter are read, whatever the file's size.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import logging

from oslo_config import cfg
from oslo_utils.imageutils import format_inspector

from glance_import.formats import optical
from glance_import.formats import own
from glance_import.formats import reader
from glance_import.formats import vmdk

LOG = logging.getLogger(__name__)
RAW = 'raw'
# Declared formats whose content nothing here can tell.
UNTOLD = frozenset({'ami', 'ari', 'aki', 'ploop'})
# Those of them and others whose bytes are the disk.
PLAIN = frozenset({RAW, 'ami'})
# Checks of oslo.utils that refuse what is only unusual; what they are for is
# judged by ``own``.
_OURS = {'qcow2': {'unknown_features', 'data_file'}, 'vmdk': {'descriptor'}}
# The same thing under other names.
_NAMES = {'gpt': RAW, 'luks': RAW}
_PIECE = 64 << 10
_CONVERT = 'Convert it to a format that is taken (qemu-img convert)'
# Every inspector has seen what it needs by then, or needs the end: bytes.
HEAD, TAIL = 4 << 20, 64 << 10


_Inspectors = dict[str, format_inspector.FileInspector]


class FormatRefused(Exception):
    """The file is not to be accepted; one sentence why."""


@dataclasses.dataclass(frozen=True)
class Options:
    """[image_format]; sizes in bytes, 0 for no limit."""

    match: bool = True
    # Checks of partition tables of which not even a warning is given.
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
    """``format`` by Glance's names, ``virtual_size`` in bytes.

    ``warnings``: what is odd about it, half a sentence each.
    """

    format: str
    virtual_size: int
    warnings: tuple[str, ...] = ()


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
    found = ''
    try:
        vmdk.check_text(data)
        found, inspectors = _detect(data, declared)
        _check_match(found, declared, options)
        size = own.CHECKS.get(found, own.whole)(data)
        for inspector in inspectors.values():
            _check_safety(inspector)
        if found == 'vmdk':
            _check_vmdk_type(data, options)
        if found == 'iso':
            size = max(size, inspectors['iso'].virtual_size
                       if 'iso' in inspectors else 0)
        _check_size(size, options)
        return Verdict(
            found, data.size if declared in PLAIN else size,
            tuple(_warnings(data, found, declared, options)))
    except reader.UnsafeFormat as refusal:
        raise FormatRefused(refusal.sentence(
            found if found != RAW else '')) from refusal


def _check_size(size: int, options: Options) -> None:
    if options.max_virtual_size and size > options.max_virtual_size:
        raise reader.UnsafeFormat(
            f'its virtual size is {size} bytes, more than '
            f'{options.max_virtual_size}, the most that is accepted here '
            '(max_virtual_size)', '', 'Make the disk smaller (qemu-img '
            'resize --shrink), or ask the operator')


def _warnings(data: reader.Reader, found: str, declared: str | None,
              options: Options) -> collections.abc.Iterator[str]:
    # A kernel has no partition table, whatever its first sector looks like.
    if found == RAW and (declared not in PLAIN
                         or 'mbr' in options.gpt_nonfatal):
        return
    if found in own.WARNINGS:
        yield from own.WARNINGS[found](data)


def _detect(file: reader.Reader, declared: str | None
            ) -> tuple[str, _Inspectors]:
    """The format, and the inspectors that found it."""
    if file.up_to(0, 4) == b'COWD':
        raise reader.UnsafeFormat('it is an extent of a VMDK of version 3',
                                  'byte 0', _CONVERT)
    inspectors = _show(file)
    names = set(inspectors)
    if 'vhdx' in own.begins_as(file):
        names.add('vhdx')
    if names - {'iso', 'gpt', 'luks'} and optical.is_udf(file):
        names.add('udf')
    if names == {'iso', 'gpt'} or (
            declared == 'iso' and names <= {'gpt'} and optical.is_disc(file)):
        # A disk image that is also a boot medium; usual.
        return 'iso', inspectors
    if len(names) > 1 and names != {'gpt', 'luks'}:
        raise reader.UnsafeFormat(
            'it looks like several formats at once ('
            + ', '.join(sorted(names)) + ')', '', 'Convert it by name to the '
            'one that it is (qemu-img convert -f FORMAT)')
    name = min(names, default=RAW)
    name = _NAMES.get(name, name)
    if name == RAW and own.ends_as_vhd(file):
        return 'vhd', {}
    return name, inspectors


def _show(file: reader.Reader) -> _Inspectors:
    """Those inspectors that know the file.

    That of raw knows any, and that of VHDX looks for all it needs in the
    first few megabytes, where it need not be.

    :raises reader.UnsafeFormat: it begins as a format does whose
        inspector cannot make sense of the rest
    """
    begins = own.begins_as(file)
    found: _Inspectors = {}
    for name, make in format_inspector.ALL_FORMATS.items():
        if name in (RAW, 'vhdx'):
            continue
        inspector = make()
        if _knows(inspector, file):
            found[name] = inspector
        elif name in begins:
            raise reader.UnsafeFormat(
                f'it begins as {name} does, and cannot be read as {name}',
                'header, byte 0')
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
        + (f'{found}' if found != RAW else f'not that of {declared}'),
        'disk_format', 'Name the disk_format that it has, or convert it '
        '(qemu-img convert)')


def _check_safety(inspector: format_inspector.FileInspector) -> None:
    name = str(inspector)
    if name == 'gpt' or name == 'luks' and inspector.complete:
        # A partition table cannot hurt, and nothing of what is encrypted can
        # be looked at.
        return
    try:
        inspector.safety_check()
    except format_inspector.SafetyCheckFailed as failure:
        fatal = {check: what for check, what in failure.failures.items()
                 if check not in _OURS.get(name, ())}
        if fatal:
            raise reader.UnsafeFormat(
                f'as {name} it is not safe ('
                + '; '.join(f'{check}: {what}' for check, what
                            in sorted(fatal.items())) + ')',
                ', '.join(sorted(fatal)), _CONVERT) from failure
    except format_inspector.ImageFormatError as failure:
        raise reader.UnsafeFormat(
            f'as {name} it is not complete, so that nobody can say that it '
            'is safe', 'end of the file') from failure


def _check_vmdk_type(file: reader.Reader, options: Options) -> None:
    kind = vmdk.kind(file)
    if kind.lower() not in options.vmdk_types & vmdk.WHOLE:
        raise reader.UnsafeFormat(
            f'VMDK files of the type {kind or "(none)"} are not allowed here '
            '(vmdk_allowed_types)', 'createType of the descriptor', _CONVERT)
