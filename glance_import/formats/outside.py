"""The refusal that all formats share: data outside of the file."""

from __future__ import annotations

from glance_import.formats import reader


def refusal(what: str, where: str) -> reader.UnsafeFormat:
    """It refers to the outside.

    :param what: kind of the reference, as in "a backing file"
    :param where: the field that has it
    """
    return reader.UnsafeFormat(
        f'it refers to data outside of the file ({what})', where,
        'Make it one file that needs no other (qemu-img convert) and upload '
        'that')
