"""The promise to authors: names, arguments, and nothing else needed."""

import hashlib
import pathlib
import subprocess

import pytest

import glance_import.plugin
from glance_import.plugin import check
from glance_import.plugin import harness
from glance_import.plugin import sandbox
from tests.plugin.frozen import api_1

HERE = pathlib.Path(__file__).parent
# The frozen file, to the byte. Do not put another digest here.
FROZEN = 'fda02f6bb1e91ede0435eaf45b7df0a80eb65a8863cd7592d1bceb33ccc39bae'
NAMES = ['API', 'Context', 'Data', 'Image', 'ImagePlugin', 'Option', 'Sink',
         'SinkFull', 'Verdict']
MEMBERS = {
    'Context': {'options', 'tmp', 'deadline', 'log', 'progress',
                'cancelled'},
    'Data': {'size', 'position', 'read', 'seek', 'tell', 'seekable',
             'readable', 'writable', 'done', '__iter__', '__next__'},
    'Image': {'id', 'name', 'disk_format', 'container_format', 'size',
              'virtual_size', 'min_disk', 'min_ram', 'owner', 'visibility',
              'properties', 'tags', 'import_method', 'detected_format',
              'checksum', 'os_hash_algo', 'os_hash_value'},
    'ImagePlugin': {'api', 'version', 'options', 'accept', 'reject', 'warn'},
    'Option': {'name', 'type', 'default', 'help', 'required', 'secret'},
    'Sink': {'limit', 'written', 'write', 'writable'},
    'Verdict': {'kind', 'reason', 'code', 'properties'},
}


def test_the_frozen_plugin_is_what_it_was():
    source = (HERE / 'frozen' / 'api_1.py').read_bytes()
    assert hashlib.sha256(source).hexdigest() == FROZEN


def test_public_names():
    assert sorted(glance_import.plugin.__all__) == NAMES
    assert glance_import.plugin.API >= 1
    made = {
        'Context': glance_import.plugin.Context(
            {}, '/tmp', 1.0, print, print, lambda: False),
        'Data': glance_import.plugin.Data(0, 0),
        'Image': glance_import.plugin.Image(id='x'),
        'ImagePlugin': glance_import.plugin.ImagePlugin(),
        'Option': glance_import.plugin.Option('x'),
        'Sink': glance_import.plugin.Sink(0, 0),
        'Verdict': glance_import.plugin.ImagePlugin().accept()}
    for name, members in MEMBERS.items():
        missing = {each for each in members
                   if not hasattr(made[name], each)}
        assert not missing, f'{name} lost {missing}'


@pytest.mark.parametrize('block', [1, 3, 4096])
def test_the_frozen_plugin_works(block):
    assert check.problems(api_1.Frozen) == []
    plugin = harness.Harness(api_1.Frozen, {'must': 'given'}, block=block)
    content = b'head' + b'x' * 5000 + b'tail'
    verdict = plugin.precheck(properties={'frozen': 'yes'})
    assert (verdict.kind, verdict.code) == ('warn', 'frozen.warning')
    assert plugin.logged == ['a line', 'a line with text and 3']
    assert plugin.inspect(content).properties == {'frozen_b': '2'}
    assert plugin.transform(content).kind == 'accept'
    assert plugin.output == content + b'more'
    assert harness.Harness(api_1.Rejecting).inspect(b'').kind == 'reject'


def test_the_frozen_plugin_works_in_the_service(make_service):
    path = HERE / 'frozen' / 'api_1.py'
    service = make_service(
        [f'file:{path}:Frozen'],
        {'frozen': {'must': 'given', 'allowed_properties': 'frozen_'}})
    service.start()
    image_id = service.create(frozen='yes')
    content = b'head' + b'x' * 500_000 + b'tail'
    service.stage(image_id, content)
    service.start_import(image_id)
    image = service.wait_status(image_id, 'active', 'uploading')
    assert image['status'] == 'active', image
    assert (image['frozen_a'], image['frozen_b']) == ('1', '2')
    assert service.download(image_id) == content + b'more'
    assert [each['verdict'] for each in
            service.tasks(image_id)[0]['result']['plugins']] == [
        'warn', 'accept', 'accept']


def test_needs_only_the_standard_library():
    """Nothing is installed for this interpreter but what it came with."""
    top = pathlib.Path(glance_import.plugin.__file__).parents[2]
    done = subprocess.run(
        [sandbox.interpreter(), '-I', '-S', '-c', f'''
import sys
sys.path.insert(0, {str(top)!r})
before = set(sys.modules)
from glance_import.plugin import ImagePlugin, Option
new = {{name.partition('.')[0] for name in set(sys.modules) - before}}
assert not new - set(sys.stdlib_module_names) - {{'glance_import'}}, new
# Quick to import, too.
assert not new & {{'typing', 'dataclasses', 'inspect', 'logging', 'json',
                  'importlib', 'subprocess'}}, new
from glance_import.plugin import harness, skeleton, runner, host, chain
'''], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_author_sees_what_is_wrong():
    class Wrong(glance_import.plugin.ImagePlugin):
        api = 1

        def inspect(self, blob):
            pass

    with pytest.raises(ValueError, match="argument 'blob'"):
        harness.Harness(Wrong)
    with pytest.raises(ValueError, match='not declared: nope'):
        harness.Harness(api_1.Rejecting, {'nope': 1})
