"""What an import of a local file would come to, tried and thrown away.

A database, a staging area and a store of its own in a temporary directory;
in them a real import by the method glance-direct, with the plugins and the
options that are configured. Touches nothing of the service's.
"""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import logging
import os
import tempfile
import typing
import uuid

from oslo_config import cfg

from glance_import import context
from glance_import.db import images as db_images
from glance_import.db import jobs as db_jobs
from glance_import.db import tasks as db_tasks
from glance_import.db import upgrade
from glance_import.domain import images
from glance_import import errors
from glance_import.imports import admission
from glance_import.imports import executor
from glance_import.imports import holding
from glance_import.imports import methods
from glance_import.imports import runtime
from glance_import.plugin import entry_points
from glance_import.plugin import verdicts
from glance_import import services as all_services
from glance_import.staging import formats
from glance_import import startup
from glance_import import states
from glance_import.uploads import receiving
from glance_import.uploads import stage

_BLOCK = 4 << 20
_PLUGIN_LOG = 'glance_import.imports.contract_step'


@dataclasses.dataclass(frozen=True)
class Trial:
    """How the import ended.

    :ivar verdicts: of the contract plugins, in their order
    :ivar held: by whom and why, if a plugin holds it
    :ivar failed: why it failed, if it did
    :ivar image: as it would be
    """

    verdicts: list[verdicts.Result]
    warnings: list[str]
    held: str | None
    failed: str | None
    image: db_images.Image

    @property
    def passed(self) -> bool:
        return self.held is None and self.failed is None


def run(conf: cfg.ConfigOpts, path: str, wanted: dict[str, typing.Any],
        log: collections.abc.Callable[[str, str], None], *,
        directory: str | None = None) -> Trial:
    """Import the file; nothing of it is left.

    :param wanted: attributes of the image, as in POST /v2/images
    :param log: called with the name of a plugin and what it says
    :param directory: where there is room for a copy of the file
    :raises extensions.ExtensionError: it cannot even be asked for
    """
    with tempfile.TemporaryDirectory(prefix='dry-run-',
                                     dir=directory) as top:
        _redirect(conf, top)
        try:
            services = startup.open_services(conf)
        except startup.StartupError as failure:
            raise entry_points.ExtensionError(str(failure)) from failure
        try:
            upgrade.sync(services.db)
            with _plugins_say(log):
                return _import(services, path, {
                    'container_format': 'bare',
                    'disk_format': formats.of_file(path) or 'raw', **wanted})
        except errors.DomainError as failure:
            raise entry_points.ExtensionError(str(failure)) from failure
        finally:
            services.close()


def _redirect(conf: cfg.ConfigOpts, top: str) -> None:
    """Have the options name places below ``top`` alone."""
    for group, name, value in (
            (None, 'state_path', f'{top}/state'),
            (None, 'node_staging_uri', f'file://{top}/staging'),
            (None, 'enabled_backends', None),
            (None, 'user_storage_quota', '0'),
            (None, 'use_keystone_limits', False),
            (None, 'property_protection_file', None),
            ('database', 'connection', f'sqlite:///{top}/glance.sqlite'),
            ('taskflow_executor', 'jobboard', 'sql'),
            ('glance_store', 'stores', ['file']),
            ('glance_store', 'default_store', 'file'),
            ('glance_store', 'filesystem_store_datadir', f'{top}/images')):
        conf.set_override(name, value, group)


def _import(services: all_services.Services, path: str,
            wanted: dict[str, typing.Any]) -> Trial:
    ctx = context.RequestContext(user_id='dry-run', project_id='dry-run',
                                 roles=['admin'], is_admin=True,
                                 read_only=False)
    image = images.create(services, ctx, wanted)
    stage.stage(services, receiving.find(services, ctx, image.id),
                _blocks(path),
                stage.Announced(length=os.path.getsize(path)))
    with services.db.read() as conn:
        staged = db_images.get(conn, image.id, db_images.EVERYTHING)
    assert staged is not None
    method = methods.find('glance-direct')
    task_id = admission.request(services, ctx, staged, method,
                                {'method': {'name': method.name}})
    held = _run(services, task_id)
    with services.db.read() as conn:
        task = db_tasks.get(conn, task_id)
        now = db_images.get(conn, image.id, db_images.EVERYTHING)
    assert task is not None and now is not None
    result = task.result or {}
    return Trial(
        [_result(each) for each in result.get('plugins', ())],
        list(result.get('warnings', ())), held,
        task.message if task.status == states.FAILURE else None, now)


def _result(kept: dict[str, typing.Any]) -> verdicts.Result:
    names = {field.name for field in dataclasses.fields(verdicts.Result)}
    return verdicts.Result(**{name: value for name, value in kept.items()
                              if name in names})


def _run(services: all_services.Services, task_id: str) -> str | None:
    """Run it as a conductor does; who holds it, if somebody does."""
    token = uuid.uuid4().hex
    with services.db.write() as conn:
        job = db_jobs.claim(conn, task_id, token=token, conductor='dry-run',
                            seconds=86400.0, area=services.area.id)
    assert job is not None
    runner = executor.TaskFlowExecutor(services)
    try:
        runner.run(job, db_jobs.Lease(job.id, token, job.epoch),
                   runtime.Stop())
    except holding.Held as failure:
        return str(failure)
    finally:
        runner.close()
    return None


def _blocks(path: str) -> collections.abc.Iterator[bytes]:
    with open(path, 'rb') as file:
        while block := file.read(_BLOCK):
            yield block


class _Told(logging.Handler):
    """Hands on what plugins have the service log."""

    def __init__(self, log: collections.abc.Callable[[str, str], None]
                 ) -> None:
        super().__init__(logging.INFO)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        if isinstance(record.args, tuple) and len(record.args) == 2:
            self._log(*map(str, record.args))


@contextlib.contextmanager
def _plugins_say(log: collections.abc.Callable[[str, str], None]
                 ) -> collections.abc.Iterator[None]:
    logger, handler = logging.getLogger(_PLUGIN_LOG), _Told(log)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.propagate = True
        logger.setLevel(level)
        logger.removeHandler(handler)
