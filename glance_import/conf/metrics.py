"""[metrics]: figures of the service, for Prometheus."""

from oslo_config import cfg

GROUP = 'metrics'
OPTS = (
    cfg.StrOpt(
        'bind_host', default='127.0.0.1',
        help='Address to serve metrics on. They are served without '
             'authentication, and name projects and images nowhere; those '
             'of stores, plugins and routes are in them.'),
    cfg.PortOpt(
        'bind_port', default=0,
        help='Port to serve metrics on, in the text format of Prometheus, '
             'at /metrics. 0: no metrics are counted, and none served. '
             'glance-import-api, glance-import-conductor and a service under '
             'another WSGI server each start one process beside them that '
             'serves, the first of those that share a state_path; "'
             'glance-import-manage metrics serve" is the same process by '
             'hand. Services on one host with different state_paths need '
             'ports of their own.'),
    cfg.FloatOpt(
        'refresh_interval', default=10, min=1,
        help='Seconds for which figures of the database, the staging area, '
             'the job board and the stores are not looked up again, however '
             'often they are asked for.'),
    cfg.FloatOpt(
        'refresh_timeout', default=3, min=0.1, max=60,
        help='Seconds that an answer waits for these figures. Those that '
             'are not there by then are left out of it, and their _up is '
             '0.'),
    cfg.FloatOpt(
        'check_interval', default=600, min=0,
        help='Seconds between two runs of "glance-import-status upgrade '
             'check" by the process that serves metrics: it tells what a '
             'start with the files as they are by then would meet, in '
             'glance_import_check_level and, when that changes, in the log. '
             'A run takes one to two seconds of CPU. 0: none.'),
)
