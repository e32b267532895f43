"""The database: tables, migrations, and one repository module a noun.

Functions take the connection of a transaction that the caller owns; nothing
here knows what a request or an import is for.
"""


class DatabaseProblem(Exception):
    """The database cannot be used; the text is one line for an operator."""
