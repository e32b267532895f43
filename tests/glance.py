"""A real Glance for tests: from the package index, on any database.

Runs under gunicorn on a free port of 127.0.0.1 with identity from the token
(user:project:roles), as our own fakeauth, and is ended by its pid.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import pathlib
import signal
import subprocess
import time

from tests import environments
from tests import servers
from tests import service as services

READY_SECONDS = 90

CONF = '''
[DEFAULT]
enabled_backends = file:file
log_file = {top}/glance.log
[database]
connection = {database}
[glance_store]
default_backend = file
[file]
filesystem_store_datadir = {images}
[os_glance_staging_store]
filesystem_store_datadir = {staging}
[os_glance_tasks_store]
filesystem_store_datadir = {top}/tasks
[oslo_concurrency]
lock_path = {top}/locks
[paste_deploy]
config_file = {top}/glance-api-paste.ini
'''

PASTE = '''
[pipeline:glance-api]
pipeline = versions identity context rootapp
[filter:versions]
paste.filter_factory = {versions}.factory
[composite:rootapp]
paste.composite_factory = glance.api:root_app_factory
/: apiversions
/v2: apiv2app
[app:apiversions]
paste.app_factory = glance.api.versions:create_resource
[app:apiv2app]
paste.app_factory = glance.api.v2.router:API.factory
[filter:identity]
paste.filter_factory = {identity}
[filter:context]
paste.filter_factory = glance.api.middleware.context:ContextMiddleware.factory
'''

VERSIONS = ('glance.api.middleware.version_negotiation:'
            'VersionNegotiationFilter')

IDENTITY = '''
def factory(global_conf, **conf):
    def wrap(app):
        def identify(environ, start_response):
            parts = environ.get('HTTP_X_AUTH_TOKEN', '').split(':')
            if len(parts) == 3:
                environ['HTTP_X_IDENTITY_STATUS'] = 'Confirmed'
                environ['HTTP_X_USER_ID'] = parts[0]
                environ['HTTP_X_TENANT_ID'] = parts[1]
                environ['HTTP_X_PROJECT_ID'] = parts[1]
                environ['HTTP_X_ROLES'] = parts[2]
            return app(environ, start_response)
        return identify
    return wrap
'''

GUNICORN = '''
wsgi_app = 'glance.wsgi.api:application'
bind = '127.0.0.1:{port}'
threads = 8


def post_fork(server, worker):
    import sqlalchemy
    from sqlalchemy import event

    @event.listens_for(sqlalchemy.engine.Engine, 'before_cursor_execute',
                       retval=True)
    def immediate(connection, cursor, statement, *rest):
        if statement == 'BEGIN' and connection.dialect.name == 'sqlite':
            statement = 'BEGIN IMMEDIATE'
        return statement, rest[0]
'''


class Glance(services.Service):
    """``start`` and ``stop`` it; requests as with a service of ours."""

    is_described = False

    def __init__(self, environment: environments.Environment,
                 directory: pathlib.Path, *, database: str,
                 images: pathlib.Path, staging: pathlib.Path,
                 middleware: dict[str, str] | None = None) -> None:
        """:param middleware: [keystone_authtoken], to ask a Keystone"""
        self.environment_of = environment
        self.directory = directory
        self.port = servers.free_port()
        self.token = None
        self.log = directory / 'out'
        self.process = None
        self.images, self.staging = images, staging
        for name in ('locks', 'tasks'):
            (directory / name).mkdir(parents=True, exist_ok=True)
        for path in (images, staging):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        files = {'glance-api.conf': CONF.format(
                     top=directory, database=database.replace('%', '%%'),
                     images=images, staging=staging),
                 'glance-api-paste.ini': PASTE.format(
                     versions=VERSIONS, identity='token_identity:factory'
                     if middleware is None else
                     'keystonemiddleware.auth_token:filter_factory'),
                 'token_identity.py': IDENTITY,
                 'gunicorn.conf.py': GUNICORN.format(port=self.port)}
        if middleware is not None:
            files['glance-api.conf'] += '[keystone_authtoken]\n' + ''.join(
                f'{name} = {value}\n' for name, value in middleware.items())
        for name, text in files.items():
            (directory / name).write_text(text)

    def sync(self) -> None:
        """glance-manage db_sync."""
        done = subprocess.run(
            [self.environment_of.program('glance-manage'), '--config-file',
             str(self.directory / 'glance-api.conf'), 'db_sync'],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=300)
        assert done.returncode == 0, done.stdout[-3000:]

    def start(self) -> Glance:
        with open(self.log, 'ab') as out:
            self.process = subprocess.Popen(
                [self.environment_of.program('gunicorn')],
                cwd=self.directory, stdout=out, stderr=out,
                start_new_session=True, env={
                    **os.environ, 'OS_GLANCE_CONFIG_DIR': str(
                        self.directory), 'PYTHONPATH': str(self.directory)})
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline \
                and self.process.poll() is None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.request('GET', '/versions').status in (200, 300):
                    return self
            time.sleep(0.1)
        raise AssertionError(f'Glance does not answer:\n{self.text()}')

    def stop(self) -> int:
        process, self.process = self.process, None
        if process is None:
            return 0
        # Quickly: a graceful end waits for kept connections.
        process.send_signal(signal.SIGINT)
        try:
            return process.wait(30)
        except subprocess.TimeoutExpired:
            self._kill_group(process)
            return -1
