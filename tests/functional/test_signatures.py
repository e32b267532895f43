"""Signed images: verified where there is a key manager, else refused."""

import base64
import datetime
import os
import uuid

from cryptography.hazmat.primitives.asymmetric import dsa
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization
from cryptography import x509
from cryptography.x509 import oid
import pytest

from tests import service as services

DATA = os.urandom(2_500_000)
# A key manager that has its certificates in a directory.
MANAGER = '''
from castellan.common import exception
from castellan.common.objects import x_509
from castellan.key_manager import not_implemented_key_manager as base
import os
import pathlib


class Directory(base.NotImplementedKeyManager):
    def __init__(self, configuration=None):
        self.directory = pathlib.Path(os.environ['CERTIFICATES'])

    def get(self, context, managed_object_id, metadata_only=False):
        path = self.directory / managed_object_id
        if not path.exists():
            raise exception.ManagedObjectNotFoundError(
                uuid=managed_object_id)
        return x_509.X509(path.read_bytes())
'''
KEYS = {
    'RSA-PSS': lambda: rsa.generate_private_key(65537, 2048),
    'ECC_SECP384R1': lambda: ec.generate_private_key(ec.SECP384R1()),
    'DSA': lambda: dsa.generate_private_key(2048),
}


class Signer:
    """A key whose certificate is in a directory."""

    def __init__(self, kind, directory):
        self.kind = kind
        self.key = KEYS[kind]()
        self.id = str(uuid.uuid4())
        name = x509.Name([x509.NameAttribute(
            oid.NameOID.COMMON_NAME, 'signer')])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder().subject_name(name).issuer_name(name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(1))
            .not_valid_after(now + datetime.timedelta(1))
            .sign(self.key, hashes.SHA256()))
        (directory / self.id).write_bytes(certificate.public_bytes(
            serialization.Encoding.DER))

    def properties(self, data):
        method = hashes.SHA256()
        if self.kind == 'RSA-PSS':
            signature = self.key.sign(data, padding.PSS(
                padding.MGF1(method), padding.PSS.MAX_LENGTH), method)
        elif self.kind == 'DSA':
            signature = self.key.sign(data, method)
        else:
            signature = self.key.sign(data, ec.ECDSA(method))
        return {'img_signature': base64.b64encode(signature).decode(),
                'img_signature_hash_method': 'SHA-256',
                'img_signature_key_type': self.kind,
                'img_signature_certificate_uuid': self.id}


@pytest.fixture(scope='module')
def certificates(tmp_path_factory):
    return tmp_path_factory.mktemp('certificates')


@pytest.fixture(scope='module')
def service(tmp_path_factory, certificates):
    path = services.write_distribution(
        tmp_path_factory.mktemp('manager'), 'manager',
        {'directory_manager': MANAGER}, {})
    running = services.Service(
        tmp_path_factory.mktemp('service'), path=[path], options={
            'key_manager': {'backend': 'directory_manager.Directory'}})
    running.environment['CERTIFICATES'] = str(certificates)
    running.start()
    yield running
    running.kill()


def put(service, image_id, data):
    return service.request('PUT', f'/v2/images/{image_id}/file', data,
                           {'Content-Type': 'application/octet-stream'})


@pytest.mark.parametrize('kind', KEYS)
def test_a_good_signature(service, certificates, kind):
    properties = Signer(kind, certificates).properties(DATA)
    image_id = service.create(**properties)
    assert service.stage(image_id, DATA).status == 204
    assert service.start_import(image_id).status == 202
    image = service.wait_status(image_id, 'active', 'uploading')
    assert image['status'] == 'active', image
    image_id = service.create(**properties)
    assert put(service, image_id, DATA).status == 204


@pytest.mark.parametrize('kind', KEYS)
def test_a_signature_of_other_data(service, certificates, kind):
    properties = Signer(kind, certificates).properties(DATA[:-1] + b'x')
    image_id = service.create(**properties)
    service.stage(image_id, DATA)
    assert service.start_import(image_id).status == 202
    image = services.wait_for(lambda: (
        found := service.show(image_id)).get('os_glance_import_error')
        and found)
    assert image['status'] == 'uploading'
    assert 'not one of its data' in image['os_glance_import_error']
    image_id = service.create(**properties)
    answer = put(service, image_id, DATA)
    assert answer.status == 400 and 'signature' in answer.message
    assert service.show(image_id)['status'] == 'queued'


@pytest.mark.parametrize('change, word', (
    ({'img_signature_certificate_uuid': str(uuid.uuid4())}, 'certificate'),
    ({'img_signature_hash_method': 'MD5'}, 'hash method'),
    ({'img_signature_key_type': 'ROT13'}, 'key type'),
    ({'img_signature_key_type': 'DSA'}, 'type DSA'),
    ({'img_signature': '???'}, 'base64')))
def test_signatures_that_cannot_be_verified(service, certificates, change,
                                            word):
    properties = Signer('RSA-PSS', certificates).properties(DATA) | change
    answer = put(service, service.create(**properties), DATA)
    assert answer.status == 400 and word in answer.message


def test_half_a_signature(service):
    image_id = service.create(img_signature='aGVsbG8=')
    answer = put(service, image_id, DATA)
    assert answer.status == 400 and 'img_signature_key_type' in answer.message
    service.stage(image_id, DATA)
    assert service.start_import(image_id).status == 400
    assert service.show(image_id)['status'] == 'uploading'


def test_without_a_key_manager(make_service, certificates):
    service = make_service().start()
    properties = Signer('RSA-PSS', certificates).properties(DATA)
    image_id = service.create(**properties)
    answer = put(service, image_id, DATA)
    assert answer.status == 400 and 'key manager' in answer.message
    service.stage(image_id, DATA)
    answer = service.start_import(image_id)
    assert answer.status == 400 and 'key manager' in answer.message
    assert service.show(image_id)['status'] == 'uploading'
