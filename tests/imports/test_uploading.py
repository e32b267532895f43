"""What an upload that waits for its import makes of what it sees."""

import types

from oslo_db import exception as db_exc
import pytest

from glance_import import errors
from glance_import.imports import outcome
from glance_import.imports import uploading


class Away:
    """A database that raises what it was given."""

    def __init__(self, failure):
        self.failure = failure

    def read(self):
        raise self.failure


def test_a_database_that_is_away_is_waited_for():
    services = types.SimpleNamespace(db=Away(db_exc.DBConnectionError()))
    assert uploading._read_task(services, 'task') == (False, None, None)


def test_a_wrong_statement_is_not():
    services = types.SimpleNamespace(db=Away(db_exc.DBDataError()))
    with pytest.raises(db_exc.DBDataError):
        uploading._read_task(services, 'task')


@pytest.mark.parametrize('code, kind', [
    ('refused.plugin', errors.Invalid), ('plugin.failed', errors.Invalid),
    ('refused.format', errors.Unsupported),
    ('refused.size', errors.TooLarge), ('store.full', errors.TooLarge),
    ('image.gone', errors.Gone), ('cancelled', errors.Conflict),
    ('store.unreachable', errors.Unavailable),
    (outcome.INTERNAL, errors.Unavailable)])
def test_how_an_import_that_failed_is_answered(code, kind):
    task = types.SimpleNamespace(result={'code': code}, message='It is so.')
    failure = uploading._failed('an-image', task)
    assert type(failure) is kind and failure.code == code
    assert str(failure).startswith('It is so.') and code in str(failure)


def test_each_answer_is_for_a_code_that_there_is():
    for name in uploading._ANSWERS:
        assert any(code == name or code.startswith(name + '.')
                   for code in outcome.CODES), name
