"""[taskflow_executor]: how many imports run at once, and who runs them."""

from oslo_config import cfg

GROUP = 'taskflow_executor'
OPTS = (
    cfg.StrOpt(
        'engine_mode', default='parallel', choices=(
            ('serial', 'the steps of an import run in its own thread'),
            ('parallel', 'the steps run in a pool of threads that all '
                         'imports of the process share'),
        ),
        help='taskflow engine. An import is a line of steps, so neither is '
             'faster. The worker-based engine is not for imports: one that '
             'loses a worker hangs.'),
    cfg.IntOpt(
        'max_workers', default=10, min=1,
        deprecated_opts=[cfg.DeprecatedOpt('eventlet_executor_pool_size',
                                           group='task')],
        help='Imports that may run at the same time in one conductor. '
             'Others wait in the database.'),
    cfg.StrOpt(
        'jobboard', default='sql', choices=(
            ('sql', "the service's own database; nothing else to run"),
            ('redis', 'needs glance-import[redis]'),
            ('etcd', 'needs glance-import[etcd]'),
            ('zookeeper', 'needs glance-import[zookeeper]'),
        ),
        help='Where imports wait for a conductor: a job board of taskflow. '
             'What waits is in the database whatever is chosen here.'),
    cfg.ListOpt(
        'jobboard_hosts', default=['127.0.0.1'],
        help='Servers of a job board that is not sql. Of redis the first '
             'counts, unless these are sentinels; of etcd the first that '
             'answers.'),
    cfg.PortOpt(
        'jobboard_port',
        help="Their port, where it is not the server's usual one."),
    cfg.StrOpt(
        'jobboard_path', default='glance-import',
        regex=r'^[A-Za-z0-9_.-]+\Z',
        help='Under which name the imports of this service are kept there. '
             'Services with databases of their own need names of their '
             'own.'),
    cfg.StrOpt(
        'jobboard_username',
        help='User at redis or ZooKeeper.'),
    cfg.StrOpt(
        'jobboard_password', secret=True,
        help='Password at redis or ZooKeeper.'),
    cfg.StrOpt(
        'jobboard_sentinel',
        help='Name of the redis master that the sentinels in jobboard_hosts '
             'watch. Unset: jobboard_hosts is the redis server itself.'),
    cfg.BoolOpt(
        'jobboard_tls', default=False,
        help='Speak TLS to the job board.'),
    cfg.StrOpt(
        'jobboard_ca_file',
        help="File with the certificates that vouch for the board's."),
    cfg.StrOpt(
        'jobboard_cert_file',
        help='File with the certificate that this service shows to the '
             'board.'),
    cfg.StrOpt(
        'jobboard_key_file',
        help='File with the key of jobboard_cert_file.'),
    cfg.FloatOpt(
        'jobboard_timeout', default=3.0, min=0.1,
        help='Seconds within which the job board must answer.'),
    cfg.IntOpt(
        'claim_expiry', default=30, min=1,
        help='Seconds after which an import whose conductor has not been '
             'heard of is given to another.'),
    cfg.FloatOpt(
        'poll_interval', default=1.0, min=0.05,
        help='Seconds between two looks for work of a conductor that nobody '
             'woke.'),
    cfg.IntOpt(
        'max_attempts', default=3, min=1,
        help='Times one step of an import is begun, when the conductor '
             'died in the middle of it, before the import fails.'),
    cfg.IntOpt(
        'step_retries', default=5, min=0,
        help='Times a step is tried again after a fault that may pass, such '
             'as a store that does not answer. 0: the import fails at once.'),
    cfg.FloatOpt(
        'step_retry_interval', default=1.0, min=0.01, max=30.0,
        help='Seconds before a step is tried again; twice as long each '
             'time, up to half a minute.'),
    cfg.FloatOpt(
        'unhonoured_import_lifetime', default=3600.0, min=1.0,
        help='Seconds after which an import fails that no living conductor '
             'can run as it was asked for, because a plugin or a secret '
             'option is missing or another one there. What a client staged '
             'is kept.'),
    cfg.FloatOpt(
        'hold_lifetime', default=604800.0, min=1.0,
        help='Seconds that an import waits for an operator when a plugin '
             'holds it. One that nobody has approved by then is refused. '
             'What a client staged is kept.'),
    cfg.IntOpt(
        'max_queued_imports', default=0, min=0,
        help='Imports that may wait for a conductor. One more is refused '
             'with 503 and Retry-After. 0: no limit.'),
    cfg.IntOpt(
        'max_imports_per_project', default=0, min=0,
        help='Imports that one project may have waiting or running. One '
             'more is refused with 413. 0: no limit.'),
    cfg.IntOpt(
        'max_running_imports_per_project', default=0, min=0,
        help='Imports of one project that run at once; others of it wait. A '
             'conductor looks before it takes one, so where several look at '
             'the same moment it may be one more each. 0: no limit.'),
    cfg.IntOpt(
        'max_running_imports_per_store', default=0, min=0,
        help='Imports that write to one store at once, copies included; '
             'others wait. Counted like max_running_imports_per_project. 0: '
             'no limit.'),
    cfg.DictOpt(
        'max_store_rate', default={},
        help='Millions of bytes a second that all imports of one conductor '
             'together write to a store, copies included, such as '
             'cheap:50,ceph:200; so that they leave room for uploads and '
             'downloads. What needs no copy is not held up.'),
    cfg.BoolOpt(
        'embedded_conductor', default=True,
        help='Start one conductor beside the API on this node, as a process '
             'of its own. Set to False where glance-import-conductor runs.'),
)
