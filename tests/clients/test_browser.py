"""Uploads from Chromium, by a page of another origin than the service's.

With the default [cors] options but for the name of the page's origin. Each
preflight is the browser's own.
"""

import os
import socket
import threading

import pytest

from tests import browser
from tests import service as services

DATA = os.urandom(3_000_000)
PAGE = b'''<!doctype html><title>upload</title><script src="/tus.js"></script>
<script>
const asked = new URLSearchParams(location.search);
const seen = [];

function tell(what) {
  return fetch('/report', {method: 'POST', body: JSON.stringify(what)});
}

function upload(data, more) {
  return new Promise((done) => {
    const one = new tus.Upload(data, {
      uploadUrl: asked.get('url'), retryDelays: [0, 200, 500, 1000, 2000],
      chunkSize: Number(asked.get('chunk')) || Infinity,
      headers: {'X-Auth-Token': asked.get('token')},
      overridePatchMethod: asked.has('post'), addRequestId: true,
      onAfterResponse: (request, response) => {
        seen.push(request.getMethod() + ' ' + response.getStatus() + ' '
                  + response.getHeader('Upload-Offset'));
      },
      onError: (error) => done('failed: ' + error),
      onSuccess: () => done('uploaded'),
      ...more(done, () => one),
    });
    one.start();
  });
}

// As Horizon's pages do: its angular ones, and its older forms.
function direct(data, headers, credentials) {
  return new Promise((done) => {
    const request = new XMLHttpRequest();
    request.open('PUT', asked.get('direct'));
    request.withCredentials = credentials;
    for (const name in headers) {
      request.setRequestHeader(name, headers[name]);
    }
    request.onload = () => done([
      request.status, request.getResponseHeader('X-OpenStack-Request-ID'),
      request.responseText]);
    request.onerror = () => done(['refused']);
    request.send(data);
  });
}

async function run() {
  const data = await (await fetch('/data')).blob();
  if (asked.has('direct')) {
    const headers = {'X-Auth-Token': asked.get('token'),
                     'Content-Type': 'application/octet-stream'};
    const older = {'X-Requested-With': 'XMLHttpRequest', 'X-CSRFToken': 'x'};
    return tell([await direct(data, headers, true),
                 await direct(data, {...headers, ...older}, false),
                 await direct(data, {...headers, 'X-Evil': 'x'}, false)]);
  }
  const half = data.size / 2;
  // As if the tab were closed in the middle, and opened again.
  const first = await upload(data, (done, one) => ({
    uploadLengthDeferred: true,
    onProgress: (sent) => {
      if (sent >= half) {
        one().abort();
        done('cut');
      }
    },
  }));
  const second = await upload(data, () => ({
    uploadLengthDeferred: asked.get('chunk') !== ''}));
  // All is there: a third one has nothing to send.
  const third = await upload(data, () => ({}));
  await tell({ends: [first, second, third], seen: seen});
}

run().catch((error) => tell({failed: String(error)}));
</script>'''


class Cutting:
    """Passes bytes on to a service, and cuts the first long request."""

    def __init__(self, port: int, after: int) -> None:
        self._target = port
        self._after = after
        self.cuts = 0
        self._socket = socket.create_server(('127.0.0.1', 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                here, _ = self._socket.accept()
            except OSError:
                return
            there = socket.create_connection(('127.0.0.1', self._target))
            for source, sink, limited in ((here, there, True),
                                          (there, here, False)):
                threading.Thread(target=self._pump, daemon=True,
                                 args=(source, sink, limited)).start()

    def _pump(self, source: socket.socket, sink: socket.socket,
              limited: bool) -> None:
        passed = 0
        try:
            while block := source.recv(65536):
                passed += len(block)
                if limited and not self.cuts and passed > self._after:
                    self.cuts += 1
                    break
                sink.sendall(block)
        except OSError:
            pass
        for each in (source, sink):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(scope='module')
def pages(cache):
    script = browser.package(browser.TUS, 'dist/tus.min.js', cache)
    with browser.Pages({
            '/': ('text/html', PAGE),
            '/tus.js': ('text/javascript', script),
            '/data': ('application/octet-stream', DATA)}) as found:
        yield found


@pytest.fixture(scope='module')
def service(pages, tmp_path_factory):
    running = services.Service(
        tmp_path_factory.mktemp('service'), token=services.MEMBER, options={
            'paste_deploy': {'flavor': 'fakeauth'},
            'cors': {'allowed_origin': pages.origin}})
    running.start()
    yield running
    running.kill()


@pytest.mark.parametrize('how', ['chunk=', 'chunk=400000&post=1'])
def test_uploaded_cut_and_resumed(service, pages, tmp_path, how):
    """Cut by the network and by the page, and gone on with.

    In one part, and in many whose sum is told with the last, by POST.
    """
    image_id = service.create()
    network = Cutting(service.port, 700_000)
    url = f'http://127.0.0.1:{network.port}/v2/images/{image_id}/stage'
    with browser.showing(f'{pages.origin}/?url={url}&{how}&token='
                         f'{services.MEMBER}', tmp_path):
        report = pages.told()
    network.close()
    assert report.get('ends') == ['cut', 'uploaded', 'uploaded'], report
    assert network.cuts == 1
    assert service.start_import(image_id).status == 202
    image = service.wait_status(image_id, 'active')
    assert image['size'] == len(DATA)
    assert service.download(image_id) == DATA
    # It went on in the middle.
    resumed = {each.split()[2] for each in report['seen']
               if each.startswith('HEAD 200')} - {'0', str(len(DATA))}
    assert resumed, report


def test_uploaded_in_one_request(service, pages, tmp_path):
    """Answers are read, refusals too; what is not allowed is not sent."""
    image_id = service.create()
    url = f'http://127.0.0.1:{service.port}/v2/images/{image_id}/file'
    with browser.showing(f'{pages.origin}/?direct={url}&token='
                         f'{services.MEMBER}', tmp_path):
        done, again, evil = pages.told()
    assert done[0] == 204 and done[1].startswith('req-'), done
    assert again[0] == 409 and 'only a queued image' in again[2], again
    assert evil == ['refused']
    assert service.download(image_id) == DATA
