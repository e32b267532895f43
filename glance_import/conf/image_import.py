"""[image_import_opts] of glance-image-import.conf: what an import does."""

from oslo_config import cfg
from oslo_config import types

GROUP = 'image_import_opts'
OPTS = (
    cfg.ListOpt(
        'image_import_plugins', bounds=True, default=[],
        item_type=types.String(quotes=True),
        help='Plugins that every imported image goes through, in this '
             'order, in square brackets: [no_op, fred_mertz]. Each is an '
             'entry point of the namespace glance.image_import.plugins '
             '(get_flow plugins) or glance_import.plugins (plugins of the '
             'contract), a class in a file of its own, '
             'file:/etc/glance/plugins/acme.py:Acme, or a program, '
             'exec:/usr/local/bin/scan. Plugins of the contract each have a '
             'section of their own below. A name that is unknown, cannot be '
             'loaded or is listed twice stops the service.'),
    cfg.StrOpt(
        'plugins_on_upload', default='run', choices=(
            ('run', 'the data of PUT /v2/images/{id}/file is staged and '
                    'imported through the plugins, and the answer waits for '
                    'that: 204 when the image is active, 4xx with the '
                    'reason when a plugin refuses it'),
            ('refuse', 'where plugins are listed, PUT /v2/images/{id}/file '
                       'is refused: data comes in by stage and import alone'),
            ('bypass', 'such data goes into the store without any plugin'),
        ),
        help='What becomes of data that is put into an image without asking '
             'for an import, where plugins are listed. This is how the '
             'OpenStack command line, Nova, Cinder and Horizon upload. Data '
             'that is only named (locations) cannot be run through plugins: '
             'it is refused unless this is bypass.'),
    cfg.IntOpt(
        'upload_run_timeout', default=600, min=1,
        help='Seconds for which an upload that is run through the plugins '
             'waits for its import, counted from the end of the data. Then '
             'the answer is 503, and the import goes on to its end. Proxies '
             'in front need a longer time-out.'),
    cfg.StrOpt(
        'isolation', default='strict', choices=(
            ('strict', 'in a sandbox made by bubblewrap: no network, no '
                       'files but the image, limits on everything'),
            ('process', 'in a process of their own with limits, as the user '
                        'of the service: no wall'),
        ),
        help='How plugins of the contract are run. When strict cannot be '
             'had, the service does not start; it never falls back.'),
    cfg.IntOpt(
        'parallel_inspectors', default=4, min=1,
        help='Plugins of one import that may read the image at the same '
             'time.'),
    cfg.IntOpt(
        'plugin_audit_lifetime', default=2160, min=0,
        help='Hours for which it is kept what plugins have said in imports '
             'that have ended, longer than their tasks. 0: for ever.'),
)
