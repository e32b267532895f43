"""Metadata definitions by every client that has calls for them."""

import pathlib

WALK = pathlib.Path(__file__).parent / 'walks' / 'walk_metadefs.py'


def test_walk(authenticated, tmp_path):
    authenticated.run('python', str(WALK), str(tmp_path), user='root')
