"""glance-import-manage plugins: what is listed, what it would say, the flow.

Starts plugins as the service would, on local files; of the database it reads
what plugins have said.
"""

from __future__ import annotations

import contextvars
import json
import os
import sys
import time
import types
import typing

from oslo_config import cfg
from oslo_config import generator
from taskflow import flow

from glance_import.cmd import dry_run as trial
from glance_import.cmd import opening
from glance_import.cmd import output
from glance_import.cmd import plugin as cmd_plugin
from glance_import import conf as configuration
from glance_import.conf import plugins as conf_plugins
from glance_import import context
from glance_import.db import jobs as db_jobs
from glance_import.db import verdicts as db_verdicts
from glance_import.imports import admission
from glance_import.imports import flow as import_flow
from glance_import.imports import methods
from glance_import.imports import outcome
from glance_import.imports import runtime
from glance_import.plugin import chain
from glance_import.plugin import entry_points
from glance_import.plugin import registry
from glance_import import services

NAME = 'plugins'
HELP = 'The configured plugins: list them, try them on a file, draw the flow.'

NAMESPACE = 'glance_import.listed_plugins'
# Handed past oslo-config-generator, which finds list_opts by its name.
_in_force: contextvars.ContextVar[cfg.ConfigOpts | None] = \
    contextvars.ContextVar('glance_import_conf', default=None)
_LIMITS = ('timeout', 'idle_timeout', 'cpu', 'memory', 'tmp', 'processes',
           'files')


def _load(conf: cfg.ConfigOpts
          ) -> tuple[registry.Registry, list[registry.Loaded]]:
    found = registry.Registry(conf)
    return found, found.load(conf.image_import_opts.image_import_plugins)


def list_(conf: cfg.ConfigOpts) -> int:
    """List the plugins in the order in which an import runs them."""
    _registry, loaded = _load(conf)
    isolation = conf.image_import_opts.isolation
    rows = [_row(number, plugin, isolation)
            for number, plugin in enumerate(loaded, 1)]
    if output.chosen(conf) == output.JSON:
        print(json.dumps(rows, indent=2))
        return 0
    if output.chosen(conf):
        output.rows(conf, [{name: row.get(name) for name in (
            'order', 'name', 'kind', 'version', 'isolation', 'section',
            'enforcement')} for row in rows])
        return 0
    if not rows:
        print('no plugins are configured')
    for row in rows:
        print(f"{row['order']}. {row['name']}  {row['kind']}"
              f"  version {row['version']}  isolation {row['isolation']}")
        if row['kind'] != 'get_flow':
            print(f"   [{row['section']}] {', '.join(row['methods'])}; "
                  f"enforcement {row['enforcement']}; failure_policy "
                  f"{row['failure_policy']}; may write "
                  f"{', '.join(row['allowed_properties']) or 'nothing'}")
            print('   limits: ' + ', '.join(
                f'{name} {value}' for name, value in row['limits'].items()))
    return 0


def _row(number: int, plugin: registry.Loaded, isolation: str
         ) -> dict[str, typing.Any]:
    if not isinstance(plugin, chain.Plugin):
        return {'order': number, 'name': plugin.name, 'kind': plugin.kind,
                'version': _version(plugin.name), 'isolation': 'none'}
    settings = plugin.settings
    return {
        'order': number, 'name': plugin.name, 'kind': plugin.kind,
        'version': plugin.version, 'isolation': isolation,
        'section': plugin.section, 'methods': list(plugin.methods),
        'enforcement': settings.enforcement,
        'failure_policy': settings.failure_policy,
        'allowed_properties': list(settings.allowed_properties),
        'limits': {name: _amount(name, getattr(settings.limits, name))
                   for name in _LIMITS}}


def _version(name: str) -> str:
    point = entry_points.find(entry_points.PLUGINS, name)
    return point.dist.version if point and point.dist else 'unknown'


def _amount(name: str, value: float) -> str:
    if name in ('memory', 'tmp'):
        return f'{int(value) >> 20} MiB'
    return f'{value:g} s' if name in ('timeout', 'idle_timeout',
                                      'cpu') else str(value)


def dry_run(conf: cfg.ConfigOpts) -> int:
    """Import a local file with the configured plugins; store nothing.

    All that an import does, in a temporary directory, on a copy of the file:
    the judge of contents, contract and get_flow plugins, in their order. Exit
    status 0 when the image would pass, 1 when it would be refused or held.
    """
    words = conf.command
    path = os.path.abspath(words.image)
    if not os.path.isfile(path):
        raise entry_points.ExtensionError(f'there is no file {path}')
    try:
        image = cmd_plugin._image(words.meta or [], path)
    except cmd_plugin.Unusable as failure:
        raise entry_points.ExtensionError(str(failure)) from failure
    # Found out, not told.
    for name in ('id', 'size', 'virtual_size', 'detected_format'):
        image.pop(name, None)
    found = trial.run(
        conf, path, {**image.pop('properties'), **image},
        lambda plugin, text: print(f'{plugin}: log: {text}',
                                   file=sys.stderr if output.chosen(conf)
                                   else sys.stdout),
        directory=words.directory)
    if output.chosen(conf):
        output.rows(conf, [record.audit() for record in found.verdicts])
    else:
        _tell(found)
    return 0 if found.passed else 1


def _tell(found: trial.Trial) -> None:
    for record in found.verdicts:
        print(f'{record.plugin}: {cmd_plugin.describe(record)}')
    for warning in found.warnings:
        print(f'warning: {warning}')
    if found.failed is not None:
        print(f'the image would be refused: {found.failed}')
    elif found.held is not None:
        print(f'the image would be held: {found.held}')
    else:
        print(f'the image would be {found.image.size} bytes of '
              f'{found.image.disk_format}')
        print('the image would pass')


def audit(conf: cfg.ConfigOpts) -> int:
    """Show what plugins have said of an image, in imports that have ended.

    As long as plugin_audit_lifetime says. "let_through": the plugin wanted
    otherwise, and its section let the image pass. "digest" is that of the
    code and options that ran.
    """
    with opening.opened(conf) as opened, opened.db.read() as conn:
        found = db_verdicts.of(conn, conf.command.id)
    output.rows(conf, [{
        'import': kept.id, 'image': kept.image_id,
        'ended': time.strftime('%Y-%m-%dT%H:%M:%SZ',
                               time.gmtime(kept.ended_at)),
        **{name: said.get(name) for name in (
            'plugin', 'step', 'verdict', 'let_through', 'code', 'reason',
            'digest')}} for kept in found for said in kept.plugins])
    return 0


# -- the flow, drawn

def draw(conf: cfg.ConfigOpts) -> int:
    """Draw the steps of an import with its plugins.

    They are those of the flow that an import by that method runs.
    """
    _registry, loaded = _load(conf)
    try:
        steps = import_flow.outline(
            _flow(conf, loaded, conf.command.method))
    except outcome.PluginFailed as failure:
        raise entry_points.ExtensionError(
            f'{failure.plugin}: {failure}') from failure
    print(_DRAWN[conf.command.format](steps))
    return 0


def _flow(conf: cfg.ConfigOpts, loaded: list[registry.Loaded], method: str
          ) -> flow.Flow:
    """The flow of an import that nobody has asked for, to look at."""
    listed = loaded if methods.find(method).plugins else []
    job = db_jobs.Job(
        id='drawn', image_id='drawn', project=None, user_id=None, area=None,
        method=method, roles=[], request_id=None, request={},
        plugins=[each.name for each in listed], epoch=0, attempts=0,
        owner=None, cancel=False, step=None)
    # Making a flow looks at options and touches nothing.
    unopened = typing.cast(services.Services,
                           types.SimpleNamespace(conf=conf))
    with runtime.use(runtime.Runtime(
            unopened, job, db_jobs.Lease(job.id, '', 0),
            context.RequestContext(),
            runtime.Stop(), plugins=listed)):
        return typing.cast(flow.Flow, import_flow.get_flow(
            task_id=job.id, task_type=admission.TASK_TYPE,
            image_id=job.image_id, method=method,
            import_req={'method': {'name': method}}, plugins=job.plugins,
            backend=[None]))


def _text(steps: list[list[str]]) -> str:
    return '\n  |\n'.join(' || '.join(f'[{each}]' for each in step)
                          for step in steps)


def _quoted(text: str) -> str:
    return text.replace('\\', '\\\\').replace('"', '\\"')


def _dot(steps: list[list[str]]) -> str:
    lines = ['digraph import {', '  node [shape=services];']
    for row, step in enumerate(steps):
        lines += [f'  s{row}_{column} [label="{_quoted(each)}"];'
                  for column, each in enumerate(step)]
    for row in range(len(steps) - 1):
        lines += [f'  s{row}_{a} -> s{row + 1}_{b};'
                  for a in range(len(steps[row]))
                  for b in range(len(steps[row + 1]))]
    return '\n'.join([*lines, '}'])


_BOX, _GAP, _HIGH, _DOWN = 260, 20, 34, 30


def _svg(steps: list[list[str]]) -> str:
    wide = max(len(step) for step in steps) * (_BOX + _GAP) + _GAP
    high = len(steps) * (_HIGH + _DOWN)
    shapes = []
    centres: list[list[int]] = []
    for row, step in enumerate(steps):
        left = (wide - len(step) * (_BOX + _GAP) + _GAP) // 2
        top = row * (_HIGH + _DOWN) + 1
        here = [left + column * (_BOX + _GAP) + _BOX // 2
                for column in range(len(step))]
        for centre, each in zip(here, step):
            shapes.append(
                f'<rect x="{centre - _BOX // 2}" y="{top}" width="{_BOX}" '
                f'height="{_HIGH}" rx="4" fill="none" stroke="black"/>'
                f'<text x="{centre}" y="{top + 22}" text-anchor="middle" '
                f'font-family="sans-serif" font-size="13">{_xml(each)}'
                '</text>')
        for before in (centres[-1] if centres else []):
            shapes += [f'<line x1="{before}" y1="{top - _DOWN}" '
                       f'x2="{after}" y2="{top}" stroke="black"/>'
                       for after in here]
        centres.append(here)
    return '\n'.join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" '
        f'height="{high}">', *shapes, '</svg>'])


def _xml(text: str) -> str:
    return (text.replace('&', '&amp;').replace('<', '&lt;')
            .replace('>', '&gt;'))


def sample(conf: cfg.ConfigOpts) -> int:
    """Print the sections of the listed plugins, with all their options."""
    options = cfg.ConfigOpts()
    generator.register_cli_opts(options)
    options(['--namespace', NAMESPACE], default_config_files=[])
    _in_force.set(conf)
    generator.generate(options, sys.stdout)
    return 0


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """The same for oslo-config-generator, on the configuration in force."""
    conf = _in_force.get() or configuration.load(
        configuration.environment_args(os.environ))
    known = registry.Registry(conf)
    sections = dict.fromkeys(
        plugin.section for plugin in known.load(
            conf.image_import_opts.image_import_plugins)
        if isinstance(plugin, chain.Plugin))
    return [(section, [*conf_plugins.OPTS, *conf_plugins.declared(
        known.declared[section])]) for section in sections]


_DRAWN = {'text': _text, 'dot': _dot, 'svg': _svg}

# name: (function, [(flags, argparse options), ...])
COMMANDS: dict[str, tuple] = {
    'list': (list_, ()),
    'dry-run': (dry_run, (
        (('--image',), {'required': True, 'help': 'the local file'}),
        (('--meta',), {'action': 'append', 'metavar': 'K=V',
                       'help': 'metadata; what is no field is a property'}),
        (('--directory',), {'help': 'where there is room for a copy of it '
                            '($TMPDIR)'}))),
    'audit': (audit, (
        (('id',), {'help': 'of an image or of an import'}),)),
    'sample': (sample, ()),
    'draw': (draw, (
        (('--format',), {'choices': sorted(_DRAWN), 'default': 'text',
                         'help': 'text (default), dot or svg'}),
        (('--method',), {'choices': sorted(methods.TABLE),
                         'default': 'glance-direct',
                         'help': 'the import method (glance-direct)'}))),
}
