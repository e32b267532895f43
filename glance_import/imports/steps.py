"""What every step of an import has, and the steps of the service itself.

A step meets two kinds of trouble: a fault that may pass (a store that does not
answer, a database that restarts), after which it is tried again with longer
and longer pauses, and everything else, which fails the import. Steps call the
domain, never HTTP. Each may be run twice: it looks at what is already true and
does what is missing.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import os
import stat
import time
import typing

from oslo_log import log
from taskflow import flow as flow_base
from taskflow import task
import tenacity

from glance_import.db import engine as db_engine
from glance_import.db import images as db_images
from glance_import.db import jobs as db_jobs
from glance_import.db import staging as db_staging
from glance_import.domain import content
from glance_import import errors
from glance_import.imports import changes
from glance_import.imports import ending
from glance_import.imports import outcome
from glance_import.imports import runtime
from glance_import import staging
from glance_import.stores import base as stores
from glance_import.uploads import staged_state

if typing.TYPE_CHECKING:
    from glance_import import services

LOG = log.getLogger(__name__)
SCHEME = 'file://'
# Seconds between two tries of a step, at most.
MAX_PAUSE = 30.0
# Seconds between two writes of how far a step is, and before the first.
PROGRESS_SECONDS = 1.0
QUICK_SECONDS = 0.2


class Step(task.Task):
    """A step of the service: ``run`` does it, with what earlier steps gave.

    ``label`` is Glance's name of it; ``kept``, whether it costs so much that
    its result is written at once and not with the next one (see
    glance_import.imports.recording).
    """

    label = ''
    kept = False

    def __init__(self, rt: runtime.Runtime, task_id: str, task_type: str,
                 image_id: str, **kwargs: typing.Any) -> None:
        self.rt = rt
        self.image_id = image_id
        kwargs.setdefault('name', f'{task_type}-{self.label}-{task_id}')
        super().__init__(requires=self._wanted(), auto_extract=False,
                         **kwargs)

    @classmethod
    @functools.cache
    def _wanted(cls) -> list[str]:
        """What ``run`` is to be given."""
        return list(inspect.signature(cls.run).parameters)[1:]

    @property
    def most_retries(self) -> int:
        """How often it is tried again after a fault that may pass."""
        return self.rt.services.conf.taskflow_executor.step_retries

    def run(self, *given: typing.Any, **named: typing.Any) -> typing.Any:
        """Do it; what it returns is plain JSON, since it is recorded."""
        raise NotImplementedError

    def execute(self, **given: typing.Any) -> typing.Any:
        """Called by taskflow: ``run``, tried again where that may help.

        :raises stores.Cancelled: the import was told to stop
        """
        # Of this step, should the process have died while it was tried.
        job = self.rt.job
        tried = job.retries if job.step == self.label else 0
        interval = self.rt.services.conf.taskflow_executor.step_retry_interval
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(may_pass),
            stop=tenacity.stop_after_attempt(
                1 + max(0, self.most_retries - tried)),
            wait=tenacity.wait_exponential(
                multiplier=interval * 2 ** tried, max=MAX_PAUSE),
            sleep=tenacity.sleep_using_event(self.rt.stopped),
            before=lambda _state: self.check_stop(),
            before_sleep=lambda state: self._note_retry(tried, state),
            reraise=True)
        return retrying(self.run, **given)

    def revert(self, *args: typing.Any, **given: typing.Any) -> None:
        """Called by taskflow where a later step has failed."""

    def check_stop(self) -> None:
        """:raises stores.Cancelled: the import was told to stop"""
        check_stop(self.rt)

    def image(self) -> db_images.Image:
        """The image as it is now.

        :raises errors.ImageGone: it was deleted
        """
        with self.rt.services.db.read() as conn:
            found = db_images.get(conn, self.image_id, db_images.EVERYTHING)
        if found is None:
            raise errors.ImageGone()
        return found

    def image_path(self, file_path: str) -> str:
        """The path of the data, given as a ``file://`` URI."""
        return file_path.removeprefix(SCHEME)

    @functools.cached_property
    def progress(self) -> Progress:
        """Tells users how far this step is."""
        return Progress(self.rt, self.label)

    def _note_retry(self, tried: int, state: tenacity.RetryCallState) -> None:
        assert state.outcome is not None and state.next_action is not None
        failure = state.outcome.exception()
        tries = tried + state.attempt_number
        said = ('the database does not answer'
                if isinstance(failure, db_engine.ERRORS) else str(failure))
        text = f'{said}; trying again ({tries} of {self.most_retries})'
        LOG.warning('import %s, %s: %s, in %.1f s', self.rt.job.id,
                    self.label, text, state.next_action.sleep)
        try:
            with self.rt.services.db.write() as conn:
                db_jobs.check_fence(conn, self.rt.lease, step=self.label,
                                    retries=tries, message=text)
        except db_engine.ERRORS as unwritten:
            LOG.debug('the retry is not written: %s', unwritten)


# taskflow asks for them seven times for each step of each import.
for _method in (Step.execute, Step.revert):
    setattr(_method, '__signature__', inspect.signature(_method))


def check_stop(rt: runtime.Runtime) -> None:
    """:raises stores.Cancelled: the import was told to stop"""
    if rt.stopped.is_set():
        raise stores.Cancelled('the import was stopped')


def may_pass(failure: BaseException) -> bool:
    """Whether the same step may succeed a little later."""
    return (isinstance(failure, stores.StoreUnavailable)
            or db_engine.may_pass(failure))


def tasks(flow: flow_base.Flow) -> typing.Iterator[task.Task]:
    """Every task of a flow, in its order; no retry controllers."""
    for node, _data in flow.iter_nodes():
        if isinstance(node, flow_base.Flow):
            yield from tasks(node)
        elif isinstance(node, task.Task):
            yield node


def guard(flow: flow_base.Flow, rt: runtime.Runtime) -> None:
    """Let no step of a get_flow plugin begin when the import shall stop.

    What it gives must be plain JSON, as what a ``Step`` gives is.
    """
    for step in tasks(flow):
        if not isinstance(step, Step):
            step.execute = _guarded(rt, step.name, step.execute)


def _guarded(rt: runtime.Runtime, name: str, execute):

    @functools.wraps(execute)
    def guarded(*args: typing.Any, **kwargs: typing.Any) -> typing.Any:
        check_stop(rt)
        result = execute(*args, **kwargs)
        try:
            json.dumps(result)
        except (TypeError, ValueError) as failure:
            raise errors.ImportFailed(
                f'the task {name} gave a result that cannot be recorded as '
                f'JSON ({failure})') from failure
        return result

    return guarded


class Progress:
    """How far a step of one attempt is: at most one write a second.

    Writing goes under the lease, in the thread of the step; a database that
    is away costs nothing but a gap in the numbers.
    """

    def __init__(self, rt: runtime.Runtime, label: str) -> None:
        self._rt = rt
        self._label = label
        self._written = False
        # What is done at once need not be told.
        self._next = time.monotonic() + QUICK_SECONDS

    def report(self, done: int, total: int | None) -> None:
        """``done`` of ``total`` bytes, as often as one likes.

        :param total: None when nobody knows yet
        """
        now = time.monotonic()
        if now < self._next and (
                total is None or done < total or not self._written):
            return
        self._written = True
        self._next = now + PROGRESS_SECONDS
        try:
            with self._rt.services.db.write() as conn:
                db_jobs.check_fence(conn, self._rt.lease, step=self._label,
                                    bytes_done=done, bytes_total=total)
        except db_engine.ERRORS as failure:
            LOG.debug('progress is not written: %s', failure)


# -- the steps that every import of data has --------------------------------

class ConfigureStaging(Step):
    """The staged file is there. Its place follows from options and id."""

    label = 'ConfigureStaging'
    default_provides = 'file_path'

    def run(self) -> str:
        staged_data(self.rt.services, self.image_id)
        return self.rt.services.area.uri(self.image_id)


class CheckPlugin(Step):
    """What a get_flow plugin left behind is a file that can be stored."""

    def __init__(self, plugin: str, *args: typing.Any) -> None:
        self.plugin = plugin
        self.label = f'Check-{plugin}'
        super().__init__(*args)

    def run(self, file_path: str) -> None:
        try:
            mode = os.lstat(local_path(file_path)).st_mode
        except (ValueError, OSError) as failure:
            raise outcome.PluginFailed(
                self.plugin, 'it left no image data behind '
                f'({file_path!r}: {failure})') from failure
        if not stat.S_ISREG(mode):
            raise outcome.PluginFailed(
                self.plugin, f'it left {file_path!r}, which is not a '
                'regular file, as the image data')
        said: dict[str, typing.Any] = {
            'plugin': self.plugin, 'step': 'flow', 'verdict': 'ran',
            'digest': self.rt.snapshot.code_of(self.plugin),
            'properties': {}}
        self.rt.unwritten.append(lambda conn: changes.note_verdicts(
            conn, self.rt.lease, [said]))


class CheckContent(Step):
    """The bytes are what the image is declared to be, and safe."""

    label = 'CheckContent'
    default_provides = 'virtual_size'

    def run(self, file_path: str) -> int | None:
        size = content.check(
            self.rt.services, self.image(), self.image_path(file_path),
            self.rt.stopped.is_set, functools.partial(changes.warn, self.rt))
        self.check_stop()
        return size


class CompleteTask(Step):
    """Active, task successful, lock dropped: one transaction."""

    label = 'CompleteTask'

    def run(self, stored: dict[str, typing.Any],
            virtual_size: int | None = None) -> None:
        ending.succeed(self.rt.services, self.rt.lease, self.image_id,
                       ending.StoreOutcome.of(stored),
                       virtual_size=virtual_size, times=self.rt.times)


class DeleteFromFS(Step):
    """Remove what the active image no longer needs.

    The staged file, and what interrupted attempts have left in stores.
    """

    label = 'DeleteFromFS'

    def run(self) -> None:
        try:
            ending.clean_up(self.rt.services, self.rt.lease, self.image_id)
        except (staging.StagingError, stores.StoreError) as failure:
            # The image is active; housekeeping tries again.
            LOG.warning('import %s: cannot remove what is left over: %s',
                        self.rt.job.id, failure)


def remove_file(path: str) -> None:
    """Delete a file a step is done with; one that is gone is fine."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def staged_data(services: services.Services, image_id: str
                ) -> staged_state.StagedState:
    """The staged data an import works on.

    :raises errors.ImportFailed: it is gone
    """
    with services.db.read() as conn:
        record = db_staging.get(conn, image_id)
    if record is None:
        raise errors.ImportFailed(
            'The staged data of the image is not known here any more. '
            'Upload it again.', code='staging.lost')
    found = staged_state.compare(services, record)
    if services.area.identity(image_id) is None:
        raise data_gone()
    return found


def data_gone() -> errors.ImportFailed:
    """What is raised when the file of the data is not there."""
    return errors.ImportFailed(
        'The staged data of the image has disappeared from the staging '
        'area. Upload it again.', code='staging.lost')


def local_path(uri: str) -> str:
    """The absolute path of a ``file://`` URI.

    :raises ValueError: it is no such URI
    """
    if not isinstance(uri, str) or not uri.startswith(SCHEME + '/'):
        raise ValueError('not file:// and an absolute path')
    return uri[len(SCHEME):]
