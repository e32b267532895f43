"""The contract with plugin authors: the class, its options, its verdicts.

Standard library only, and few modules of it: this is imported anew for every
plugin that judges an image, inside its sandbox. Touches nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import collections.abc
    from typing import Any

API = 1

ACCEPT = 'accept'
REJECT = 'reject'
WARN = 'warn'
HOLD = 'hold'

# What an author's method may name; it is given only what it names.
ARGUMENTS = {
    'precheck': ('image', 'ctx'),
    'inspect': ('image', 'data', 'ctx'),
    'transform': ('image', 'source', 'sink', 'ctx'),
}

_mappingproxy = type(type.__dict__)


class Verdict:
    """What a plugin says of an image; made by ``accept`` and its kin."""

    __slots__ = ('kind', 'reason', 'code', 'properties')

    def __init__(self, kind: str, reason: str | None = None,
                 code: str | None = None,
                 properties: collections.abc.Mapping[str, str] | None = None,
                 ) -> None:
        self.kind = kind
        self.reason = reason
        self.code = code
        self.properties = dict(properties or {})

    def __repr__(self) -> str:
        return (f'Verdict({self.kind!r}, reason={self.reason!r}, '
                f'code={self.code!r}, properties={self.properties!r})')


class Option:
    """A setting the operator writes into the plugin's section.

    :param name: a lower-case identifier
    :param type: ``str``, ``int``, ``float``, ``bool`` or ``list`` (strings,
        separated by commas)
    :param default: the value when it is not set; None for none
    :param help: what it does, for the operator who reads the sample
    :param required: refuse to start when it is not set
    :param secret: keep the value out of logs
    """

    TYPES = {'str': str, 'int': int, 'float': float, 'bool': bool,
             'list': list}

    __slots__ = ('name', 'type', 'default', 'help', 'required', 'secret')

    def __init__(self, name: str, type: type = str, default: Any = None,
                 *, help: str = '', required: bool = False,
                 secret: bool = False) -> None:
        self.name = name
        self.type = type
        self.default = default
        self.help = help
        self.required = required
        self.secret = secret

    def __repr__(self) -> str:
        return f'Option({self.name!r}, {self.type!r}, {self.default!r})'


class Options:
    """The plugin's settings, as attributes: ``ctx.options.marker``."""

    def __init__(self, values: collections.abc.Mapping[str, Any]) -> None:
        self.__dict__.update(values)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f'there is no option {name!r}; declare it in the list "options" '
            'of the class')

    def __repr__(self) -> str:
        return f'Options({", ".join(sorted(self.__dict__))})'


# Field: its value where the service knows none.
IMAGE_FIELDS: dict[str, Any] = {
    'id': None, 'name': None, 'disk_format': None, 'container_format': None,
    'size': None, 'virtual_size': None, 'min_disk': 0, 'min_ram': 0,
    'owner': None, 'visibility': None, 'properties': {}, 'tags': (),
    'import_method': None, 'detected_format': None, 'checksum': None,
    'os_hash_algo': None, 'os_hash_value': None,
}


class Image:
    """The image's metadata when the plugin was started; it cannot be changed.

    ``size`` is in bytes, of the data the plugin is given; ``checksum`` (md5)
    and ``os_hash_value`` are hex digests of that data, None where they are
    not known yet. ``properties`` is a read-only mapping of strings, ``tags``
    a tuple. ``detected_format`` is what the content looks like, whatever
    ``disk_format`` claims.
    """

    # Later releases may add fields; none is taken away.
    id: str
    name: str | None
    disk_format: str | None
    container_format: str | None
    size: int | None
    virtual_size: int | None
    min_disk: int
    min_ram: int
    owner: str | None
    visibility: str | None
    properties: collections.abc.Mapping[str, str]
    tags: tuple[str, ...]
    import_method: str | None
    detected_format: str | None
    checksum: str | None
    os_hash_algo: str | None
    os_hash_value: str | None

    def __init__(self, **values: Any) -> None:
        for name, default in IMAGE_FIELDS.items():
            value = values.get(name)
            if value is None:
                value = default
            if name == 'properties':
                value = _mappingproxy(dict(value))
            elif name == 'tags':
                value = tuple(value)
            self.__dict__[name] = value

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(
            f'{name!r} cannot be set: an image is read-only; return '
            'self.accept(properties={...}) to add properties')

    __delattr__ = __setattr__  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f'Image({self.id!r}, {self.name!r})'


class Context:
    """What a plugin may ask of the service while it works.

    ``options`` are its settings, ``tmp`` is a directory of its own that
    vanishes with it, ``deadline`` is the time (as ``time.time()``) at which
    it is killed.
    """

    def __init__(self, options: collections.abc.Mapping[str, Any],
                 tmp: str, deadline: float,
                 log: collections.abc.Callable[[str], None],
                 progress: collections.abc.Callable[[float | None], None],
                 cancelled: collections.abc.Callable[[], bool]) -> None:
        self.options = Options(options)
        self.tmp = tmp
        self.deadline = deadline
        self._log = log
        self._progress = progress
        self._cancelled = cancelled

    def log(self, message: object, *values: object) -> None:
        """One line for the service's log, with the request id.

        ``values`` are filled in as by ``%``.
        """
        text = str(message)
        if values:
            text = text % values
        self._log(text)

    def progress(self, percent: float | None = None) -> None:
        """Still working: begins the idle time anew."""
        self._progress(percent)

    @property
    def cancelled(self) -> bool:
        """Whether the import was called off; whoever goes on is killed."""
        return self._cancelled()


class ImagePlugin:
    """The class to derive from. One object judges one image.

    Declare ``api = 1`` and define at least one of

    * ``precheck(self, image, ctx)``: before any data is read;
    * ``inspect(self, image, data, ctx)``: read the data and judge it;
    * ``transform(self, image, source, sink, ctx)``: write other data.

    Each takes only the arguments it names and returns ``self.accept()``,
    ``self.reject(...)``, ``self.warn(...)`` or, the first two, also
    ``self.hold(...)``. An exception is an error of
    the plugin: the image is refused with a reference for the operator.
    """

    # The contract version the class was written for: it must say so itself.
    api: int | None = None
    # Shown in the task of each import; the distribution's where it is ''.
    version: str = ''
    options: collections.abc.Sequence[Option] = ()

    def accept(self, properties: collections.abc.Mapping[str, str]
               | None = None) -> Verdict:
        """The image is fine; ``properties`` are written to it.

        The operator decides which names are allowed (``allowed_properties``).
        """
        return Verdict(ACCEPT, properties=properties)

    def reject(self, reason: str, code: str | None = None) -> Verdict:
        """The image is refused; its user reads ``reason``.

        ``code`` is a short constant name, such as ``acme.banned``.
        """
        return Verdict(REJECT, reason, code)

    def warn(self, reason: str, code: str | None = None,
             properties: collections.abc.Mapping[str, str] | None = None,
             ) -> Verdict:
        """The image passes, and ``reason`` is kept with its import."""
        return Verdict(WARN, reason, code, properties)

    def hold(self, reason: str, code: str | None = None) -> Verdict:
        """The import waits until an operator has approved or refused it.

        Of ``precheck`` and ``inspect``. Nothing of it runs meanwhile; once
        approved it goes on without asking this plugin again.
        """
        return Verdict(HOLD, reason, code)
