"""Which stores an import was asked for, in import_jobs.

NULL while there is only one store.
"""

from alembic import op
import sqlalchemy as sa

revision = 'import_0006'
down_revision = 'import_0005'


def upgrade() -> None:
    found = sa.inspect(op.get_bind()).get_columns('import_jobs')
    if 'stores' not in {column['name'] for column in found}:
        op.add_column('import_jobs', sa.Column('stores', sa.Text))
