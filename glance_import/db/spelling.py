"""Text compared letter by letter, also where a server does otherwise.

Glance's tables on MySQL and MariaDB have a collation to which ``Prod``,
``prod`` and ``prod`` with a blank behind it are one text, often also letters
with and without accents, of either width, and all characters beyond U+FFFF.
What a query must tell apart it compares by what is here. Builds conditions;
talks to no database.
"""

from __future__ import annotations

import collections.abc
import re
import typing

import sqlalchemy as sa
from sqlalchemy.ext import compiler
from sqlalchemy.sql import functions

# No collation takes one of these for another text of these.
_PLAIN = re.compile(r'[a-z0-9_.:-]+')


def is_plain(text: str) -> bool:
    """Whether two different texts that pass here differ on every server."""
    return _PLAIN.fullmatch(text) is not None


class is_spelled(functions.FunctionElement[bool]):
    """Whether a column is letter by letter one of the texts behind it.

    For use beside an equality, which has an index; this has none. It is a
    comparison on MySQL alone: the other servers' equality is exact.
    """

    type = sa.Boolean()
    inherit_cache = True


@compiler.compiles(is_spelled)
def _is_spelled(_element, _compiler, **_kw) -> str:
    return '1 = 1'


@compiler.compiles(is_spelled, 'mysql')
@compiler.compiles(is_spelled, 'mariadb')
def _is_spelled_mysql(element, compiler, **kw) -> str:
    # To one character set first: that of the connection may be another than
    # that of the column.
    column, *texts = (
        f'CAST(CONVERT({compiler.process(each, **kw)} USING utf8mb4) '
        'AS BINARY)' for each in element.clauses)
    return f'{column} IN ({", ".join(texts)})'


def exactly(column: sa.ColumnElement[str], text: typing.Any
            ) -> sa.ColumnElement[bool]:
    """The column is that text, or NULL for None."""
    if text is None:
        return column.is_(None)
    return sa.and_(column == text, is_spelled(column, text))


def among(column: sa.ColumnElement[str],
          texts: collections.abc.Collection[str]) -> sa.ColumnElement[bool]:
    """The column is one of the texts, of which there is at least one."""
    return sa.and_(column.in_(texts), is_spelled(column, *texts))
