"""[paste_deploy]: which pipeline of filters serves the API."""

from oslo_config import cfg

GROUP = 'paste_deploy'
OPTS = (
    cfg.StrOpt(
        'flavor',
        help='Pipeline of glance-api-paste.ini to serve: keystone for '
             'production, noauth (also when unset) for one local user with '
             'every role, reachable from this machine only.'),
    cfg.StrOpt(
        'config_file',
        help='The paste file. Unset: glance-api-paste.ini beside the main '
             'configuration file, then in the usual places, then the copy '
             'inside the package.'),
    cfg.BoolOpt(
        'allow_remote_noauth', default=False,
        help='Let the noauth and fakeauth pipelines answer clients on other '
             'machines. Whoever reaches the port is then administrator. '
             'They call it by an address, or by the name in '
             'public_endpoint.'),
)
