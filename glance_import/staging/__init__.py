"""Uploads on their way in, and complete data waiting for an import."""

from glance_import.staging.area import Area
from glance_import.staging.area import Entry
from glance_import.staging.errors import StagingError
from glance_import.staging.errors import StagingFull
from glance_import.staging.errors import StagingUnwritable
from glance_import.staging.errors import TooLarge
from glance_import.staging.errors import UploadGone
from glance_import.staging.errors import UploadInProgress
from glance_import.staging.identity import Identity
from glance_import.staging.identity import same_bytes
from glance_import.staging.identity import Staged
from glance_import.staging.pipeline import Block
from glance_import.staging.upload import Sealed
from glance_import.staging.upload import Upload

__all__ = (
    'Area', 'Block', 'Entry', 'Identity', 'Sealed', 'Staged',
    'StagingError', 'StagingFull', 'StagingUnwritable', 'TooLarge', 'Upload',
    'UploadGone', 'UploadInProgress', 'same_bytes',
)
