"""Glance's tables as of 2024.1, where a Glance has not made them already.

All of them, also those nobody here reads, and the note in
``alembic_version`` that says so: ``glance-manage db sync`` then finds a
database of its own.
"""

import typing

from alembic import op
import sqlalchemy as sa

revision = 'r1_0001'
down_revision = None

# What Glance's own migrations leave in alembic_version.
GLANCE_HEAD = '2024_1_contract01'

MYSQL: dict[str, typing.Any] = {
    'mysql_engine': 'InnoDB', 'mysql_charset': 'utf8'}

metadata = sa.MetaData()


def big():
    return sa.BigInteger().with_variant(sa.Integer, 'sqlite')


def boolean(name, **options):
    options.setdefault('nullable', False)
    return sa.Column(name, sa.Boolean(create_constraint=True), **options)


def number():
    return sa.Column('id', sa.Integer, primary_key=True)


def text(name, length=None, **options):
    options.setdefault('nullable', False)
    return sa.Column(name, sa.String(length) if length else sa.Text,
                     **options)


def reference(name, target, kind=None, **options):
    return sa.Column(name, kind or sa.Integer, sa.ForeignKey(target),
                     nullable=False, **options)


def dated():
    return [sa.Column('created_at', sa.DateTime, nullable=False),
            sa.Column('updated_at', sa.DateTime)]


def deletable():
    return [*dated(), sa.Column('deleted_at', sa.DateTime),
            boolean('deleted')]


def table(name, *parts):
    sa.Table(name, metadata, *parts, **MYSQL)


table('images',
      text('id', 36, primary_key=True),
      text('name', 255, nullable=True),
      sa.Column('size', big()),
      text('status', 30),
      *dated(),
      sa.Column('deleted_at', sa.DateTime),
      # No CHECK on these three: Glance's migrations lose it on SQLite.
      sa.Column('deleted', sa.Boolean, nullable=False),
      text('disk_format', 20, nullable=True),
      text('container_format', 20, nullable=True),
      text('checksum', 32, nullable=True),
      text('owner', 255, nullable=True),
      sa.Column('min_disk', sa.Integer, nullable=False),
      sa.Column('min_ram', sa.Integer, nullable=False),
      sa.Column('protected', sa.Boolean, nullable=False,
                server_default=sa.false()),
      sa.Column('virtual_size', big()),
      sa.Column('visibility',
                sa.Enum('private', 'public', 'shared', 'community',
                        name='image_visibility'),
                nullable=False, server_default='shared'),
      sa.Column('os_hidden', sa.Boolean, nullable=False,
                server_default=sa.false()),
      text('os_hash_algo', 64, nullable=True),
      text('os_hash_value', 128, nullable=True),
      sa.Index('checksum_image_idx', 'checksum'),
      sa.Index('ix_images_deleted', 'deleted'),
      sa.Index('owner_image_idx', 'owner'),
      sa.Index('created_at_image_idx', 'created_at'),
      sa.Index('updated_at_image_idx', 'updated_at'),
      sa.Index('visibility_image_idx', 'visibility'),
      sa.Index('os_hidden_image_idx', 'os_hidden'),
      sa.Index('os_hash_value_image_idx', 'os_hash_value'))

table('image_properties',
      number(),
      reference('image_id', 'images.id', sa.String(36)),
      text('name', 255),
      text('value', nullable=True),
      *deletable(),
      sa.UniqueConstraint('image_id', 'name',
                          name='ix_image_properties_image_id_name'),
      sa.Index('ix_image_properties_deleted', 'deleted'),
      sa.Index('ix_image_properties_image_id', 'image_id'))

table('image_locations',
      number(),
      reference('image_id', 'images.id', sa.String(36)),
      text('value'),
      *deletable(),
      text('meta_data', nullable=True),
      text('status', 30, server_default='active'),
      sa.Index('ix_image_locations_deleted', 'deleted'),
      sa.Index('ix_image_locations_image_id', 'image_id'))

table('image_members',
      number(),
      reference('image_id', 'images.id', sa.String(36)),
      text('member', 255),
      boolean('can_share'),
      *deletable(),
      text('status', 20, server_default='pending'),
      sa.UniqueConstraint(
          'image_id', 'member', 'deleted_at',
          name='image_members_image_id_member_deleted_at_key'),
      sa.Index('ix_image_members_deleted', 'deleted'),
      sa.Index('ix_image_members_image_id', 'image_id'),
      sa.Index('ix_image_members_image_id_member', 'image_id', 'member'))

table('image_tags',
      number(),
      reference('image_id', 'images.id', sa.String(36)),
      text('value', 255),
      *deletable(),
      sa.Index('ix_image_tags_image_id', 'image_id'),
      sa.Index('ix_image_tags_image_id_tag_value', 'image_id', 'value'))

table('tasks',
      text('id', 36, primary_key=True),
      text('type', 30),
      text('status', 30),
      text('owner', 255),
      sa.Column('expires_at', sa.DateTime),
      *deletable(),
      text('image_id', 36, nullable=True),
      text('request_id', 64, nullable=True),
      text('user_id', 64, nullable=True),
      sa.Index('ix_tasks_deleted', 'deleted'),
      sa.Index('ix_tasks_image_id', 'image_id'),
      sa.Index('ix_tasks_owner', 'owner'),
      sa.Index('ix_tasks_status', 'status'),
      sa.Index('ix_tasks_type', 'type'),
      sa.Index('ix_tasks_updated_at', 'updated_at'))

table('task_info',
      reference('task_id', 'tasks.id', sa.String(36), primary_key=True),
      text('input', nullable=True),
      text('result', nullable=True),
      text('message', nullable=True))

table('metadef_namespaces',
      number(),
      text('namespace', 80),
      text('display_name', 80, nullable=True),
      text('description', nullable=True),
      text('visibility', 32, nullable=True),
      boolean('protected', nullable=True),
      text('owner', 255),
      *dated(),
      sa.UniqueConstraint('namespace',
                          name='uq_metadef_namespaces_namespace'),
      sa.Index('ix_metadef_namespaces_owner', 'owner'))

table('metadef_resource_types',
      number(),
      text('name', 80),
      boolean('protected'),
      *dated(),
      sa.UniqueConstraint('name', name='uq_metadef_resource_types_name'))

table('metadef_namespace_resource_types',
      reference('resource_type_id', 'metadef_resource_types.id',
                primary_key=True, autoincrement=False),
      reference('namespace_id', 'metadef_namespaces.id',
                primary_key=True, autoincrement=False),
      text('properties_target', 80, nullable=True),
      text('prefix', 80, nullable=True),
      *dated(),
      sa.Index('ix_metadef_ns_res_types_namespace_id', 'namespace_id'))

table('metadef_objects',
      number(),
      reference('namespace_id', 'metadef_namespaces.id'),
      text('name', 80),
      text('description', nullable=True),
      text('required', nullable=True),
      text('json_schema'),
      *dated(),
      sa.UniqueConstraint('namespace_id', 'name',
                          name='uq_metadef_objects_namespace_id_name'),
      sa.Index('ix_metadef_objects_name', 'name'))

table('metadef_properties',
      number(),
      reference('namespace_id', 'metadef_namespaces.id'),
      text('name', 80),
      text('json_schema'),
      *dated(),
      sa.UniqueConstraint('namespace_id', 'name',
                          name='uq_metadef_properties_namespace_id_name'),
      sa.Index('ix_metadef_properties_name', 'name'))

table('metadef_tags',
      number(),
      reference('namespace_id', 'metadef_namespaces.id'),
      text('name', 80),
      *dated(),
      sa.UniqueConstraint('namespace_id', 'name',
                          name='uq_metadef_tags_namespace_id_name'),
      sa.Index('ix_metadef_tags_name', 'name'))

table('node_reference',
      sa.Column('node_reference_id', big(), primary_key=True),
      text('node_reference_url', 255),
      sa.UniqueConstraint('node_reference_url',
                          name='uq_node_reference_node_reference_url'))

table('cached_images',
      sa.Column('id', big(), primary_key=True),
      text('image_id', 36),
      sa.Column('last_accessed', sa.DateTime, nullable=False),
      sa.Column('last_modified', sa.DateTime, nullable=False),
      sa.Column('size', sa.BigInteger, nullable=False),
      sa.Column('hits', sa.Integer, nullable=False),
      text('checksum', 32, nullable=True),
      reference('node_reference_id', 'node_reference.node_reference_id',
                big()),
      sa.UniqueConstraint(
          'image_id', 'node_reference_id',
          name='ix_cached_images_image_id_node_reference_id'))

# Made and filled last: a row in it means that everything above is there.
alembic_version = sa.Table(
    'alembic_version', sa.MetaData(),
    sa.Column('version_num', sa.String(32), nullable=False),
    sa.PrimaryKeyConstraint('version_num', name='alembic_version_pkc'))


def upgrade() -> None:
    connection = op.get_bind()
    alembic_version.create(connection, checkfirst=True)
    if connection.scalar(sa.select(alembic_version.c.version_num).limit(1)):
        return
    for made in metadata.sorted_tables:
        made.create(connection, checkfirst=True)
        # A table that is there already may have been left without them.
        for index in made.indexes:
            index.create(connection, checkfirst=True)
    connection.execute(
        alembic_version.insert().values(version_num=GLANCE_HEAD))
