"""[DEFAULT]: notifications of what happens to images, through oslo.messaging.

Its own options, [oslo_messaging_notifications] driver, topics and
transport_url, are read by it, when a driver is configured.
"""

from oslo_config import cfg

GROUP = None
OPTS = (
    cfg.StrOpt(
        'default_publisher_id', default='image.localhost',
        help='By whom notifications are sent, such as image.host1. They are '
             'sent when [oslo_messaging_notifications] driver is set.'),
    cfg.ListOpt(
        'disabled_notifications', default=[],
        help='Notifications that are not sent: names such as image.create '
             'or task.success, or their first words, such as task.'),
    cfg.IntOpt(
        'notification_queue_size', default=1000, min=1,
        help='Notifications of one process that wait for the message bus. '
             'When so many wait, further ones are dropped, and counted: no '
             'request waits for a bus.'),
)
