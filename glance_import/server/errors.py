"""What ``wsgi.input`` raises when a body does not come to its end.

Each is a built-in exception too, so that an application can tell them apart
without naming this package, and runs under other servers. Touches nothing.
"""


class Again(BaseException):
    """The application is to be called again, in a thread that may wait.

    No fault, so that nothing between takes it for one.
    """


class BodyError(Exception):
    """The body cannot be read to its end.

    ``client_text`` is one line that may be shown to the client.
    """

    @property
    def client_text(self) -> str:
        return str(self)


class BodyCut(BodyError, ConnectionError):
    """The client closed the connection before the body was complete."""

    @classmethod
    def after(cls, received: int, length: int | None) -> 'BodyCut':
        """:param length: what was announced, in bytes; None: nothing"""
        if length is None:
            return cls('the client closed the connection after '
                       f'{received} bytes, before the end of the data')
        return cls(f'the client closed the connection after {received} of '
                   f'{length} bytes')


class BodyMalformed(BodyError, ValueError):
    """The body breaks the rules of its transfer coding."""


class BodyTimeout(BodyError, TimeoutError):
    """Nothing came for as long as the client may be silent."""
