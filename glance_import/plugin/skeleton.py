"""What ``glance-import-plugin new`` writes: a package with its own test."""

from __future__ import annotations

import pathlib
import re

FILES = {
    'pyproject.toml': '''\
[build-system]
requires = ["setuptools>=64"]
build-backend = "setuptools.build_meta"

[project]
name = "{dist}"
version = "0.1"
description = "A plugin for image imports"
requires-python = ">=3.11"

[project.entry-points."glance_import.plugins"]
{module} = "{module}:{cls}"

[tool.setuptools]
py-modules = ["{module}"]

[tool.pytest.ini_options]
pythonpath = ["."]
''',
    '{module}.py': '''\
"""A plugin for image imports: refuses images that hold a marker."""

from glance_import.plugin import ImagePlugin, Option


class {cls}(ImagePlugin):
    """Refuses images that hold a marker."""

    api = 1
    options = [
        Option('marker', str, 'EVIL', help='Images that hold it are refused.'),
    ]

    def inspect(self, data, ctx):
        marker = ctx.options.marker.encode()
        tail = b''
        for block in data:
            # The marker may begin in one block and end in another.
            window = tail + block
            if marker in window:
                ctx.log('found before byte %d', data.position)
                return self.reject('The image holds the marker.',
                                   code='{module}.marker')
            tail = window[-len(marker):]
        return self.accept()
''',
    'tests/test_{module}.py': '''\
"""Tests of the plugin; the fixture image_plugin comes with the service."""

import pytest

from {module} import {cls}


def test_accepts(image_plugin):
    plugin = image_plugin({cls})
    assert plugin.inspect(b'nothing to see').kind == 'accept'


@pytest.mark.parametrize('block', [1, 3, 1000])
def test_rejects(image_plugin, block):
    plugin = image_plugin({cls}, block=block, marker='BAD')
    verdict = plugin.inspect(b'this is BAD')
    assert (verdict.kind, verdict.code) == ('reject', '{module}.marker')
''',
    'README.rst': '''\
{title}
{line}

A plugin for image imports. Try it::

    pytest
    glance-import-plugin lint {module}.py:{cls}
    glance-import-plugin run {module}.py:{cls} --image disk.qcow2

Install it beside the service (``pip install .``), then name it in
``glance-image-import.conf``::

    [image_import_opts]
    image_import_plugins = [{module}]

    [{module}]
    marker = EVIL
''',
}


def names(name: str) -> dict[str, str]:
    """The spellings of a plugin's name.

    :raises ValueError: no identifier can be made of it
    """
    module = re.sub(r'[^a-z0-9]+', '_', name.lower()).strip('_')
    if not module.isidentifier():
        raise ValueError(f'{name!r} is no name for a plugin: letters, digits '
                         'and - only, beginning with a letter')
    words = module.split('_')
    return {'module': module, 'dist': module.replace('_', '-'),
            'cls': ''.join(word.capitalize() for word in words),
            'title': ' '.join(words), 'line': '=' * len(' '.join(words))}


def write(name: str, directory: pathlib.Path) -> list[pathlib.Path]:
    """Write the package into a new directory; the files.

    :raises ValueError: not a name
    :raises FileExistsError: the directory is there
    """
    spelled = names(name)
    directory.mkdir(parents=True)
    made = []
    for path, text in FILES.items():
        target = directory / path.format(**spelled)
        target.parent.mkdir(exist_ok=True)
        target.write_text(text.format(**spelled))
        made.append(target)
    return made
