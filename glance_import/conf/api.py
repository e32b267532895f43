"""[DEFAULT]: the HTTP side. Registered by glance_import.conf alone."""

import typing

from oslo_config import cfg
from oslo_config import types

GROUP = None
UP_TO_EXPERIMENTAL = 'v2.6-experimental'


class _Listed(types.String):
    """The values of api_versions_listed, by their first names too."""

    def __init__(self, choices: tuple[tuple[str, str], ...]) -> None:
        super().__init__(choices=choices)

    def __call__(self, value: typing.Any) -> str:
        """:raises ValueError: it is none of them"""
        # As the shorter list was called before it had this name.
        return super().__call__(
            UP_TO_EXPERIMENTAL if value == 'seed' else value)


OPTS = (
    cfg.HostAddressOpt(
        'bind_host', default='127.0.0.1',
        help='Address to listen on. The default is reached from this machine '
             'only; 0.0.0.0 or :: listens on every interface, which needs '
             'the keystone flavor (see [paste_deploy] flavor).'),
    cfg.PortOpt('bind_port', default=9292, help='TCP port to listen on.'),
    cfg.IntOpt(
        'workers', default=1, min=1,
        help='Server processes that share the listening socket.'),
    cfg.IntOpt(
        'worker_hang_timeout', default=30, min=0,
        help='Seconds after which a worker whose event loop does not move is '
             'killed and replaced; what its threads were doing is logged. '
             'Requests that take long do not count. 0 waits for ever.'),
    cfg.IntOpt(
        'backlog', default=4096, min=1,
        help='Connections the kernel may hold before they are accepted.'),
    cfg.IntOpt(
        'max_header_line', default=16384, min=1024,
        help='Longest header line accepted, in bytes. Tokens of an identity '
             'service with a large catalog may need more.'),
    cfg.IntOpt(
        'client_socket_timeout', default=900, min=0,
        help='Seconds a client connection may be idle, also in the middle '
             'of an upload, before it is closed. 0 waits for ever.'),
    cfg.IntOpt(
        'client_header_timeout', default=30, min=0,
        help='Seconds a client may take to send the head of a request, '
             'counted from its first byte, or from when it connects. '
             '0 waits for ever.'),
    cfg.IntOpt(
        'max_connections', default=8192, min=1,
        help='Connections that a worker has at once. When all are taken, the '
             'one that has sent no whole request for longest is closed for a '
             'new one. The limit on open files (ulimit -n) should be more '
             'than twice as high; where it is not there are fewer.'),
    cfg.IntOpt(
        'max_connections_per_address', default=1024, min=0,
        help='Connections that a worker has at once from one IPv4 address, '
             'or from one /64 of IPv6 addresses; more are answered with 429. '
             '0: as many as come.'),
    cfg.ListOpt(
        'unbounded_addresses', default=['127.0.0.0/8', '::1/128'],
        help='Networks for which max_connections_per_address does not hold: '
             'those of the proxies in front of the service.'),
    cfg.IntOpt(
        'max_request_bodies', default=1000, min=1,
        help='Requests with a body that a worker receives at once, each in a '
             'thread of its own; more are answered with 503.'),
    cfg.BoolOpt(
        'http_keepalive', default=True,
        help='Keep connections open between requests.'),
    cfg.IntOpt(
        'graceful_shutdown_timeout', default=60, min=0,
        help='Seconds that requests under way may still take after SIGTERM. '
             'An upload that is cut then is left recognisable as cut. '
             '0 waits for ever.'),
    cfg.StrOpt(
        'public_endpoint',
        help='URL under which clients reach this service, as shown in the '
             'versions document. Unset: taken from each request. Its host is '
             'a name of this service where that matters (noauth).'),
    cfg.BoolOpt(
        'enable_image_import', default=False,
        help='Offer version 2.6 of the Image API: staging and importing. '
             'When False, v2.6 is not listed and the import URIs answer '
             '404, as in v2.5.'),
    cfg.ListOpt(
        'enabled_import_methods', bounds=True,
        default=['glance-direct', 'web-download'],
        item_type=types.String(quotes=True),
        help='Import methods offered, in square brackets: '
             '[glance-direct, web-download]. A name that no method is '
             'registered for stops the service.'),
    cfg.Opt(
        'api_versions_listed', default='all', type=_Listed((
            ('all', 'every minor version that is complete, the last one '
                    'CURRENT and the others SUPPORTED'),
            (UP_TO_EXPERIMENTAL, 'up to v2.5, which is CURRENT, and v2.6, '
                                 'which is EXPERIMENTAL'),
        )),
        help='What /versions lists when enable_image_import is True; with '
             'False it ends at v2.5, which is CURRENT. The shorter list '
             'stops gophercloud 2.8 and later, which takes no version for '
             'one if it does not know its status: Terraform, OpenTofu, '
             'Packer and Cluster API then do nothing at all. Nova and '
             'Cinder find no POST /v2/images/{image_id}/locations in it and '
             'send every byte instead, and python-glanceclient does not ask '
             'for the tasks of an image.'),
    cfg.IntOpt(
        'image_size_cap', default=1099511627776, min=1, max=2 ** 63 - 1,
        help='Largest image accepted, in bytes.'),
    cfg.StrOpt(
        'user_storage_quota', default='0',
        help='Bytes that the images of one project may take in stores, an '
             'image in two of them counting twice: a number with B, KB, MB, '
             'GB or TB (powers of 1024) right behind it, such as 500GB. 0: '
             'no quota. Not used with use_keystone_limits.'),
    cfg.BoolOpt(
        'use_keystone_limits', default=False,
        help='Keep projects to the limits that the identity service holds '
             'for them: image_size_total and image_stage_total (MiB), '
             'image_count_total and image_count_uploading. A limit that '
             'nobody registered there counts as 0. Needs the package '
             'oslo.limit and its options in [oslo_limit].'),
    cfg.StrOpt(
        'hashing_algorithm', default='sha512', choices=(
            'sha512', 'sha256', 'sha384', 'blake2b', 'sha3_256', 'sha3_384',
            'sha3_512'),
        help='Digest kept as os_hash_value of each image.'),
    cfg.BoolOpt(
        'legacy_checksum', default=True,
        help='Also compute the md5 that the image field checksum and the '
             'header Content-MD5 show. False leaves the field null: for '
             'hosts that have no md5, and for speed (of the processor time '
             'of an upload md5 takes about a third). Some older clients '
             'verify a download by it alone.'),
    cfg.IntOpt(
        'image_member_quota', default=128,
        help='Projects an image may be shared with. Negative: no limit.'),
    cfg.IntOpt(
        'image_property_quota', default=128,
        help='Custom properties an image may have. Negative: no limit.'),
    cfg.IntOpt(
        'image_tag_quota', default=128,
        help='Tags an image may have. Negative: no limit.'),
    cfg.IntOpt(
        'image_location_quota', default=10,
        help='Locations that a user may give an image. Negative: no limit.'),
    cfg.BoolOpt(
        'do_secure_hash', default=True,
        help='Read data whose location is given (POST '
             '/v2/images/{id}/locations) once, so that its digests are '
             'known. False believes what the request says of it, and reads '
             'only what it takes to judge the content.'),
    cfg.IntOpt(
        'http_retries', default=3, min=0,
        help='How often the reading of such data is begun again when its '
             'store does not answer.'),
    cfg.BoolOpt(
        'show_image_direct_url', default=False,
        help='Show where a store has the data of an image, as direct_url, '
             'to those whom the rule get_image_location lets see it. It '
             'tells users about the inside of the cloud.'),
    cfg.BoolOpt(
        'show_multiple_locations', default=False,
        help='The same for every place that has the data, as locations.'),
    cfg.StrOpt(
        'property_protection_file',
        help='File that says which roles may create, read, update and '
             'delete which custom properties. Unset: no property is '
             'protected. A file that cannot be used stops the service.'),
    cfg.StrOpt(
        'property_protection_rule_format', default='roles', choices=(
            ('roles', 'the values of the file are lists of roles'),
            ('policies', 'each value is the name of one policy rule'),
        ),
        help='How property_protection_file is written.'),
    cfg.IntOpt(
        'limit_param_default', default=25, min=1,
        help='Items on a page of a list when the client names no limit.'),
    cfg.IntOpt(
        'api_limit_max', default=1000, min=1,
        help='Most items on a page of a list, whatever the client asks.'),
    cfg.IntOpt(
        'max_request_id_length', default=64, min=16,
        help='Longest X-OpenStack-Request-ID taken over from a client.'),
)
