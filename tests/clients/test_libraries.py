"""The walks of programs: python-glanceclient and openstacksdk as libraries.

They run under the clients' own Python; ``walks`` holds them.
"""

import os
import pathlib
import subprocess

import pytest

WALKS = pathlib.Path(__file__).parent / 'walks'


@pytest.mark.parametrize('walk', ['sdk', 'glance'])
def test_walk(cloud, walk):
    done = cloud.run('python', str(WALKS / f'walk_{walk}.py'),
                     cloud.projects['blue'])
    assert done.stdout.strip().endswith('walked')


@pytest.mark.parametrize('walk', ['nova', 'cinder'])
def test_walk_of_other_services(authenticated, compute, walk):
    """Nova's and Cinder's own image code, where a plugin is listed."""
    done = subprocess.run(
        [compute.python, WALKS / f'walk_{walk}.py',
         f'http://127.0.0.1:{authenticated.service.port}',
         authenticated.projects['red']], timeout=120, capture_output=True,
        text=True, env={'PATH': os.environ['PATH'],
                        'OS_TOKEN': authenticated.tokens['ann']})
    assert done.stdout.strip().endswith('walked'), done
