"""Which versions are listed, with which status, by which options."""

import pytest

from glance_import.api.middleware import versions
from glance_import import conf as configuration

# gophercloud, openstacksdk and python-glanceclient know these.
KNOWN = {'CURRENT', 'SUPPORTED', 'DEPRECATED'}


def listed(**options):
    conf = configuration.load([])
    for name, value in options.items():
        conf.set_override(name, value)
    return versions.listed(conf)


@pytest.mark.parametrize('options, newest', [
    ({}, 'v2.5'), ({'enable_image_import': True}, 'v2.17'),
    ({'api_versions_listed': 'v2.6-experimental'}, 'v2.5'),
    ({'enabled_backends': {'a': 'file', 'b': 'file'}}, 'v2.5'),
    ({'enable_image_import': True,
      'enabled_backends': {'a': 'file', 'b': 'file'}}, 'v2.17')])
def test_every_status_is_one_that_clients_know(options, newest):
    found = listed(**options)
    assert {status for _name, status in found} <= KNOWN
    assert [name for name, status in found if status == 'CURRENT'] == [newest]
    assert found[0][0] == newest
    minors = [int(name.partition('.')[2]) for name, _status in found]
    assert minors == sorted(set(minors), reverse=True)
    assert set(range(6)) <= set(minors)
    assert (6 in minors) == (newest != 'v2.5')
    # Of metadata definitions, which are there whatever the options.
    assert (15 in minors) == (newest == 'v2.17')


def test_the_list_of_the_first_milestone():
    found = listed(enable_image_import=True,
                   api_versions_listed='v2.6-experimental')
    assert found[:2] == [('v2.6', 'EXPERIMENTAL'), ('v2.5', 'CURRENT')]
    assert {status for _name, status in found[2:]} == {'SUPPORTED'}


def test_its_first_name_is_understood(tmp_path):
    (tmp_path / 'a.conf').write_text('[DEFAULT]\napi_versions_listed = seed\n')
    conf = configuration.load(['--config-dir', str(tmp_path)])
    assert conf.api_versions_listed == 'v2.6-experimental'
