"""What the tests of contract plugins share."""

import textwrap

import pytest

from tests import servers
from tests import service as services


@pytest.fixture(scope='session')
def bwrap():
    """The sandbox program; without it these tests prove nothing."""
    return servers.program('bwrap')


@pytest.fixture
def write_plugin(tmp_path):
    """Write a plugin's file; its name for image_import_plugins."""
    def write(name, source, attribute=None):
        directory = tmp_path / 'plugins'
        directory.mkdir(exist_ok=True)
        path = directory / f'{name}.py'
        path.write_text(textwrap.dedent(source))
        path.chmod(0o644)
        return f'file:{path}:{attribute or name.title().replace("_", "")}'
    return write


@pytest.fixture
def make_service(tmp_path, bwrap):
    """Make services with contract plugins; all are ended with the test."""
    made = []

    def make(plugins, sections=None, **kwargs):
        directory = tmp_path / f'service{len(made)}'
        directory.mkdir()
        options = {'image_import_opts': {
            'image_import_plugins': f"[{', '.join(plugins)}]"},
            **(sections or {})}
        made.append(services.Service(directory, options=options, **kwargs))
        return made[-1]

    yield make
    for each in made:
        each.kill()
