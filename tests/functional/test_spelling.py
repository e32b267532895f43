"""Names that are one to some databases, through the whole API.

Glance's tables on MySQL compare text by a collation; SQLite and PostgreSQL
compare letter by letter. On each kind either two names are two, or a refusal
says which are one there, and nothing has changed.
"""

import itertools
from urllib import parse

import pytest
import sqlalchemy as sa

from tests.servers import mariadb  # noqa: F401
from tests.servers import postgresql  # noqa: F401
from tests import service as services

# By case, accent, width, blanks behind, an ignored character, one letter for
# two, and beyond U+FFFF, which all are one letter to most collations.
PAIRS = [('os_distro', 'OS_Distro'), ('caf\u00e9', 'cafe'),
         ('abc', '\uff41\uff42\uff43'), ('blank', 'blank  '),
         ('soft', 'so\u00adft'), ('strasse', 'stra\u00dfe'),
         ('\U0001f4be', '\U0001f4bf')]
BEYOND = PAIRS[-1]
PATCH = {'Content-Type': 'application/openstack-images-v2.1-json-patch'}
PROTECTED = """
[^secret$]
create = admin
read = admin
update = admin
delete = admin
[.*]
create = @
read = @
update = @
delete = @
"""
# Databases that compare letter by letter, and that keep every character.
EXACT, ANY = ('sqlite', 'postgresql'), ('sqlite', 'postgresql', 'utf8mb4')


def convert(url):
    """Have Glance's columns in another character set, as some sites do."""
    engine = sa.create_engine(url)
    with engine.begin() as conn:
        for table, column, kind in (
                ('images', 'name', 'VARCHAR(255)'),
                ('images', 'owner', 'VARCHAR(255)'),
                ('image_properties', 'name', 'VARCHAR(255)'),
                ('image_properties', 'value', 'TEXT'),
                ('image_tags', 'value', 'VARCHAR(255)'),
                ('image_members', 'member', 'VARCHAR(255)')):
            conn.exec_driver_sql(
                f'ALTER TABLE {table} MODIFY {column} {kind} CHARACTER SET '
                'utf8mb4 COLLATE utf8mb4_unicode_520_ci')
    engine.dispose()


# Those that each kind may take for one, and a few for the others.
TRIED = {'sqlite': (PAIRS[0], PAIRS[3], BEYOND),
         'postgresql': (PAIRS[0], PAIRS[3], BEYOND),
         'mariadb': PAIRS, 'utf8mb4': PAIRS[4:]}


def pytest_generate_tests(metafunc):
    if 'pair' in metafunc.fixturenames:
        metafunc.parametrize('kind, pair', [
            (kind, pair) for kind, pairs in TRIED.items()
            for pair in pairs], ids=ascii)
    else:
        metafunc.parametrize('kind', TRIED)


@pytest.fixture(scope='module')
def running():
    """Services that were started, by their kinds."""
    made = {}
    yield made
    for each in made.values():
        each.kill()


@pytest.fixture
def service(kind, running, request, tmp_path_factory):
    if kind not in running:
        running[kind] = start(kind, request, tmp_path_factory)
    return running[kind]


def start(kind, request, tmp_path_factory):
    directory = tmp_path_factory.mktemp(kind)
    rules = directory / 'protected.conf'
    rules.write_text(PROTECTED)
    running = services.Service(directory, token=services.MEMBER, options={
        'DEFAULT': {'property_protection_file': rules},
        'image_import_opts': {
            'image_import_plugins': '[inject_image_metadata]'},
        'inject_metadata_properties': {'inject': 'HW_Disk_Bus:scsi'},
        'paste_deploy': {'flavor': 'fakeauth'}})
    if kind != 'sqlite':
        server = request.getfixturevalue(
            'mariadb' if kind == 'utf8mb4' else kind)
        url = server.create()
        if kind == 'utf8mb4':
            # As in most files of configuration.
            url += '?charset=utf8'
        running.configure(database={'connection': url})
        done = running.run('manage', 'db', 'sync')
        assert done.returncode == 0, done
        if kind == 'utf8mb4':
            convert(url)
    return running.start()


def kept(kind, pair):
    """Whether the database has the characters at all."""
    return pair != BEYOND or kind in ANY


def patch(service, image_id, *operations, **kwargs):
    return service.request('PATCH', f'/v2/images/{image_id}', [
        dict(zip(('op', 'path', 'value'), each)) for each in operations],
        PATCH, **kwargs)


def properties(service, image_id, names):
    image = service.show(image_id)
    return {name: image[name] for name in names if name in image}


def listed(service, **filters):
    answer = service.request(
        'GET', '/v2/images?' + parse.urlencode(filters, doseq=True))
    assert answer.status == 200, answer
    return {each['id'] for each in answer.json['images']}


def is_told(answer, kind, pair):
    """The answer to something that was not done says why."""
    if kind not in EXACT and answer.status == 409:
        assert all(name.strip() in answer.message for name in pair), answer
        assert 'are one to the database' in answer.message
        return True
    if not kept(kind, pair) and answer.status == 400:
        assert 'character set' in answer.message
        return True
    return False


def test_create_with_both(service, kind, pair):
    name = f'both {pair[0]!a}'
    answer = service.request('POST', '/v2/images', {
        'name': name, pair[0]: 'a', pair[1]: 'b'})
    if is_told(answer, kind, pair):
        assert not listed(service, name=name)
        return
    assert answer.status == 201, answer
    image_id = answer.json['id']
    assert properties(service, image_id, pair) == dict(zip(pair, 'ab'))
    assert listed(service, name=name) == {image_id}


def test_change_one_beside_the_other(service, kind, pair):
    if not kept(kind, pair):
        return
    one, other = pair
    if other != other.strip():
        # The pointer of a PATCH has no blanks around its parts.
        one, other = other, one
    image_id = service.create(**{one: 'a'})
    path = '/' + other
    for operation in (('replace', path, 'b'), ('remove', path)):
        answer = patch(service, image_id, operation)
        assert answer.status == 409, answer
        assert 'does not exist' in answer.message
        assert properties(service, image_id, pair) == {one: 'a'}
    answer = patch(service, image_id, ('replace', '/name', 'new'),
                   ('add', path, 'b'))
    if is_told(answer, kind, pair):
        assert service.show(image_id)['name'] == 'test'
        assert properties(service, image_id, pair) == {one: 'a'}
    else:
        assert answer.status == 200, answer
        assert properties(service, image_id, pair) == {one: 'a', other: 'b'}
        assert patch(service, image_id, ('remove', path)).status == 200
    if one == one.strip():
        answer = patch(service, image_id, ('add', path, 'c'),
                       ('remove', '/' + one))
        assert answer.status == 200, answer
        assert properties(service, image_id, pair) == {other: 'c'}
        # And back, over the row that was removed.
        answer = patch(service, image_id, ('remove', path),
                       ('add', '/' + one, 'd'))
        assert answer.status == 200, answer
        assert properties(service, image_id, pair) == {one: 'd'}


def test_tags(service, kind, pair):
    one, other = pair
    answer = service.request('POST', '/v2/images', {'tags': list(pair)})
    if is_told(answer, kind, pair):
        return
    assert answer.status == 201, answer
    image_id = answer.json['id']

    def tags():
        return service.show(image_id)['tags']

    def at(tag):
        return f'/v2/images/{image_id}/tags/{parse.quote(tag)}'
    assert tags() == sorted(pair)
    assert image_id in listed(service, tag=other)
    assert patch(service, image_id, (
        'replace', '/tags', [one])).status == 200
    assert tags() == [one]
    assert image_id not in listed(service, tag=other)
    assert image_id in listed(service, tag=one)
    assert image_id not in listed(service, tag=[one, other])
    assert service.request('DELETE', at(other)).status == 404
    assert tags() == [one]
    assert service.request('PUT', at(other)).status == 204
    assert service.request('PUT', at(other)).status == 204
    assert tags() == sorted(pair)
    assert service.request('DELETE', at(one)).status == 204
    assert tags() == [other]


def test_members(service, kind, pair):
    image_id = service.create()
    members = f'/v2/images/{image_id}/members'

    def shared_with():
        return {each['member_id']: each['status'] for each in
                service.request('GET', members).json['members']}

    def at(member):
        return f'{members}/{parse.quote(member)}'
    one, other = pair
    answer = service.request('POST', members, {'member': one})
    if is_told(answer, kind, pair):
        return
    assert answer.status == 200, answer
    for method, body in (('GET', None), ('DELETE', None),
                         ('PUT', {'status': 'accepted'})):
        assert service.request(
            method, at(other), body, token=services.ADMIN).status == 404
    assert service.request('POST', members, {'member': one}).status == 409
    assert service.request('POST', members, {'member': other}).status == 200
    assert service.request('PUT', at(other), {
        'status': 'accepted'}, token=services.ADMIN).status == 200
    assert shared_with() == {one: 'pending', other: 'accepted'}
    for each in (other, one):
        assert service.request('DELETE', at(each)).status == 204
    assert shared_with() == {}
    for each in pair:
        assert service.request('POST', members, {
            'member': each}).status == 200
    # The unique key holds the moment of the deletion.
    assert service.request('DELETE', f'/v2/images/{image_id}').status == 204


def test_projects_that_differ_by_case(service):
    """What is shared with one, or owned, is not the other's."""
    image_id = service.create()
    assert service.request('POST', f'/v2/images/{image_id}/members', {
        'member': 'blue'}).status == 200
    assert service.request(
        'PUT', f'/v2/images/{image_id}/members/blue', {'status': 'accepted'},
        token=services.OTHER).status == 200
    for token, seen in ((services.OTHER, True), (services.MEMBER, True),
                        ('bob:BLUE:member,reader', False),
                        ('ann:RED:member,reader', False)):
        assert (service.request('GET', f'/v2/images/{image_id}', token=token)
                .status == 200) is seen, token
        for query in ('', '&visibility=shared'):
            page = service.request(
                'GET', '/v2/images?limit=1000' + query, token=token).json
            assert (image_id in {each['id'] for each in page['images']}
                    ) is seen, token


def test_filters(service, kind, pair):
    """Names, values of properties, one or several."""
    made = {}
    for name in pair:
        answer = service.request('POST', '/v2/images', {
            'name': 'x' + name, 'about': 'y' + name})
        if is_told(answer, kind, pair):
            assert not listed(service, name='x' + name)
            assert not listed(service, about='y' + name)
            assert not listed(service, **{name: 'y'})
            continue
        assert answer.status == 201, answer
        made[name] = answer.json['id']
    for name, image_id in made.items():
        assert listed(service, name='x' + name) == {image_id}
        assert listed(service, name=f'in:"x{name}",other') == {image_id}
        assert listed(service, about='y' + name) == {image_id}
        assert not listed(service, ABOUT='y' + name)
    if made:
        names = ','.join(f'"x{name}"' for name in made)
        assert listed(service, name='in:' + names) == set(made.values())


def test_pages_by_name(service, kind):
    """Each is on one page, however much the database holds for equal."""
    names = [each for each in itertools.chain(
        *PAIRS, *PAIRS, ['OS_DISTRO', 'Blank', ' ', None, '', None])
        if kind in ANY or each not in BEYOND]
    made = {service.create(name=name, pages='yes') for name in names}
    for order in ('name:asc', 'name:desc', 'status:asc,name:desc,size:asc'):
        seen, path = [], f'/v2/images?pages=yes&limit=4&sort={order}'
        while path is not None:
            page = service.request('GET', path).json
            seen += [each['id'] for each in page['images']]
            path = page.get('next')
        assert len(seen) == len(made), order
        assert set(seen) == made, order


def test_names_of_the_service(service, kind):
    """No spelling of a property of the service's own is a user's."""
    for name in ('OS_GLANCE_IMPORT_TASK', 'os_gl\u00e1nce_import_error',
                 'Os_glance_stage_host  '):
        answer = service.request('POST', '/v2/images', {name: 'mine'})
        assert answer.status == (201 if kind in EXACT else 403), answer
        if kind not in EXACT:
            assert 'reserved' in answer.message
        image_id = service.create(plain='p')
        answer = patch(service, image_id, ('add', '/' + name.strip(), 'x'))
        assert answer.status == (200 if kind in EXACT else 403), answer
        if kind not in EXACT:
            assert name.strip() not in service.show(image_id)


def test_what_an_import_adds(service, kind):
    """A plugin's property does not take the place of the user's."""
    image_id = service.ask(b'data', hw_disk_bus='ide')
    image = service.wait_status(image_id, 'active', 'uploading')
    assert image['hw_disk_bus'] == 'ide'
    if kind in EXACT:
        assert image['HW_Disk_Bus'] == 'scsi'
        return
    assert 'hw_disk_bus and HW_Disk_Bus' in image['os_glance_import_error']
    assert patch(service, image_id, ('remove', '/hw_disk_bus')).status == 200
    assert service.start_import(image_id).status == 202
    image = service.wait_status(image_id, 'active', 'uploading')
    assert image['HW_Disk_Bus'] == 'scsi'


def test_what_protects_a_property(service, kind):
    """It is not got round by spelling the name anew."""
    image_id = service.create(services.ADMIN, owner='red', secret='s',
                              plain='p')
    alike = 200 if kind in EXACT else 409
    for name in ('SECRET', 's\u00e9cret'):
        for query in (name, name + ' '):
            assert not listed(service, **{query: 's'})
        assert patch(service, image_id, ('add', f'/{name}', 'mine')
                     ).status == alike
        assert service.show(image_id, services.ADMIN)['secret'] == 's'
    assert image_id in listed(service, plain='p')
    # The name of one that was removed may come back in another spelling,
    # and is then what was asked for.
    assert patch(service, image_id, ('remove', '/secret'),
                 token=services.ADMIN).status == 200
    assert patch(service, image_id, ('add', '/Secret', 'mine')).status == 200
    image = service.show(image_id, services.ADMIN)
    assert image['Secret'] == 'mine'
    assert 'secret' not in image


def test_nothing_went_wrong_unseen(service):
    assert 'unexpected error' not in service.text(), service.text()
