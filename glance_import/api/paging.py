"""Lists: limit, marker, sorting and the links to further pages."""

from __future__ import annotations

import typing
from urllib import parse

from oslo_config import cfg
import webob

from glance_import.domain import records
from glance_import import errors


class Query:
    """The query string, each parameter taken once; the rest are filters."""

    def __init__(self, req: webob.Request) -> None:
        try:
            self._all = list(req.GET.items())
        except UnicodeDecodeError as failure:
            raise errors.Invalid(
                'The query string is not UTF-8.') from failure
        for pair in self._all:
            for text in pair:
                records.check_text(text)
        self._left = list(self._all)

    def take_all(self, name: str) -> list[str]:
        """Every value of a parameter."""
        values = [value for key, value in self._left if key == name]
        self._left = [(key, value) for key, value in self._left
                      if key != name]
        return values

    def take(self, name: str) -> str | None:
        """The last value of a parameter."""
        values = self.take_all(name)
        return values[-1] if values else None

    def rest(self) -> dict[str, str]:
        """What nobody took; the last of several equal names."""
        return dict(self._left)

    def limit(self, conf: cfg.ConfigOpts) -> int:
        """Items on the page.

        :raises errors.Invalid: not a number, or below 0
        """
        given = self.take('limit')
        if given is None:
            return conf.limit_param_default
        if not (given.isascii() and given.isdigit() and len(given) < 19):
            raise errors.Invalid('limit param must be a number, 0 or more.')
        return min(int(given), conf.api_limit_max)

    def link(self, path: str, marker: str | None = None) -> str:
        """The same query for the first page, or the one behind ``marker``.

        Repeated parameters are kept, so the next page has the same filter.
        """
        pairs = [(key, value) for key, value in self._all
                 if key != 'marker']
        if marker is not None:
            pairs.append(('marker', marker))
        return f'{path}?{parse.urlencode(pairs)}' if pairs else path


def image_order(query: Query, known: typing.Container[str]
                ) -> list[tuple[str, str]]:
    """(column, direction) pairs that end in created_at and id.

    :raises errors.Invalid: unknown keys, or two ways of sorting mixed
    """
    both = query.take_all('sort')
    keys = query.take_all('sort_key')
    directions = query.take_all('sort_dir')
    if both and (keys or directions):
        raise errors.Invalid(
            'Old and new sorting syntax cannot be combined: use sort, or '
            'sort_key and sort_dir.')
    if both:
        pairs = []
        for part in both[-1].split(','):
            key, _, direction = part.strip().partition(':')
            pairs.append((key, direction or 'desc'))
    else:
        if len(directions) > 1 and len(directions) != len(keys):
            raise errors.Invalid(
                'Number of sort dirs does not match the number of sort '
                'keys.')
        if len(directions) <= 1:
            directions = (directions or ['desc']) * max(len(keys), 1)
        pairs = list(zip(keys, directions)) if keys else [
            ('created_at', directions[0])]
    for key, direction in pairs:
        if key not in known:
            raise errors.Invalid(f'Invalid sort key: {key[:100]}')
        if direction not in ('asc', 'desc'):
            raise errors.Invalid(f'Invalid sort direction: {direction[:100]}')
    # A column behind itself changes nothing.
    once: dict[str, str] = {}
    for key, direction in pairs:
        once.setdefault(key, direction)
    pairs = list(once.items())
    last = pairs[0][1]
    for key in ('created_at', 'id'):
        if key not in (known_key for known_key, _ in pairs):
            pairs.append((key, last))
    return pairs
