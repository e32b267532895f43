"""Metadata definitions by every client that has calls for them."""

import os
import pathlib

import pytest

WALK = pathlib.Path(__file__).parent / 'walks' / 'walk_metadefs.py'

pytestmark = pytest.mark.skipif(not os.environ.get('LONG_TESTS'),
                                reason='the long form: LONG_TESTS=1')


def test_walk(authenticated, tmp_path):
    authenticated.run('python', str(WALK), str(tmp_path), user='root')
