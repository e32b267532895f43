"""Steps that fetch an image's bytes from another server.

They say what is asked of whom; how bytes come and are kept is the domain's
(glance_import.domain.downloads).
"""

from __future__ import annotations

import typing

from glance_import.async_.flows import steps
from glance_import.async_ import progress
from glance_import.async_ import runtime
from glance_import.domain import downloads
from glance_import.domain import sources
from glance_import.net import options as net_options
from glance_import.net import client


class Download(steps.Step):
    """Fetch the bytes into the staging area."""

    def __init__(self, import_req: dict[str, typing.Any],
                 *ids: typing.Any) -> None:
        self.asked = import_req['method']
        super().__init__(runtime.current(), *ids)

    def _fetch(self, opener: downloads.Opener,
               **more: typing.Any) -> None:
        downloads.Download(
            self.rt.services, self.rt.claim, self.image_id, opener,
            report=progress.Reporter(self.rt, self.label).report,
            stopped=self.rt.stopped, **more).run()


class WebDownload(Download):
    """From the URL of the request."""

    label = 'WebDownload'

    def execute(self) -> None:
        settings = net_options.settings(self.rt.services.conf)

        def opener(headers: dict[str, str], accepted: tuple[int, ...]
                   ) -> client.Response:
            return client.get(settings, self.asked['uri'], headers,
                              accepted=accepted)

        self._fetch(opener, claimed=sources.expected_digest(self.asked))
