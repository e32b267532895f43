"""What an import is judged by, and who can run it.

The job keeps the plugins and options that were in force when it was asked
for; conductors say that they live, and which jobs they cannot honour. The key
with which secret options are compared is made here, one for a database.
"""

import secrets
import typing

from alembic import op
import sqlalchemy as sa

revision = 'import_0008'
down_revision = 'import_0007'

MYSQL: dict[str, typing.Any] = {
    'mysql_engine': 'InnoDB', 'mysql_charset': 'utf8'}
DIGEST_KEY = 'snapshot'

metadata = sa.MetaData()

conductors = sa.Table(
    'import_conductors', metadata,
    sa.Column('name', sa.String(255), primary_key=True),
    sa.Column('node', sa.String(255), nullable=False),
    sa.Column('area', sa.String(36), nullable=False),
    sa.Column('version', sa.String(64), nullable=False),
    sa.Column('honours', sa.String(64)),
    sa.Column('seen', sa.Double, nullable=False),
    **MYSQL)

refusals = sa.Table(
    'import_refusals', metadata,
    sa.Column('job_id', sa.String(36), primary_key=True),
    sa.Column('conductor', sa.String(255), primary_key=True),
    sa.Column('reason', sa.Text, nullable=False),
    sa.Column('since', sa.Double, nullable=False),
    **MYSQL)

keys = sa.Table(
    'import_keys', metadata,
    sa.Column('name', sa.String(64), primary_key=True),
    sa.Column('value', sa.String(64), nullable=False),
    **MYSQL)


def upgrade() -> None:
    connection = op.get_bind()
    for made in metadata.sorted_tables:
        made.create(connection, checkfirst=True)
    found = {column['name'] for column in
             sa.inspect(connection).get_columns('import_jobs')}
    for name, kind in (('snapshot', sa.Text()), ('code', sa.String(64)),
                       ('requirement', sa.String(64))):
        if name not in found:
            op.add_column('import_jobs', sa.Column(name, kind))
    if connection.execute(sa.select(keys.c.name).where(
            keys.c.name == DIGEST_KEY)).first() is None:
        connection.execute(sa.insert(keys).values(
            name=DIGEST_KEY, value=secrets.token_hex(32)))
