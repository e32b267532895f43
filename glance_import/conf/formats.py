"""[image_format]: what an image may be declared to be, and must be."""

from oslo_config import cfg

GROUP = 'image_format'
OPTS = (
    cfg.ListOpt(
        'container_formats',
        default=['ami', 'ari', 'aki', 'bare', 'ovf', 'ova', 'docker',
                 'compressed'],
        help='Values that container_format may have.'),
    cfg.ListOpt(
        'disk_formats',
        default=['ami', 'ari', 'aki', 'vhd', 'vhdx', 'vmdk', 'raw', 'qcow2',
                 'vdi', 'iso', 'ploop'],
        help='Values that disk_format may have.'),
    cfg.BoolOpt(
        'require_image_format_match', default=True,
        help='Refuse data whose content is not of the disk_format of its '
             'image, on import and on upload, for container_format bare. '
             'raw takes any content. Whatever this says, content that is '
             'not safe is refused: that which refers to data outside of '
             'itself, looks like several formats, or cannot be checked.'),
    cfg.ListOpt(
        'gpt_safety_checks_nonfatal', default=[],
        help='Checks of partitioned raw disks of which no warning is given: '
             'mbr, for disks with an odd partition table. None refuses an '
             'image, whatever this says.'),
    cfg.ListOpt(
        'vmdk_allowed_types', default=['streamOptimized',
                                       'monolithicSparse'],
        help='Values of createType that a VMDK file may have. Only those '
             'whose data is in the one file can be made to work.'),
    cfg.StrOpt(
        'second_opinion', default='auto',
        choices=[
            ('auto', 'where isolation is strict, and bubblewrap and qemu-img '
             'work on this host; it is logged at start-up whether they do'),
            ('required', 'always; where it cannot be had, the service does '
             'not start'),
            ('off', 'never'),
        ],
        help='Whether qemu-img, in the sandbox of plugins, has a say about '
             'every image beside our own inspectors. An image in which it '
             'sees data outside of the file is refused, as is one of which '
             'it can say nothing: that takes it too long or too much memory, '
             'or ends it.'),
    cfg.IntOpt(
        'second_opinion_timeout', default=30, min=1,
        help='Seconds that a second opinion may take.'),
    cfg.StrOpt(
        'second_opinion_program', default='qemu-img',
        help='The program that is asked: its name, or an absolute path.'),
    cfg.BoolOpt(
        'judge_data_named_by_services', default=True,
        help='Judge data that is only named (POST '
             '/v2/images/{image_id}/locations, and PATCH of locations) also '
             'where the caller is another service, to which the rule '
             'fetch_image_location applies. Data that users name is always '
             'judged.'),
    cfg.IntOpt(
        'max_virtual_size', default=2 ** 44, min=0, max=2 ** 63 - 1,
        help='Largest virtual size accepted, in bytes: that of the disk '
             'that a guest sees. 0: no limit.'),
)
