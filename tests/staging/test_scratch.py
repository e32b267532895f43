"""Files for a moment: gone at the end, and after the death of their process.
"""

import os
import subprocess
import sys

import pytest

from glance_import import staging
from glance_import.staging import scratch

MAKE = '''
import sys, time
from glance_import import staging
with staging.Area.open(sys.argv[1]).scratch() as made:
    made.write(b'x', 0)
    print(made.path, flush=True)
    time.sleep(600)
'''


@pytest.fixture
def area(tmp_path):
    return staging.Area.open(f'file://{tmp_path}/area')


def left(area):
    return [name for name in os.listdir(area.directory)
            if name.startswith(scratch.PREFIX)]


def test_gone_at_the_end(area):
    with pytest.raises(KeyError), area.scratch() as made:
        made.truncate(1 << 40)
        made.write(b'abc', (1 << 40) - 3)
        assert made.read((1 << 40) - 4, 9) == b'\0abc'
        assert os.stat(made.path).st_mode & 0o007 == 0
        assert area.clean_scratch(0) == 0
        raise KeyError
    assert left(area) == []


def test_it_is_nothing_that_is_staged(area):
    with area.scratch():
        assert list(area.list()) == list(area.products()) == []


def test_of_a_dead_process(area):
    process = subprocess.Popen(
        [sys.executable, '-c', MAKE, f'file://{area.directory}'],
        stdout=subprocess.PIPE, text=True)
    path = process.stdout.readline().strip()
    assert area.clean_scratch(0) == 0 and os.path.exists(path)
    process.kill()
    process.communicate()
    # It may be one that is being made.
    assert area.clean_scratch(600) == 0
    assert area.clean_scratch(0) == 1
    assert left(area) == []
