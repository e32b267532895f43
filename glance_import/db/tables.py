"""The tables: Glance's own as they are since 2024.1, and ours (import_*).

Definitions only, nothing here talks to a database. What creates and changes
the tables is ``migrations``; a test holds the two together. Deletion in
Glance's tables is soft: ``deleted`` is true and ``deleted_at`` set. Times
are UTC without zone.
"""

from __future__ import annotations

import json
import typing

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.ext import compiler
from sqlalchemy.sql import functions

from glance_import.db import spelling
from glance_import import states

metadata = sa.MetaData()

# Glance's migrations make its tables so on MySQL; a join between different
# character sets could not use its index.
MYSQL: dict[str, typing.Any] = {
    'mysql_engine': 'InnoDB', 'mysql_charset': 'utf8'}

VISIBILITIES = ('private', 'public', 'shared', 'community')

# Characters of a property's value that its index holds. PostgreSQL refuses
# rows whose index entry is above 2.7 kB, MySQL indexes a TEXT by a prefix
# only.
VALUE_PREFIX = 255


def _big() -> sa.types.TypeEngine:
    # On SQLite Glance's big columns are INTEGER, which holds 64 bits there.
    return sa.BigInteger().with_variant(sa.Integer, 'sqlite')


class Unsigned64(sa.TypeDecorator[int]):
    """An unsigned 64-bit number, such as an inode, in a signed column."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value, dialect):
        return value - 2 ** 64 if value and value >= 2 ** 63 else value

    def process_result_value(self, value, dialect):
        return value + 2 ** 64 if value and value < 0 else value


def from_json(text: str | bytes) -> typing.Any:
    """The value that JSON has, as it was written here.

    Python writes numbers that JSON has not, such as Infinity, and once they
    were let in; whoever asks for one now is told null.
    """
    return json.loads(text, parse_constant=lambda _name: None)


class Json(sa.TypeDecorator[typing.Any]):
    """Plain JSON, kept as text on every server. SQL's NULL is None."""

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect):
        # MySQL's TEXT ends at 64 KiB.
        return dialect.type_descriptor(
            mysql.LONGTEXT() if dialect.name == 'mysql' else sa.Text())

    def process_bind_param(self, value, dialect):
        return None if value is None else json.dumps(value)

    def process_result_value(self, value, dialect):
        return None if value is None else from_json(value)


def _bool(name: str, **options) -> sa.Column:
    return sa.Column(name, sa.Boolean, nullable=False, **options)


def _common() -> list[sa.Column]:
    return [sa.Column('created_at', sa.DateTime, nullable=False),
            sa.Column('updated_at', sa.DateTime),
            sa.Column('deleted_at', sa.DateTime),
            _bool('deleted', default=False)]


def _image_id() -> sa.Column:
    return sa.Column('image_id', sa.String(36), sa.ForeignKey('images.id'),
                     nullable=False)


images = sa.Table(
    'images', metadata,
    sa.Column('id', sa.String(36), primary_key=True),
    sa.Column('name', sa.String(255)),
    sa.Column('disk_format', sa.String(20)),
    sa.Column('container_format', sa.String(20)),
    sa.Column('size', _big()),
    sa.Column('virtual_size', _big()),
    sa.Column('status', sa.String(30), nullable=False),
    sa.Column('visibility', sa.Enum(*VISIBILITIES, name='image_visibility'),
              nullable=False, server_default='shared'),
    sa.Column('checksum', sa.String(32)),
    sa.Column('os_hash_algo', sa.String(64)),
    sa.Column('os_hash_value', sa.String(128)),
    sa.Column('min_disk', sa.Integer, nullable=False, default=0),
    sa.Column('min_ram', sa.Integer, nullable=False, default=0),
    sa.Column('owner', sa.String(255)),
    _bool('protected', server_default=sa.false()),
    _bool('os_hidden', server_default=sa.false()),
    *_common(),
    sa.Index('checksum_image_idx', 'checksum'),
    sa.Index('visibility_image_idx', 'visibility'),
    sa.Index('ix_images_deleted', 'deleted'),
    sa.Index('owner_image_idx', 'owner'),
    sa.Index('created_at_image_idx', 'created_at'),
    sa.Index('updated_at_image_idx', 'updated_at'),
    sa.Index('os_hidden_image_idx', 'os_hidden'),
    sa.Index('os_hash_value_image_idx', 'os_hash_value'),
    # Ours: each set of images a list is merged from, in its order.
    sa.Index('import_images_listed_idx',
             'deleted', 'os_hidden', 'created_at', 'id'),
    sa.Index('import_images_visibility_idx',
             'deleted', 'os_hidden', 'visibility', 'created_at', 'id'),
    sa.Index('import_images_owner_idx',
             'owner', 'deleted', 'os_hidden', 'created_at', 'id'),
    sa.Index('import_images_name_idx', 'name', 'deleted', 'created_at', 'id'),
    **MYSQL)

# A property that was removed is a soft-deleted row, which adding it again
# must revive: the unique key does not know about deletion.
image_properties = sa.Table(
    'image_properties', metadata,
    sa.Column('id', sa.Integer, primary_key=True),
    _image_id(),
    sa.Column('name', sa.String(255), nullable=False),
    sa.Column('value', sa.Text),
    *_common(),
    sa.UniqueConstraint('image_id', 'name',
                        name='ix_image_properties_image_id_name'),
    sa.Index('ix_image_properties_image_id', 'image_id'),
    sa.Index('ix_image_properties_deleted', 'deleted'),
    # And import_image_properties_idx on name, (the beginning of) value and
    # image_id, which each kind of server spells differently: see r1_0003.
    **MYSQL)

image_tags = sa.Table(
    'image_tags', metadata,
    sa.Column('id', sa.Integer, primary_key=True),
    _image_id(),
    sa.Column('value', sa.String(255), nullable=False),
    *_common(),
    sa.Index('ix_image_tags_image_id', 'image_id'),
    sa.Index('ix_image_tags_image_id_tag_value', 'image_id', 'value'),
    sa.Index('import_image_tags_idx', 'value', 'image_id'),
    **MYSQL)

# value is the location's URI, meta_data JSON such as {"store": "<id>"}.
image_locations = sa.Table(
    'image_locations', metadata,
    sa.Column('id', sa.Integer, primary_key=True),
    _image_id(),
    sa.Column('value', sa.Text, nullable=False),
    sa.Column('meta_data', sa.Text),
    sa.Column('status', sa.String(30), nullable=False,
              server_default=states.ACTIVE),
    *_common(),
    sa.Index('ix_image_locations_image_id', 'image_id'),
    sa.Index('ix_image_locations_deleted', 'deleted'),
    **MYSQL)

image_members = sa.Table(
    'image_members', metadata,
    sa.Column('id', sa.Integer, primary_key=True),
    _image_id(),
    sa.Column('member', sa.String(255), nullable=False),
    _bool('can_share', default=False),
    sa.Column('status', sa.String(20), nullable=False,
              server_default=states.PENDING),
    *_common(),
    sa.UniqueConstraint(
        'image_id', 'member', 'deleted_at',
        name='image_members_image_id_member_deleted_at_key'),
    sa.Index('ix_image_members_deleted', 'deleted'),
    sa.Index('ix_image_members_image_id', 'image_id'),
    sa.Index('ix_image_members_image_id_member', 'image_id', 'member'),
    sa.Index('import_image_members_idx',
             'member', 'status', 'deleted', 'image_id'),
    **MYSQL)

tasks = sa.Table(
    'tasks', metadata,
    sa.Column('id', sa.String(36), primary_key=True),
    sa.Column('type', sa.String(30), nullable=False),
    sa.Column('status', sa.String(30), nullable=False),
    sa.Column('owner', sa.String(255), nullable=False),
    sa.Column('expires_at', sa.DateTime),
    sa.Column('image_id', sa.String(36)),
    sa.Column('request_id', sa.String(64)),
    sa.Column('user_id', sa.String(64)),
    *_common(),
    sa.Index('ix_tasks_type', 'type'),
    sa.Index('ix_tasks_status', 'status'),
    sa.Index('ix_tasks_owner', 'owner'),
    sa.Index('ix_tasks_deleted', 'deleted'),
    sa.Index('ix_tasks_image_id', 'image_id'),
    sa.Index('ix_tasks_updated_at', 'updated_at'),
    **MYSQL)

# input and result are JSON.
task_info = sa.Table(
    'task_info', metadata,
    sa.Column('task_id', sa.String(36), sa.ForeignKey('tasks.id'),
              primary_key=True),
    sa.Column('input', sa.Text),
    sa.Column('result', sa.Text),
    sa.Column('message', sa.Text),
    **MYSQL)


def _dated() -> list[sa.Column]:
    return [sa.Column('created_at', sa.DateTime, nullable=False),
            sa.Column('updated_at', sa.DateTime)]


# Metadata definitions: nothing is soft-deleted here. visibility and protected
# are NULL where a file that was loaded did not say.
metadef_namespaces = sa.Table(
    'metadef_namespaces', metadata,
    sa.Column('id', sa.Integer, primary_key=True),
    sa.Column('namespace', sa.String(80), nullable=False),
    sa.Column('display_name', sa.String(80)),
    sa.Column('description', sa.Text),
    sa.Column('visibility', sa.String(32)),
    sa.Column('protected', sa.Boolean),
    sa.Column('owner', sa.String(255), nullable=False),
    *_dated(),
    sa.UniqueConstraint('namespace', name='uq_metadef_namespaces_namespace'),
    sa.Index('ix_metadef_namespaces_owner', 'owner'),
    **MYSQL)

metadef_resource_types = sa.Table(
    'metadef_resource_types', metadata,
    sa.Column('id', sa.Integer, primary_key=True),
    sa.Column('name', sa.String(80), nullable=False),
    _bool('protected'),
    *_dated(),
    sa.UniqueConstraint('name', name='uq_metadef_resource_types_name'),
    **MYSQL)

metadef_namespace_resource_types = sa.Table(
    'metadef_namespace_resource_types', metadata,
    sa.Column('resource_type_id', sa.Integer,
              sa.ForeignKey('metadef_resource_types.id'), primary_key=True,
              autoincrement=False),
    sa.Column('namespace_id', sa.Integer,
              sa.ForeignKey('metadef_namespaces.id'), primary_key=True,
              autoincrement=False),
    sa.Column('properties_target', sa.String(80)),
    sa.Column('prefix', sa.String(80)),
    *_dated(),
    sa.Index('ix_metadef_ns_res_types_namespace_id', 'namespace_id'),
    **MYSQL)


def _of_namespace(kind: str, *columns: sa.Column) -> sa.Table:
    """What a namespace holds, under names that are its own."""
    table = f'metadef_{kind}'
    return sa.Table(
        table, metadata,
        sa.Column('id', sa.Integer, primary_key=True),
        sa.Column('namespace_id', sa.Integer,
                  sa.ForeignKey('metadef_namespaces.id'), nullable=False),
        sa.Column('name', sa.String(80), nullable=False),
        *columns, *_dated(),
        sa.UniqueConstraint('namespace_id', 'name',
                            name=f'uq_{table}_namespace_id_name'),
        sa.Index(f'ix_{table}_name', 'name'),
        **MYSQL)


# json_schema is JSON, required names with commas between them.
metadef_objects = _of_namespace(
    'objects', sa.Column('description', sa.Text),
    sa.Column('required', sa.Text),
    sa.Column('json_schema', sa.Text, nullable=False))

metadef_properties = _of_namespace(
    'properties', sa.Column('json_schema', sa.Text, nullable=False))

metadef_tags = _of_namespace('tags')

# What is staged for an image: open -> complete -> consumed | discarded.
# device to ctime_ns tell whether the file is still the one that was hashed.
import_staging = sa.Table(
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
    sa.Column('device', Unsigned64),
    sa.Column('inode', Unsigned64),
    sa.Column('mtime_ns', sa.BigInteger),
    sa.Column('ctime_ns', sa.BigInteger),
    sa.Column('detected_format', sa.String(20)),
    sa.Column('verified', sa.BigInteger),
    sa.Column('created_at', sa.DateTime, nullable=False),
    sa.Column('updated_at', sa.DateTime),
    sa.Index('import_staging_state_idx', 'state', 'updated_at'),
    **MYSQL)

# An import that was accepted; the id is its task's. request and plugins are
# JSON. owner is the random token of the lease, epoch its fencing token: it
# grows by one with each lease. area is NULL until something is staged, see
# also turns.STAGES_NOTHING. message is the latest trouble, retries counts how
# often the present step met one that may pass. posted is when a job board
# outside the database was told of the job. Times are seconds of the
# database's clock, see db_now().
import_jobs = sa.Table(
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
    sa.Column('epoch', sa.Integer, nullable=False, default=0,
              server_default='0'),
    sa.Column('attempts', sa.Integer, nullable=False, default=0,
              server_default='0'),
    sa.Column('owner', sa.String(255)),
    sa.Column('conductor', sa.String(255)),
    sa.Column('claim_expires', sa.Double),
    sa.Column('not_before', sa.Double),
    _bool('cancel', default=False, server_default=sa.false()),
    sa.Column('step', sa.String(255)),
    sa.Column('bytes_done', sa.BigInteger),
    sa.Column('bytes_total', sa.BigInteger),
    sa.Column('message', sa.Text),
    # A row of imports.outcome.CODES, once a step has failed.
    sa.Column('code', sa.String(64)),
    sa.Column('created_at', sa.Double, nullable=False),
    sa.Column('started_at', sa.Double),
    # Ids of the stores that shall have the image (JSON); NULL while there is
    # only one.
    sa.Column('stores', sa.Text),
    # What is known of the data being fetched (JSON), to go on with it; and
    # what the fetching needs that nobody may read, encrypted by a key that
    # is not in the database. NULL as soon as it is not needed any more.
    sa.Column('source', sa.Text),
    sa.Column('secret', sa.Text),
    sa.Column('retries', sa.Integer, nullable=False, default=0,
              server_default='0'),
    sa.Column('posted', sa.Double),
    # Attributes of the image before plugins changed them (JSON).
    sa.Column('undo_log', sa.Text),
    # The plugins and options it is judged by (JSON), and a digest of what of
    # that a conductor must have itself; NULL where that is nothing.
    sa.Column('snapshot', sa.Text),
    sa.Column('requirement', sa.String(64)),
    # Since when it waits for an operator, what for, and what was approved
    # already (JSON: lists of texts, see imports.holding).
    sa.Column('held_at', sa.Double),
    sa.Column('held_by', sa.Text),
    sa.Column('approved', sa.Text),
    sa.Index('import_jobs_image_idx', 'image_id'),
    sa.Index('import_jobs_order_idx', 'created_at', 'id'),
    sa.Index('import_jobs_project_idx', 'project', 'created_at'),
    **MYSQL)

# The epoch of the latest lease of any import of an image. It only grows, so
# a file name that holds it belongs to one attempt for ever.
import_epochs = sa.Table(
    'import_epochs', metadata,
    sa.Column('image_id', sa.String(36), primary_key=True),
    sa.Column('epoch', sa.Integer, nullable=False),
    **MYSQL)

# When a project's import was last begun (the database's clock): whose turn is
# the longest ago comes next.
import_turns = sa.Table(
    'import_turns', metadata,
    sa.Column('project', sa.String(255), primary_key=True),
    sa.Column('served', sa.Double, nullable=False),
    **MYSQL)

# Who runs imports: one row a conductor, kept fresh while it lives. honours is
# the requirement of the plugins that are configured where it runs; seen is
# the database's clock.
import_conductors = sa.Table(
    'import_conductors', metadata,
    sa.Column('name', sa.String(255), primary_key=True),
    sa.Column('node', sa.String(255), nullable=False),
    sa.Column('area', sa.String(36), nullable=False),
    sa.Column('version', sa.String(64), nullable=False),
    sa.Column('honours', sa.String(64)),
    sa.Column('seen', sa.Double, nullable=False),
    # It takes no more imports, and ends those that it has.
    _bool('draining', default=False, server_default=sa.false()),
    **MYSQL)

# Imports that a conductor left to others, and why: it cannot honour what they
# are to be judged by.
import_refusals = sa.Table(
    'import_refusals', metadata,
    sa.Column('job_id', sa.String(36), primary_key=True),
    sa.Column('conductor', sa.String(255), primary_key=True),
    sa.Column('reason', sa.Text, nullable=False),
    sa.Column('since', sa.Double, nullable=False),
    **MYSQL)

# What plugins said in an import that has ended; the id is its task's.
import_verdicts = sa.Table(
    'import_verdicts', metadata,
    sa.Column('id', sa.String(36), primary_key=True),
    sa.Column('image_id', sa.String(36), nullable=False),
    sa.Column('ended_at', sa.Double, nullable=False),
    sa.Column('plugins', Json, nullable=False),
    sa.Index('import_verdicts_image_idx', 'image_id'),
    sa.Index('import_verdicts_ended_idx', 'ended_at'),
    **MYSQL)

# What is still to be deleted somewhere else: written with what makes it
# superfluous, gone when it is done. kind says what it is, payload (JSON) which
# one; area whose nodes can do it, NULL for any. next_at is when it is tried
# next, by the database's clock: NULL when nobody tries any more.
import_deletions = sa.Table(
    'import_deletions', metadata,
    sa.Column('id', sa.String(36), primary_key=True),
    sa.Column('kind', sa.String(32), nullable=False),
    sa.Column('image_id', sa.String(36)),
    sa.Column('area', sa.String(36)),
    sa.Column('payload', sa.Text, nullable=False),
    sa.Column('attempts', sa.Integer, nullable=False, default=0,
              server_default='0'),
    sa.Column('next_at', sa.Double),
    sa.Column('message', sa.Text),
    sa.Column('created_at', sa.Double, nullable=False),
    sa.Index('import_deletions_next_idx', 'next_at'),
    **MYSQL)

# Random keys that every node of the database shares, in hex. They protect
# nothing from who can read the database.
import_keys = sa.Table(
    'import_keys', metadata,
    sa.Column('name', sa.String(64), primary_key=True),
    sa.Column('value', sa.String(64), nullable=False),
    **MYSQL)


def _record(*columns: sa.Column) -> list[sa.Column]:
    return [sa.Column('uuid', sa.String(64), primary_key=True),
            sa.Column('created_at', sa.DateTime),
            sa.Column('updated_at', sa.DateTime),
            sa.Column('name', sa.String(255)),
            sa.Column('meta', Json), *columns]


def _parent(table: str) -> sa.Column:
    return sa.Column('parent_uuid', sa.String(64), sa.ForeignKey(
        f'{table}.uuid', ondelete='CASCADE'))


# What taskflow records of the flow of an import, under the import's id: its
# own tables under names of ours, so that a taskflow of somebody else's may
# live in the same database. All JSON is text, so that what can be recorded is
# the same on every server.
import_logbooks = sa.Table(
    'import_logbooks', metadata, *_record(), **MYSQL)

import_flowdetails = sa.Table(
    'import_flowdetails', metadata,
    *_record(_parent('import_logbooks'), sa.Column('state', sa.String(255))),
    sa.Index('import_flowdetails_parent_idx', 'parent_uuid'),
    **MYSQL)

import_atomdetails = sa.Table(
    'import_atomdetails', metadata,
    *_record(_parent('import_flowdetails'),
             sa.Column('state', sa.String(255)),
             sa.Column('version', sa.String(64)),
             sa.Column('failure', Json),
             sa.Column('results', Json),
             sa.Column('revert_results', Json),
             sa.Column('revert_failure', Json),
             sa.Column('atom_type', sa.String(32)),
             sa.Column('intention', sa.String(32))),
    sa.Index('import_atomdetails_parent_idx', 'parent_uuid'),
    **MYSQL)


def _value_prefix() -> sa.ColumnElement[str]:
    return sa.func.substr(image_properties.c.value,
                          sa.literal_column('1'),
                          sa.literal_column(str(VALUE_PREFIX)))


def property_is(name: str, value: str) -> sa.ColumnElement[bool]:
    """Condition on image_properties that every server has an index for."""
    return sa.and_(spelling.exactly(image_properties.c.name, name),
                   spelling.exactly(image_properties.c.value, value),
                   _value_prefix() == value[:VALUE_PREFIX])


class db_now(functions.FunctionElement[float]):
    """The database's clock: seconds since 1970 as a float.

    All leases are made and expire by this clock, so those of the nodes may
    differ. To the millisecond on SQLite, finer elsewhere.
    """

    type = sa.Double()
    inherit_cache = True


@compiler.compiles(db_now, 'sqlite')
def _now_sqlite(_element, _compiler, **_kw) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiler.compiles(db_now, 'postgresql')
def _now_postgresql(_element, _compiler, **_kw) -> str:
    # Not now(), which stands still for a whole transaction.
    return 'CAST(extract(epoch from clock_timestamp()) AS DOUBLE PRECISION)'


@compiler.compiles(db_now, 'mysql')
@compiler.compiles(db_now, 'mariadb')
def _now_mysql(_element, _compiler, **_kw) -> str:
    # Not unix_timestamp(), which goes through the session's time zone and
    # repeats an hour each autumn.
    return ("(timestampdiff(MICROSECOND, '1970-01-01', utc_timestamp(6))"
            ' / 1e6)')
