"""A web page in a browser of this machine is no administrator."""

import http.client
import json

import pytest

from glance_import.api.middleware import browsers
from glance_import import conf as configuration
from tests import service as services


@pytest.fixture(scope='module', params=['noauth', 'fakeauth'])
def service(request, tmp_path_factory):
    running = services.Service(
        tmp_path_factory.mktemp('service'), token=services.ADMIN, options={
            'paste_deploy': {'flavor': request.param},
            'DEFAULT': {'public_endpoint': 'https://Images.example:8443/x'},
            'cors': {'allowed_origin': 'https://horizon.example,'
                                       'http://10.0.0.1:8080'}})
    running.start()
    yield running
    running.kill()


def ask(service, method, path, body=None, **headers):
    """One request with exactly these headers."""
    connection = http.client.HTTPConnection('127.0.0.1', service.port,
                                            timeout=60)
    connection.putrequest(method, path, skip_host=True,
                          skip_accept_encoding=True)
    data = json.dumps(body).encode() if body is not None else b''
    for name, value in {'X_Auth_Token': services.ADMIN,
                        'Content_Length': len(data), **headers}.items():
        if value is not None:
            connection.putheader(name.replace('_', '-'), str(value))
    connection.endheaders(data)
    response = connection.getresponse()
    text = response.read()
    connection.close()
    return response.status, text


@pytest.mark.parametrize('host, status', [
    ('localhost', 200), ('LOCALHOST', 200), ('localhost.', 200),
    ('localhost:9292', 200), ('127.0.0.1', 200), ('127.0.0.1:1', 200),
    ('127.9.8.7', 200), ('[::1]', 200), ('[::1]:9292', 200),
    ('glance.localhost', 200), ('images.example', 200),
    ('images.example:8443', 200), ('IMAGES.EXAMPLE', 200),
    ('evil.example', 403), ('localhost.evil.example', 403),
    ('127.0.0.1.evil.example', 403), ('images.example.evil.example', 403),
    ('xlocalhost', 403), ('10.0.0.1', 403), ('[::2]', 403), ('', 403),
    # Not even names: the server itself refuses them.
    ('127.0.0.1%evil.example', 400), ('evil.example:127.0.0.1', 400),
    ('127.1', 403), ('2130706433', 403), ('0.0.0.0', 403),
    ('horizon.example', 403)])
def test_hosts(service, host, status):
    found, text = ask(service, 'GET', '/v2/images', Host=host)
    if host == '':
        # The server may refuse it before.
        assert found in (400, 403)
        return
    assert found == status, text
    if status == 403:
        assert b'public_endpoint' in text


@pytest.mark.parametrize('origin, status', [
    (None, 201), ('https://horizon.example', 201),
    ('http://10.0.0.1:8080', 201),
    ('http://localhost:{port}', 201), ('HTTP://LOCALHOST:{port}', 201),
    ('https://localhost:{port}', 201),
    ('http://localhost:1', 403), ('http://localhost', 403),
    ('http://127.0.0.1:{port}', 403), ('null', 403), ('', 403),
    ('https://evil.example', 403), ('http://horizon.example', 403),
    ('https://horizon.example.evil.example', 403),
    ('https://horizon.example:444', 403), ('localhost:{port}', 403),
    ('http://10.0.0.1', 403), ('file://', 403)])
def test_origins(service, origin, status):
    """Also of requests that a browser sends without asking first."""
    for media in ('application/json', 'text/plain'):
        found, text = ask(
            service, 'POST', '/v2/images', {'name': 'x'},
            Host=f'localhost:{service.port}', Content_Type=media,
            Origin=origin and origin.format(port=service.port))
        assert found == status, text
    if status == 403:
        assert b'[cors] allowed_origin' in text


def test_all_of_the_api(service):
    image_id = service.create()
    for method, path in (
            ('GET', '/v2/images'), ('GET', f'/v2/images/{image_id}'),
            ('DELETE', f'/v2/images/{image_id}'),
            ('POST', f'/v2/images/{image_id}/actions/deactivate'),
            ('GET', '/v2/info/import'), ('GET', '/v2/schemas/image'),
            ('GET', '/v2/nothing')):
        for headers in ({'Host': 'evil.example'}, {
                'Host': 'localhost', 'Origin': 'https://evil.example'}):
            assert ask(service, method, path, **headers)[0] == 403
    assert service.show(image_id)['status'] == 'queued'
    # A browser's question before the request gets no permission.
    connection = http.client.HTTPConnection('127.0.0.1', service.port)
    connection.request('OPTIONS', '/v2/images', headers={
        'Origin': 'https://evil.example',
        'Access-Control-Request-Method': 'PUT'})
    assert connection.getresponse().getheader(
        'Access-Control-Allow-Origin') is None
    connection.close()


@pytest.mark.parametrize('origin, allowed', [
    ('https://horizon.example', 'https://horizon.example'),
    ('https://evil.example', None)])
def test_a_page_that_is_named_may_send_its_token(service, origin, allowed):
    connection = http.client.HTTPConnection('127.0.0.1', service.port)
    connection.request('OPTIONS', '/v2/images', headers={
        'Origin': origin, 'Access-Control-Request-Method': 'POST',
        'Access-Control-Request-Headers': 'content-type,x-auth-token'})
    assert connection.getresponse().getheader(
        'Access-Control-Allow-Origin') == allowed
    connection.close()


def preflight(service, path, method, *headers):
    """What a page of Horizon's may do: (methods, headers), None for no."""
    connection = http.client.HTTPConnection('127.0.0.1', service.port)
    connection.request('OPTIONS', path, headers={
        'Origin': 'https://horizon.example',
        'Access-Control-Request-Method': method,
        'Access-Control-Request-Headers': ','.join(headers)})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    if answer.getheader('Access-Control-Allow-Origin') is None:
        return None
    return [answer.getheader(f'Access-Control-Allow-{what}')
            for what in ('Methods', 'Headers')]


@pytest.mark.parametrize('method, headers', [
    # Horizon, now and before it dropped the two that all its pages send
    ('PUT', ('content-type', 'x-auth-token')),
    ('PUT', ('content-type', 'x-auth-token', 'x-requested-with',
             'x-csrftoken')),
    # clients of tus 1.0
    ('HEAD', ('tus-resumable', 'x-auth-token')),
    ('PATCH', ('content-type', 'tus-resumable', 'upload-offset',
               'upload-length', 'x-auth-token', 'x-request-id')),
    ('PATCH', ('upload-checksum', 'upload-metadata', 'upload-defer-length')),
    ('POST', ('content-type', 'tus-resumable', 'upload-offset',
              'x-http-method-override')),
    ('DELETE', ('tus-resumable', 'x-auth-token')),
    # what else the API reads
    ('GET', ('range', 'x-auth-token', 'x-openstack-request-id')),
    ('PUT', ('content-md5', 'repr-digest', 'content-digest',
             'x-openstack-image-size', 'x-image-meta-store')),
    ('PATCH', ('content-type', 'x-auth-token'))])
def test_what_pages_may_send_by_default(service, method, headers):
    path = f'/v2/images/{service.create()}'
    for below in ('', '/stage', '/file', '/import'):
        assert preflight(service, path + below, method, *headers) == [
            method, ','.join(headers)]


def test_what_pages_may_not_send(service):
    assert preflight(service, '/v2/images', 'PUT', 'x-evil') is None
    assert preflight(service, '/v2/images', 'TRACE') is None


def test_what_pages_may_read_by_default(service):
    path = f'/v2/images/{service.create()}/stage'
    connection = http.client.HTTPConnection('127.0.0.1', service.port)
    for method, status in (('HEAD', 200), ('GET', 405)):
        connection.request(method, path, headers={
            'Origin': 'https://horizon.example', 'Tus-Resumable': '1.0.0',
            'X-Auth-Token': services.ADMIN})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == status
        assert answer.getheader('Access-Control-Allow-Origin') \
            == 'https://horizon.example'
        exposed = answer.getheader('Access-Control-Expose-Headers')
        assert {'upload-offset', 'upload-length', 'upload-defer-length',
                'tus-resumable', 'location', 'retry-after', 'content-md5',
                'x-openstack-request-id', 'openstack-image-import-methods'
                } <= set(exposed.lower().split(','))
    connection.close()


def test_a_default_port_is_the_same_place(service):
    for host, origin in (('images.example', 'https://images.example:443'),
                         ('images.example:443', 'https://images.example')):
        assert ask(service, 'GET', '/v2/images', Host=host, Origin=origin
                   )[0] == 200


def test_remote_clients_where_they_are_let_in(make_service):
    """An address is always one's own name; other names must be said."""
    service = make_service(options={
        'paste_deploy': {'allow_remote_noauth': True},
        'DEFAULT': {'bind_host': '0.0.0.0'}})
    service.start()
    for host, status in (('10.1.2.3:9292', 200), ('[fd00::1]', 200),
                         ('evil.example', 403), ('localhost', 200),
                         ('10.1.2.3.evil.example', 403)):
        assert ask(service, 'GET', '/v2/images', Host=host)[0] == status


@pytest.mark.parametrize('endpoint', ['images.example', 'http://[x', ''])
def test_an_endpoint_without_a_host_is_no_name(endpoint):
    conf = configuration.load([])
    conf.set_override('public_endpoint', endpoint)
    guard = browsers.Guard(conf)
    for host, fine in (('', False), ('images.example', False), ('x', False),
                       ('localhost', True)):
        assert (guard.refusal({'HTTP_HOST': host}) is None) == fine, host
    assert guard.refusal({}) is None
