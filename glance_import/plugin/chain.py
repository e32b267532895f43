"""What the verdicts of contract plugins are worth, one and many.

Applies the operator's decisions (failure policy, enforcement, allowed
properties) to one run, and runs neighbours of the list side by side with the
outcome they would have one after another. The import flow and the dry run
both use it; it knows neither.
"""

from __future__ import annotations

import collections.abc
import concurrent.futures
import dataclasses
import threading
import typing

from glance_import.plugin import host
from glance_import.plugin import sandbox
from glance_import.plugin import verdicts

RESERVED_PREFIX = 'os_glance'
# What is no custom property of an image but a part of it.
BASE_NAMES = frozenset({
    'id', 'name', 'status', 'visibility', 'owner', 'protected', 'os_hidden',
    'disk_format', 'container_format', 'min_disk', 'min_ram', 'tags', 'size',
    'virtual_size', 'checksum', 'os_hash_algo', 'os_hash_value',
    'created_at', 'updated_at', 'self', 'file', 'schema', 'direct_url',
    'stores', 'locations', 'location', 'deleted', 'deleted_at'})

SKIPPED, APPROVED = 'skipped', 'approved'
_RETRY = 'retry:'


@dataclasses.dataclass(frozen=True)
class Settings:
    """The operator's section of a plugin."""

    failure_policy: str = 'closed'
    enforcement: str = 'enforce'
    allowed_properties: tuple[str, ...] = ()
    limits: host.Limits = host.Limits()
    options: dict[str, typing.Any] = dataclasses.field(default_factory=dict)

    @property
    def attempts(self) -> int:
        """How often the plugin is run at most."""
        if self.failure_policy.startswith(_RETRY):
            return 1 + int(self.failure_policy[len(_RETRY):])
        return 1


@dataclasses.dataclass(frozen=True)
class Plugin:
    """A contract plugin that was found, judged and configured."""

    name: str
    section: str
    kind: str
    version: str
    methods: tuple[str, ...]
    summary: str
    target: host.Target
    settings: Settings
    # Of its code and its options, for the record of what has judged.
    digest: str = ''

    @property
    def label(self) -> str:
        """What users and the log know it by: no path of this host."""
        return self.name if self.kind == 'class' else self.section


Log = collections.abc.Callable[[Plugin, str], None]
IsCancelled = collections.abc.Callable[[], bool]


def run(isolation: sandbox.Sandbox, plugin: Plugin,
        hook: str, *, image: dict[str, typing.Any], data: str | None = None,
        sink: collections.abc.Callable[[], str] | None = None,
        log: Log, cancelled: IsCancelled = host.never) -> verdicts.Result:
    """One plugin's verdict, as the operator wants it taken.

    :param hook: the method of the contract that is called
    :param data: path of the image's bytes
    :param sink: makes a new empty file for each attempt; its path
    """
    settings = plugin.settings
    seconds = 0.0
    for attempt in range(1, settings.attempts + 1):
        result = _run(isolation, plugin, hook, image, data,
                      sink() if sink is not None else None, log, cancelled)
        seconds += result.seconds
        if result.verdict != verdicts.ERROR:
            break
        log(plugin, f'failed: {result.reason}')
    blocks = _blocks(settings, result.verdict)
    return dataclasses.replace(
        _of(plugin, hook, result), seconds=seconds, attempts=attempt,
        blocks=blocks, properties={} if blocks else result.properties)


def _of(plugin: Plugin, hook: str, result: verdicts.Result
        ) -> verdicts.Result:
    return dataclasses.replace(
        result, plugin=plugin.label, version=plugin.version,
        digest=plugin.digest, step=hook)


def _run(isolation, plugin: Plugin, hook: str, image, data, sink, log: Log,
         cancelled: IsCancelled) -> verdicts.Result:
    try:
        result = host.run(
            isolation, plugin.target, hook, image=image,
            options=plugin.settings.options, data=data, sink=sink,
            limits=plugin.settings.limits,
            log=lambda text: log(plugin, text), cancelled=cancelled)
    except sandbox.SandboxError as failure:
        return verdicts.Result(verdicts.ERROR, 'it could not be started',
                               detail=str(failure))
    if result.verdict == 'broken':
        return verdicts.Result(verdicts.ERROR, 'it breaks the contract: '
                               + '; '.join(result.problems))
    problem = _property_problem(plugin, result.properties)
    if result.verdict == verdicts.HOLD and hook == TRANSFORM:
        problem = 'it wants to hold the image that it was to write anew'
    if problem:
        return dataclasses.replace(result, verdict=verdicts.ERROR, code=None,
                                   reason=problem, properties={})
    return result


def _property_problem(plugin: Plugin, properties: dict[str, str]
                      ) -> str | None:
    for name in properties:
        if name.startswith(RESERVED_PREFIX) or name in BASE_NAMES:
            return (f'it wrote the property {name!r}, which belongs to the '
                    'service')
        if not name.startswith(plugin.settings.allowed_properties):
            return (f'it wrote the property {name!r}, which '
                    'allowed_properties does not allow')
    return None


def _blocks(settings: Settings, verdict: str) -> bool:
    if verdict == verdicts.ERROR:
        return settings.failure_policy != 'open'
    if verdict in ('reject', verdicts.HOLD):
        return settings.enforcement == 'enforce'
    return verdict == host.CANCELLED


def inspect(isolation: sandbox.Sandbox,
            plugins: collections.abc.Sequence[Plugin], hook: str, *,
            image: dict[str, typing.Any], data: str | None, log: Log,
            cancelled: IsCancelled = host.never, parallel: int = 4,
            around: collections.abc.Callable[[], None] = lambda: None,
            approved: collections.abc.Collection[str] = (),
            ) -> list[verdicts.Result]:
    """Verdicts of plugins that only look, in the order of the list.

    They run side by side, but as if in order: who comes after one that
    refuses is ended and its verdict does not count. Who holds the image ends
    nobody, so that all that is to be approved is known at once.

    :param around: called first in each thread
    :param approved: names of plugins that an operator has answered for
    """
    if len(plugins) == 1 and plugins[0].label not in approved:
        return [run(isolation, plugins[0], hook, image=image, data=data,
                    log=log, cancelled=cancelled)]
    lock = threading.Lock()
    first_blocker = len(plugins)

    def one(index: int) -> verdicts.Result:
        nonlocal first_blocker
        around()

        def ended() -> bool:
            return cancelled() or first_blocker < index

        if plugins[index].label in approved:
            return _of(plugins[index], hook, verdicts.Result(
                APPROVED, 'an operator has approved it'))
        if ended():
            return _skipped(plugins[index], hook)
        result = run(isolation, plugins[index], hook, image=image, data=data,
                     log=log, cancelled=ended)
        if result.blocks and result.verdict not in (host.CANCELLED,
                                                    verdicts.HOLD):
            with lock:
                first_blocker = min(first_blocker, index)
        return result

    # Each thread lives as long as the sandbox it starts, and longer.
    with concurrent.futures.ThreadPoolExecutor(
            min(parallel, len(plugins)),
            thread_name_prefix='plugin') as pool:
        results = list(pool.map(one, range(len(plugins))))
    for index in range(first_blocker + 1, len(plugins)):
        results[index] = _skipped(plugins[index], hook)
    return results


def _skipped(plugin: Plugin, hook: str) -> verdicts.Result:
    return _of(plugin, hook, verdicts.Result(SKIPPED))


def blocker(results: collections.abc.Iterable[verdicts.Result]
            ) -> verdicts.Result | None:
    """The first that refuses the image; else the first that holds it."""
    found = [each for each in results if each.blocks]
    return next((each for each in found if each.verdict != verdicts.HOLD),
                found[0] if found else None)


@dataclasses.dataclass(frozen=True)
class Stage:
    """Neighbours of the list that one step of an import runs."""

    hook: str
    plugins: tuple[typing.Any, ...]


FLOW = 'flow'
PRECHECK, INSPECT, TRANSFORM = 'precheck', 'inspect', 'transform'


def stages(plugins: collections.abc.Iterable[typing.Any]) -> list[Stage]:
    """The list cut into steps; what is no ``Plugin`` is a step by itself.

    Inspectors beside each other share one; whatever may change the data is
    a step of its own between them.
    """
    found: list[Stage] = []
    group: list[Plugin] = []

    def close() -> None:
        if group:
            found.append(Stage(INSPECT, tuple(group)))
            group.clear()

    for plugin in plugins:
        if not isinstance(plugin, Plugin):
            close()
            found.append(Stage(FLOW, (plugin,)))
            continue
        if plugin.settings.enforcement == 'off':
            continue
        if INSPECT in plugin.methods:
            group.append(plugin)
        if TRANSFORM in plugin.methods:
            close()
            found.append(Stage(TRANSFORM, (plugin,)))
    close()
    return found


def prechecks(plugins: collections.abc.Iterable[typing.Any]
              ) -> tuple[Plugin, ...]:
    """Those to ask before a byte is read."""
    return tuple(
        plugin for plugin in plugins if isinstance(plugin, Plugin)
        and PRECHECK in plugin.methods
        and plugin.settings.enforcement != 'off')
