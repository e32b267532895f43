"""What refusals look like to clients, which show their first words only."""

import re

import pytest

NOBODY = '00000000-0000-4000-8000-000000000000'
TEXT = {'Content-Type': 'text/plain'}
V21 = 'application/openstack-images-v2.1-json-patch'
# Requests, and the first words of the answer.
REFUSED = {
    400: ('POST', '/v2/images', b'{', {}, 'The request body'),
    403: ('POST', '/v2/images', b'{"owner": "x"}', {}, 'You'),
    404: ('GET', f'/v2/images/{NOBODY}', None, {}, 'No image found'),
    405: ('PUT', '/v2/images', None, {}, 'The method PUT is not allowed'),
    415: ('PUT', '/v2/images/{id}/stage', b'x', TEXT,
          'This request takes a body of the type application/octet-stream'),
    501: ('BREW', '/v2/images', None, {}, 'The method BREW is not known'),
}


@pytest.mark.parametrize('status', REFUSED)
@pytest.mark.parametrize('accept', ['application/json', 'text/html',
                                    'text/plain', '*/*', None])
def test_the_reason_comes_first(api, status, accept):
    method, path, body, headers, words = REFUSED[status]
    path = path.replace('{id}', api.create())
    headers = dict(headers)
    headers['Accept'] = accept or ''
    answer = api.request(method, path, body, headers)
    assert answer.status == status, answer
    text = answer.body.decode()
    assert '${' not in text
    if accept == 'application/json':
        found = answer.json
        assert found['code'].startswith(str(status))
        assert found['message'].startswith(words), found
        return
    # Behind the status alone, as in Glance's.
    text = re.sub(r'<title>.*</title>', '', text)
    text = ' '.join(re.sub('<.*?>', ' ', text).split())
    assert re.match(rf'{status} [A-Za-z ]+ {words}', text), text


def test_content_that_is_not_supported(api):
    """415 of the data, not of the media type."""
    image_id = api.create(disk_format='qcow2')
    answer = api.request('PUT', f'/v2/images/{image_id}/file',
                         b'no qcow2 at all' * 100,
                         {'Content-Type': 'application/octet-stream'})
    assert answer.status == 415, answer
    assert 'media type' not in answer.message
    assert 'qcow2' in answer.message[:80]


@pytest.mark.parametrize('media', [
    'Application/Octet-Stream', 'APPLICATION/OCTET-STREAM; charset=binary',
    ' application/octet-stream ;x=Y'])
def test_media_types_have_no_case(api, media):
    image_id = api.create()
    assert api.request('PUT', f'/v2/images/{image_id}/stage', b'x', {
        'Content-Type': media}).status == 204
    image_id = api.create()
    assert api.request('PATCH', f'/v2/images/{image_id}/stage', b'x', {
        'Content-Type': 'Application/Offset+Octet-Stream',
        'Upload-Offset': '0', 'Upload-Length': '1'}).status == 204
    image_id = api.create()
    assert api.request('PUT', f'/v2/images/{image_id}/file', b'x', {
        'Content-Type': media}).status == 204
    for given in (V21, V21.upper(), V21.title() + ';x=y'):
        assert api.request('PATCH', f'/v2/images/{image_id}',
                           b'[{"op": "add", "path": "/a", "value": "b"}]',
                           {'Content-Type': given}).status == 200
    assert api.request('GET', '/images', headers={
        'Accept': 'Application/Vnd.OpenStack.Images-V2.5'}).status == 200


def test_what_a_client_sent_is_no_template(api):
    name = '${CONTENT_TYPE}${explanation}$x'
    answer = api.request('GET', f'/v2/images?sort_key={name}')
    assert answer.status == 400 and name in answer.message, answer
