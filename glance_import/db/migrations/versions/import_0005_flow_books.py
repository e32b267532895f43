"""What taskflow records of each import, and what a job has to wait for.

The three tables have taskflow's own columns under names of ours.
"""

import typing

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects import mysql

revision = 'import_0005'
down_revision = 'import_0004'

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

NEW_COLUMNS = (
    sa.Column('retries', sa.Integer, nullable=False, server_default='0'),
    sa.Column('posted', sa.Double))


def upgrade() -> None:
    connection = op.get_bind()
    for made in metadata.sorted_tables:
        made.create(connection, checkfirst=True)
        for index in made.indexes:
            index.create(connection, checkfirst=True)
    found = {column['name'] for column in
             sa.inspect(connection).get_columns('import_jobs')}
    for column in NEW_COLUMNS:
        if column.name not in found:
            op.add_column('import_jobs', column)
