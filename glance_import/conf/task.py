"""[task]: import tasks and who runs them."""

from oslo_config import cfg

GROUP = 'task'
OPTS = (
    cfg.IntOpt(
        'task_time_to_live', default=48, min=1,
        deprecated_group='DEFAULT',
        help='Hours a finished task is kept for users to read.'),
    cfg.StrOpt(
        'task_executor', default='taskflow',
        help='What runs import tasks. taskflow is the only one.'),
)
