"""[DEFAULT]: where state and staged bytes live."""

from oslo_config import cfg

GROUP = None
OPTS = (
    cfg.StrOpt(
        'state_path', default='/var/lib/glance',
        help='Directory for what the service keeps on this node: the SQLite '
             'database when [database] connection is unset, and the lock of '
             'the embedded conductor; each service on a host needs one of its '
             'own. An existing one must belong to the '
             'user of the service or to root, and nobody else may write it '
             '(but for a group on purpose: mode 2770).'),
    cfg.StrOpt(
        'node_staging_uri', default='file:///tmp/staging/',
        help='Directory for staged image data: file:// and an absolute path '
             'that the user of this service can create and write, and nobody '
             'else can write. With several API nodes: a directory on a '
             'filesystem that all of them share. On the filesystem of the '
             'file store, importing costs the same for any size.'),
    cfg.IntOpt(
        'incomplete_upload_lifetime', default=168, min=0,
        help='Hours that the bytes of an interrupted upload are kept, to go '
             'on with, counted from the last request that added some. Then '
             'they are removed and the image is queued again. 0 keeps them '
             'until the upload or the image is deleted.'),
    cfg.IntOpt(
        'staging_reserve', default=64, min=0,
        help='MiB of the file system of the staging area that uploads leave '
             'free, but no more than a sixteenth of it. What would not fit '
             'is refused with 413 before it is sent, where its size is '
             'known.'),
    cfg.IntOpt(
        'staging_high_water', default=90, min=0, max=100,
        help='Percent of the file system of the staging area from which on '
             'the log says that it fills up. 0: never.'),
    cfg.IntOpt(
        'failed_import_lifetime', default=168, min=0,
        help='Hours that the bytes of a failed import are kept, to be '
             'imported again without uploading them. Then they are removed '
             'and the image is queued again. 0 keeps them until the image is '
             'deleted.'),
)
