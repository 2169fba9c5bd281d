"""Tells people how a night ended, through apprise: mail, chat, pagers, webhooks.

The addresses hold passwords. They come from the environment alone and are in no configuration, log
or message of ours.
"""

import logging
import os
from collections.abc import Mapping

from nightscribe.jobs.shell.command import extras_named
from nightscribe.jobs.shell.night_log import describe_receipt
from nightscribe.storage.nights import NightReceipt

VARIABLE = "NIGHTSCRIBE_NOTIFY"

log = logging.getLogger(__name__)


def check_notifications(command: str, environment: Mapping[str, str] = os.environ) -> None:
    """Say at the beginning, not at the end of a night, that a message could not be sent."""
    if not environment.get(VARIABLE):
        return
    with extras_named(command):
        import apprise
    for number, address in enumerate(environment[VARIABLE].split(), start=1):
        if apprise.Apprise.instantiate(address, suppress_exceptions=True) is None:
            raise ValueError(f"{VARIABLE}: address {number} is not one that apprise can read")


def notify_end(output: str, receipt: NightReceipt) -> None:
    """The night is finished, or stopped by a person or a limit."""
    why = f", because {receipt.stopped_by}" if receipt.stopped_by else ""
    lines = [
        f"{receipt.num_done:,} of {receipt.num_recordings:,} recordings are done, "
        f"{receipt.num_transcripts:,} transcripts are new, {receipt.num_failures:,} failed",
        *describe_receipt(receipt),
    ]
    notify(f"nightscribe {receipt.state}{why}: {output}", "\n".join(lines))


def notify_failure(output: str, error: BaseException) -> None:
    """The night broke: a stall, a lost cluster, a full disk."""
    notify(
        f"nightscribe failed: {output}",
        f"{' '.join(str(error).split())}\nRun the same command to resume.",
    )


def notify(title: str, body: str, environment: Mapping[str, str] = os.environ) -> None:
    """Send a message to every address; one that does not arrive ends no run."""
    addresses = environment.get(VARIABLE, "").split()
    if not addresses:
        return
    import apprise

    for number, address in enumerate(addresses, start=1):
        sender = apprise.Apprise()
        sender.add(address)
        if not sender.notify(title=title, body=body):
            log.warning("%s: the message to address %d was not accepted", VARIABLE, number)
