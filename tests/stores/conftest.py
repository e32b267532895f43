"""Stores on real disks and servers."""

import uuid

import conformance
import pytest

from tests.ceph import ceph  # noqa: F401
from tests.ceph import rgw  # noqa: F401
from tests.s3 import s3  # noqa: F401
from tests.s3 import s3_server  # noqa: F401


@pytest.fixture
def image_id():
    return str(uuid.uuid4())


@pytest.fixture
def source(tmp_path):
    """A file that somebody staged."""
    path = tmp_path / 'source'
    path.write_bytes(conformance.DATA)
    return path
