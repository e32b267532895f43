"""Other regions' image services: where they are, and the caller's token.

The token of whoever asks for a glance-download is kept with the job, sealed
by a key that lies in the staging area and not in the database, and is wiped
when the bytes are there. It is sent to the image service that Keystone's
catalog names for the region, and to nobody else.
"""

from __future__ import annotations

import dataclasses
import json
import typing

from oslo_log import log

from glance_import.domain import quotas
from glance_import.domain import sealing
from glance_import import errors
from glance_import.net import addresses
from glance_import.net import client
from glance_import.net import urls
from glance_import import uuids

if typing.TYPE_CHECKING:
    from oslo_config import cfg

    from glance_import import context
    from glance_import.db import images as db_images
    from glance_import import services

LOG = log.getLogger(__name__)
_INTERFACES = ('public', 'internal', 'admin')


@dataclasses.dataclass(frozen=True)
class Access:
    """An image service, without the version, and a token for it."""

    endpoint: str
    token: str = dataclasses.field(repr=False)


def check(services: services.Services, _ctx: context.RequestContext,
          image: db_images.Image, asked: dict[str, typing.Any]) -> None:
    """What glance-download needs.

    :raises errors.Invalid: it does not hold
    :raises errors.TooLarge: the project's quota lets nothing in
    """
    if not isinstance(asked.get('glance_region'), str) \
            or not asked['glance_region']:
        raise errors.Invalid("glance-download needs 'glance_region' in "
                             "'method', the name of the other region.")
    remote = asked.get('glance_image_id')
    if not isinstance(remote, str) or not uuids.is_uuid(remote):
        raise errors.Invalid("glance-download needs 'glance_image_id' in "
                             "'method', the id of the image there.")
    interface = asked.get('glance_service_interface', 'public')
    if interface not in _INTERFACES:
        raise errors.Invalid("'glance_service_interface' is one of: "
                             + ', '.join(_INTERFACES))
    quotas.to_stage(services, image.id)


def seal(services: services.Services, asked: dict[str, typing.Any],
         token: str | None, catalog: str | None) -> str:
    """What the import will need of the caller, sealed.

    :param catalog: the value of X-Service-Catalog
    :raises errors.Invalid: the catalog has no such region
    """
    interface = asked.get('glance_service_interface', 'public')
    found = endpoint(catalog, asked['glance_region'], interface)
    if found is None or not token:
        raise errors.Invalid(
            f"The service catalog has no {interface} endpoint of an image "
            f"service in the region {asked['glance_region'][:255]}.")
    try:
        return sealing.seal(services.area, {'endpoint': found,
                                            'token': token})
    except sealing.NoKey as failure:
        LOG.error('a token cannot be kept for an import: %s', failure)
        raise errors.Unavailable(
            'The token that the import needs cannot be kept safely at the '
            'moment. Ask again later.') from failure


def unseal(services: services.Services, sealed: str | None) -> Access:
    """The access that ``seal`` packed.

    :raises errors.ImportFailed: it is gone, or was sealed by another key
    """
    try:
        return Access(**sealing.unseal(services.area, sealed))
    except sealing.Unreadable as failure:
        raise errors.ImportFailed(
            'The token of whoever asked for the import is not known here any '
            'more. Ask for the import again.', code='lost.token') from failure


def endpoint(catalog: str | None, region: str, interface: str
             ) -> str | None:
    """URL of the region's image service, without /v2."""
    try:
        entries = json.loads(catalog or '[]')
    except ValueError:
        return None
    for entry in entries:
        if entry.get('type') != 'image':
            continue
        for each in entry.get('endpoints', ()):
            if region not in (each.get('region'), each.get('region_id')):
                continue
            url = each.get(f'{interface}URL')
            if each.get('interface') == interface:
                url = each.get('url')
            if url:
                return url.rstrip('/').removesuffix('/v2').rstrip('/')
    return None


# -- asking the other region

# The catalog is the operator's, so its addresses are not judged; but nothing
# that it names is left for another place.
_ANYWHERE = urls.Filter(allowed_ports=frozenset(), ranges=addresses.Rules(
    opened=addresses.networks(['0.0.0.0/0', '::/0'])))


def settings(base: client.Settings) -> client.Settings:
    """How an image service of the catalog is asked: without a proxy."""
    return dataclasses.replace(base, filter=_ANYWHERE, proxy=None)


def ask(how: client.Settings, access: Access, path: str,
        headers: dict[str, str], accepted: tuple[int, ...]
        ) -> client.Response:
    """GET of a path below /v2.

    :raises client.FetchError: it is not to be had; one sentence why
    """
    response = client.get_once(how, f'{access.endpoint}/v2/{path}', {
        **headers, 'X-Auth-Token': access.token})
    if response.status in accepted:
        return response
    response.close()
    status = response.status
    if 300 <= status < 400:
        raise client.FetchError(
            'the other region answers with a redirect, which is not '
            'followed with a token')
    reason = {
        401: 'the token of whoever asked has expired or is not valid there '
             '(401); ask for the import again',
        403: 'whoever asked may not read the image there (403)',
        404: 'there is no such image for whoever asked (404)',
        204: 'the image there has no data (204)',
    }.get(status, f'the other region answers {status}')
    if status in (429, 500, 502, 503, 504):
        raise client.Passing(reason)
    raise client.FetchError(reason)


def wanted_properties(conf: cfg.ConfigOpts,
                      remote: dict[str, typing.Any]) -> dict[str, str]:
    """What is copied of the image there beside its formats."""
    prefixes = tuple(conf.glance_download_properties.extra_properties)
    return {name: value for name, value in remote.items()
            if prefixes and name.startswith(prefixes)
            and isinstance(value, str)}
