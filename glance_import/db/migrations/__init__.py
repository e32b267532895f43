"""The history of the database, for alembic; ``upgrade`` is what runs it.

Revisions are kept in ``import_alembic_version``, beside Glance's own
``alembic_version``, so that neither service stumbles over the other's. They
are written to be run again after an interruption: MySQL commits each DDL
statement by itself.
"""

VERSION_TABLE = 'import_alembic_version'

# Every revision, oldest first. Written down so that a service at start knows
# where it stands without loading alembic; a test compares it with versions/.
REVISIONS = ('import_0001', 'import_0002', 'import_0003', 'import_0004',
             'import_0005', 'import_0006', 'import_0007', 'import_0008')
HEAD = REVISIONS[-1]
