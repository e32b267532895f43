"""The history of the database, for alembic; ``upgrade`` is what runs it.

Revisions are kept in ``import_alembic_version``, beside Glance's own
``alembic_version``, so that neither service stumbles over the other's. They
are written to be run again after an interruption: MySQL commits each DDL
statement by itself.
"""

VERSION_TABLE = 'import_alembic_version'

# Every revision, oldest first. Written down so that a service at start knows
# where it stands without loading alembic; a test compares it with versions/.
REVISIONS = ('r1_0001', 'r1_0002', 'r1_0003', 'r1_0004', 'r1_0005')
HEAD = REVISIONS[-1]
# What a database may be at that was made before the first release. It is
# taken over from the first revision on, as one of which nothing is known.
BEFORE_RELEASE = tuple(f'import_{number:04}' for number in range(1, 9))
