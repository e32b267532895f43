"""Run by the clients' Python: metadata definitions by each of the clients.

In one process, since a command takes a second to start: what is run is what
the commands run.
"""

import contextlib
import io
import json
import sys

from glanceclient import shell as glanceclient
import openstack
from openstack import exceptions
from openstackclient import shell as openstackclient

SCHEMA = '{"description": "D", "enum": ["a", "b"]}'
OBJECT = '{"description": "O", "properties": {"p": {"title": "P", ' \
    '"type": "string"}}, "required": ["p"]}'


def captured(shell, method, *words):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        # Made anew each time: it keeps what it was told, and where to print.
        status = getattr(shell(), method)(list(words))
    assert not status, (words, status, out.getvalue(), err.getvalue())
    return out.getvalue()


def glance(*words):
    return captured(glanceclient.OpenStackImagesShell, 'main', *words)


def command(*words):
    return captured(openstackclient.OpenStackShell, 'run', *words)


def metadef(*words):
    return command('image', 'metadef', *words)


def walk_glance(file):
    glance('md-namespace-create', 'g', '--display-name', 'G',
           '--visibility', 'public', '--protected', 'False')
    assert 'G2' in glance('md-namespace-update', 'g', '--display-name', 'G2')
    assert '| g ' in glance('md-namespace-list', '--visibility', 'public')
    glance('md-resource-type-associate', 'g', '--name', 'X', '--prefix', 'x_')
    assert 'X' in glance('md-namespace-resource-type-list', 'g')
    assert '| X ' in glance('md-resource-type-list')
    assert '| g ' in glance('md-namespace-list', '--resource-types', 'X',
                            '--page-size', '1')
    glance('md-property-create', 'g', '--name', 'p', '--title', 'P',
           '--type', 'string', '--schema', SCHEMA)
    glance('md-property-update', 'g', 'p', '--title', 'New')
    assert 'New' in glance('md-property-show', 'g', 'p')
    assert '| p ' in glance('md-property-list', 'g')
    assert 'x_p' in glance('md-namespace-show', 'g', '--resource-type', 'X')
    glance('md-object-create', 'g', '--name', 'o', '--schema', OBJECT)
    assert 'P' in glance('md-object-property-show', 'g', 'o', 'p')
    glance('md-object-update', 'g', 'o', '--name', 'o2')
    assert 'o2' in glance('md-object-show', 'g', 'o2')
    assert 'o2' in glance('md-object-list', 'g')
    glance('md-tag-create', 'g', '--name', 't')
    glance('md-tag-update', 'g', 't', '--name', 't2')
    # With --append it fails by itself, on a header that is no string.
    glance('md-tag-create-multiple', 'g', '--names', 'a:c', '--delim', ':')
    assert 't2' not in glance('md-tag-list', 'g')
    assert 'c' in glance('md-tag-show', 'g', 'c')
    for words in (('tag-delete', 'g', 'c'), ('object-delete', 'g', 'o2'),
                  ('property-delete', 'g', 'p'),
                  ('resource-type-deassociate', 'g', 'X'),
                  ('namespace-tags-delete', 'g'),
                  ('namespace-objects-delete', 'g'),
                  ('namespace-properties-delete', 'g'),
                  ('namespace-delete', 'g')):
        glance(f'md-{words[0]}', *words[1:])
    glance('md-namespace-import', '--file', file)
    assert 'From a file' in glance('md-namespace-show', 'imported')
    glance('md-namespace-delete', 'imported')


def walk_openstack():
    metadef('namespace', 'create', 'o', '--display-name', 'O', '--public',
            '--unprotected')
    metadef('namespace', 'set', 'o', '--description', 'D', '--public',
            '--tag', 'one', '--tag', 'two')
    assert 'D' in metadef('namespace', 'show', 'o')
    assert '| o ' in metadef('namespace', 'list', '--visibility', 'public')
    metadef('namespace', 'unset', 'o', '--tag', 'one')
    metadef('namespace', 'unset', 'o', '--all-tags')
    metadef('property', 'create', 'o', '--name', 'p', '--title', 'P',
            '--type', 'string', '--schema', SCHEMA)
    metadef('property', 'set', 'o', 'p', '--title', 'New')
    assert 'New' in metadef('property', 'show', 'o', 'p')
    assert '| p ' in metadef('property', 'list', 'o')
    metadef('object', 'create', '--namespace', 'o', 'thing')
    metadef('object', 'update', 'o', 'thing', '--name', 'thing2')
    assert 'thing2' in metadef('object', 'show', 'o', 'thing2')
    assert 'thing2' in metadef('object', 'list', 'o')
    type_ = ('resource', 'type', 'association')
    metadef(*type_, 'create', 'o', 'Y')
    assert '| Y ' in metadef(*type_, 'list', 'o')
    assert 'Y' in metadef('resource', 'type', 'list')
    metadef(*type_, 'delete', 'o', 'Y')
    metadef('object', 'delete', 'o', 'thing2')
    metadef('property', 'delete', 'o', 'p')
    metadef('namespace', 'delete', 'o')


def walk_sdk():
    image = openstack.connect(load_yaml_config=False).image
    made = image.create_metadef_namespace(
        namespace='s', display_name='S', visibility='public')
    assert image.get_metadef_namespace('s').display_name == 'S'
    image.update_metadef_namespace(made, description='D')
    # What is not said is reset, as in Glance, and the SDK says what changed.
    assert image.get_metadef_namespace('s').visibility == 'private'
    found = list(image.metadef_namespaces(limit=1))
    assert 's' in [each.namespace for each in found], found
    image.add_tag_to_metadef_namespace(made, 'one')
    image.remove_tag_from_metadef_namespace(made, 'one')
    image.remove_tags_from_metadef_namespace(made)
    association = image.create_metadef_resource_type_association(
        made, name='Z', prefix='z_')
    assert 'Z' in {each.name for each in image.metadef_resource_types()}
    image.create_metadef_property(made, name='p', type='string', title='P',
                                  default=5)
    image.update_metadef_property('p', made, name='p', type='string',
                                  title='New')
    assert image.get_metadef_property('p', made).title == 'New'
    assert [each.name for each in image.metadef_properties(made)] == ['p']
    image.create_metadef_object(made, name='o', required=['p'], properties={
        'p': {'type': 'string', 'title': 'P'}})
    image.update_metadef_object('o', made, name='o2')
    assert image.get_metadef_object('o2', made).name == 'o2'
    assert len(list(image.metadef_objects(made))) == 1
    for name in ('namespace', 'namespaces', 'object', 'objects', 'property',
                 'properties', 'tag', 'tags', 'resource_type',
                 'resource_types'):
        assert getattr(image, f'get_metadef_{name}_schema')().properties
    assert [each.prefix for each in
            image.metadef_resource_type_associations(made)] == ['z_']
    image.delete_metadef_resource_type_association(association, made)
    image.delete_metadef_object('o2', made)
    image.delete_metadef_property('p', made)
    image.delete_all_metadef_objects(made)
    image.delete_all_metadef_properties(made)
    image.delete_metadef_namespace(made)
    try:
        image.get_metadef_namespace('s')
    except exceptions.NotFoundException:
        return
    raise AssertionError('it is still there')


def main(directory):
    file = f'{directory}/namespace.json'
    with open(file, 'w') as out:
        json.dump({'namespace': 'imported', 'display_name': 'From a file',
                   'tags': [{'name': 't'}], 'objects': [json.loads(
                       OBJECT) | {'name': 'o'}]}, out)
    walk_sdk()
    walk_openstack()
    walk_glance(file)


if __name__ == '__main__':
    main(*sys.argv[1:])
