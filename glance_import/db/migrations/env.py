"""What alembic runs for each command: revisions on the connection given.

``glance_import.db.upgrade`` gives it, inside a transaction of its own.
"""

from alembic import context

from glance_import.db import migrations


def run() -> None:
    connection = context.config.attributes.get('connection')
    if connection is None:
        raise SystemExit('run migrations with: glance-import-manage db sync')
    context.configure(connection=connection,
                      version_table=migrations.VERSION_TABLE)
    with context.begin_transaction():
        context.run_migrations()


run()
