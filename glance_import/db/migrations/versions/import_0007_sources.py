"""What a method that fetches the data itself has to remember.

How far it is and of which data, and an encrypted credential while one is
needed; and what an image was before plugins changed it.
"""

from alembic import op
import sqlalchemy as sa

revision = 'import_0007'
down_revision = 'import_0006'


def upgrade() -> None:
    found = {column['name'] for column in
             sa.inspect(op.get_bind()).get_columns('import_jobs')}
    for name in ('source', 'secret', 'before'):
        if name not in found:
            op.add_column('import_jobs', sa.Column(name, sa.Text))
