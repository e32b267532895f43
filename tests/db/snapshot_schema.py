"""The schema of a database as plain data, and a program that prints it.

``python -m tests.db.snapshot_schema URL > tests/db/glance_DIALECT.json``
was run on databases that Glance 33's ``glance-manage db_sync`` had made, so
that tests can compare without a Glance at hand. ``glance_sqlite.sql`` is
what ``sqlite3 FILE .dump`` printed for the same.
"""

import json
import sys

import sqlalchemy as sa


def reflect(engine) -> dict:
    """Every table: columns, primary key, indexes, uniques, foreign keys."""
    inspector = sa.inspect(engine)
    return {name: _table(inspector, name, engine.dialect)
            for name in inspector.get_table_names()}


def _table(inspector, name, dialect) -> dict:
    return {
        'columns': {
            column['name']: {
                'type': column['type'].compile(dialect=dialect),
                'nullable': column['nullable'],
                'default': column['default'],
            } for column in inspector.get_columns(name)},
        'primary key': inspector.get_pk_constraint(
            name)['constrained_columns'],
        'indexes': {
            index['name']: {'columns': index['column_names'],
                            'unique': bool(index['unique'])}
            for index in inspector.get_indexes(name)},
        'uniques': {
            unique['name']: unique['column_names']
            for unique in inspector.get_unique_constraints(name)},
        'foreign keys': sorted(
            [key['constrained_columns'], key['referred_table'],
             key['referred_columns']]
            for key in inspector.get_foreign_keys(name)),
    }


if __name__ == '__main__':
    print(json.dumps(reflect(sa.create_engine(sys.argv[1])), indent=1,
                     sort_keys=True))
