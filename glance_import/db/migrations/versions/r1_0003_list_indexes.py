"""Indexes on Glance's tables that keep image lists flat to a million images.

Nothing else of Glance's is touched. Each is named import_ so that it can be
told from Glance's own and dropped without harm.
"""

from alembic import op
import sqlalchemy as sa

revision = 'r1_0003'
down_revision = 'r1_0002'

# PostgreSQL refuses index entries above 2.7 kB and MySQL indexes a TEXT by a
# prefix only, so only the beginning of a value is indexed there.
VALUE_PREFIX = 255

# name, table, columns
INDEXES = (
    ('import_images_listed_idx', 'images',
     ('deleted', 'os_hidden', 'created_at', 'id')),
    ('import_images_visibility_idx', 'images',
     ('deleted', 'os_hidden', 'visibility', 'created_at', 'id')),
    ('import_images_owner_idx', 'images',
     ('owner', 'deleted', 'os_hidden', 'created_at', 'id')),
    ('import_images_name_idx', 'images',
     ('name', 'deleted', 'created_at', 'id')),
    ('import_image_tags_idx', 'image_tags', ('value', 'image_id')),
    ('import_image_members_idx', 'image_members',
     ('member', 'status', 'deleted', 'image_id')),
)


def upgrade() -> None:
    connection = op.get_bind()
    for name, table, columns in INDEXES:
        if not _is_there(connection, table, name):
            op.create_index(name, table, columns)
    name, table = 'import_image_properties_idx', 'image_properties'
    if not _is_there(connection, table, name):
        value = (sa.text(f'substr(value, 1, {VALUE_PREFIX})')
                 if connection.dialect.name == 'postgresql' else 'value')
        op.create_index(name, table, ['name', value, 'image_id'],
                        mysql_length={'value': VALUE_PREFIX})


def _is_there(connection: sa.Connection, table: str, index: str) -> bool:
    return index in {each['name'] for each in
                     sa.inspect(connection).get_indexes(table)}
