"""Where a listed plugin lies on this host, and which code that is.

A contract plugin is found without being imported: an entry point by the
metadata of its distribution, a class in a file of its own, or a program. Its
code is known by a digest, so that two hosts, or one host at two times, can
tell whether they mean the same. Reads entry points and files.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import stat
import sys
import typing

from glance_import.plugin import entry_points
from glance_import.plugin import file_digests
from glance_import.plugin import host
from glance_import.plugin import sandbox

CONTRACT = 'glance_import.plugins'
FILE, EXEC = 'file:', 'exec:'
OWN_PACKAGE = 'glance_import'
# What comes with the service, by its modules. A file that a site has put into
# the package itself is not among them.
SHIPPED = frozenset(
    [f'{entry_points.PLUGIN_PACKAGE}.{name}' for name in (
        'no_op', 'inject_image_metadata', 'image_decompression',
        'image_conversion')]
    + [f'{OWN_PACKAGE}.plugin.shipped.{name}' for name in (
        'clamav', 'digest_list', 'property_policy', 'format_report')])


class Located(typing.NamedTuple):
    """A contract plugin; ``places`` are the files that are its code."""

    target: host.Target
    places: tuple[str, ...]
    version: str = ''

    @property
    def shipped(self) -> bool:
        """Whether it comes with the service."""
        return self.target.module in SHIPPED

    def code(self) -> str:
        """The digest of the code as it is now.

        :raises extensions.ExtensionError: it cannot be read
        """
        return code_of(self.target.name, self.places)


def find(name: str) -> Located | None:
    """The contract plugin of that name; None for a get_flow plugin.

    :raises extensions.ExtensionError: it cannot be used, or is doubled
    """
    if name.startswith(FILE):
        return _file(name)
    if name.startswith(EXEC):
        return _program(name)
    point = entry_points.find(CONTRACT, name)
    if point is None:
        return None
    flow = entry_points.find(entry_points.PLUGINS, name)
    if flow is not None:
        raise entry_points.ExtensionError(
            f"'{name}' is registered both in {CONTRACT} "
            f'({point.value}) and in {entry_points.PLUGINS} '
            f'({flow.value}); rename one')
    return _point(name, point)


def section_of(name: str) -> str:
    """The section of a contract plugin, in snake_case.

    Named after the entry point, the class of a file or the program.
    """
    if name.startswith(FILE):
        name = name.rpartition(':')[2].rpartition('.')[2]
        name = re.sub(r'(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])',
                      '_', name)
    elif name.startswith(EXEC):
        name = os.path.basename(name[len(EXEC):])
    return re.sub(r'[^a-z0-9]+', '_', name.lower()).strip('_')


def get_flow(name: str) -> entry_points.GetFlow:
    """The ``get_flow`` of that name.

    :raises extensions.ExtensionError: it cannot be used
    """
    try:
        return entry_points.load(entry_points.PLUGINS, name)
    except entry_points.ExtensionError as failure:
        if entry_points.find(entry_points.PLUGINS, name) is not None:
            raise
        known = sorted({point.name for point in
                        importlib.metadata.entry_points(group=CONTRACT)})
        raise entry_points.ExtensionError(
            f'{failure}, nor in {CONTRACT} (registered are: '
            f'{", ".join(known) or "none"})') from failure


def code_of_flow(name: str) -> str | None:
    """The digest of the code of a ``get_flow`` that was imported.

    None for one that comes with the service.

    :raises extensions.ExtensionError: it cannot be read
    """
    point = entry_points.find(entry_points.PLUGINS, name)
    assert point is not None
    if point.module in SHIPPED:
        return None
    top = point.module.partition('.')[0]
    if top == OWN_PACKAGE:
        # A site's own file among those of the service.
        top = point.module
    module = sys.modules.get(top)
    places = list(getattr(module, '__path__', ())) or [
        getattr(module, '__file__', None) or '']
    return code_of(name, tuple(places))


def code_of(name: str, places: tuple[str, ...]) -> str:
    """One digest of several files or packages.

    :raises extensions.ExtensionError: one of them cannot be read
    """
    try:
        return file_digests.of_text(*map(file_digests.of_code, places))
    except OSError as failure:
        raise entry_points.ExtensionError(
            f"'{name}' cannot be used: {failure.filename}: "
            f'{failure.strerror}') from failure


def _point(name: str, point: importlib.metadata.EntryPoint) -> Located:
    if not point.attr:
        raise entry_points.ExtensionError(
            f"'{name}' ({point.value}) names no class; it has to be "
            'module:Class')
    version = point.dist.version if point.dist else ''
    top = point.module.partition('.')[0]
    sites = tuple(sandbox.site_directories())
    if top == OWN_PACKAGE:
        spec = importlib.util.find_spec(point.module)
        return Located(host.Target(name, 'class', point.module, point.attr),
                       (spec.origin or '',) if spec else (), version)
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        raise entry_points.ExtensionError(
            f"'{name}' ({point.value}) cannot be loaded: there is no module "
            f'{top}')
    places = list(spec.submodule_search_locations or ()) or [
        spec.origin or '']
    parents = dict.fromkeys(os.path.dirname(place) for place in places)
    return Located(host.Target(
        name, 'class', point.module, point.attr,
        path=tuple(dict.fromkeys([*parents, *sites])),
        read=(*sites, *(place for place in places
                        if os.path.dirname(place) not in sites))),
        tuple(places), version)


def _file(name: str) -> Located:
    path, _, attribute = name[len(FILE):].rpartition(':')
    if not path or not attribute.isidentifier():
        raise entry_points.ExtensionError(
            f"'{name}' is not file:/absolute/path.py:Class")
    _check_file(name, path)
    module = re.sub(r'\W', '_', os.path.splitext(os.path.basename(path))[0])
    source = os.path.realpath(path)
    # What is installed for the service is there for it, too.
    sites = tuple(sandbox.site_directories())
    return Located(host.Target(name, 'file', f'plugin_{module}', attribute,
                               source=source, path=sites, read=sites),
                   (source,))


def _program(name: str) -> Located:
    path = name[len(EXEC):]
    _check_file(name, path)
    if not os.stat(path).st_mode & 0o111:
        raise entry_points.ExtensionError(
            f"'{name}' cannot be used: the file is not executable")
    source = os.path.realpath(path)
    return Located(host.Target(name, 'exec', source=source), (source,))


def _check_file(name: str, path: str) -> None:
    """Only root and we may be able to change what we shall run."""
    if not os.path.isabs(path):
        raise entry_points.ExtensionError(
            f"'{name}' is no absolute path")
    try:
        found = os.stat(path)
    except OSError as failure:
        raise entry_points.ExtensionError(
            f"'{name}' cannot be used: {failure.strerror}") from failure
    if not stat.S_ISREG(found.st_mode):
        raise entry_points.ExtensionError(
            f"'{name}' cannot be used: it is not a regular file")
    if found.st_uid not in (0, os.geteuid()):
        raise entry_points.ExtensionError(
            f"'{name}' cannot be used: the file belongs to user "
            f'{found.st_uid}, neither to root nor to the user of the service')
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise entry_points.ExtensionError(
            f"'{name}' cannot be used: others can write the file; "
            f'try: chmod go-w {path}')
