"""A whole service that belongs to an ordinary user, with walled plugins.

Where the tests run as root, the service is started as somebody else, who
finds the code and its libraries below a directory that it may pass.
"""

import contextlib
import os
import pathlib
import pwd
import shutil
import sys
import sysconfig
import tempfile
import textwrap

import pytest

from tests import mounts
from tests.plugin.test_import import do_import
from tests.plugin.test_import import MARKER
from tests.plugin.test_import import UPPER
from tests.plugin.test_wall import _as_user
from tests.plugin.test_wall import _python_for
from tests import service as services

TOP = pathlib.Path(__file__).parents[2]
USER = 'nobody'
NOSY = '''
    import os
    from glance_import.plugin import ImagePlugin, Option

    class Nosy(ImagePlugin):
        """Says what it gets at of what is not its own."""
        api = 1
        options = [Option('places', list, ())]

        def inspect(self, ctx):
            found = [place for place in ctx.options.places
                     if os.path.exists(place) and (
                         not os.path.isdir(place) or os.listdir(place))]
            return self.accept(properties={
                'nosy_uid': str(os.getuid()), 'nosy_found': ' '.join(found)})
'''


class Ordinary(services.Service):
    """The same commands, as another user, below bound directories."""

    python = sys.executable
    prefix: tuple[str, ...] = ()

    def command(self, name, *arguments):
        words = super().command(name, *arguments)
        return [*self.prefix, self.python, *words[1:]]


@pytest.fixture
def service(bwrap):
    with contextlib.ExitStack() as stack:
        # Not below pytest's directory, which only its owner may pass.
        top = pathlib.Path(stack.enter_context(
            tempfile.TemporaryDirectory(prefix='ordinary-')))
        made = Ordinary(top / 'service')
        if os.geteuid() == 0:
            top.chmod(0o755)
            made = _as_nobody(made, top, stack)
        yield made
        made.kill()


def _as_nobody(made, top, stack):
    # The package, not the checkout: that may be a directory of its owner's.
    (top / 'code').mkdir()
    places = {'site': sysconfig.get_paths()['purelib'],
              'code/glance_import': str(TOP / 'glance_import')}
    for name, place in places.items():
        stack.enter_context(mounts.libraries(top / name, place))
        assert os.statvfs(top / name).f_flag & os.ST_RDONLY
    # The libraries are made for this version.
    version = tuple(sys.version_info[:2])
    made.python = _python_for(USER, (version, version))
    made.prefix = tuple(_as_user(USER))
    # The system's Python may have libraries of its own behind ours that do
    # not fit them; this one is imported when it is there.
    (top / 'shadow').mkdir()
    (top / 'shadow' / 'OpenSSL.py').write_text('raise ImportError\n')
    made.environment['PYTHONPATH'] = f'{top}/shadow:{top}/code:{top}/site'
    made.environment['HOME'] = '/'
    (made.directory / 'plugins').mkdir()
    _give(made.directory)
    return made


def _give(directory):
    if os.geteuid() == 0:
        for path in (directory, *directory.rglob('*')):
            shutil.chown(path, USER, pwd.getpwnam(USER).pw_gid)


def write(service, name, source):
    path = service.directory / 'plugins' / f'{name}.py'
    path.parent.mkdir(exist_ok=True)
    path.write_text(textwrap.dedent(source))
    path.chmod(0o644)
    return f'file:{path}:{name.title()}'


def test_imports_of_an_ordinary_user(service):
    names = [write(service, *each) for each in (
        ('marker', MARKER), ('nosy', NOSY), ('upper', UPPER))]
    service.configure(
        image_import_opts={'image_import_plugins': f"[{', '.join(names)}]"},
        marker={'allowed_properties': 'acme_'},
        upper={'allowed_properties': 'up'},
        nosy={'allowed_properties': 'nosy_', 'places': ', '.join(map(str, (
            service.state, service.staging, service.images, service.conf,
            service.state / 'glance.sqlite')))})
    _give(service.directory)
    service.start()
    assert os.stat(service.state).st_uid != 0
    assert 'bubblewrap with a user namespace' in service.text()
    # It may read what an ordinary user's sandbox shows it, too.
    assert ('second opinion on images: qemu-img, in the sandbox'
            in service.text()) == bool(shutil.which('qemu-img'))
    image, task = do_import(service, b'words without it')
    assert image['status'] == 'active', (image, service.text()[-3000:])
    assert service.download(image['id']) == b'WORDS WITHOUT IT'
    assert image['acme_scanned'] == 'yes'
    assert image['nosy_found'] == ''
    assert image['nosy_uid'] == '65534'
    assert [said['verdict'] for said in task['result']['plugins']] == [
        'accept'] * 3
    image, _task = do_import(service, b'this is EVIL')
    assert image['os_glance_import_error'] == (
        'plugin marker: It holds the marker. (acme.marker)')
    assert image['status'] == 'uploading'
    # What belongs to others may be no plugin.
    if os.geteuid() == 0:
        shutil.chown(service.directory / 'plugins' / 'nosy.py', 'daemon')
        done = service.run('api')
        assert done.returncode == 1
        assert 'nosy' in done.stderr and 'belongs to user' in done.stderr
