"""A small WSGI application that the server tests are run against.

It is served by our own server, gunicorn and uWSGI alike.
"""

import hashlib
import json
import os
import re
import signal
import threading
import time

import webob

from glance_import.api import body
from glance_import import staging

SIZE = 1 << 20
STATE = {'uploads': 0}
_lock = threading.Lock()


def upload(request, start_response):
    digest, size, counts = hashlib.sha256(), 0, 0
    with _lock:
        STATE['uploads'] += 1
    try:
        for block in body.blocks(request.environ):
            digest.update(block)
            size += len(block)
            counts += 1
    except body.BodyError as failure:
        note(f'{type(failure).__name__}: {failure}')
        return webob.Response(
            status=408 if isinstance(failure, body.BodyTimeout) else 400,
            json={'error': type(failure).__name__, 'text': str(failure),
                  'size': size})
    finally:
        with _lock:
            STATE['uploads'] -= 1
    return webob.Response(json={
        'size': size, 'sha256': digest.hexdigest(),
        'thread': threading.current_thread().name})


def note(line):
    """Tell the test what the application saw after the client had gone."""
    path = os.environ.get('TEST_APP_NOTES')
    if path:
        with open(path, 'a') as notes:
            notes.write(line + '\n')


def stage(request, start_response):
    area = staging.Area.open(os.environ['TEST_APP_STAGING'])
    with area.begin(request.path_info.rpartition('/')[2], 'sha512') as begun:
        for block in body.blocks(request.environ):
            begun.write(block)
        staged = begun.finish()
    return webob.Response(json={'size': staged.size,
                                'hash_value': staged.hash_value})


def refuse(request, start_response):
    return webob.Response(status=409, text='no')


def file(request, start_response):
    wrapper = request.environ.get('wsgi.file_wrapper')
    source = open(os.environ['TEST_APP_FILE'], 'rb')
    size = os.fstat(source.fileno()).st_size
    response = webob.Response(content_type='application/octet-stream',
                              conditional_response=True)
    response.app_iter = wrapper(source, SIZE)
    response.content_length = size
    return response


def pieces(request, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return (b'x' * 100_000 for _ in range(100))


def whole(request, start_response):
    return webob.Response(body=b'x' * 10_000_000)


def broken(request, start_response):
    raise RuntimeError('a secret')


def breaks_off(request, start_response):
    def generate():
        yield b'x' * 1000
        raise RuntimeError('a secret')
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return generate()


def sleep(request, start_response):
    time.sleep(float(request.GET.get('seconds', 1)))
    return webob.Response(text='slept')


def busy(request, start_response):
    end = time.monotonic() + float(request.GET.get('seconds', 1))
    while time.monotonic() < end:
        hashlib.sha256(b'x' * 100).digest()
    return webob.Response(text='was busy')


def hang(request, start_response):
    STATE['how'] = request.GET['how']
    # Signals are handled in the main thread, which is the event loop's.
    os.kill(os.getpid(), signal.SIGWINCH)
    return webob.Response(text='it hangs')


def stand_still(number, frame):
    print('stands still:', os.getpid(), flush=True)
    if STATE['how'] == 'sleep':
        time.sleep(1000)
    # With the lock on the interpreter held.
    re.match('(a+)+$', 'a' * 100 + 'b')


signal.signal(signal.SIGWINCH, stand_still)


def environ(request, start_response):
    return webob.Response(json={
        name: value for name, value in request.environ.items()
        if isinstance(value, (str, bool, int))} | {'pid': os.getpid()})


def state(request, start_response):
    return webob.Response(json=STATE | {'pid': os.getpid()})


def echo_json(request, start_response):
    return webob.Response(json=json.loads(request.body))


ROUTES = {
    '/upload': upload, '/refuse': refuse, '/file': file, '/pieces': pieces,
    '/whole': whole,
    '/broken': broken, '/breaks-off': breaks_off, '/sleep': sleep,
    '/busy': busy, '/hang': hang, '/environ': environ, '/state': state,
    '/json': echo_json,
}


def application(environ, start_response):
    request = webob.Request(environ)
    handler = ROUTES.get(request.path_info)
    if request.path_info.startswith('/stage/'):
        handler = stage
    if handler is None:
        answer = webob.Response(status=404, text='nothing here')
    else:
        answer = handler(request, start_response)
    if isinstance(answer, webob.Response):
        return answer(environ, start_response)
    return answer
