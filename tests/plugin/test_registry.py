"""What start-up refuses, and how: names, files, classes, options."""

import os
import textwrap

import pytest

from glance_import import conf as configuration
from glance_import.plugin import describing
from glance_import.plugin import entry_points
from glance_import.plugin import file_digests
from glance_import.plugin import registry
from glance_import.plugin import sections
from glance_import.plugin import targets
from tests import service as services

GOOD = '''
from glance_import.plugin import ImagePlugin, Option
class Acme(ImagePlugin):
    """Finds."""
    api = 1
    version = '2'
    options = [Option('marker', str, 'X', help='h'),
               Option('count', int, 3), Option('names', list, ['a'])]
    def inspect(self, data):
        return self.accept()
'''


@pytest.fixture
def load(tmp_path, bwrap):
    """Load plugins under a configuration; text for image_import_opts."""
    def _load(names, text=''):
        path = tmp_path / 'glance-api.conf'
        path.write_text('[DEFAULT]\n'
                        f'state_path = {tmp_path}/state\n'
                        f'node_staging_uri = file://{tmp_path}/staging\n'
                        '[glance_store]\n'
                        f'filesystem_store_datadir = {tmp_path}/images\n'
                        + textwrap.dedent(text))
        conf = configuration.load(['--config-file', str(path)])
        return registry.Registry(conf).load(names)
    return _load


@pytest.fixture
def acme(tmp_path):
    """Write the file of a plugin; its name in the list."""
    def write(source=GOOD, mode=0o644, name='acme.py'):
        path = tmp_path / name
        path.write_text(source)
        path.chmod(mode)
        return f'file:{path}:Acme'
    return write


def refused(load, *args):
    with pytest.raises(entry_points.ExtensionError) as caught:
        load(*args)
    assert '\n' not in str(caught.value)
    return str(caught.value)


def test_a_good_one(load, acme):
    plugin, flow = load([acme(), 'no_op'], '''
        [acme]
        marker = Y
        names = b, c
        memory_limit = 100
        failure_policy = retry:3
    ''')
    assert (plugin.section, plugin.version, plugin.kind) == (
        'acme', '2', 'file')
    assert plugin.methods == ('inspect',)
    assert plugin.settings.options == {'marker': 'Y', 'count': 3,
                                       'names': ['b', 'c']}
    assert plugin.settings.limits.memory == 100 << 20
    assert plugin.settings.attempts == 4
    assert flow.kind == 'get_flow'


@pytest.mark.parametrize('name,section', [
    ('file:/a/b.py:Acme', 'acme'), ('file:/a/b.py:AcmeScanner',
                                    'acme_scanner'),
    ('file:/a/b.py:ClamAV2', 'clam_av2'), ('digest-list', 'digest_list'),
    ('exec:/usr/bin/scan-it.sh', 'scan_it_sh'), ('Acme.X', 'acme_x')])
def test_sections(name, section):
    assert targets.section_of(name) == section


@pytest.mark.parametrize('change,said', [
    (('api = 1', 'api = 2'),
     'asks for contract version 2; this service offers 1'),
    (('api = 1', ''), 'does not say its contract version'),
    (('api = 1', "api = '1'"), 'is not an integer'),
    (('def inspect(self, data)', 'def inspekt(self, data)'),
     'defines none of the methods'),
    (('def inspect(self, data)', 'def inspect(self, image, blob)'),
     "inspect takes the argument 'blob', which does not exist"),
    (('def inspect(self, data)', 'def inspect(self, data, /)'),
     'positional-only'),
    (('def inspect(self, data)', 'async def inspect(self, data)'),
     'coroutine'),
    (('return self.accept()', 'yield self.accept()'), 'generator'),
    (("Option('count', int, 3)", "Option('count', int, 'x')"),
     "the default of the option 'count', 'x', is not of its type int"),
    (("Option('count', int, 3)", "Option('timeout', int, 3)"),
     "'timeout' has the name of a setting"),
    (("Option('count', int, 3)", "Option('marker', int, 3)"),
     'declared twice'),
    (("Option('count', int, 3)", "Option('count', dict)"), 'has the type'),
    (("Option('count', int, 3)", '3'), 'which is no Option'),
    (('(ImagePlugin)', ''), 'not a class derived from ImagePlugin'),
    (('class Acme', 'class Other'), 'has no Acme'),
    (('from glance_import.plugin', 'from glance_import.db'), 'ModuleNotFound'),
    (('    api = 1', '    api = ='), 'SyntaxError'),
    (('    api = 1', '    import os; os._exit(3)'), 'ended with status 3'),
    (('    api = 1', '    api = 1\n    def __init__(self, x): pass'),
     '__init__ needs the arguments x'),
])
def test_broken_classes(load, acme, change, said):
    assert change[0] in GOOD
    name = acme(GOOD.replace(*change))
    text = refused(load, [name])
    assert text.startswith(f"'{name}'")
    assert said in text


def test_arguments_that_are_fine(load, acme):
    for given in ('self', 'self, ctx', 'self, *, data, image', 'self, **kw',
                  'self, data, extra=1'):
        assert load([acme(GOOD.replace('self, data', given))])


@pytest.mark.parametrize('name,said', [
    ('file:relative.py:Acme', 'is no absolute path'),
    ('file:/nowhere/x.py:Acme', 'No such file'),
    ('file:/etc:Acme', 'not a regular file'),
    ('file:/etc/passwd', 'is not file:/absolute/path.py:Class'),
    ('exec:/nowhere', 'No such file'),
    ('exec:/etc/passwd', 'not executable'),
    ('exec:bin/true', 'is no absolute path'),
    ('exec:/bin/true', 'no JSON object'),
    ('exec:/bin/false', 'ended with status 1'),
    ('nobody_has_it', 'nor in glance_import.plugins (registered are: clamav'),
])
def test_names(load, name, said):
    text = refused(load, [name])
    assert said in text and name in text


@pytest.mark.parametrize('mode', [0o664, 0o646, 0o666])
def test_a_file_that_others_can_write(load, acme, mode):
    assert 'others can write the file' in refused(load, [acme(mode=mode)])


@pytest.mark.skipif(os.geteuid() != 0, reason='needs another owner')
def test_a_file_of_somebody_else(load, acme, tmp_path):
    name = acme()
    os.chown(tmp_path / 'acme.py', 65534, 65534)
    assert 'belongs to user 65534' in refused(load, [name])


def test_twice(load, acme):
    name = acme()
    assert 'listed twice' in refused(load, [name, name])
    other = acme(name='other.py')
    assert 'would share the section [acme]' in refused(load, [name, other])


@pytest.mark.parametrize('group', ['Database', 'TaskflowExecutor', 'Cors'])
def test_a_section_that_is_taken(load, acme, group):
    name = acme(GOOD.replace('Acme', group)).replace(':Acme', f':{group}')
    assert 'which is taken; rename it' in refused(load, [name])


@pytest.mark.parametrize('line,said', [
    ('failure_policy = sometimes', 'failure_policy'),
    ('failure_policy = retry:0', 'failure_policy'),
    ('enforcement = maybe', 'enforcement'),
    ('timeout = soon', 'timeout'),
    ('count = many', 'count'),
    ('allowed_properties = os_glance_x', 'cannot be allowed'),
    ('read_paths = relative', 'no absolute path'),
    ('read_paths = /', "the service's own files"),
])
def test_bad_sections(load, acme, line, said):
    with pytest.raises(sections.SectionError) as caught:
        load([acme()], f'[acme]\n{line}\n')
    assert caught.value.section == 'acme'
    assert caught.value.option == line.split()[0]
    assert said in f'{caught.value.option} {caught.value}'


def test_a_required_option(load, acme):
    name = acme(GOOD.replace("Option('count', int, 3)",
                             "Option('count', int, required=True)"))
    assert 'has to be set' in refused(load, [name])
    assert load([name], '[acme]\ncount = 1\n')


def test_strict_is_never_less(load, acme, monkeypatch, tmp_path):
    monkeypatch.setenv('PATH', str(tmp_path))
    assert 'strict cannot be had: bubblewrap is not installed' in refused(
        load, [acme()])
    plugin, = load([acme()], '[image_import_opts]\nisolation = process\n')
    assert plugin.version == '2'
    # Who lists no such plugin needs no sandbox.
    assert load(['no_op'])


def test_one_name_in_two_distributions(load, tmp_path, monkeypatch):
    for number in ('one', 'two'):
        directory = services.write_distribution(
            tmp_path / number, f'acme_{number}', {f'acme{number}': GOOD},
            {'glance_import.plugins': {'acme': f'acme{number}:Acme'}})
        monkeypatch.syspath_prepend(str(directory))
    assert 'registered more than once' in refused(load, ['acme'])


def test_one_name_of_both_kinds(load, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(services.write_distribution(
        tmp_path / 'dist', 'acme', {'acme': GOOD},
        {'glance_import.plugins': {'acme': 'acme:Acme'},
         'glance.image_import.plugins': {'acme': 'acme:get_flow'}})))
    assert 'is registered both in' in refused(load, ['acme'])


def test_a_failure_is_remembered(load, acme, tmp_path, monkeypatch):
    """Who asks for many imports does not wait for each of them."""
    name, asked = acme('import time\ntime.sleep(0.5)\n1 / 0\n'), []
    real = describing.host.run
    monkeypatch.setattr(describing.host, 'run', lambda *args, **kwargs: (
        asked.append(1), real(*args, **kwargs))[1])
    load([])
    known = registry.Registry(configuration.load(
        ['--config-file', str(tmp_path / 'glance-api.conf')]))
    reasons = {refused(known.load, [name]) for _ in range(5)}
    assert len(reasons) == 1 and 'ZeroDivisionError' in reasons.pop()
    assert len(asked) == 1
    # What was mended is asked at once.
    acme()
    assert known.load([name])[0].methods == ('inspect',)


def test_code_behind_links(tmp_path):
    """A package is all that can be imported from it, circles or not."""
    real, package = tmp_path / 'real', tmp_path / 'package'
    real.mkdir()
    package.mkdir()
    (real / '__init__.py').write_text('x = 1\n')
    (package / '__init__.py').write_text('')
    (package / 'sub').symlink_to(real)
    (package / 'again').symlink_to(package)
    before = file_digests.of_code(str(package))
    assert file_digests.of_code(str(package)) == before
    (real / '__init__.py').write_text('x = 22\n')
    assert file_digests.of_code(str(package)) != before


def test_an_entry_point(load, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(services.write_distribution(
        tmp_path / 'dist', 'acme', {'acme': 'import acme_helper\n' + GOOD,
                                    'acme_helper': ''},
        {'glance_import.plugins': {'acme': 'acme:Acme',
                                   'lost': 'lost_module:Lost'}})))
    text = refused(load, ['lost'])
    assert "'lost' (lost_module:Lost)" in text and 'no module' in text


def test_the_service_says_the_same(tmp_path, make_service, acme):
    """At start-up and in the upgrade check, with the file's name."""
    name = acme(GOOD.replace('api = 1', 'api = 7'))
    service = make_service([name])
    for command, arguments in (('api', ()), ('conductor', ()),
                               ('status', ('upgrade', 'check'))):
        done = service.run(command, *arguments)
        assert done.returncode != 0
        said = ' '.join((done.stdout + done.stderr).replace('|', ' ').split())
        assert 'asks for contract version 7' in said, said
        assert 'Traceback' not in said
