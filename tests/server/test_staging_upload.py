"""Uploads through the server into a staging area, and its sudden death."""

import hashlib
import json
import os
import signal
import uuid

import server_harness
from test_http_server import ask_json
from test_http_server import head
from test_http_server import response

from glance_import import staging


def test_staged_bytes(start, tmp_path):
    area = staging.Area.open(f'file://{tmp_path}/staging')
    server = start(env={'TEST_APP_STAGING': f'file://{area.directory}'})
    image_id, data = str(uuid.uuid4()), os.urandom(5_000_000)
    with server.send(head(len(data), f'/stage/{image_id}') + data) as sock:
        told = json.loads(response(sock).content)
    assert told['hash_value'] == hashlib.sha512(data).hexdigest()
    with open(area.path(image_id), 'rb') as staged:
        assert staged.read() == data


def test_killed_in_mid_upload_the_next_is_let_in(start, tmp_path):
    area = staging.Area.open(f'file://{tmp_path}/staging')
    server = start(env={'TEST_APP_STAGING': f'file://{area.directory}'})
    image_id = str(uuid.uuid4())
    with server.send(head(10_000_000, f'/stage/{image_id}')
                     + bytes(3_000_000)):
        server_harness.wait_for(lambda: area.part_size(image_id))
        assert area.is_live(image_id)
        os.kill(server.children()[0], signal.SIGKILL)
        server_harness.wait_for(lambda: not area.is_live(image_id))
    assert ask_json(server, '/state')
    with server.send(head(3, f'/stage/{image_id}') + b'abc') as sock:
        assert json.loads(response(sock).content)['size'] == 3
    assert area.part_size(image_id) is None
