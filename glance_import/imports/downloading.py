"""The steps that fetch an image's bytes from another server.

They say what is fetched from whom; how bytes come and are kept is in
glance_import.uploads.http_source.
"""

from __future__ import annotations

import json
import typing

from glance_import.db import jobs as db_jobs
from glance_import.db import leases
from glance_import.domain import regions
from glance_import import errors
from glance_import.imports import changes
from glance_import.imports import runtime
from glance_import.imports import steps
from glance_import.net import client
from glance_import.net import options as net_options
from glance_import.net import urls
from glance_import import states
from glance_import.uploads import http_source
from glance_import.uploads import source_request


class Download(steps.Step):
    """Fetch the bytes into the staging area."""

    def __init__(self, import_req: dict[str, typing.Any],
                 *ids: typing.Any) -> None:
        self.request = import_req['method']
        super().__init__(runtime.current(), *ids)

    def _fetch(self, source: http_source.Source) -> None:
        services, lease = self.rt.services, self.rt.lease
        http_source.Download(services, source, http_source.Import(
            lease, self.image_id,
            transaction=lambda: leases.writing(services.db, lease),
            report=self.progress.report,
            stopped=self.rt.stopped)).run()


class WebDownload(Download):
    """From the URL of the request."""

    label = 'WebDownload'

    def run(self) -> None:
        settings = net_options.settings(self.rt.services.conf)

        def opener(headers: dict[str, str], accepted: tuple[int, ...]
                   ) -> client.Response:
            return client.get(settings, self.request['uri'], headers,
                              accepted=accepted)

        self._fetch(http_source.Source(
            opener, source_request.expected_digest(self.request)))


class _OfRegion(Download):
    """What the two steps of glance-download share."""

    def _access(self) -> regions.Access:
        with self.rt.services.db.read() as conn:
            sealed = db_jobs.secret(conn, self.rt.job.id)
        return regions.unseal(self.rt.services, sealed)

    def _settings(self) -> client.Settings:
        return regions.settings(net_options.settings(self.rt.services.conf))


class ImportMetadata(_OfRegion):
    """Formats and some properties, as the image has them there."""

    label = 'ImportMetadata'
    default_provides = 'remote'
    # It cannot be asked again: once the bytes are there, the token is wiped.
    kept = True

    def run(self) -> dict[str, typing.Any]:
        remote = self._remote()
        if remote.get('status') != states.ACTIVE:
            raise errors.ImportFailed(
                'The image in the other region is '
                f"{str(remote.get('status'))[:30]}, not active.",
                code='source.failed')
        conf = self.rt.services.conf
        changes.write(
            self.rt.services, self.rt.lease, self.image_id,
            base={name: remote[name] for name in (
                'disk_format', 'container_format') if remote.get(name)},
            properties=dict(regions.wanted_properties(conf, remote)),
            removed=())
        return {name: remote.get(name) for name in (
            'size', 'checksum', 'os_hash_algo', 'os_hash_value')}

    def _remote(self) -> dict[str, typing.Any]:
        path = f"images/{self.request['glance_image_id']}"
        try:
            with regions.ask(self._settings(), self._access(), path, {},
                             (200,)) as response:
                found = json.loads(response.read(1 << 20))
            if not isinstance(found, dict):
                raise ValueError('not an object')
            return found
        except (client.FetchError, urls.UrlRefused) as failure:
            raise errors.ImportFailed(
                'The image cannot be read in the other region: '
                f'{failure}.', code='source.unreachable') from failure
        except ValueError as failure:
            raise errors.ImportFailed(
                'The other region does not answer as an image service '
                'does.', code='source.failed') from failure


class GlanceDownload(_OfRegion):
    """The bytes, held against the digest that they have there."""

    label = 'GlanceDownload'

    def run(self, remote: dict[str, typing.Any]) -> None:
        settings, access = self._settings(), None
        path = f"images/{self.request['glance_image_id']}/file"

        def opener(headers: dict[str, str], accepted: tuple[int, ...]
                   ) -> client.Response:
            nonlocal access
            access = access or self._access()
            return regions.ask(settings, access, path, headers, accepted)

        expected = source_request.digest_there(remote)
        # What is active never changes, so its digest names the data.
        self._fetch(http_source.Source(
            opener, expected, remote.get('size'),
            expected[0].digest.hex() if expected else None))
