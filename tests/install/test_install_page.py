"""The install page, each command as it is printed, in a clean system."""

import os
import pathlib
import shutil
import socket
import tempfile

import pytest

from tests import servers
from tests.install import page

PAGE = page.TOP / 'doc/source/install/index.rst'
# Of these the page says with what status they end.
WARNS = 'glance-import-status upgrade check'

AFTERWARDS = r'''
# -- beyond the page: is it what the page promises?
systemctl show -p ExecMainStatus -p NRestarts -p WatchdogUSec glance-import-api
for unit in glance-import-api glance-import-conductor; do
    pid=$(systemctl show -p MainPID --value $unit)
    grep -E '^(Uid|Gid|CapEff|NoNewPrivs|Seccomp):' /proc/$pid/status
    grep -q '^NoNewPrivs:\s1' /proc/$pid/status
    grep -q '^Seccomp:\s2' /proc/$pid/status
done
grep -q '^CapEff:\s0*10000008$' /proc/$pid/status
# a plugin of the contract, and an import by reference of 1 GiB
cat > /etc/glance/glance-api.conf.d/60-plugins.conf <<END
[image_import_opts]
image_import_plugins = [format_report]
END
chmod 0644 /etc/glance/glance-api.conf.d/60-plugins.conf
systemctl reload glance-import-conductor glance-import-api
sleep 5
systemctl restart glance-import-api
ID=$(curl -fsS -H "$JSON" $URL/v2/images -d '{"name": "large",
    "disk_format": "raw", "container_format": "bare"}' |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])')
head -c 1073741824 /dev/zero | curl -fsS -X PUT -T - \
    -H 'Content-Type: application/octet-stream' $URL/v2/images/$ID/stage
inode=$(stat -c %i /var/lib/glance/staging/$ID)
curl -fsS -H "$JSON" $URL/v2/images/$ID/import \
    -d '{"method": {"name": "glance-direct"}}'
until curl -fsS $URL/v2/images/$ID | grep '"status": *"active"'; do sleep 1; done
test "$inode" = $(stat -c %i /var/lib/glance/images/$ID)
test "$(stat -c '%U %G %a' /var/lib/glance/images/$ID)" = 'glance-api glance 440'
curl -fsS $URL/v2/images/$ID/file | sha256sum
curl -fsS $URL/v2/images/$ID/tasks
# every row is a success now, and nothing is root's but what tmpfiles made so
glance-import-status upgrade check
glance-import-manage imports list
test -z "$(find /var/lib/glance -mindepth 2 -user root)"
# neither of the two reads what is the other's
! setpriv --reuid=glance-api --regid=glance --init-groups ls /var/lib/glance/conductor
! setpriv --reuid=nobody --regid=nogroup --clear-groups cat /etc/glance/glance-api.conf.d/50-node.conf
systemctl stop glance-import-api glance-import-conductor
systemctl show -p Result glance-import-api glance-import-conductor
! journalctl --no-pager -u 'glance-import-*' | grep Traceback
'''


def test_prompts_are_found():
    """The page is not read as if it had no commands."""
    found = page.commands(PAGE)
    assert len(found) > 25, found
    assert WARNS in found
    assert any('systemctl enable --now' in each for each in found)


@pytest.mark.skipif(not os.environ.get('LONG_TESTS'),
                    reason='installs a system: LONG_TESTS')
def test_the_page(tmp_path):
    if os.geteuid() != 0:
        pytest.skip('only root makes a system')
    for program in ('mmdebstrap', 'systemd-nspawn'):
        servers.program(program)
    with socket.socket() as probe:
        if not probe.connect_ex(('127.0.0.1', 9292)):
            servers.missing('port 9292, which the page uses, is taken')
    place = pathlib.Path(tempfile.mkdtemp(prefix='glance-import-test-'))
    try:
        root = page.make_root(place, 'systemd', 'systemd-sysv')
        script = '\n'.join(
            f'{each} || [ $? -eq 1 ]' if each == WARNS else each
            for each in page.commands(PAGE))
        status, said = page.run_booted(root, script + '\n' + AFTERWARDS)
        journal = root / 'root/journal.log'
        assert status == 0, said[-8000:] + (
            journal.read_text('utf-8', 'replace')[-8000:]
            if journal.exists() else '')
    finally:
        shutil.rmtree(place, ignore_errors=True)
