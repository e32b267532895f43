"""The declarative tests in gabbits/, each against a service of its own."""

import os
import pathlib
import sys
import tempfile
import unittest

from gabbi import driver
from gabbi import fixture
import pytest

from tests import servers
from tests import service as services

TESTS = os.path.join(os.path.dirname(__file__), 'gabbits')


class _Served(fixture.GabbiFixture):
    """A service for one file of tests, on the port they are told."""

    options: dict = {}

    def start_fixture(self):
        self._directory = tempfile.TemporaryDirectory(prefix='gabbi-')
        self._service = services.Service(
            pathlib.Path(self._directory.name), options=self.options)
        self._service.port = int(os.environ['GABBI_TEST_PORT'])
        self._service.configure(DEFAULT={'bind_port': self._service.port})
        self._service.start()

    def stop_fixture(self):
        self._service.kill()
        self._directory.cleanup()


class ImportOn(_Served):
    """Import enabled, all else at its default."""


class ImportExperimental(_Served):
    """Import enabled, version 2.6 as the original milestone listed it."""

    options = {'DEFAULT': {'api_versions_listed': 'v2.6-experimental'}}


class ImportOff(_Served):
    """The default of enable_image_import."""

    options = {'DEFAULT': {'enable_image_import': False}}


_PORT = servers.free_port()
os.environ['GABBI_TEST_PORT'] = str(_PORT)


@pytest.mark.parametrize('name', sorted(
    path.name for path in pathlib.Path(TESTS).glob('*.yaml')))
def test_file(name, tmp_path):
    """One file: a suite whose requests run in order.

    Not gabbi's own pytest plugin, which takes tests of others for its own.
    """
    (tmp_path / name).symlink_to(os.path.join(TESTS, name))
    suite = driver.build_tests(
        str(tmp_path), unittest.TestLoader(), host='127.0.0.1', port=_PORT,
        test_loader_name=__name__, fixture_module=sys.modules[__name__])
    result = unittest.TestResult()
    suite.run(result)
    assert result.testsRun > 3
    broken = [f'{test}\n{trace}' for test, trace
              in result.errors + result.failures]
    assert not broken, '\n'.join(broken)
    assert not result.skipped
