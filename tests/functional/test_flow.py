"""The flow's factory: plain JSON in, the same steps out, nothing touched."""

import json

from glance_import import conf as configuration
from glance_import import context
from glance_import.db import jobs as db_jobs
from glance_import.imports import flow as import_flow
from glance_import.imports import runtime
from glance_import.plugin import entry_points
from glance_import.plugin import registry

ARGUMENTS = {
    'task_id': '11111111-1111-4111-8111-111111111111',
    'task_type': 'api_image_import',
    'image_id': '22222222-2222-4222-8222-222222222222',
    'method': 'glance-direct',
    'import_req': {'method': {'name': 'glance-direct'}},
    'plugins': ['no_op'], 'backend': [None]}


class _Untouchable:
    """Services that must not be used while a flow is built.

    What the plugins' names mean is known by then.
    """

    def __getattr__(self, name):
        raise AssertionError(f'the factory used the services: {name}')


def build():
    rt = runtime.Runtime(
        services=_Untouchable(),
        job=db_jobs.Job(
            id=ARGUMENTS['task_id'], image_id=ARGUMENTS['image_id'],
            project='p', user_id='u', area=None, method='glance-direct',
            roles=[], request_id='req-1', request={}, plugins=['no_op'],
            epoch=1, attempts=1, owner='t', cancel=False, step=None),
        lease=db_jobs.Lease(ARGUMENTS['task_id'], 't', 1),
        context=context.RequestContext(), stopped=None,
        plugins=registry.Registry(configuration.new()).load(['no_op']))
    make = entry_points.load(entry_points.FLOWS, 'api_image_import')
    assert make is import_flow.get_flow
    with runtime.use(rt):
        return make(**json.loads(json.dumps(ARGUMENTS)))


def test_same_steps_each_time():
    names = list(import_flow.atom_names(build()))
    assert names == list(import_flow.atom_names(build()))
    assert len(names) == len(set(names))
    steps = [name.split('-')[1] for name in names]
    assert steps == ['ConfigureStaging', 'NoOp', 'Check', 'CheckContent',
                     'ImportToStore', 'CompleteTask', 'DeleteFromFS']


def test_plugins_own_their_atoms():
    flow = build()
    owners = import_flow.owners(flow)
    assert {name.split('-')[1] for name in owners} == {'NoOp', 'Check'}
    assert set(owners.values()) == {'no_op'}
