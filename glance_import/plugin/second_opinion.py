"""A second opinion on an image: that of qemu-img, which others open it with.

The judge of glance_import.formats reads formats as they are documented;
qemu-img reads them as qemu does. What it sees outside of the file is refused,
as is an image of which it says nothing: it took too long, was killed, or its
answer cannot be read. It runs only inside the sandbox of plugins, once for an
image, and reads headers, whatever the size. Touches the file it is given.
"""

from __future__ import annotations

import collections.abc
import secrets
import shutil
import threading
import time

from oslo_config import cfg
from oslo_log import log

from glance_import import errors
from glance_import.plugin import host
from glance_import.plugin import qemu_info
from glance_import.plugin import sandbox
from glance_import.plugin import verdicts
from glance_import import staging

LOG = log.getLogger(__name__)

OFF, AUTO, REQUIRED = 'off', 'auto', 'required'
# disk_format -> what qemu calls it. The others have no structure of their
# own, or none that qemu knows: there, only what it finds by itself counts.
QEMU = {'qcow2': 'qcow2', 'vmdk': 'vmdk', 'vdi': 'vdi', 'vhd': 'vpc',
        'vhdx': 'vhdx', 'ploop': 'parallels'}
# Bytes of addresses, most of which qemu-img never uses.
_MEMORY = 1 << 30
_PROCESSES = 64
# Seconds after which it is tried again where it could not be had, and the
# same in times of what the trying took.
_REST, _REST_TIMES = 60.0, 20
# The most that it may say, in bytes, whatever it is asked.
_MOST = 1 << 20


class Adviser:
    """Asks qemu-img where it can be had; safe to use from many threads.

    :param wall: gives the sandbox in force; raises ``sandbox.SandboxError``
        where there is none
    """

    def __init__(self, conf: cfg.ConfigOpts, area: staging.Area,
                 strict: collections.abc.Callable[[], sandbox.Strict]) -> None:
        self._options = conf.image_format
        self._area = area
        self._strict = strict
        self._lock = threading.Lock()
        self._tried = False
        self._trouble: str | None = None
        self._again = 0.0

    def judging_by(self, conf: cfg.ConfigOpts) -> Adviser:
        """One that goes by the options of an import.

        :param conf: with the import's own [image_format]
        """
        if conf.image_format.second_opinion == self.mode:
            return self
        return Adviser(conf, self._area, self._strict)

    @property
    def mode(self) -> str:
        """``second_opinion`` as the operator has set it."""
        return self._options.second_opinion

    def trouble(self) -> str | None:
        """Why there is no second opinion here; None when there is one.

        Found out once, by asking for one. Trouble may pass (no space, no
        process left), so after a while it is looked at again.
        """
        with self._lock:
            begun = time.monotonic()
            if not self._tried or (self._trouble and begun >= self._again):
                before, self._trouble = self._trouble, self._try()
                if before and not self._trouble:
                    LOG.warning('second opinion on images: it can be had '
                                'again')
                self._tried = True
                now = time.monotonic()
                self._again = now + max(_REST, _REST_TIMES * (now - begun))
            return self._trouble

    def _try(self) -> str | None:
        if self.mode == OFF:
            return 'second_opinion is off'
        program = self._options.second_opinion_program
        if shutil.which(program, path=sandbox.ENVIRONMENT['PATH']) is None:
            return f'the program {program} is not installed'
        try:
            with self._area.scratch() as scratch:
                scratch.truncate(512)
                result = self._ask(scratch.path, (), host.never)
        except (sandbox.SandboxError, staging.StagingError,
                OSError) as failure:
            return str(failure)
        if result.verdict != 'accept':
            return (f'{program} does not work in the sandbox: '
                    f'{verdicts.one_line(result.detail) or result.reason}')
        return None

    def check(self, path: str, formats: collections.abc.Iterable[str | None],
              stopped: collections.abc.Callable[[], bool]) -> None:
        """Refuse a file in which qemu-img sees something outside of it.

        :param path: in the staging area: it has to be readable by name
        :param formats: disk_formats that others may open it as
        :param stopped: asked now and then; when true, the result says
            nothing
        :raises errors.Unsupported: it does, or gives no opinion
        :raises errors.Unavailable: it cannot be asked now
        """
        trouble = self.trouble()
        if trouble is not None:
            if self.mode == REQUIRED:
                raise errors.Unavailable(
                    'Images cannot be judged at the moment: there is no '
                    f'second opinion ({trouble}).')
            return
        names = dict.fromkeys(QEMU[each] for each in formats
                              if each is not None and each in QEMU)
        try:
            result = self._ask(path, tuple(names), stopped)
        except (sandbox.SandboxError, OSError) as failure:
            LOG.error('a second opinion cannot be asked for: %s', failure)
            raise errors.Unavailable(
                'Images cannot be judged at the moment: the sandbox cannot '
                'be started.') from failure
        if result.verdict in ('accept', host.CANCELLED):
            return
        if result.verdict == 'reject':
            raise errors.Unsupported(
                'The image is refused: it refers to data outside of the '
                f'file, by the opinion of qemu-img ({result.reason}). Make it '
                'one file that needs no other (qemu-img convert) and upload '
                'that.')
        LOG.error('no second opinion on %s: %s %s', path, result.reason,
                  result.detail)
        raise errors.Unsupported(
            'The image is refused: qemu-img could not say whether it refers '
            f'to data outside of the file ({result.reason}). Make it anew '
            '(qemu-img convert), or ask the operator.')

    def _ask(self, path: str, names: tuple[str, ...],
             stopped: collections.abc.Callable[[], bool]) -> verdicts.Result:
        isolation = self._strict()
        program = self._options.second_opinion_program
        timeout = float(self._options.second_opinion_timeout)
        mark, source = secrets.token_hex(16), isolation.path(path,
                                                             sandbox.DATA)
        said = host.ask(
            isolation, host.Target(
                'second opinion', 'command',
                words=qemu_info.command(mark, program, source, names),
                # What the sandbox shows: an absolute path, too.
                read=(program,) if program.startswith('/') else ()),
            data=path, log=LOG.debug, cancelled=stopped,
            limits=host.Limits(
                timeout=timeout, idle_timeout=timeout, cpu=int(timeout) + 1,
                memory=_MEMORY, processes=_PROCESSES, tmp=8 << 20,
                answer=_MOST))
        if isinstance(said, verdicts.Result):
            return said
        try:
            seen = qemu_info.seen_outside(said, mark, source, names)
        except qemu_info.Unreadable as failure:
            return verdicts.Result(verdicts.ERROR, 'it failed',
                                   detail=verdicts.one_line(str(failure)))
        return (verdicts.Result('reject', verdicts.one_line(seen)) if seen
                else verdicts.Result('accept'))
