import contextlib
import pathlib
import sqlite3
import subprocess
import sys

import pytest

from glance_import.cmd import manage
from glance_import.db import migrations

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def run(tmp_path, capfd):
    """Run a command on a database; its status, stdout and stderr."""
    def run_on(url, *words):
        path = tmp_path / 'glance-api.conf'
        path.write_text(f'[database]\nconnection = {url}\n')
        try:
            status = manage.main(['--config-file', str(path), *words])
        except SystemExit as e:
            status = e.code
        return status, *capfd.readouterr()
    return run_on


def test_from_nothing_to_head(run, url):
    assert run(url, 'db', 'version') == (0, 'none\n', '')
    status, out, err = run(url, 'db', 'check')
    assert (status, err) == (1, '') and 'empty' in out

    status, out, err = run(url, 'db', 'sync')
    assert (status, err) == (0, '') and migrations.HEAD in out

    assert run(url, 'db', 'version') == (0, migrations.HEAD + '\n', '')
    status, out, err = run(url, 'db', 'check')
    assert (status, err) == (0, '') and 'head' in out
    assert run(url, 'db', 'sync')[0] == 0


def one_line_error(answer):
    status, out, err = answer
    return (status == 1 and out == '' and err.count('\n') == 1
            and err.startswith('glance-import-manage: '))


@pytest.mark.parametrize('command', ['sync', 'version', 'check'])
@pytest.mark.parametrize('url', [
    'postgresql+psycopg2://user:secret@127.0.0.1:1/x',
    'mysql+pymysql://user:secret@127.0.0.1:1/x',
    'nothing://x',
    'sqlite://',
])
def test_a_database_that_cannot_be_reached(run, command, url):
    answer = run(url, 'db', command)

    assert one_line_error(answer)
    assert 'secret' not in answer[2]


@pytest.mark.parametrize('command', ['sync', 'version', 'check'])
def test_a_file_that_is_no_database(run, command, tmp_path):
    (tmp_path / 'notes').write_text('not a database')

    assert one_line_error(run(f'sqlite:///{tmp_path}/notes', 'db', command))


def test_a_config_file_that_is_not_there(capfd):
    status = manage.main(['--config-file', '/nonexistent', 'db', 'check'])

    assert one_line_error((status, *capfd.readouterr()))


@pytest.mark.parametrize('words', [[], ['db'], ['db', 'nonsense'], ['no']])
def test_a_command_that_is_none(run, tmp_path, words):
    status, out, err = run(f'sqlite:///{tmp_path}/x', *words)

    assert status == 2
    assert 'Traceback' not in err


def test_as_a_program(tmp_path):
    config = tmp_path / 'glance-api.conf'
    config.write_text(
        f'[database]\nconnection = sqlite:///{tmp_path}/glance.sqlite\n')
    done = subprocess.run(
        [sys.executable, '-m', 'glance_import.cmd.manage',
         '--config-file', str(config), 'db', 'check'],
        cwd=ROOT, capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (1, '')
    assert done.stdout == 'the database is empty\n'


def test_purge(run, tmp_path):
    url = f'sqlite:///{tmp_path}/glance.sqlite'
    run(url, 'db', 'sync')
    status, out, err = run(url, 'db', 'purge', '--format', 'value')
    assert (status, err) == (0, '')
    assert 'tasks\t0' in out.splitlines()
    for words in (('--age-in-days', '0'), ('--age-in-days', 'x')):
        status, out, err = run(url, 'db', 'purge-images', *words)
        assert status == 2 and 'number of days' in err


def test_backup(run, tmp_path):
    """Whole, though most of it is in the log beside the file."""
    url = f'sqlite:///{tmp_path}/glance.sqlite'
    run(url, 'db', 'sync')
    with contextlib.closing(sqlite3.connect(
            tmp_path / 'glance.sqlite')) as writer:
        writer.execute('PRAGMA journal_mode = WAL')
        writer.execute('CREATE TABLE late (word TEXT)')
        writer.executemany('INSERT INTO late VALUES (?)', [('x',)] * 1000)
        writer.commit()
        copy = tmp_path / 'copy.sqlite'
        status, out, err = run(url, 'db', 'backup', str(copy))
        assert (status, err) == (0, '') and str(copy) in out
        assert one_line_error(run(url, 'db', 'backup', str(copy)))
    assert copy.stat().st_mode & 0o777 == 0o600
    with contextlib.closing(sqlite3.connect(copy)) as kept:
        assert kept.execute('SELECT count(*) FROM late').fetchone() == (1000,)
    assert run(f'sqlite:///{copy}', 'db', 'check')[0] == 0
    assert one_line_error(run(f'sqlite:///{tmp_path}/none', 'db', 'backup',
                              str(tmp_path / 'other')))
    assert not (tmp_path / 'other').exists()
