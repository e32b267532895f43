"""Import methods: one table of what each asks for and leaves behind.

The rows are what ``enabled_import_methods`` can name. A method's steps are
the entry point of its name (glance_import.plugin.entry_points); what is
here is all that the API and the domain need to know of it.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import typing

from glance_import import context
from glance_import.db import images as db_images
from glance_import.domain import regions
from glance_import import states
from glance_import.uploads import source_request

if typing.TYPE_CHECKING:
    from glance_import import services  # noqa: F401

# What else a request needs, known at once: (services, who asks, the image,
# the value of "method" in the body). Raises the error the client gets.
Check = collections.abc.Callable[
    ['services.Services', context.RequestContext, db_images.Image,
     dict[str, typing.Any]], None]
# What the import will need of the caller, sealed, of (services, the value of
# "method", the token, the value of X-Service-Catalog).
Seal = collections.abc.Callable[
    ['services.Services', dict[str, typing.Any], str | None, str | None],
    str]

# Names of an object -> those in them, None for what is no object.
Keys = collections.abc.Mapping[str, typing.Any]
_BODY: Keys = dict.fromkeys(('stores', 'all_stores',
                             'all_stores_must_succeed'))


def _nothing_more(*_given: typing.Any) -> None:
    """The request needs nothing but the method's name."""


@dataclasses.dataclass(frozen=True)
class Method:
    """One way in which the bytes of an image come.

    ``needs``: status the image must have when it is asked for; ``running``:
    status while it runs, the same for a method that changes no status;
    ``failed``: status after a failure, unless bytes that a client staged are
    intact (then ``uploading``, to be imported again without uploading);
    ``staged``: whether it works on bytes that a client has staged; ``rule``:
    the policy rule that the caller needs; ``plugins``: whether the site's
    plugins see the bytes; ``copies``: whether the bytes are those that a
    store of the image has, and nothing is staged; ``seal``: what keeps the
    caller's token for it; ``keys``: what it reads of the value of "method",
    beside the name, with the keys of those that are objects.
    """

    name: str
    needs: str
    running: str = states.IMPORTING
    failed: str = states.QUEUED
    staged: bool = False
    rule: str = 'modify_image'
    plugins: bool = True
    copies: bool = False
    check: Check = _nothing_more
    seal: Seal | None = None
    keys: Keys = dataclasses.field(default_factory=dict)

    def known(self, body: dict[str, typing.Any]) -> dict[str, typing.Any]:
        """The body of a request with nothing in it that nobody reads."""
        return _known(body, {**_BODY, 'method': {'name': None, **self.keys}})


def _known(value: typing.Any, keys: Keys | None) -> typing.Any:
    if keys is None or not isinstance(value, dict):
        return value
    return {name: _known(value[name], inner)
            for name, inner in keys.items() if name in value}


# Asked for by a call of its own, not as a method of an import.
ADD_LOCATION = Method('add-location', needs=states.QUEUED, plugins=False,
                      copies=True, keys={
                          # False where a service's word is enough.
                          'judged': None,
                          'url': None, 'validation_data': {
                              'os_hash_algo': None, 'os_hash_value': None}})
LOCATION_TASK = 'location_import'

TABLE = {method.name: method for method in (
    Method('glance-direct', needs=states.UPLOADING, staged=True),
    Method('web-download', needs=states.QUEUED,
           check=source_request.check_web_download, keys={
               'uri': None, 'checksum': {'algo': None, 'value': None}}),
    Method('copy-image', needs=states.ACTIVE, running=states.ACTIVE,
           failed=states.ACTIVE, rule='copy_image', plugins=False,
           copies=True),
    Method('glance-download', needs=states.QUEUED, check=regions.check,
           seal=regions.seal, keys=dict.fromkeys((
               'glance_region', 'glance_image_id',
               'glance_service_interface'))),
)}


def of_job(name: str) -> Method:
    """The same for an import that is there, whatever it names.

    One that this release does not know can only be ended: with what its
    client staged, if it did.
    """
    try:
        return find(name)
    except LookupError:
        return Method(name, needs=states.UPLOADING, staged=True)


def find(name: str) -> Method:
    """The row of a method.

    :raises LookupError: there is no such method
    """
    if name == ADD_LOCATION.name:
        return ADD_LOCATION
    return TABLE[name]
