"""Real Glance beside ours, from a virtual environment of its own.

One gunicorn process with threads, an SQLite database, staging area and file
store on the same file system: what Glance's own import needs and no more.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import typing

from tests import service as services

PASTE = '''[composite:glance-api]
use = egg:Paste#urlmap
/: api
# The filters of Glance's own file, but for the one that asks Keystone.
[pipeline:api]
pipeline = cors http_proxy_to_wsgi versionnegotiation osprofiler context \
rootapp
[composite:rootapp]
paste.composite_factory = glance.api:root_app_factory
/v2: apiv2app
[app:apiv2app]
paste.app_factory = glance.api.v2.router:API.factory
[filter:versionnegotiation]
paste.filter_factory = glance.api.middleware.version_negotiation:\
VersionNegotiationFilter.factory
[filter:cors]
use = egg:oslo.middleware#cors
oslo_config_project = glance
[filter:http_proxy_to_wsgi]
paste.filter_factory = oslo_middleware:HTTPProxyToWSGI.factory
[filter:osprofiler]
paste.filter_factory = osprofiler.web:WsgiMiddleware.factory
hmac_keys = SECRET_KEY
enabled = yes
[filter:context]
paste.filter_factory = glance.api.middleware.context:\
ContextMiddleware.factory
'''
CONF = '''[DEFAULT]
enabled_backends = file:file
enabled_import_methods = [glance-direct]
[glance_store]
default_backend = file
[file]
filesystem_store_datadir = {top}/images
[os_glance_staging_store]
filesystem_store_datadir = {top}/staging
[os_glance_tasks_store]
filesystem_store_datadir = {top}/tasks
[database]
connection = sqlite:///{top}/glance.sqlite?timeout=60
[paste_deploy]
config_file = {top}/glance-api-paste.ini
[oslo_concurrency]
lock_path = {top}/locks
'''
# See sqlite3: a deferred transaction cannot wait for the lock.
GUNICORN = '''import sqlalchemy
from sqlalchemy import engine, event
workers = 1
worker_class = 'gthread'
threads = 16
timeout = 600
def post_fork(server, worker):
    def immediate(conn, cursor, statement, parameters, context, many):
        if statement.strip().upper() == 'BEGIN':
            statement = 'BEGIN IMMEDIATE'
        return statement, parameters
    event.listen(engine.Engine, 'before_cursor_execute', immediate,
                 retval=True)
'''


# What its context filter believes; a token filter would set them.
IDENTITY = {'X-Identity-Status': 'Confirmed', 'X-User-Id': 'bench',
            'X-Tenant-Id': 'bench', 'X-Project-Id': 'bench',
            'X-Roles': 'admin,member,reader'}


class Glance(services.Service):
    """The same requests as for ours, other processes."""

    is_described = False

    def __init__(self, directory: pathlib.Path, environment: str) -> None:
        self.bin = pathlib.Path(environment) / 'bin'
        super().__init__(directory)
        self.staging = directory / 'staging'

    def configure(self, **groups: typing.Any) -> None:
        top = self.directory
        for name in ('images', 'staging', 'tasks', 'locks'):
            (top / name).mkdir(parents=True, exist_ok=True)
        (top / 'glance-api.conf').write_text(CONF.format(top=top))
        (top / 'glance-api-paste.ini').write_text(PASTE)
        (top / 'gunicorn.conf.py').write_text(
            GUNICORN + f"bind = '127.0.0.1:{self.port}'\n")

    def request(self, method: str, path: str, body: typing.Any = None,
                headers: dict[str, str] | None = None,
                **kwargs: typing.Any) -> services.Answer:
        return super().request(method, path, body,
                               {**(headers or {}), **IDENTITY}, **kwargs)

    def start(self) -> Glance:
        environment = dict(os.environ, OS_GLANCE_CONFIG_DIR=str(
            self.directory))
        environment.pop('PYTHONPATH', None)
        with open(self.log, 'ab') as log:
            subprocess.run(
                [self.bin / 'glance-manage', '--config-file',
                 self.directory / 'glance-api.conf', 'db_sync'], check=True,
                stdout=log, stderr=log, env=environment)
            self.process = subprocess.Popen(
                [self.bin / 'gunicorn', 'glance.wsgi.api:application'],
                cwd=self.directory, env=environment, stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, start_new_session=True)
        services.wait_for(self._answers)
        return self

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(self.text()[-3000:])
        with contextlib.suppress(OSError):
            return self.request('GET', '/v2/images').status == 200
        return False

    def stop(self) -> int:
        process, self.process = self.process, None
        if process is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        return process.wait(60)
