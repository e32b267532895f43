"""Options that change what the API shows: locations, protected properties."""

import pytest

from tests import service as services

V20 = 'application/openstack-images-v2.0-json-patch'
V21 = 'application/openstack-images-v2.1-json-patch'
PROTECTED = '''
[^x_billing_]
create = admin,biller
read = admin,member
update = biller
delete = !
[^secret$]
create = @
read = admin
update = admin
delete = admin
[^x_hidden_]
create = admin
read = admin
update = admin
delete = admin
[.*]
create = @
read = @
update = @
delete = @
'''
BILLER = 'bil:red:member,reader,Biller'


@pytest.fixture(scope='module')
def service(tmp_path_factory):
    top = tmp_path_factory.mktemp('options')
    (top / 'protected.conf').write_text(PROTECTED)
    running = services.Service(
        top, token=services.MEMBER,
        options={'paste_deploy': {'flavor': 'fakeauth'}, 'DEFAULT': {
            'show_image_direct_url': True, 'show_multiple_locations': True,
            'property_protection_file': top / 'protected.conf'}})
    running.start()
    yield running
    running.kill()


def test_locations(service):
    image_id = service.create(visibility='community')
    image = service.show(image_id)
    assert image['locations'] == []
    assert 'direct_url' not in image
    service.stage(image_id, b'some data')
    service.start_import(image_id)
    image = service.wait_status(image_id, 'active')
    place, = image['locations']
    assert place['url'] == image['direct_url']
    assert place['url'].startswith(f'file://{service.images}')
    # Not for whoever merely sees the image.
    other = service.show(image_id, services.OTHER)
    assert 'direct_url' not in other
    assert 'locations' not in other


def patch(service, image_id, op, name, value='x', token=None):
    return service.request(
        'PATCH', f'/v2/images/{image_id}',
        [{'op': op, 'path': f'/{name}', 'value': value}],
        {'Content-Type': V21}, token=token).status


def test_protected_properties(service):
    assert service.request('POST', '/v2/images', {'x_billing_code': '1'}
                           ).status == 403
    image_id = service.create(BILLER, x_billing_code='1', secret='s',
                              plain='p')
    image = service.show(image_id)
    assert image['x_billing_code'] == '1'
    assert image['plain'] == 'p'
    assert 'secret' not in image
    assert service.show(image_id, services.ADMIN)['secret'] == 's'
    assert 'x_billing_code' not in service.show(image_id, services.READER)
    for op, name, token, status in (
            ('replace', 'x_billing_code', None, 403),
            ('replace', 'x_billing_code', BILLER, 200),
            ('remove', 'x_billing_code', BILLER, 403),
            ('remove', 'x_billing_code', services.ADMIN, 403),
            ('add', 'x_billing_more', None, 403),
            ('add', 'x_billing_more', BILLER, 200),
            ('replace', 'secret', None, 409), ('remove', 'secret', None, 409),
            ('replace', 'secret', services.ADMIN, 200),
            ('replace', 'plain', None, 200), ('remove', 'plain', None, 200)):
        assert patch(service, image_id, op, name, token=token
                     ) == status, (op, name, token)
    listed = service.request('GET', '/v2/images').json['images']
    assert all('secret' not in each for each in listed)


def test_the_older_add_tells_nothing_of_what_is_hidden(service):
    hidden = service.create(services.ADMIN, owner='red', x_hidden_code='1')
    for image_id in (hidden, service.create()):
        answer = service.request(
            'PATCH', f'/v2/images/{image_id}',
            [{'add': '/x_hidden_code', 'value': 'x'}], {'Content-Type': V20})
        assert answer.status == 403, answer


@pytest.mark.parametrize('text, reason', [
    ('[(]\ncreate=@\nread=@\nupdate=@\ndelete=@\n', 'regular expression'),
    ('[a]\ncreate=@\nread=@\nupdate=@\n', 'delete'),
    ('[a]\ncreate=@,!\nread=@\nupdate=@\ndelete=@\n', 'contradict'),
    ('create=@\n', 'section'), (None, 'No such file')])
def test_a_file_that_cannot_be_used(tmp_path, text, reason):
    path = tmp_path / 'protected.conf'
    if text is not None:
        path.write_text(text)
    service = services.Service(tmp_path, options={
        'DEFAULT': {'property_protection_file': path}})
    done = service.run('api')
    assert done.returncode == 1
    line, = done.stderr.strip().splitlines()[-1:]
    assert 'property_protection_file' in line
    assert reason in line
    assert 'Traceback' not in done.stderr
