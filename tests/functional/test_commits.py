"""How many transactions an import writes, from its claim to its end.

Each is a wait for the disk. Nothing here measures time.
"""

import contextlib

import pytest

from glance_import.db import engine
from tests.functional.test_resume import desk  # noqa: F401
from tests import marker as markers
from tests import servers


@pytest.fixture
def marker(tmp_path):
    servers.program('bwrap')
    path = tmp_path / 'marker.py'
    path.write_text(markers.SOURCE)
    path.chmod(0o644)
    return f'file:{path}:Marker'


@pytest.fixture
def written(monkeypatch):
    """A list that grows with each write transaction of this process."""
    made = []
    write = engine.Database.write

    @contextlib.contextmanager
    def counted(self):
        with write(self) as conn:
            yield conn
            made.append(1)

    monkeypatch.setattr(engine.Database, 'write', counted)
    return made


def run(desk, written, data):  # noqa: F811
    image_id = desk.accept(data)
    del written[:]
    desk.run(image_id)
    desk.nothing_left()
    return len(written), desk.service.show(image_id)


def test_without_plugins(desk, written):  # noqa: F811
    number, image = run(desk(), written, b'data')
    assert image['status'] == 'active'
    assert number <= 4


def test_one_more_for_each_plugin(desk, written, marker):  # noqa: F811
    number, image = run(desk(marker), written, b'data')
    assert image['status'] == 'active'
    assert number <= 5


def test_refused(desk, written, marker):  # noqa: F811
    number, image = run(desk(marker), written, b'EVIL')
    assert image['os_glance_import_error'] == 'plugin marker: It is evil.'
    assert number <= 5


def test_refused_for_its_format(desk, written):  # noqa: F811
    number, image = run(desk(), written, b'QFI\xfb' + bytes(1000))
    assert image['status'] == 'uploading'
    assert number <= 5


def test_get_flow_plugins(desk, written):  # noqa: F811
    """One before the first, which names it should it end the process."""
    number, image = run(desk('one,two'), written, b'data')
    assert image['status'] == 'active'
    assert number <= 4 + 1 + 2
