"""The steps that bring bytes into the stores an import was asked for.

What such a step gives is what ``ending.StoreOutcome`` is made of. All stores
are fed by one read; see glance_import.stores.multi_store.
"""

from __future__ import annotations

import dataclasses
import os
import typing

from oslo_log import log

from glance_import.db import images as db_images
from glance_import.domain import named
from glance_import.domain import placement
from glance_import.domain import quotas
from glance_import.domain import stored_data
from glance_import import errors
from glance_import.imports import changes
from glance_import.imports import ending
from glance_import.imports import steps
from glance_import.net import urls
from glance_import.stores import base as stores
from glance_import.stores import copying
from glance_import.stores import multi_store
from glance_import.uploads import staged_state

LOG = log.getLogger(__name__)


class _StoringStep(steps.Step):
    """Bring the bytes into the stores, under this attempt's name."""

    default_provides = 'stored'
    kept = True

    def _stores(self) -> list[stores.Store]:
        """:raises stores.UnknownStore: not configured on this node"""
        configured = self.rt.services.stores
        if self.rt.job.stores is None:
            return [configured.default]
        return [configured.by_id(each) for each in self.rt.job.stores]

    def _order(self, **more: typing.Any) -> multi_store.Order:
        conf = self.rt.services.conf
        return multi_store.Order(
            self.image_id, self.rt.lease.epoch,
            **{'hash_algo': conf.hashing_algorithm,
               'legacy_checksum': conf.legacy_checksum, **more},
            all_must_succeed=self.rt.job.request.get(
                'all_stores_must_succeed', True),
            progress=self.progress.report,
            cancelled=self.rt.stopped.is_set, settled=self._note_store,
            heard=self.rt.services.hear_store,
            pace=self.rt.services.stores.rates.wait)

    def _note_store(self, store_id: str,
                    failure: stores.StoreError | None) -> None:
        if failure is not None:
            LOG.warning('import %s: store %s failed: %s', self.rt.job.id,
                        store_id, failure)
        ending.note_store(self.rt.services, self.rt.lease, self.image_id,
                          store_id, failed=failure is not None)

    @staticmethod
    def _plain(outcome: multi_store.Outcome) -> dict[str, typing.Any]:
        return {'stored': [dataclasses.asdict(each)
                           for each in outcome.stored.values()],
                'failed': {name: str(failure)
                           for name, failure in outcome.failed.items()},
                'code': next((failure.code for failure
                              in outcome.failed.values()), None)}

    def revert(self, result: typing.Any, **kwargs: typing.Any) -> None:
        if not isinstance(result, dict):
            return
        for each in result['stored']:
            try:
                stored_data.discard(self.rt.services, self.image_id,
                                    each['uri'], each['metadata'],
                                    self.rt.lease.epoch)
            except stores.StoreError as failure:
                # Found again by the image's next attempt or its deletion.
                LOG.warning('import %s: %s stays in its store: %s',
                            self.rt.job.id, urls.public(each['uri']), failure)


class ImportToStore(_StoringStep):
    """From the staging area, or what a plugin put in place of that."""

    label = 'ImportToStore'

    def run(self, file_path: str) -> dict[str, typing.Any]:
        services = self.rt.services
        path = self.image_path(file_path)
        targets = self._stores()
        try:
            size = os.stat(path).st_size
        except FileNotFoundError as failure:
            # As when the image is deleted in this very moment.
            raise steps.data_gone() from failure
        quotas.check_import(services, self.image_id, size, len(targets))
        expected = None
        if path == services.area.path(self.image_id):
            expected = staged_state.as_staged(
                steps.staged_data(services, self.image_id).record)
        return self._plain(multi_store.add_file(targets, path, expected,
                                                self._order()))


class CopyImage(_StoringStep):
    """From a store that has the image; found to be what the record says."""

    label = 'CopyImage'

    def run(self) -> dict[str, typing.Any]:
        services = self.rt.services
        image = self.image()
        there = placement.located(services, image)
        targets = [store for store in self._stores()
                   if store.id not in there]
        if not targets:
            return {'stored': [], 'failed': {}}
        quotas.check_import(services, self.image_id, image.size,
                            len(targets))
        stream = self._open(image)
        try:
            source = stores.Source(
                image.size or 0, lambda: copying.blocks_from(stream))
            return self._plain(multi_store.add(targets, source, self._order(
                hash_algo=(image.os_hash_algo
                           or services.conf.hashing_algorithm),
                legacy_checksum=image.checksum is not None,
                verify=lambda digests: _same(image, digests))))
        finally:
            stream.close()

    def _open(self, image: db_images.Image) -> typing.BinaryIO:
        """:raises stores.StoreError: none of its stores can be read"""
        locations = placement.readable(self.rt.services, image)
        if not locations:
            raise errors.ImportFailed('The image has no data.',
                                      code='image.gone')
        return placement.open_best(self.rt.services, image.id,
                                   locations).stream


def _same(image: db_images.Image, digests: stores.Digests) -> None:
    """:raises errors.ImportFailed: the store did not give the image's bytes
    """
    wanted: list[tuple[object, object]] = [(image.size, digests.size)]
    if image.os_hash_value and image.os_hash_algo == digests.hash_algo:
        wanted.append((image.os_hash_value, digests.hash_value))
    if image.checksum:
        wanted.append((image.checksum, digests.checksum))
    if any(known != found for known, found in wanted):
        raise errors.ImportFailed(
            'The data in the store that the image was read from is not what '
            'its checksums say, so it was not copied.', code='data.changed')


class AddLocation(steps.Step):
    """Data that lies in a store already: read once and judged by the way."""

    label = 'AddLocation'
    default_provides = 'stored'
    kept = True

    @property
    def most_retries(self) -> int:
        """How often it is tried again when the store does not answer."""
        return self.rt.services.conf.http_retries

    def run(self) -> dict[str, typing.Any]:
        services = self.rt.services
        request = self.rt.job.request['method']
        url, digests = request['url'], request.get('validation_data') or {}
        how: dict[str, typing.Any] = {'judged': request.get('judged', True),
                                      'stopped': self.rt.stopped.is_set}
        if services.conf.do_secure_hash:
            stored, virtual_size = named.read(
                services, self.image(), url, digests, **how,
                report=self.progress.report)
        else:
            stored, virtual_size = named.believe(
                services, self.image(), url, digests, **how)
        self.check_stop()
        quotas.check_import(services, self.image_id, stored.size)
        changes.write(services, self.rt.lease, self.image_id,
                      base={'virtual_size': virtual_size}, properties={},
                      removed=())
        return {'stored': [dataclasses.asdict(stored)], 'failed': {}}
