"""From a Glance and back, each command as the page prints it."""

import os
import pathlib
import shutil
import socket
import tempfile

import pytest

from tests import glance
from tests.install import page
from tests import servers

PAGE = page.TOP / 'doc/source/admin/migrating-from-glance.rst'
SECTION = 'There and back on one host'
WARNS = 'glance-import-status upgrade check'
BACK = 'glance-import-manage imports list'

# A Glance as a site has it: a user, a unit, a database server.
BEFORE = f'''
apt-get update
apt-get install -y --no-install-recommends postgresql python3-venv curl
python3 -m venv /opt/glance
/opt/glance/bin/pip install -q \
    -r /usr/src/glance-import/tests/constraints/glance.txt
useradd --system --create-home --home-dir /var/lib/glance glance
for name in images staging tasks locks run; do
    install -d -m 0750 -o glance -g glance /var/lib/glance/$name
done
runuser -u postgres -- psql -c "CREATE ROLE glance LOGIN PASSWORD 'x'"
runuser -u postgres -- createdb -O glance glance
mkdir /etc/glance
cat > /etc/glance/glance-api.conf <<'END'
{glance.CONF.format(
    top='/var/lib/glance', images='/var/lib/glance/images',
    staging='/var/lib/glance/staging',
    database='postgresql+psycopg2://glance:x@127.0.0.1/glance').replace(
        '/var/lib/glance/glance-api-paste', '/etc/glance/glance-api-paste')}
END
cat > /etc/glance/glance-api-paste.ini <<'END'
{glance.PASTE.format(versions=glance.VERSIONS,
                     identity='token_identity:factory')}
END
cat > /var/lib/glance/run/token_identity.py <<'END'
{glance.IDENTITY}
END
cat > /var/lib/glance/run/gunicorn.conf.py <<'END'
{glance.GUNICORN.format(port=9292)}
END
chgrp -R glance /etc/glance
chmod 0640 /etc/glance/glance-api.conf
cat > /etc/systemd/system/glance-api.service <<'END'
[Service]
User=glance
WorkingDirectory=/var/lib/glance/run
Environment=PYTHONPATH=/var/lib/glance/run
ExecStart=/opt/glance/bin/gunicorn
[Install]
WantedBy=multi-user.target
END
runuser -u glance -- /opt/glance/bin/glance-manage db_sync
URL=http://127.0.0.1:9292/v2/images
JSON='Content-Type: application/json'
OCTETS='Content-Type: application/octet-stream'
TOKEN='X-Auth-Token: root:ops:admin,member,reader'
head -c 3000000 /dev/urandom > disk
answers() {{
    until curl -fsS -o /dev/null http://127.0.0.1:9292/versions; do
        sleep 1
    done
}}
create() {{
    curl -fsS -H "$TOKEN" -H "$JSON" $URL \\
        -d '{{"disk_format": "raw", "container_format": "bare"}}' |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])'
}}
same() {{
    curl -fsS -H "$TOKEN" $URL/$1/file | cmp - disk
}}
systemctl enable --now glance-api
answers
OLD=$(create)
curl -fsS -H "$TOKEN" -X PUT -H "$OCTETS" -T disk $URL/$OLD/file
same $OLD
'''
BETWEEN = '''
same $OLD
NEW=$(create)
curl -fsS -X PUT -H "$OCTETS" -T disk $URL/$NEW/stage
curl -fsS -H "$JSON" $URL/$NEW/import \\
    -d '{"method": {"name": "glance-direct"}}'
until curl -fsS $URL/$NEW | grep '"status": *"active"'; do sleep 1; done
GONE=$(create)
curl -fsS -X PUT -H "$OCTETS" -T disk $URL/$GONE/file
curl -fsS -X DELETE $URL/$OLD
test ! -e /var/lib/glance/images/$OLD
'''
AFTER = '''
answers
same $NEW
same $GONE
curl -fsS -H "$TOKEN" -X DELETE $URL/$GONE
LAST=$(create)
curl -fsS -H "$TOKEN" -X PUT -H "$OCTETS" -T disk $URL/$LAST/file
same $LAST
test -z "$(find /var/lib/glance/images -name "$GONE*")"
journalctl --no-pager -u 'glance-import-*' > units
test -s units
if grep Traceback units; then exit 1; fi
'''


def test_the_page_has_its_commands():
    assert len(page.commands(PAGE, section=SECTION)) > 25
    assert BACK in page.commands(PAGE, section=SECTION)


@pytest.mark.skipif(not os.environ.get('LONG_TESTS'),
                    reason='installs a system: LONG_TESTS')
def test_there_and_back():
    if os.geteuid() != 0:
        servers.missing('only root makes a system')
    for program in ('mmdebstrap', 'systemd-nspawn'):
        servers.program(program)
    for port in (9292, 5432):
        with socket.socket() as probe:
            if not probe.connect_ex(('127.0.0.1', port)):
                servers.missing(f'port {port}, which the test uses, is taken')
    found = page.commands(PAGE, section=SECTION)
    back = found.index(BACK)
    script = '\n'.join([BEFORE, *(
        f'{each} || [ $? -eq 1 ]' if each == WARNS else each
        for each in found[:back]), BETWEEN, *found[back:], AFTER])
    place = pathlib.Path(tempfile.mkdtemp(prefix='glance-import-test-'))
    try:
        root = page.make_root(place, 'systemd', 'systemd-sysv')
        status, said = page.run_booted(root, script)
        assert status == 0, said[-8000:]
    finally:
        shutil.rmtree(place, ignore_errors=True)
