"""Signed images: the bytes are what the owner of a certificate signed.

An image with the properties ``img_signature`` and its kin is verified with
cursive against a certificate that the key manager (castellan) has. Where
none is configured such an image is refused: a signature that nobody looked
at would be worse than none. Reads the file, asks the key manager.
"""

from __future__ import annotations

import collections.abc
import typing

from oslo_log import log

from glance_import.domain import key_manager
from glance_import import errors

if typing.TYPE_CHECKING:
    from oslo_config import cfg

LOG = log.getLogger(__name__)

PROPERTIES = ('img_signature', 'img_signature_hash_method',
              'img_signature_key_type', 'img_signature_certificate_uuid')
_BLOCK = 1 << 20
Properties = collections.abc.Mapping[str, str | None]


def is_signed(properties: Properties) -> bool:
    """Whether anything of a signature is there."""
    return any(properties.get(name) for name in PROPERTIES)


def configured(conf: cfg.ConfigOpts) -> bool:
    """Whether [key_manager] backend is set, and what it takes installed."""
    try:
        # Imported where it is used: it is an extra, and few need it.
        import cursive.signature_utils  # noqa: F401
    except ImportError:
        return False
    return key_manager.configured(conf)


def check(conf: cfg.ConfigOpts, properties: Properties) -> None:
    """What can be said before there are bytes.

    :raises errors.Invalid: a signature that cannot be verified
    """
    if not is_signed(properties):
        return
    missing = [name for name in PROPERTIES if not properties.get(name)]
    if missing:
        raise errors.Invalid(
            'The image is signed, but its signature cannot be verified '
            f"without the properties {', '.join(missing)}.")
    if not configured(conf):
        raise errors.Invalid(
            'The image is signed, and no key manager is configured here that '
            'has the certificate, so its signature cannot be verified. '
            'Remove the properties img_signature... to go on without.')


def verify(conf: cfg.ConfigOpts, properties: Properties, path: str,
           stopped: collections.abc.Callable[[], bool]) -> None:
    """Hold the bytes of a file against the signature, if there is one.

    :param stopped: asked between blocks; when true, nothing is said
    :raises errors.Invalid: they are not what was signed, or nobody can say
    """
    check(conf, properties)
    if not is_signed(properties):
        return
    from cryptography import exceptions
    from cursive import exception

    try:
        verifier = _verifier(conf, properties)
        with open(path, 'rb') as file:
            while (block := file.read(_BLOCK)) and not stopped():
                verifier.update(block)
        if not stopped():
            verifier.verify()
    except exceptions.InvalidSignature as failure:
        raise errors.Invalid(
            'The signature of the image is not one of its data.',
            code='refused.signature') from failure
    except exception.SignatureVerificationError as failure:
        raise errors.Invalid(
            f'The signature of the image cannot be verified: {failure}',
            code='refused.signature') from failure


def _verifier(conf: cfg.ConfigOpts, properties: Properties) -> typing.Any:
    from cursive import exception
    from cursive import signature_utils

    signature = signature_utils.get_signature(properties['img_signature'])
    method = signature_utils.get_hash_method(
        properties['img_signature_hash_method'])
    kind = signature_utils.SignatureKeyType.lookup(
        properties['img_signature_key_type'])
    # Not cursive's own look-up, which reads the global configuration.
    key = _certificate(
        conf, properties['img_signature_certificate_uuid']).public_key()
    if not isinstance(key, kind.public_key_type):
        raise exception.SignatureVerificationError(
            reason=f'the certificate has no key of the type {kind.name}')
    verifier = kind.create_verifier(signature, method, key)
    if verifier is None:
        raise exception.SignatureVerificationError(
            reason='img_signature is not base64, or empty')
    return verifier


def _certificate(conf: cfg.ConfigOpts, certificate_id: str | None
                 ) -> typing.Any:
    from castellan.common import exception as castellan_exc
    from cryptography import x509
    from cursive import exception

    try:
        found = key_manager.manager(conf).get(
            key_manager.own_account(conf), certificate_id)
        return x509.load_der_x509_certificate(found.get_encoded())
    except castellan_exc.ManagedObjectNotFoundError as failure:
        raise exception.SignatureVerificationError(
            reason='the key manager has no certificate '
                   f'{certificate_id}') from failure
    except Exception as failure:
        # Each backend has errors of its own.
        LOG.exception('the certificate %s cannot be read', certificate_id)
        raise exception.SignatureVerificationError(
            reason=f'the certificate {certificate_id} cannot be read from '
                   'the key manager') from failure
