"""What can be wrong with a request or a step, in words a user can act on.

The text of each is shown to the user. The HTTP layer maps classes to status
codes in one table; nothing here knows a code.
"""


class DomainError(Exception):
    """Base of every refusal; its text is one plain sentence or two.

    Unlike a bug, it is not logged with a stack trace. ``code`` says to
    programs why an import ended, should this end one: a row of
    glance_import.imports.outcome.CODES.
    """

    retry_after: int | None = None
    code = 'failed'

    def __init__(self, *texts: str, code: str | None = None) -> None:
        super().__init__(*texts)
        if code is not None:
            self.code = code


class Invalid(DomainError):
    """The request itself is wrong, whatever the state."""


class Forbidden(DomainError):
    """Seen, but not the caller's to do."""


class NotFound(DomainError):
    """Absent, or not to be seen by the caller: the same answer."""


def no_image(image_id: str) -> NotFound:
    """What everybody reads who asks for an image that he does not see."""
    return NotFound(f'No image found with ID {image_id}')


class Conflict(DomainError):
    """Right at another time: the state found does not allow it."""


class Gone(DomainError):
    """It was there when the request began, and no longer is."""


class TooLarge(DomainError):
    """Over a limit: size, quota or space."""

    code = 'refused.size'


class Unsupported(DomainError):
    """The content does not have the form that is asked for."""

    code = 'refused.format'


class Unavailable(DomainError):
    """Something this service needs is away; worth trying again."""

    code = 'unavailable'

    retry_after = 30


class ClientGone(DomainError):
    """The client closed the connection before the end of its data."""


class ClientSilent(ClientGone):
    """Nothing of it came for too long."""


class Interrupted(Exception):
    """An import was stopped from outside; it neither failed nor ended."""


class LeaseLost(DomainError):
    """This conductor no longer owns the import; it must write nothing."""


class ImportFailed(DomainError):
    """A step of an import failed for a reason the user should read."""


class ImageGone(ImportFailed):
    """The image was deleted while it was imported."""

    code = 'image.gone'

    def __init__(self) -> None:
        super().__init__('The image was deleted.')
