"""Stores on real disks and servers."""

from tests.s3 import s3  # noqa: F401
from tests.s3 import s3_server  # noqa: F401
