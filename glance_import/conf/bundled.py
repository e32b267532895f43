"""Sections of the bundled get_flow plugins in glance-image-import.conf."""

import re
import typing

from oslo_config import cfg
from oslo_config import types

_PAIR = re.compile(
    r'''\s*(?:"([^"]*)"|'([^']*)'|([^\s"'{},:][^"'{},:]*))\s*:'''
    r'''\s*(?:"([^"]*)"|'([^']*)'|([^"',][^,]*|))\s*(,|\Z)''')


class _Pairs(types.Dict):
    """name:value pairs with commas; each side may be in quotes.

    As in Glance's older sample, "name1":"value1","name2":"value2".
    """

    def __call__(self, value: typing.Any) -> dict[str, typing.Any]:
        """:raises ValueError: it is written in another way"""
        if isinstance(value, dict):
            return value
        # oslo.config has taken off quotes that both ends of a line have.
        for text in (f'"{value}"', f"'{value}'", value):
            found = _pairs(text)
            if found is not None:
                return found
        raise ValueError(
            f'{value!r} is not of the form name:value, name:value, where '
            'each name is another one and what holds a comma or a quote is '
            'in quotes')


def _pairs(text: str) -> dict[str, str] | None:
    """What the text says; None when it is no list of pairs."""
    found: dict[str, str] = {}
    at, comma = 0, ''
    while at < len(text.rstrip()) or comma:
        pair = _PAIR.match(text, at)
        if pair is None:
            return None
        name = next(each for each in pair.groups()[:3] if each is not None)
        value = next(each for each in pair.groups()[3:6] if each is not None)
        name = name.strip()
        if not name or name in found:
            return None
        found[name] = value.strip()
        at, comma = pair.end(), pair[7]
    return found


class Inject:
    """[inject_metadata_properties]."""

    GROUP = 'inject_metadata_properties'
    OPTS = (
        cfg.ListOpt(
            'ignore_user_roles', default=['admin'],
            help='Roles of users whose imports the plugin '
                 'inject_image_metadata leaves alone: a plain list with '
                 'commas, without brackets.'),
        cfg.Opt(
            'inject', default={}, type=_Pairs(),
            help='Properties that the plugin writes to each image: '
                 'name:value pairs with commas, or "name":"value" pairs. '
                 'Names of the service itself (os_glance...) are left out.'),
    )


class Conversion:
    """[image_conversion]."""

    GROUP = 'image_conversion'
    OPTS = (
        cfg.StrOpt(
            'output_format', default='raw', choices=('qcow2', 'raw', 'vmdk'),
            help='disk_format that the plugin image_conversion gives to '
                 'each image. ISO images, kernels and ramdisks (aki, ari) '
                 'are left as they are.'),
        cfg.FloatOpt(
            'timeout', default=14400.0, min=0.01,
            help='Seconds that a conversion may take, also of processor '
                 'time.'),
        cfg.IntOpt(
            'memory_limit', default=2048, min=256,
            help='MiB of memory, most of it only addresses, that qemu-img '
                 'may take.'),
    )


class Decompression:
    """[image_decompression]."""

    GROUP = 'image_decompression'
    OPTS = (
        cfg.IntOpt(
            'max_ratio', default=1000, min=1,
            help='How many bytes may come out for each byte of the '
                 'compressed image; it counts when 64 MiB have come out. '
                 'In all no more come out than image_size_cap and the '
                 "project's quota allow."),
        cfg.FloatOpt(
            'timeout', default=14400.0, min=0.01,
            help='Seconds that decompressing may take, also of processor '
                 'time.'),
        cfg.IntOpt(
            'memory_limit', default=1024, min=256,
            help='MiB of memory that it may take.'),
    )


MODULES = (Inject, Conversion, Decompression)
