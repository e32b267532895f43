"""PUT stage: all of an image's data in one request.

What came before the client went away is kept, to be resumed in parts or
begun anew. Touches what the receiver does.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import typing

from oslo_log import log

from glance_import.domain import quotas
from glance_import import errors
from glance_import import staging
from glance_import.uploads import integrity
from glance_import.uploads import receiving
from glance_import.uploads import recovery

if typing.TYPE_CHECKING:
    from glance_import import services

LOG = log.getLogger(__name__)
LIMITS = quotas.TO_STAGE


@dataclasses.dataclass(frozen=True)
class Announced:
    """What a client says about its data before it comes; sizes in bytes.

    ``length`` is the Content-Length, ``size`` what a header says that the
    image will have; either is None when nothing was said.
    """

    length: int | None = None
    size: int | None = None
    digests: tuple[integrity.ExpectedDigest, ...] = ()

    def check(self, cap: quotas.Cap) -> None:
        """What is wrong before the first byte.

        :raises errors.Invalid: the two do not agree
        :raises errors.TooLarge: over ``cap``
        """
        if self.size is not None and self.length not in (None, self.size):
            raise errors.Invalid(
                f'x-openstack-image-size says {self.size} bytes, '
                f'Content-Length {self.length}.')
        cap.check(self.expected)

    def receive(self, receiver: receiving.Receiver,
                blocks: collections.abc.Iterable[staging.Block]) -> None:
        """The whole of the data, found to be what was announced.

        :raises errors.Invalid: it is not
        """
        receiver.receive(blocks)
        size = receiver.upload.size
        if self.size not in (None, size):
            raise errors.Invalid(
                f'x-openstack-image-size says {self.size} bytes, {size} '
                'came.')
        receiver.verify()

    @property
    def expected(self) -> int | None:
        return self.length if self.length is not None else self.size


def stage(services: services.Services, target: receiving.Target,
          blocks: collections.abc.Iterable[staging.Block],
          announced: Announced) -> None:
    """Receive the data of an image into the staging area.

    :param target: found with ``LIMITS``
    :param blocks: the body; raises errors.ClientGone or Invalid by itself
    :raises errors.Conflict: the image is not one to stage now
    :raises errors.Invalid: the data is not what was announced
    :raises errors.TooLarge: over image_size_cap or a quota, or no room
    :raises errors.Unavailable: the staging area does not take it
    :raises errors.Gone: the image was deleted meanwhile
    """
    cap = quotas.cap(services, target.use)
    announced.check(cap)
    if target.record is not None:
        target = recovery.recovered(services, target)
    image = target.image
    receiving.check_status(receiving.STAGE, image.id, image.status,
                           target.record)
    with receiving.Receiver(services, receiving.STAGE, image.id, cap=cap,
                            digests=announced.digests) as receiver:
        receiver.begin(announced.expected)
        announced.receive(receiver, blocks)
        staged = receiver.complete()
    LOG.info('staged image %s: %d bytes', image.id, staged.size)
