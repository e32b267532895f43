"""Entry points: what is installed under a name, found with stevedore.

An import must not begin without everything it shall go through, so whatever
is missing, broken or doubled is an error that names the culprit; nothing is
skipped. Touches entry-point metadata and imports the modules they name.
"""

from __future__ import annotations

import collections.abc
import functools
import importlib.metadata
import importlib.resources
import importlib.util
import os
import sys

import stevedore

PLUGINS = 'glance.image_import.plugins'
METHODS = 'glance.image_import.internal_plugins'
FLOWS = 'glance.flows'
# Ours, where a real Glance in the same environment has the same names.
DISTRIBUTION = 'glance-import'
_GLANCE = 'glance'
PLUGIN_PACKAGE = 'glance_import.async_.flows.plugins'

GetFlow = collections.abc.Callable[..., object]


class ExtensionError(Exception):
    """An extension cannot be used; the text is one line that names it."""


def _normal(name: str) -> str:
    return name.lower().replace('_', '-').replace('.', '-')


def _candidates(namespace: str, name: str
                ) -> list[importlib.metadata.EntryPoint]:
    """The entry points of that name, one for each distribution."""
    found: dict[str, importlib.metadata.EntryPoint] = {}
    for point in importlib.metadata.entry_points(group=namespace, name=name):
        origin = _normal(point.dist.name) if point.dist else ''
        # The same distribution may be on the path twice (a checkout and its
        # installed copy); that is one plugin.
        found.setdefault(f'{origin} {point.value}', point)
    return list(found.values())


def _owner(point: importlib.metadata.EntryPoint) -> str:
    return point.dist.name if point.dist else 'an unknown distribution'


def _one(namespace: str, name: str) -> importlib.metadata.EntryPoint | None:
    """The entry point that ``name`` means; ours where Glance has it too.

    :raises ExtensionError: two distributions claim the name
    """
    points = _candidates(namespace, name)
    others = [point for point in points
              if _normal(_owner(point)) != _GLANCE]
    if len(points) > 1 and any(
            _normal(_owner(point)) == DISTRIBUTION for point in others):
        points = others
    if len(points) > 1:
        owners = ', '.join(sorted(
            f'{_owner(point)} ({point.value})' for point in points))
        raise ExtensionError(
            f"'{name}' is registered more than once in {namespace}: "
            f'{owners}; uninstall or rename all but one')
    return points[0] if points else None


def find(namespace: str, name: str
         ) -> importlib.metadata.EntryPoint | None:
    """The entry point that ``name`` means, not loaded; None for none.

    :raises ExtensionError: two distributions claim the name
    """
    return _one(namespace, name)


def load(namespace: str, name: str) -> GetFlow:
    """The ``get_flow`` registered under ``name``.

    Looked for once: to read what is installed takes longer than a small
    import.

    :raises ExtensionError: not registered, doubled, cannot be imported, or
        nothing that can be called
    """
    return _load(namespace, name, tuple(sys.path))


@functools.lru_cache(maxsize=256)
def _load(namespace: str, name: str, _path: tuple[str, ...]) -> GetFlow:
    point = _one(namespace, name)
    if point is None:
        raise ExtensionError(f"'{name}' is not registered in {namespace}"
                             f'{_advice(namespace, name)}')

    def chosen(manager, entry_point, failure) -> None:
        if entry_point.value == point.value:
            raise failure

    try:
        # stevedore imports every entry point of that name; a broken one that
        # is not the chosen one does not matter here.
        manager = stevedore.NamedExtensionManager(
            namespace, [name], invoke_on_load=False,
            on_load_failure_callback=chosen,
            on_missing_entrypoints_callback=lambda missing: None)
    except (Exception, SystemExit) as failure:
        reason = ' '.join(f'{type(failure).__name__}: {failure}'.split())
        raise ExtensionError(
            f"'{name}' ({point.value}, from {_owner(point)}) cannot be "
            f'loaded: {reason}') from failure
    for extension in manager:
        if extension.entry_point.value == point.value:
            if not callable(extension.plugin):
                raise ExtensionError(
                    f"'{name}' ({point.value}, from {_owner(point)}) is not "
                    'a function')
            return extension.plugin
    raise ExtensionError(
        f"'{name}' ({point.value}, from {_owner(point)}) cannot be loaded")


def _advice(namespace: str, name: str) -> str:
    """What to do about a name without an entry point."""
    known = sorted({point.name for point in
                    importlib.metadata.entry_points(group=namespace)})
    if namespace == PLUGINS and _file_of(name):
        return (
            f'; its file is there, so add this line to the '
            f'{namespace} section of setup.cfg:  {name} = '
            f'{PLUGIN_PACKAGE}.{name}:get_flow  and install again:  '
            'pip install .')
    return f" (registered are: {', '.join(known) or 'none'})"


def _file_of(name: str) -> str | None:
    """The plugin file of that name in our own folder, if there is one."""
    if not name.isidentifier():
        return None
    package = importlib.resources.files(PLUGIN_PACKAGE)
    path = str(package / f'{name}.py')
    return path if os.path.exists(path) else None


def method_entry(method: str) -> str:
    """The entry point's name of an import method."""
    return method.replace('-', '_')


def load_method(method: str) -> GetFlow:
    """The flow that brings a method's bytes to the staging area.

    :raises ExtensionError: no such method is registered
    """
    return load(METHODS, method_entry(method))
