"""Definitions as files: Glance's own, an operator's, and what is wrong."""

import json
import os

import pytest

from glance_import.db import metadefs as db_metadefs
from glance_import.db import upgrade
from glance_import.domain import import_properties
from glance_import.domain import metadef_files
from glance_import.domain import metadef_kinds as kinds
from glance_import import errors
from tests.db import conftest as databases

P = {'title': 'T', 'type': 'string'}


@pytest.fixture
def database(tmp_path):
    made = databases.make_database(f'sqlite:///{tmp_path}/glance.sqlite')
    upgrade.sync(made)
    yield made
    made.dispose()


@pytest.fixture
def write(tmp_path):
    """Write a namespace to a file of the directory to load."""
    (tmp_path / 'in').mkdir()

    def write(value, name='n.json'):
        path = tmp_path / 'in' / name
        path.write_text(value if isinstance(value, str)
                        else json.dumps(value))
        return str(path)
    return write


def content(value):
    """What a file says: an empty list says nothing, associations no order."""
    said = {name: item for name, item in value.items() if item not in ([], {})}
    if 'resource_type_associations' in said:
        said['resource_type_associations'] = sorted(
            said['resource_type_associations'], key=lambda each: each['name'])
    return said


def read(directory):
    found = [json.loads(path.read_text())
             for path in sorted(directory.glob('*.json'))]
    return {each['namespace']: content(each) for each in found}


def test_what_glance_ships(api, shipped, tmp_path):
    """Loaded by the command, listed and shown, and exported equal."""
    theirs = read(shipped)
    assert len(theirs) > 30
    done = api.run('manage', 'db', 'load-metadefs', str(shipped))
    assert (done.returncode, done.stdout) == (
        0, f'{len(theirs)} loaded, 0 changed, 0 kept\n'), done
    listed, marker = {}, ''
    while True:
        page = api.request('GET', '/v2/metadefs/namespaces?limit=10'
                           + marker).json
        listed |= {each['namespace']: each for each in page['namespaces']}
        if 'next' not in page:
            break
        marker = f"&marker={page['namespaces'][-1]['namespace']}"
    assert set(theirs) <= set(listed)
    for name, said in theirs.items():
        shown = api.request('GET', listed[name]['self']).json
        assert shown['owner'] == 'admin'
        assert set(shown.get('properties', {})) == set(
            said.get('properties', {}))
        assert [each['name'] for each in shown.get('objects', [])] == [
            each['name'] for each in said.get('objects', [])]
    out = tmp_path / 'out'
    done = api.run('manage', 'db', 'export-metadefs', str(out))
    assert done.returncode == 0, done
    ours = read(out)
    assert {name: ours[name] for name in theirs} == theirs
    assert set(ours) - set(theirs) == {'OS::Glance::ImageImport'}
    # And what was exported is loaded again, to the same.
    done = api.run('manage', 'db', 'load-metadefs', str(out), '--overwrite')
    assert done.stdout == f'0 loaded, {len(ours)} changed, 0 kept\n', done
    again = tmp_path / 'again'
    assert api.run('manage', 'db', 'export-metadefs',
                   str(again)).returncode == 0
    assert read(again) == ours
    done = api.run('manage', 'db', 'unload-metadefs', 'OS::Software::DBMS')
    assert done.stdout == '1 deleted\n'
    done = api.run('manage', 'db', 'unload-metadefs')
    assert done.stdout == f'{len(ours) - 1} deleted\n'
    assert api.request('GET', '/v2/metadefs/namespaces').json[
        'namespaces'] == []
    assert api.request('GET', '/v2/metadefs/resource_types').json == {
        'resource_types': []}
    done = api.run('manage', 'db', 'sync')
    assert 'loaded those of this service' in done.stdout
    assert 'loaded' not in api.run('manage', 'db', 'sync').stdout


def test_commands_that_are_refused(api, tmp_path):
    for words, said in (
            (('load-metadefs', str(tmp_path)), 'no file'),
            (('load-metadefs', str(tmp_path / 'no')), 'not there'),
            (('load-metadefs', '--merge', '--overwrite', '.'), 'Only one'),
            (('unload-metadefs', 'nothing'), 'nothing'),
            (('export-metadefs', '/proc/no'), '/proc/no')):
        done = api.run('manage', 'db', *words)
        assert done.returncode == 1 and said in done.stderr, done
        assert done.stderr.count('\n') == 1


def exported(database, tmp_path):
    metadef_files.export(database, str(tmp_path / 'out'))
    return read(tmp_path / 'out')


OLD = {'namespace': 'n', 'display_name': 'old', 'properties': {
    'both': P, 'only old': P}, 'tags': [{'name': 'old'}],
    'resource_type_associations': [{'name': 'X', 'prefix': 'old'}],
    'objects': [{'name': 'o', 'properties': {'a': P}, 'required': ['a']}]}
NEW = {'namespace': 'n', 'display_name': 'new', 'owner': 'red',
       'properties': {'both': {**P, 'title': 'new'}, 'only new': P},
       'tags': [{'name': 'new'}],
       'resource_type_associations': [{'name': 'X', 'prefix': 'new'},
                                      {'name': 'Y'}],
       'objects': [{'name': 'o', 'properties': {'b': P}}]}


@pytest.mark.parametrize('mode, display, title, properties, tags, prefix', [
    ('keep', 'old', 'T', {'both', 'only old'}, {'old'}, 'old'),
    ('merge', 'old', 'T', {'both', 'only old', 'only new'}, {'old', 'new'},
     'old'),
    ('prefer-new', 'new', 'new', {'both', 'only old', 'only new'},
     {'old', 'new'}, 'new'),
    ('overwrite', 'new', 'new', {'both', 'only new'}, {'new'}, 'new')])
def test_what_is_there_already(database, write, tmp_path, mode, display,
                               title, properties, tags, prefix):
    metadef_files.load(database, write(OLD))
    assert exported(database, tmp_path) == {'n': content(OLD)}
    metadef_files.load(database, write(NEW), mode)
    found = exported(database, tmp_path)['n']
    assert found['display_name'] == display
    assert found['properties']['both']['title'] == title
    assert set(found['properties']) == properties
    assert {each['name'] for each in found['tags']} == tags
    assert found['resource_type_associations'][0]['prefix'] == prefix
    assert found['objects'][0]['properties'].keys() == (
        {'a'} if display == 'old' else {'b'})
    assert found.get('owner') == (None if display == 'old' else 'red')


@pytest.mark.parametrize('value, said', [
    ('{', 'is not JSON'), ('[' * 100_000, 'nests'), ('[]', 'object'),
    ({}, 'namespace'), ({'namespace': 'a' * 81}, 'namespace'),
    ('{"namespace": "n", "description": "\\ud800"}', 'surrogates'),
    ('{"namespace": "n\\u0000"}', 'NUL'),
    ('{"namespace": "n", "properties": {"p": {"title": "t", '
     '"type": "number", "minimum": 1e999}}}', 'too large'),
    ({'namespace': 'n', 'properties': {'p': {'type': 'string'}}},
     'properties.p'),
    ({'namespace': 'n', 'tags': [{'name': 'x'}] * 2}, 'x'),
    ({'namespace': 'n', 'visibility': 'shared'}, 'visibility'),
    ({'namespace': 'n', 'created_at': '2024'}, 'read-only')])
def test_a_file_that_is_wrong_loads_nothing(database, write, tmp_path, value,
                                            said):
    write({'namespace': 'fine'}, 'a.json')
    write(value, 'b.json')
    with pytest.raises(errors.DomainError) as refused:
        metadef_files.load(database, str(tmp_path / 'in'))
    assert said in str(refused.value)
    assert isinstance(refused.value, errors.Conflict) or str(
        refused.value).startswith(str(tmp_path / 'in' / 'b.json'))
    with database.read() as conn:
        assert db_metadefs.is_empty(conn)


def test_two_files_of_one_namespace(database, write, tmp_path):
    write(OLD, 'a.json')
    write(NEW, 'b.json')
    with pytest.raises(errors.Invalid, match='defined in .*a.json'):
        metadef_files.load(database, str(tmp_path / 'in'))


def test_what_glance_exports(database, write, tmp_path):
    """With null for what is not there, and all lists."""
    metadef_files.load(database, write({
        'namespace': 'n', 'display_name': None, 'description': None,
        'visibility': None, 'protected': None, 'properties': {},
        'objects': [{'name': 'o', 'description': None, 'properties': {}}],
        'tags': [], 'resource_type_associations': [
            {'name': 'X', 'prefix': None, 'properties_target': None}]}))
    assert exported(database, tmp_path) == {'n': {
        'namespace': 'n', 'objects': [{'name': 'o', 'properties': {}}],
        'resource_type_associations': [{'name': 'X'}]}}


def test_names_that_are_no_file_names(database, write, tmp_path):
    """Each namespace has a file of its own, and none is elsewhere."""
    names = ['..', '::', 'a:b', 'a::b', 'ü', '', 'x' * 80]
    for number, name in enumerate(filter(None, names)):
        write({'namespace': name}, f'{number}.json')
    metadef_files.load(database, str(tmp_path / 'in'))
    files = metadef_files.export(database, str(tmp_path / 'out'))
    assert len(set(files)) == 6
    assert set(read(tmp_path / 'out')) == set(filter(None, names))


def test_our_own_is_one_that_loads():
    file = metadef_files._rows('own', import_properties.NAMESPACE)
    names = {row['name'] for kind, rows in file.held
             if kind is kinds.PROPERTY for row in rows}
    assert names and all(name.startswith('os_glance') for name in names)


def test_what_glance_let_be_made_loads_again(api, tmp_path):
    """Exported of a database of Glance's, though a request may not say so."""
    value = {'namespace': 'sl/ash', 'properties': {
        'p': {'title': 't', 'type': 'string', 'enum': [1, 2],
              'pattern': r'^[\w-\.]+$'},
        'q': {'title': 't', 'type': 'string',
              'pattern': '^(?<name>[a-z]+)$'}}}
    (tmp_path / 'in.json').write_text(json.dumps(value))
    assert api.run('manage', 'db', 'load-metadefs', str(tmp_path / 'in.json')
                   ).returncode == 0
    out = tmp_path / 'out'
    done = api.run('manage', 'db', 'export-metadefs', str(out), '--json')
    path, = (each['file'] for each in json.loads(done.stdout)
             if 'sl-ash' in each['file'])
    with open(path) as file:
        assert json.load(file)['properties'] == value['properties']
    done = api.run('manage', 'db', 'load-metadefs', path, '--overwrite',
                   '--overwrite', '--format', 'value')
    assert done.stdout == 'sl/ash\tchanged\n', done


def test_what_is_no_file_is_not_waited_for(api, tmp_path):
    os.mkfifo(tmp_path / 'pipe.json')
    done = api.run('manage', 'db', 'load-metadefs', str(tmp_path))
    assert done.returncode == 1 and 'no file' in done.stderr
    done = api.run('manage', 'db', 'load-metadefs',
                   str(tmp_path / 'pipe.json'))
    assert done.returncode == 1 and 'no file' in done.stderr
