"""Sections of the bundled get_flow plugins in glance-image-import.conf."""

from oslo_config import cfg


class Inject:
    """[inject_metadata_properties]."""

    GROUP = 'inject_metadata_properties'
    OPTS = (
        cfg.ListOpt(
            'ignore_user_roles', default=['admin'],
            help='Roles of users whose imports the plugin '
                 'inject_image_metadata leaves alone: a plain list with '
                 'commas, without brackets.'),
        cfg.DictOpt(
            'inject', default={},
            help='Properties that the plugin writes to each image: '
                 'name:value pairs with commas. Names of the service '
                 'itself (os_glance...) are left out.'),
    )


class Conversion:
    """[image_conversion]."""

    GROUP = 'image_conversion'
    OPTS = (
        cfg.StrOpt(
            'output_format', default='raw', choices=('qcow2', 'raw', 'vmdk'),
            help='disk_format that the plugin image_conversion gives to '
                 'each image. ISO images, kernels and ramdisks (aki, ari) '
                 'are left as they are.'),
        cfg.FloatOpt(
            'timeout', default=14400.0, min=0.01,
            help='Seconds that a conversion may take, also of processor '
                 'time.'),
        cfg.IntOpt(
            'memory_limit', default=2048, min=256,
            help='MiB of memory, most of it only addresses, that qemu-img '
                 'may take.'),
    )


class Decompression:
    """[image_decompression]."""

    GROUP = 'image_decompression'
    OPTS = (
        cfg.IntOpt(
            'max_ratio', default=1000, min=1,
            help='How many bytes may come out for each byte of the '
                 'compressed image; it counts when 64 MiB have come out. '
                 'In all no more come out than image_size_cap and the '
                 "project's quota allow."),
        cfg.FloatOpt(
            'timeout', default=14400.0, min=0.01,
            help='Seconds that decompressing may take, also of processor '
                 'time.'),
        cfg.IntOpt(
            'memory_limit', default=1024, min=256,
            help='MiB of memory that it may take.'),
    )


MODULES = (Inject, Conversion, Decompression)
