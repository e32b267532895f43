"""qemu-img on one image: what is wrong with it, and the conversion.

The format of the source is always said, never probed. Runs inside a sandbox,
where the image is the only file that it could read. ``ctx.options`` has
``source`` and ``sink`` (paths in here), ``source_format`` and
``output_format`` in qemu's names.
"""

import json
import os
import re
import subprocess  # nosec B404

from glance_import.plugin import contract

_TEXT = 2000
# What check says of counts of references alone.
_LAG = re.compile(rb'ERROR (?:cluster \d+ refcount=|OFLAG_COPIED |refcount |'
                  rb'need to rebuild refcount )')
_PERCENT = re.compile(rb'\(([0-9.]+)/100%\)')


class Convert(contract.ImagePlugin):
    """One object a run."""

    api = 1

    def transform(self, sink, ctx):
        """Write the image in the other format over the sink.

        First the bytes that it takes are logged, as ``required N``: where
        there is no room for them, this is ended.
        """
        options = ctx.options
        problem, required = _measure(options)
        if problem:
            return self.reject(problem)
        ctx.log(f'required {required}')
        with subprocess.Popen(  # nosec B603 B607
                ['qemu-img', 'convert', '-p', '-f', options.source_format,
                 '-O', options.output_format, options.source,
                 options.sink], stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            assert process.stdout is not None
            said = b''
            shown = -1
            while block := os.read(process.stdout.fileno(), 4096):
                ctx.progress()
                said = (said + block)[-_TEXT:]
                percents = _PERCENT.findall(said)
                if percents and int(float(percents[-1])) > shown:
                    shown = int(float(percents[-1]))
                    ctx.log(f'percent {shown}')
            status = process.wait()
        if status:
            return self.reject(_words(_PERCENT.sub(b'', said)) if status > 0
                               else f'it was ended by the signal {-status}')
        return self.accept()


def _measure(options):
    """What is wrong with the image, and the bytes that its data takes.

    qemu-img reads what a file lacks as zeros, so whatever its check finds to
    be wrong is refused before.
    """
    problem = _damage(options)
    if problem:
        return 'qemu-img finds the image damaged: ' + problem, 0
    # As qcow2: the data without the holes, for any format.
    done = _ask('measure', '--output', 'json', '-f', options.source_format,
                '-O', 'qcow2', options.source)
    if done.returncode:
        return _words(done.stderr), 0
    return None, int(json.loads(done.stdout)['required'])


def _damage(options):
    """The last words of qemu-img's check; None for an image that is whole.

    Reference counts of a qcow2 that lag behind lose nothing: they are for
    writing.
    """
    with subprocess.Popen(  # nosec B603 B607
            ['qemu-img', 'check', '-f', options.source_format,
             options.source], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        said, lags, errors = b'', 0, 0
        # A line for each cluster, perhaps: none of them is kept.
        while line := process.stdout.readline(_TEXT):
            lags += bool(_LAG.match(line))
            if line.startswith(b'ERROR') and not _LAG.match(line):
                errors, said = errors + 1, line
            elif not errors and line.strip() and not _LAG.match(line):
                said = line
        status = process.wait()
    # 1: it could not be checked, 2: it is corrupt; 3: it only wastes room,
    # 63: the format has no check.
    if status in (0, 3, 63) or status == 2 and lags and not errors:
        return None
    return _words(said)


def _ask(*words):
    return subprocess.run(  # nosec B603 B607
        ['qemu-img', *words], stdin=subprocess.DEVNULL, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def _words(said):
    """The last line of what qemu-img said, without its name and paths."""
    lines = said.decode('utf-8', 'replace').replace('\r', '\n').split('\n')
    text = ([line.strip() for line in lines if line.strip()] or ['failed'])[-1]
    text = re.sub(r"^qemu-img: ", '', text)
    return re.sub(r"'?/[^\s']*'?:?\s*", '', text)[:500] or 'failed'
