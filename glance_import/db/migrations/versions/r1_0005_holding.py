"""Imports that wait for an operator, and conductors that take no more."""

from alembic import op
import sqlalchemy as sa

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


def upgrade() -> None:
    inspector = sa.inspect(op.get_bind())
    for table, columns in COLUMNS.items():
        there = {each['name'] for each in inspector.get_columns(table)}
        for column in columns:
            if column.name not in there:
                op.add_column(table, column)
