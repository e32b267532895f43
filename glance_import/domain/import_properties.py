"""This service's own namespace: the properties that tell of an import.

Loaded where a database has no definitions at all; in the form of the files
that Glance ships. Touches nothing.
"""

import typing

NAMESPACE: dict[str, typing.Any] = {
    'namespace': 'OS::Glance::ImageImport',
    'display_name': 'Image Import',
    'description': (
        'What the import of an image says about itself. The service writes '
        'these properties; nobody else can.'),
    'visibility': 'public',
    'protected': True,
    'resource_type_associations': [
        {
            'name': 'OS::Glance::Image',
        },
    ],
    'properties': {
        'os_glance_import_error': {
            'title': 'Import Error',
            'description': (
                'Why the last import of the image failed, in a sentence. It '
                'goes with the next import.'),
            'type': 'string',
            'readonly': True,
        },
        'os_glance_import_error_code': {
            'title': 'Import Error Code',
            'description': (
                'The same for programs, such as refused.format or '
                'unavailable.'),
            'type': 'string',
            'readonly': True,
        },
        'os_glance_import_task': {
            'title': 'Import Task',
            'description': 'The task of the import that runs now.',
            'type': 'string',
            'readonly': True,
        },
        'os_glance_importing_to_stores': {
            'title': 'Importing to Stores',
            'description': (
                'Stores that the running import has still to write the '
                'image to, with commas between them.'),
            'type': 'string',
            'readonly': True,
        },
        'os_glance_failed_import': {
            'title': 'Failed Stores',
            'description': (
                'Stores that the last import could not write the image to, '
                'with commas between them.'),
            'type': 'string',
            'readonly': True,
        },
    },
}
