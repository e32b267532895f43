"""What a UUID looks like, as the id of an image.

The text form of RFC 9562, section 4, and no other that Python would take.
Touches nothing.
"""

import re

PATTERN = '[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}'
_UUID = re.compile(PATTERN, re.IGNORECASE | re.ASCII)


def is_uuid(text: str) -> bool:
    """In digits of either case."""
    return _UUID.fullmatch(text) is not None
