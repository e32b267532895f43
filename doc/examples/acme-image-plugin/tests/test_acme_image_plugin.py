"""The plugin's own tests: pytest finds the fixture by itself."""

import acme_image_plugin
import pytest


@pytest.mark.parametrize('block', [1, 7, 4096])
def test_rejects(image_plugin, block):
    plugin = image_plugin(acme_image_plugin.LicenceCheck, block=block)
    verdict = plugin.inspect(b'x' * 5000 + b'FORBIDDEN-SOFT' + b'x' * 5000)
    assert (verdict.kind, verdict.code) == ('reject', 'acme.unlicensed')


def test_accepts(image_plugin):
    plugin = image_plugin(acme_image_plugin.LicenceCheck, products=['Y'])
    verdict = plugin.inspect(b'FORBIDDEN-SOFT')
    assert verdict.kind == 'accept'
    assert verdict.properties == {'acme_licences': 'checked'}
