"""What a distribution promises: entry points, pins, samples, no litter."""

import ast
import configparser
import pathlib
import re
import socket
import subprocess

from oslo_config import cfg
from packaging import requirements
from packaging import version
import pytest
import yaml

from glance_import import conf

TOP = pathlib.Path(__file__).resolve().parents[2]
PLUGINS = 'glance.image_import.plugins'


def entry_points(group):
    parser = configparser.ConfigParser(delimiters=['='])
    parser.optionxform = str
    parser.read(TOP / 'setup.cfg')
    lines = parser['entry_points'][group].strip().splitlines()
    return dict(re.split(r'\s*=\s*', line.strip(), maxsplit=1)
                for line in lines)


def tracked():
    out = subprocess.run(['git', 'ls-files', '-z'], cwd=TOP, check=True,
                         capture_output=True, text=True).stdout
    return [TOP / name for name in out.split('\0') if name]


def test_no_op_stands_where_the_guide_says():
    assert entry_points(PLUGINS)['no_op'] == \
        'glance_import.async_.flows.plugins.no_op:get_flow'
    text = (TOP / 'setup.cfg').read_text()
    assert re.search(rf'^{re.escape(PLUGINS)} =$', text, re.M)


@pytest.mark.parametrize('group', [
    'console_scripts', PLUGINS, 'glance.flows',
    'glance.image_import.internal_plugins', 'paste.app_factory',
    'paste.filter_factory', 'oslo.config.opts', 'oslo.policy.policies'])
def test_every_entry_point_names_something_that_is_there(group):
    for name, value in entry_points(group).items():
        module, _, attribute = value.partition(':')
        path = TOP / (module.replace('.', '/') + '.py')
        if not path.exists():
            path = TOP / module.replace('.', '/') / '__init__.py'
        tree = ast.parse(path.read_text())
        names = {node.name for node in tree.body
                 if hasattr(node, 'name')}
        names |= {target.id for node in tree.body
                  if isinstance(node, ast.Assign)
                  for target in node.targets if hasattr(target, 'id')}
        names |= {alias.asname or alias.name for node in tree.body
                  if isinstance(node, ast.ImportFrom)
                  for alias in node.names}
        assert attribute in names, f'{group}: {name} = {value}'


def test_data_files_exist():
    parser = configparser.ConfigParser()
    parser.read(TOP / 'setup.cfg')
    names = [name for name in parser['files']['data_files'].split()
             if name.startswith('etc/') and name != 'etc/glance']
    assert len(names) > 4
    assert [name for name in names if not list(TOP.glob(name))] == []


def pins():
    found = {}
    for line in (TOP / 'constraints.txt').read_text().splitlines():
        if line and not line.startswith('#'):
            pin = requirements.Requirement(line)
            found.setdefault(pin.name.lower(), []).append(pin)
    return found


@pytest.mark.parametrize('name', [
    'requirements.txt', 'test-requirements.txt', 'doc/requirements.txt',
    'tools/requirements.txt'])
def test_every_requirement_is_pinned_within_its_bounds(name):
    known = pins()
    for line in (TOP / name).read_text().splitlines():
        if not line.strip() or line.startswith('#'):
            continue
        wanted = requirements.Requirement(line)
        key = re.sub(r'[-_.]+', '-', wanted.name).lower()
        assert key in known, wanted
        for pin in known[key]:
            [exact] = pin.specifier
            assert exact.operator == '=='
            assert version.Version(exact.version) in wanted.specifier


def test_tox_installs_only_what_is_pinned():
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(TOP / 'tox.ini')
    known = pins()
    lines = [line.strip() for section in parser.sections()
             for line in parser[section].get('deps', '').splitlines()]
    names = [line for line in lines if re.fullmatch(r'[A-Za-z0-9-]+', line)]
    assert 'hacking' in names
    assert [name for name in names if name.lower() not in known] == []


def test_samples_are_a_configuration():
    loaded = conf.load(['--config-dir', str(TOP / 'etc')])
    assert conf.unknown_options(loaded) == []
    assert loaded.enable_image_import is False
    assert loaded.image_import_opts.image_import_plugins == []


def test_samples_show_the_true_defaults(tmp_path):
    for name in (conf.MAIN_FILE, conf.IMPORT_FILE):
        text = (TOP / 'etc' / name).read_text()
        (tmp_path / name).write_text('\n'.join(
            re.sub(r'^#(\w+ =)', r'\1', line) for line in text.splitlines()
            if not line.endswith('<None>')))
    loaded = conf.load(['--config-file', str(tmp_path / conf.MAIN_FILE)])
    plain = conf.new()
    plain([], default_config_files=[])
    for group, opts in conf.list_opts() + conf.list_image_import_opts():
        for opt in opts:
            shown = loaded[group] if group else loaded
            default = plain[group] if group else plain
            assert shown[opt.dest] == default[opt.dest], opt.name
    assert loaded.database.connection == plain.database.connection


def test_sample_defaults_name_no_machine():
    text = (TOP / 'etc' / conf.MAIN_FILE).read_text()
    values = re.findall(r'^#(\w+) = (.*)$', text, re.M)
    paths = {name for name, value in values if '/' in value}
    assert paths == {'connection', 'filesystem_store_datadir',
                     'node_staging_uri', 'remote_content_type', 'state_path',
                     # Networks: those of loopback.
                     'unbounded_addresses'}
    assert socket.gethostname() not in dict(values).values()


def test_paste_copies_are_equal():
    assert (TOP / 'etc' / 'glance-api-paste.ini').read_bytes() == \
        (TOP / 'glance_import' / 'api' / 'glance-api-paste.ini').read_bytes()


def test_policy_sample_has_the_task_rules():
    text = (TOP / 'etc' / 'policy.yaml').read_text()
    rules = yaml.safe_load(re.sub(r'^#(?=")', '', text, flags=re.M))
    five = {name: rules.get(name) for name in (
        'get_task', 'get_tasks', 'add_task', 'modify_task',
        'tasks_api_access')}
    assert five == {'get_task': '', 'get_tasks': '', 'add_task': '',
                    'modify_task': '', 'tasks_api_access': 'role:admin'}


def test_no_tracked_file_names_this_machine():
    here = [path for path in (TOP, pathlib.Path.home())
            if len(path.parts) > 1 and path != pathlib.Path('/tmp')]
    for path in tracked():
        if not path.is_file():
            continue
        content = path.read_bytes()
        for place in here:
            assert str(place).encode() + b'/' not in content, path


def test_every_module_says_what_it_is_for():
    missing = []
    for path in sorted((TOP / 'glance_import').rglob('*.py')):
        tree = ast.parse(path.read_text())
        if 'versions' in path.parts or not tree.body:
            continue
        if not ast.get_docstring(tree):
            missing.append(str(path))
    for path in (TOP / 'glance_import').rglob('__init__.py'):
        if not ast.get_docstring(ast.parse(path.read_text())):
            missing.append(str(path))
    assert missing == []


def test_a_misspelt_option_is_found(tmp_path):
    """The check above would be worth nothing if it never found any."""
    (tmp_path / 'x.conf').write_text('[DEFAULT]\nenable_image_imports = 1\n')
    loaded = conf.load(['--config-dir', str(tmp_path)])
    assert conf.unknown_options(loaded) == ['[DEFAULT] enable_image_imports']
    assert isinstance(loaded, cfg.ConfigOpts)
