"""The page on several nodes, each command as it is printed, in clean systems.

What needs a package index is done on this machine's network, the rest on one
of their own with the addresses of the page.
"""

import contextlib
import os
import pathlib
import shutil
import tempfile

import pytest

from tests.install import page
from tests import servers

PAGE = page.TOP / 'doc/source/install/several-nodes.rst'
WARNS = 'glance-import-status upgrade check'
DATA, PROGRAM = 'The data host', 'The program, on every node'
FILES = 'Users and files, on every node'
ONCE = 'Once, on the first node'
BOTH, THIRD = 'The first and the second node', 'The third node'
MADE = 'An image, on the first node'
IMPORTED = 'Imported, on the second node'
# Beyond the page: what it promises.
WHOLE = ('test "$(curl -fsS $URL/v2/images/$ID/file | sha512sum | '
         'head -c 128)" '
         "= $(curl -fsS $URL/v2/images/$ID | grep -oE '[0-9a-f]{128}')")
OUT = ('systemctl stop glance-import-api glance-import-conductor\n'
       'if journalctl --no-pager | grep Traceback; then exit 1; fi')


def script(*sections):
    found = [each for title in sections
             for each in page.commands(PAGE, section=title)]
    return '\n'.join(f'{each} || [ $? -eq 1 ]' if each == WARNS else each
                     for each in found)


def test_each_command_is_of_a_section():
    known = (DATA, PROGRAM, FILES, ONCE, BOTH, THIRD, MADE, IMPORTED)
    assert [each for title in known for each in page.commands(
        PAGE, section=title)] == page.commands(PAGE)
    assert len(page.commands(PAGE)) > 40


def is_fetching(command):
    return command.startswith('apt-get ')


@pytest.mark.skipif(not os.environ.get('LONG_TESTS'),
                    reason='installs four systems: LONG_TESTS')
def test_the_page():
    if os.geteuid() != 0:
        servers.missing('only root makes a system')
    for program in ('mmdebstrap', 'systemd-nspawn', 'ip', 'nsenter'):
        servers.program(program, '/usr/sbin')
    place = pathlib.Path(tempfile.mkdtemp(prefix='glance-import-test-'))
    try:
        run(place)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def run(place):
    fetched = [each for each in page.commands(PAGE, section=DATA)
               if is_fetching(each)]
    data = installed(place / 'data', '\n'.join(fetched))
    node = installed(place / 'node', script(PROGRAM))
    shared = place / 'shared'
    shared.mkdir()
    with page.Network('192.0.2') as network, \
            contextlib.ExitStack() as stack:
        def boot(root, number, *binds):
            made = page.Machine(root, network.place(number), *binds)
            stack.callback(made.end)
            return made

        boot(data, 10).run('\n'.join(
            each for each in page.commands(PAGE, section=DATA)
            if not is_fetching(each)))
        first, second, third = (boot(node, number, f'{shared}:/srv/glance')
                                for number in (11, 12, 13))
        first.run(script(FILES, ONCE, BOTH))
        second.run(script(FILES, BOTH))
        said = third.run(script(FILES, THIRD))
        assert said.count('  alive, ') == 3, said
        first.run(script(MADE))
        second.run(script(IMPORTED) + f'\n{WHOLE}')
        # Nodes are taken out, the last one that can still does it.
        third.run(OUT.replace('glance-import-api ', ''))
        first.run(OUT)
        second.run(script(MADE).replace(
            'tags/first', 'tags/second') + '\n' + script(IMPORTED).replace(
                'tag=first', 'tag=second') + f'\n{WHOLE}\n{OUT}')


def installed(place, commands):
    """A root in which these were run, on this machine's network."""
    place.mkdir()
    root = page.make_root(place, 'systemd', 'systemd-sysv')
    status, said = page.run_booted(root, commands)
    assert status == 0, said[-8000:]
    # The next boot is an ordinary one.
    (root / 'etc/systemd/system/default.target.wants/page.service').unlink()
    return root
