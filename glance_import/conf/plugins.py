"""The section of each contract plugin: what an operator decides about it.

Every section has ``OPTS``; beside them are the options that the plugin's
class declares. Which sections there are is known only when the plugins are,
so they are registered then (``register``) and not with the others.
"""

from __future__ import annotations

import collections.abc
import typing

from oslo_config import cfg
from oslo_config import types

POLICY = r'^(closed|open|retry:[1-9][0-9]?)\Z'

OPTS = (
    cfg.Opt(
        'failure_policy', default='closed',
        type=types.String(regex=POLICY),
        help='What becomes of an image when the plugin fails to judge it '
             '(it crashes, hangs, breaks the contract). closed: it is '
             'refused. retry:N: the plugin is run up to N times more, then '
             'as closed. open: it passes.'),
    cfg.StrOpt(
        'enforcement', default='enforce', choices=(
            ('enforce', 'a rejected image is refused'),
            ('warn', 'a rejected image passes; the reason is kept with its '
                     'import and logged'),
            ('off', 'the plugin is not run'),
        ),
        help='What the verdict of the plugin is worth.'),
    cfg.ListOpt(
        'allowed_properties', default=[],
        help='Beginnings of the names of image properties that the plugin '
             'may write, separated by commas. None by default.'),
    cfg.FloatOpt(
        'timeout', default=3600.0, min=0.1,
        help='Seconds one image may take.'),
    cfg.FloatOpt(
        'idle_timeout', default=60.0, min=0.1,
        help='Seconds the plugin may go without reading, writing, logging '
             'or reporting progress. Programs (exec:) are not measured so.'),
    cfg.IntOpt(
        'cpu_limit', default=3600, min=1,
        help='Seconds of processor time of each of its processes.'),
    cfg.IntOpt(
        'memory_limit', default=512, min=32,
        help='MiB of memory, of each of its processes and of all of them '
             'together.'),
    cfg.IntOpt(
        'tmp_limit', default=64, min=1,
        help='MiB of its temporary directory, which is memory, and of each '
             'file it writes there.'),
    cfg.IntOpt(
        'tmp_files_limit', default=10_000, min=16,
        help='Files and directories in its temporary directory; a plugin '
             'that makes more is ended. Each takes memory of the kernel, '
             'which no other limit counts.'),
    cfg.IntOpt(
        'open_files_limit', default=64, min=16,
        help='Files and sockets each of its processes may have open.'),
    cfg.IntOpt(
        'process_limit', default=16, min=1,
        help='Processes and threads it may have at once. Holds with '
             'isolation = strict.'),
    cfg.IntOpt(
        'output_limit', default=0, min=0,
        help='MiB that its transform may write. 0: what image_size_cap '
             'allows.'),
    cfg.IntOpt(
        'log_limit', default=64, min=0,
        help='KiB of the service\'s log that one run may fill.'),
    cfg.ListOpt(
        'read_paths', default=[],
        help='Files and directories of this host that the plugin may read, '
             'under the same names, such as a signature database.'),
    cfg.ListOpt(
        'sockets', default=[],
        help='Unix sockets of this host that the plugin may connect to, '
             'such as that of a scanner.'),
)

_KINDS: dict[str, typing.Callable[..., cfg.Opt]] = {
    'str': cfg.StrOpt, 'int': cfg.IntOpt, 'float': cfg.FloatOpt,
    'bool': cfg.BoolOpt, 'list': cfg.ListOpt}


def declared(options: collections.abc.Iterable[
        collections.abc.Mapping[str, typing.Any]]) -> list[cfg.Opt]:
    """The options of a class, as its description names them."""
    return [_KINDS[option['type']](
        option['name'], default=option['default'],
        required=bool(option['required']), secret=bool(option['secret']),
        help=option['help'] or f'An option of the plugin ({option["type"]}).')
        for option in options]


def register(conf: cfg.ConfigOpts, section: str, options: collections.abc
             .Iterable[collections.abc.Mapping[str, typing.Any]] = ()
             ) -> None:
    """Make a section readable; doing it again does no harm.

    :raises cfg.DuplicateOptError: it is there with other options
    """
    conf.register_opts([*OPTS, *declared(options)], group=section)
