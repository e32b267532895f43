"""Our own tables: what is staged, imports, their records, and conductors.

Takes over what was there before the first release: a table that lacks
columns gets them, and what is no longer used goes. The key with which secret
options are compared is made here, one for a database.
"""

import secrets
import typing

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects import mysql

revision = 'r1_0002'
down_revision = 'r1_0001'

DIGEST_KEY = 'snapshot'

MYSQL: dict[str, typing.Any] = {
    'mysql_engine': 'InnoDB', 'mysql_charset': 'utf8'}

metadata = sa.MetaData()


def _json(name: str) -> sa.Column:
    return sa.Column(name, sa.Text().with_variant(mysql.LONGTEXT(), 'mysql'))


def _record(*columns: sa.Column) -> list[sa.Column]:
    return [sa.Column('uuid', sa.String(64), primary_key=True),
            sa.Column('created_at', sa.DateTime),
            sa.Column('updated_at', sa.DateTime),
            sa.Column('name', sa.String(255)),
            _json('meta'), *columns]


def _parent(table: str) -> sa.Column:
    return sa.Column('parent_uuid', sa.String(64), sa.ForeignKey(
        f'{table}.uuid', ondelete='CASCADE'))


staging = sa.Table(
    'import_staging', metadata,
    sa.Column('image_id', sa.String(36), primary_key=True),
    sa.Column('upload_id', sa.String(36), nullable=False),
    sa.Column('state', sa.String(16), nullable=False),
    sa.Column('area', sa.String(36)),
    sa.Column('expected', sa.BigInteger),
    sa.Column('size', sa.BigInteger),
    sa.Column('checksum', sa.String(32)),
    sa.Column('hash_algo', sa.String(64)),
    sa.Column('hash_value', sa.String(128)),
    sa.Column('device', sa.BigInteger),
    sa.Column('inode', sa.BigInteger),
    sa.Column('mtime_ns', sa.BigInteger),
    sa.Column('ctime_ns', sa.BigInteger),
    sa.Column('detected_format', sa.String(20)),
    sa.Column('verified', sa.BigInteger),
    sa.Column('created_at', sa.DateTime, nullable=False),
    sa.Column('updated_at', sa.DateTime),
    sa.Index('import_staging_state_idx', 'state', 'updated_at'),
    **MYSQL)

jobs = sa.Table(
    'import_jobs', metadata,
    sa.Column('id', sa.String(36), primary_key=True),
    sa.Column('image_id', sa.String(36), nullable=False),
    sa.Column('project', sa.String(255)),
    sa.Column('user_id', sa.String(255)),
    sa.Column('roles', sa.Text),
    sa.Column('request_id', sa.String(64)),
    sa.Column('area', sa.String(36)),
    sa.Column('request', sa.Text),
    sa.Column('plugins', sa.Text),
    sa.Column('method', sa.String(32), nullable=False),
    sa.Column('epoch', sa.Integer, nullable=False, server_default='0'),
    sa.Column('attempts', sa.Integer, nullable=False, server_default='0'),
    sa.Column('owner', sa.String(255)),
    sa.Column('conductor', sa.String(255)),
    sa.Column('claim_expires', sa.Double),
    sa.Column('not_before', sa.Double),
    sa.Column('cancel', sa.Boolean, nullable=False,
              server_default=sa.false()),
    sa.Column('step', sa.String(255)),
    sa.Column('bytes_done', sa.BigInteger),
    sa.Column('bytes_total', sa.BigInteger),
    sa.Column('message', sa.Text),
    sa.Column('code', sa.String(64)),
    sa.Column('created_at', sa.Double, nullable=False),
    sa.Column('started_at', sa.Double),
    sa.Column('retries', sa.Integer, nullable=False, server_default='0'),
    sa.Column('posted', sa.Double),
    sa.Column('stores', sa.Text),
    sa.Column('source', sa.Text),
    sa.Column('secret', sa.Text),
    sa.Column('undo_log', sa.Text),
    sa.Column('snapshot', sa.Text),
    sa.Column('requirement', sa.String(64)),
    sa.Index('import_jobs_image_idx', 'image_id'),
    sa.Index('import_jobs_order_idx', 'created_at', 'id'),
    sa.Index('import_jobs_project_idx', 'project', 'created_at'),
    **MYSQL)

epochs = sa.Table(
    'import_epochs', metadata,
    sa.Column('image_id', sa.String(36), primary_key=True),
    sa.Column('epoch', sa.Integer, nullable=False),
    **MYSQL)

turns = sa.Table(
    'import_turns', metadata,
    sa.Column('project', sa.String(255), primary_key=True),
    sa.Column('served', sa.Double, nullable=False),
    **MYSQL)

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

logbooks = sa.Table('import_logbooks', metadata, *_record(), **MYSQL)

flowdetails = sa.Table(
    'import_flowdetails', metadata,
    *_record(_parent('import_logbooks'), sa.Column('state', sa.String(255))),
    sa.Index('import_flowdetails_parent_idx', 'parent_uuid'),
    **MYSQL)

atomdetails = sa.Table(
    'import_atomdetails', metadata,
    *_record(_parent('import_flowdetails'),
             sa.Column('state', sa.String(255)),
             sa.Column('version', sa.String(64)),
             _json('failure'), _json('results'), _json('revert_results'),
             _json('revert_failure'),
             sa.Column('atom_type', sa.String(32)),
             sa.Column('intention', sa.String(32))),
    sa.Index('import_atomdetails_parent_idx', 'parent_uuid'),
    **MYSQL)


def upgrade() -> None:
    connection = op.get_bind()
    if jobs.name in sa.inspect(connection).get_table_names():
        _retire(connection)
    for table in metadata.sorted_tables:
        table.create(connection, checkfirst=True)
        found = _columns(connection, table.name)
        for column in table.columns:
            if column.name not in found:
                op.add_column(table.name, column)
        for index in table.indexes:
            index.create(connection, checkfirst=True)
    if connection.execute(sa.select(keys.c.name).where(
            keys.c.name == DIGEST_KEY)).first() is None:
        connection.execute(sa.insert(keys).values(
            name=DIGEST_KEY, value=secrets.token_hex(32)))


def _columns(connection: sa.Connection, table: str) -> set[str]:
    return {column['name'] for column in
            sa.inspect(connection).get_columns(table)}


def _retire(connection: sa.Connection) -> None:
    """Drop and rename what the jobs had before the first release."""
    # Before the column it is on, which SQLite would not drop.
    if 'import_jobs_claim_idx' in {
            index['name'] for index in
            sa.inspect(connection).get_indexes(jobs.name)}:
        op.drop_index('import_jobs_claim_idx', jobs.name)
    found = _columns(connection, jobs.name)
    if 'priority' in found:
        op.drop_column(jobs.name, 'priority')
    if 'before' in found:
        op.alter_column(jobs.name, 'before', new_column_name='undo_log',
                        existing_type=sa.Text())
