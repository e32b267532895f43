"""How many bytes of an unfinished upload its client has vouched for.

NULL unless a part with a checksum is on its way: what lies behind that
offset then counts only when the checksum has been found right.
"""

from alembic import op
import sqlalchemy as sa

revision = 'import_0004'
down_revision = 'import_0003'


def upgrade() -> None:
    found = sa.inspect(op.get_bind()).get_columns('import_staging')
    if 'verified' not in {column['name'] for column in found}:
        op.add_column('import_staging',
                      sa.Column('verified', sa.BigInteger))
