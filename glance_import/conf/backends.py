"""[DEFAULT]: several stores, by name; waiting for them, and deleting."""

from oslo_config import cfg

GROUP = None
OPTS = (
    cfg.DictOpt(
        'enabled_backends', default={},
        help='Stores by id and type, such as fast:file, cheap:s3. Types are '
             'file, s3, swift, rbd, cinder and http (read-only). Each store '
             'has its options in a section of its id. Turns several stores '
             'on, even with one: then [glance_store] default_backend says '
             'which one is the default, node_staging_uri and the other '
             'options of [glance_store] are not read, and staged data lies '
             'in [os_glance_staging_store] filesystem_store_datadir. Ids '
             'that begin with os_glance_ are reserved.'),
    cfg.IntOpt(
        'store_timeout', default=60, min=1,
        help='Seconds that a request waits for a store over a network until '
             'it is answered with 503. Requests that wait for one store hold '
             'up no others.'),
    cfg.BoolOpt(
        'delayed_delete', default=False,
        help='Keep the data of a deleted image for scrub_time, in the status '
             'pending_delete. Otherwise it is deleted with the image; what a '
             'store cannot delete then is deleted later in both cases.'),
    cfg.IntOpt(
        'scrub_time', default=0, min=0,
        help='Seconds that the data of an image in pending_delete is kept.'),
)
