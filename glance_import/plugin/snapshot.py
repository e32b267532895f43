"""The plugins and options that an import is judged by.

They are those in force where the import was asked for, and travel with its
job: the names of the plugins in order, the values of their options, and of
what a value cannot hold - code in files, files that a plugin may read, secret
options - a digest. A conductor applies the values as its own and compares the
digests; what differs it must not run. Plain data, JSON in the database;
touches nothing.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import hashlib
import hmac
import json
import typing

from glance_import import errors

# Shipped plugins are compared by these, not by their code, so that an upgrade
# of the service leaves no import without a conductor.
FLOW_VERSION = 'flow:1'
CONTRACT_VERSION = 'contract:1'
_FORM = 1

Values = dict[str, typing.Any]


class NotHonoured(errors.Interrupted):
    """This process cannot run an import as it was asked for.

    The text is half a sentence for users and operators, without paths;
    ``detail`` names the place for the log.
    """

    def __init__(self, reason: str, detail: str = '') -> None:
        super().__init__(reason)
        self.detail = detail


@dataclasses.dataclass(frozen=True)
class Pinned:
    """One plugin as it was configured.

    ``code`` is what has to be the same: a version of shipped ones, else a
    digest. ``values`` are the options of its section but the secret ones, of
    which ``secrets`` holds keyed digests. ``files`` are digests of the files
    that it may read, None where there was none.
    """

    name: str
    kind: str
    code: str
    values: Values = dataclasses.field(default_factory=dict)
    secrets: dict[str, str] = dataclasses.field(default_factory=dict)
    files: dict[str, str | None] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """All that an import is judged by.

    ``options`` are values of sections of the service itself, by group;
    ``isolation`` is how contract plugins are run (None without any);
    ``foreign`` are keyed digests of sections that nobody but a get_flow
    plugin of others can be reading.
    """

    plugins: tuple[Pinned, ...] = ()
    options: dict[str, Values] = dataclasses.field(default_factory=dict)
    isolation: str | None = None
    foreign: dict[str, str] = dataclasses.field(default_factory=dict)

    def code_of(self, name: str) -> str | None:
        """What is known of the code of a plugin, None if it is not listed.
        """
        return next((each.code for each in self.plugins
                     if each.name == name), None)

    @functools.cached_property
    def text(self) -> str:
        """What the database keeps of it."""
        return _canonical({'form': _FORM, **dataclasses.asdict(self)})

    @functools.cached_property
    def requirement(self) -> str | None:
        """A digest of what a conductor must have itself; None for nothing."""
        if not self.plugins:
            return None
        return hashlib.sha256(_canonical([
            [(each.name, each.kind, each.code, each.secrets, each.files)
             for each in self.plugins],
            self.isolation, self.foreign]).encode()).hexdigest()


def load(text: str | None, plugins: collections.abc.Collection[str] = ('?',)
         ) -> Snapshot:
    """The snapshot of a job.

    :param plugins: those that the job names
    :raises NotHonoured: it has none, or none that this release can read
    """
    if text is None and not plugins:
        return Snapshot()
    if text is None:
        raise NotHonoured('it was accepted by an earlier release, which did '
                          'not keep the options of its plugins')
    try:
        said = json.loads(text)
        if said.pop('form') != _FORM:
            raise ValueError('another form')
        said['plugins'] = tuple(Pinned(**each) for each in said['plugins'])
        found = Snapshot(**said)
        _check(found)
        return found
    except (ValueError, TypeError, KeyError, AttributeError) as failure:
        raise NotHonoured(
            'the record of its plugins and options cannot be read by this '
            'release', str(failure)) from failure


def _check(found: Snapshot) -> None:
    """:raises TypeError: it has not the types that were written"""
    tables: list[typing.Any] = [found.options, found.foreign,
                                *found.options.values()]
    texts: list[typing.Any] = [*found.foreign.values()]
    for each in found.plugins:
        texts += [each.name, each.kind, each.code, *each.secrets.values()]
        tables += [each.values, each.secrets, each.files]
    if not all(isinstance(each, dict) for each in tables) \
            or not all(isinstance(each, str) for each in texts):
        raise TypeError('a value of another type')


def keyed_digest(key: bytes, *parts: typing.Any) -> str:
    """What a secret value is compared by: HMAC-SHA256 (RFC 2104), in hex."""
    return hmac.new(key, _canonical(parts).encode(),
                    hashlib.sha256).hexdigest()


def same(one: str, other: str) -> bool:
    """Whether two keyed digests are equal, in constant time."""
    return hmac.compare_digest(one, other)


def digest(*parts: typing.Any) -> str:
    """A digest of plain data, in hex."""
    return hashlib.sha256(_canonical(parts).encode()).hexdigest()


def _canonical(plain: typing.Any) -> str:
    return json.dumps(plain, sort_keys=True, separators=(',', ':'))
