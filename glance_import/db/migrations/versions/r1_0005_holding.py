"""Imports that wait for an operator, drained conductors, kept verdicts."""

import typing

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects import mysql

revision = 'r1_0005'
down_revision = 'r1_0004'

COLUMNS: dict[str, tuple[sa.Column, ...]] = {
    'import_jobs': (
        sa.Column('held_at', sa.Double), sa.Column('held_by', sa.Text),
        sa.Column('approved', sa.Text)),
    'import_conductors': (
        sa.Column('draining', sa.Boolean, nullable=False,
                  server_default=sa.false()),),
}

MYSQL: dict[str, typing.Any] = {
    'mysql_engine': 'InnoDB', 'mysql_charset': 'utf8'}

verdicts = sa.Table(
    'import_verdicts', sa.MetaData(),
    sa.Column('id', sa.String(36), primary_key=True),
    sa.Column('image_id', sa.String(36), nullable=False),
    sa.Column('ended_at', sa.Double, nullable=False),
    sa.Column('plugins', sa.Text().with_variant(mysql.LONGTEXT(), 'mysql'),
              nullable=False),
    sa.Index('import_verdicts_image_idx', 'image_id'),
    sa.Index('import_verdicts_ended_idx', 'ended_at'),
    **MYSQL)


def upgrade() -> None:
    verdicts.create(op.get_bind(), checkfirst=True)
    inspector = sa.inspect(op.get_bind())
    for table, columns in COLUMNS.items():
        there = {each['name'] for each in inspector.get_columns(table)}
        for column in columns:
            if column.name not in there:
                op.add_column(table, column)
