"""Our own tables: what is staged, and the imports that were accepted."""

import typing

from alembic import op
import sqlalchemy as sa

revision = 'import_0002'
down_revision = 'import_0001'

MYSQL: dict[str, typing.Any] = {
    'mysql_engine': 'InnoDB', 'mysql_charset': 'utf8'}

metadata = sa.MetaData()

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
    sa.Column('priority', sa.SmallInteger, nullable=False,
              server_default='0'),
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
    sa.Column('created_at', sa.Double, nullable=False),
    sa.Column('started_at', sa.Double),
    sa.Index('import_jobs_image_idx', 'image_id'),
    sa.Index('import_jobs_claim_idx', 'priority', 'created_at', 'id'),
    sa.Index('import_jobs_project_idx', 'project', 'created_at'),
    **MYSQL)

# The epoch of the latest claim on any import of an image. It only grows, so
# a file name that holds it belongs to one attempt for ever.
epochs = sa.Table(
    'import_epochs', metadata,
    sa.Column('image_id', sa.String(36), primary_key=True),
    sa.Column('epoch', sa.Integer, nullable=False),
    **MYSQL)

# When a project's import was last begun (the database's clock): whose turn is
# the longest ago comes next.
turns = sa.Table(
    'import_turns', metadata,
    sa.Column('project', sa.String(255), primary_key=True),
    sa.Column('served', sa.Double, nullable=False),
    **MYSQL)


def upgrade() -> None:
    connection = op.get_bind()
    for made in metadata.sorted_tables:
        made.create(connection, checkfirst=True)
        for index in made.indexes:
            index.create(connection, checkfirst=True)
