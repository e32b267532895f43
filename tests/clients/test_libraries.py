"""The walks of programs: python-glanceclient and openstacksdk as libraries.

They run under the clients' own Python; ``walks`` holds them.
"""

import pathlib

import pytest

WALKS = pathlib.Path(__file__).parent / 'walks'


@pytest.mark.parametrize('walk', ['sdk', 'glance'])
def test_walk(cloud, walk):
    done = cloud.run('python', str(WALKS / f'walk_{walk}.py'),
                     cloud.projects['blue'])
    assert done.stdout.strip().endswith('walked')
