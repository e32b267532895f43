"""The admin guide's way to a plugin, letter by letter, with real installs.

A fresh virtual environment, the guide's own ``fred_mertz.py``, and the real
commands: the file as a distribution of its own, with nothing of ours touched;
and as the guide has it, the file into the plugins' folder, its line into
setup.cfg, installed again.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import textwrap

import pytest

from tests import service as services

TOP = pathlib.Path(__file__).resolve().parents[2]
EXAMPLE = TOP / 'doc' / 'source' / 'admin' / 'fred_mertz.py'
LINE = ('    fred_mertz = '
        'glance_import.async_.flows.plugins.fred_mertz:get_flow\n')
PYPROJECT = textwrap.dedent('''\
    [build-system]
    requires = ["setuptools>=64"]
    build-backend = "setuptools.build_meta"

    [project]
    name = "fred-mertz"
    version = "1.0"

    [project.entry-points."glance.image_import.plugins"]
    fred_mertz = "fred_mertz:get_flow"

    [tool.setuptools]
    py-modules = ["fred_mertz"]
    ''')


class Environment:
    """A virtual environment with a copy of the tree installed into it."""

    def __init__(self, directory):
        self.tree = directory / 'tree'
        self.python = directory / 'venv' / 'bin' / 'python'
        self.clean = {name: value for name, value in os.environ.items()
                      if name not in ('PYTHONPATH', 'VIRTUAL_ENV')}
        # There is no git here to tell the version.
        self.clean['PBR_VERSION'] = '0.0.1'
        listed = subprocess.run(
            ['git', 'ls-files', '-co', '--exclude-standard', '-z'], cwd=TOP,
            check=True, capture_output=True, text=True).stdout
        for name in filter(None, listed.split('\0')):
            if (TOP / name).is_file():
                (self.tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(TOP / name, self.tree / name)
        self.uv('venv', '--quiet', '--python', sys.executable,
                str(directory / 'venv'))

    def uv(self, *words):
        subprocess.run([sys.executable, '-m', 'uv', *words], check=True,
                       env=self.clean, cwd=self.tree)

    def install(self, directory):
        self.uv('pip', 'install', '--quiet', '--python', str(self.python),
                '--reinstall-package', 'glance-import',
                '-c', str(self.tree / 'constraints.txt'), str(directory))

    def service(self, directory, **kwargs):
        return _Installed(self, directory, **kwargs)


class _Installed(services.Service):
    """The installed command of an environment."""

    def __init__(self, environment, directory, **kwargs):
        self._installed = environment
        super().__init__(directory, **kwargs)
        self.environment = dict(environment.clean)

    def command(self, name, *arguments):
        script = self._installed.python.parent / f'glance-import-{name}'
        return [str(script), '--config-dir', str(self.conf), *arguments]


@pytest.fixture(scope='module')
def environment(tmp_path_factory):
    if not shutil.which('git'):
        services.servers.missing('git is not installed')
    made = Environment(tmp_path_factory.mktemp('environment'))
    made.install(made.tree)
    return made


def listing_fred(environment, directory):
    """A service whose glance-image-import.conf lists fred_mertz."""
    directory.mkdir()
    service = environment.service(directory)
    (service.conf / 'glance-image-import.conf').write_text(
        '[image_import_opts]\nimage_import_plugins = [fred_mertz]\n')
    return service


def refusal(service):
    done = service.run('api')
    assert done.returncode == 1
    line, = done.stderr.strip().splitlines()
    return line


def check_runs_fred(service):
    service.start()
    try:
        image_id = service.ask(b'x' * 12345)
        image = service.wait_status(image_id, 'active', 'uploading')
        assert image['status'] == 'active', image
        assert image['fred_mertz_size'] == '12345'
    finally:
        service.kill()


def test_as_a_distribution_of_its_own(environment, tmp_path):
    outside = tmp_path / 'fred'
    outside.mkdir()
    shutil.copy(EXAMPLE, outside)
    (outside / 'pyproject.toml').write_text(PYPROJECT)
    guide = (TOP / 'doc' / 'source' / 'admin' / 'specifying-plugins.rst')
    assert textwrap.indent(PYPROJECT, '   ').replace(
        '   \n', '\n') in guide.read_text()
    service = listing_fred(environment, tmp_path / 'service')
    assert "'fred_mertz' is not registered" in refusal(service)
    environment.install(outside)
    try:
        check_runs_fred(service)
    finally:
        environment.uv('pip', 'uninstall', '--quiet', '--python',
                       str(environment.python), 'fred-mertz')


def test_letter_by_letter(environment, tmp_path):
    service = listing_fred(environment, tmp_path / 'service')
    assert "'fred_mertz' is not registered" in refusal(service)
    folder = (environment.tree / 'glance_import' / 'async_' / 'flows'
              / 'plugins')
    shutil.copy(EXAMPLE, folder / 'fred_mertz.py')
    # The file without its line, installed: the start is told what to add.
    environment.install(environment.tree)
    line = refusal(service)
    assert LINE.strip() in line
    setup = environment.tree / 'setup.cfg'
    before = '    no_op = glance_import.async_.flows.plugins.no_op:get_flow\n'
    assert before in setup.read_text()
    setup.write_text(setup.read_text().replace(before, before + LINE))
    # An edit of setup.cfg counts only when it is installed.
    assert LINE.strip() in refusal(service)
    environment.install(environment.tree)
    check_runs_fred(service)
