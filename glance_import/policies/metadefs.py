"""Rules about metadata definitions: their names and defaults are Glance's.

Whoever sees a namespace sees what it holds. Definitions are the cloud's, so
by default an administrator alone changes them.
"""

from oslo_policy import policy

from glance_import.policies import base

_rule = base.rule
_NAMESPACES = '/v2/metadefs/namespaces'
_ONE = f'{_NAMESPACES}/{{namespace}}'
_TYPES = '/v2/metadefs/resource_types'
_ADMIN = 'rule:metadef_admin'
# A public namespace is everybody's to see.
_SEEN = (f"{base.ADMIN} or (role:reader and (project_id:%(project_id)s or "
         "'public':%(visibility)s))")


def _of(kind: str, plural: str, delete: str
        ) -> tuple[policy.DocumentedRuleDefault, ...]:
    """The rules of a kind that a namespace holds."""
    many, one = f'{_ONE}/{plural}', f'{_ONE}/{plural}/{{name}}'
    # A tag is made by its path.
    new = one if kind == 'tag' else many
    read = [('GET', one)]
    if kind == 'object':
        # Also asked about each of the list.
        read.append(('GET', many))
    return (
        _rule(f'get_metadef_{kind}', _SEEN, f'See one of the {plural} of a '
              'namespace.', *read),
        _rule(f'get_metadef_{plural}', _SEEN, f'List the {plural} of a '
              'namespace; also asked of who shows the namespace.',
              ('GET', many), ('GET', _ONE)),
        _rule(f'add_metadef_{kind}', _ADMIN, f'Add one of the {plural} of a '
              'namespace; also asked of who creates a namespace with some.',
              ('POST', new), ('POST', _NAMESPACES)),
        _rule(f'modify_metadef_{kind}', _ADMIN, f'Change one of the {plural} '
              'of a namespace.', ('PUT', one)),
        _rule(delete, _ADMIN, f'Delete one of the {plural} of a namespace.',
              ('DELETE', one)))


RULES = (
    policy.RuleDefault('metadef_default', '',
                       'Not asked any more; a policy file may name it.',
                       scope_types=['project']),
    policy.RuleDefault('metadef_admin', base.ADMIN,
                       'Who changes metadata definitions.',
                       scope_types=['project']),
    _rule('get_metadef_namespace', _SEEN,
          'See a namespace; also asked about each of the list.',
          ('GET', _ONE), ('GET', _NAMESPACES)),
    _rule('get_metadef_namespaces', base.ADMIN_OR_PROJECT_READER,
          'List namespaces.', ('GET', _NAMESPACES)),
    _rule('add_metadef_namespace', _ADMIN, 'Create a namespace.',
          ('POST', _NAMESPACES)),
    _rule('modify_metadef_namespace', _ADMIN, 'Change a namespace.',
          ('PUT', _ONE)),
    _rule('delete_metadef_namespace', _ADMIN,
          'Delete a namespace, or all of one kind that it holds.',
          ('DELETE', _ONE), *(('DELETE', f'{_ONE}/{plural}') for plural
                              in ('objects', 'properties', 'tags'))),
    *_of('object', 'objects', 'delete_metadef_object'),
    *_of('property', 'properties', 'remove_metadef_property'),
    *_of('tag', 'tags', 'delete_metadef_tag'),
    _rule('add_metadef_tags', _ADMIN,
          'Replace the tags of a namespace, or append to them.',
          ('POST', f'{_ONE}/tags')),
    _rule('delete_metadef_tags', _ADMIN,
          'Delete all tags of a namespace; delete_metadef_namespace is asked '
          'too.', ('DELETE', f'{_ONE}/tags')),
    _rule('list_metadef_resource_types', _SEEN,
          'List resource types, and see which a namespace is for.',
          ('GET', _TYPES), ('GET', f'{_ONE}/resource_types'),
          ('GET', _NAMESPACES), ('GET', _ONE)),
    _rule('get_metadef_resource_type', _SEEN,
          'See a resource type that a namespace is for; also asked of who '
          'names a property as it is for one.',
          ('GET', f'{_ONE}/resource_types'),
          ('GET', f'{_ONE}/properties/{{name}}')),
    _rule('add_metadef_resource_type_association', _ADMIN,
          'Associate a namespace with a resource type; also asked of who '
          'creates a namespace with some.',
          ('POST', f'{_ONE}/resource_types'), ('POST', _NAMESPACES)),
    _rule('remove_metadef_resource_type_association', _ADMIN,
          'End the association with a resource type.',
          ('DELETE', f'{_ONE}/resource_types/{{name}}')),
)
