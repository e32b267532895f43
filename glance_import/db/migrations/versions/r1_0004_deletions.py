"""What is still to be deleted outside of the database."""

import typing

from alembic import op
import sqlalchemy as sa

revision = 'r1_0004'
down_revision = 'r1_0003'

MYSQL: dict[str, typing.Any] = {
    'mysql_engine': 'InnoDB', 'mysql_charset': 'utf8'}

deletions = sa.Table(
    'import_deletions', sa.MetaData(),
    sa.Column('id', sa.String(36), primary_key=True),
    sa.Column('kind', sa.String(32), nullable=False),
    sa.Column('image_id', sa.String(36)),
    sa.Column('area', sa.String(36)),
    sa.Column('payload', sa.Text, nullable=False),
    sa.Column('attempts', sa.Integer, nullable=False, server_default='0'),
    sa.Column('next_at', sa.Double),
    sa.Column('message', sa.Text),
    sa.Column('created_at', sa.Double, nullable=False),
    sa.Index('import_deletions_next_idx', 'next_at'),
    **MYSQL)


def upgrade() -> None:
    connection = op.get_bind()
    deletions.create(connection, checkfirst=True)
    for index in deletions.indexes:
        index.create(connection, checkfirst=True)
