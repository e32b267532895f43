"""How an import ended: a stable code for programs, a sentence for people.

The codes are told in the task and in the image beside the sentence, and stay
what they are: a program may decide by them whether to try again. The API page
prints this table.
"""

from __future__ import annotations

import dataclasses

from taskflow import exceptions as taskflow_exc

from glance_import import errors
from glance_import.stores import base as stores

INTERNAL = 'internal'
CODES: dict[str, str] = {
    'cancelled': 'somebody asked for its end',
    'data.changed': 'the data is not what its size or digests say',
    'failed': 'a step failed for a reason that has no code of its own',
    'image.gone': 'the image was deleted, or has another status by now',
    INTERNAL: 'a fault of the service, to be found in its log',
    'lost.conductor': 'each process that ran it died',
    'lost.record': 'its entry in the database cannot be read',
    'lost.token': 'the token that the import needs is not known any more',
    'plugin.failed': 'a plugin failed or gave no answer that counts',
    'plugin.forbidden': "a plugin tried what is not a plugin's to do",
    'refused.digest': 'the data does not have the digest that was promised',
    'refused.format': 'the content is not safe, or not what it is said to be',
    'refused.plugin': 'a plugin refused the image',
    'refused.signature': 'the signature is not one of the data',
    'refused.size': 'a limit of size or a quota does not let it in',
    'source.failed': 'the other server gave no such data',
    'source.unreachable': 'the other server does not answer',
    'staging.full': 'there is no room in the staging area',
    'staging.lost': 'the staged data is not there any more',
    'store.failed': 'a store failed in another way',
    'store.full': 'there is no room in the store',
    'store.unknown': 'the store is not configured here',
    'store.unreachable': 'the store does not answer',
    'store.unwritable': 'the store cannot be written',
    'unavailable': 'something the service needs is away',
    'unhonoured': 'nobody could run it by the plugins it was asked for with',
}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Why an import ended without success.

    :ivar code: a row of ``CODES``
    :ivar reason: one plain sentence
    :ivar said_by: the plugin that said so, None for the service
    :ivar stores: ids of the stores at fault, where it was stores
    """

    code: str
    reason: str
    said_by: str | None = None
    stores: tuple[str, ...] = ()

    def __str__(self) -> str:
        return (f'plugin {self.said_by}: {self.reason}' if self.said_by
                else self.reason)


CANCELLED = Outcome('cancelled', 'the import was cancelled')


class PluginFailed(errors.ImportFailed):
    """A plugin did not do what a plugin must, or refused the image.

    :ivar plugin: its name; None where the text names it
    """

    code = 'plugin.failed'

    def __init__(self, plugin: str | None, reason: str) -> None:
        super().__init__(reason)
        self.plugin = plugin

    def sentence(self, _reference: str | None) -> str:
        """What the user reads.

        :param _reference: what the log has it by
        """
        return str(self)


def of(failure: BaseException, *, plugin: str | None, reference: str | None
       ) -> Outcome:
    """What the failure of a step, or of making the flow, comes to.

    :param plugin: whose step it was, None for the service's own
    :param reference: what the log has it by
    """
    if isinstance(failure, PluginFailed):
        return Outcome(failure.code, failure.sentence(reference),
                       failure.plugin)
    if plugin is not None:
        code, text = 'plugin.failed', describe(failure)
        if isinstance(failure, errors.DomainError):
            text = str(failure)
            if failure.code != errors.DomainError.code:
                code = failure.code
        return Outcome(code, f'{text} (reference {reference})', plugin)
    if isinstance(failure, (errors.DomainError, stores.StoreError)):
        return Outcome(failure.code, str(failure),
                       stores=tuple(getattr(failure, 'failed', ())))
    return internal(type(failure).__name__, reference)


def internal(kind: str | None, reference: str | None) -> Outcome:
    """A fault of ours: its kind, and where the operator finds it."""
    return Outcome(INTERNAL, 'an internal error of the service ('
                   + (f'{kind}, ' if kind else '')
                   + f'reference {reference})')


def of_wiring(failure: BaseException, owners: dict[str, str],
              reference: str | None) -> Outcome | None:
    """taskflow's complaint about a plugin's tasks, if this is one.

    (A value that nobody provides, say; taskflow names the task.)
    """
    if isinstance(failure, (taskflow_exc.DependencyFailure,
                            taskflow_exc.Duplicate)):
        text = str(failure)
        for task, plugin in owners.items():
            if task in text:
                return Outcome(
                    'plugin.failed',
                    f'{describe(failure)} (reference {reference})', plugin)
    return None


def describe(failure: BaseException) -> str:
    """An exception as a phrase: its kind, and its first line, bounded."""
    text = ' '.join(str(failure).split())[:300]
    kind = type(failure).__name__
    return f'{kind}: {text}' if text else kind
