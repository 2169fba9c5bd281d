"""One writer at a time: a lease that its holder renews and that expires when the holder dies.

Every lease has a number, one higher than the last, and is claimed by writing a file of that name
if it is absent: of two that claim the same number one wins, and the highest number is valid. No
clocks are compared: a holder is dead if its lease did not change for its whole life while the next
process watched, or at once if it was a process of the same machine that no longer exists.
"""

import json
import logging
import os
import re
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from types import TracebackType
from typing import Any

from nightscribe.errors import NightscribeError
from nightscribe.options import check_options, option
from nightscribe.storage.damage import read_json
from nightscribe.storage.errors import StorageError
from nightscribe.storage.store import Store

FOLDER = "_run/lease"
CLAIM = re.compile(rf"{FOLDER}/(\d+)\.json")
# Renewals within the life of a lease, so that a few lost requests do not end it.
RENEWALS_PER_LIFE = 4
# A second run sees within this time that the first one is alive.
MAX_INTERVAL_S = 5.0
CHECKS_PER_RENEWAL = 2
# The holder stops before another run may start.
SAFE_SHARE = 0.75
# In /proc/PID/stat, counted after the name.
STARTED_FIELD = 19
GONE_STATES = "ZX"

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaseConfig:
    """How soon another run may take over from one that died."""

    life_s: float = option(
        60.0, "a run that has not renewed its lease for this long counts as dead", above=0
    )

    def __post_init__(self) -> None:
        check_options(self, "lease")


class LeaseHeldError(NightscribeError):
    """Another run is writing to the same output."""


class LeaseLostError(NightscribeError):
    """This run could not renew its lease, and another one may have taken over."""

    fault = "environment"


class Lease:
    """`with take(store, config) as lease:`; call `check` before every write to the tables."""

    def __init__(self, store: Store, number: int, life_s: float) -> None:
        self._store, self._number, self._life_s = store, number, life_s
        self._claim = {
            "holder": _holder(),
            "token": token_hex(8),
            "life_s": life_s,
            "process": this_process(),
        }
        self._num_renewals = 0
        self._renewed_at_s = _boot_clock_s()
        self._is_lost = False
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="lease", daemon=True)

    def check(self) -> None:
        """Raise LeaseLostError if another run may be writing."""
        silent_s = _boot_clock_s() - self._renewed_at_s
        # A machine that was suspended does not know for how long; the store shows it.
        self._is_lost = self._is_lost or _latest(self._store) != self._number
        if self._is_lost or silent_s > SAFE_SHARE * self._life_s:
            raise LeaseLostError(
                f"{self._store.uri('')}: this run could not renew its lease for {silent_s:.0f} s "
                "and another run may write now; run the same command to resume"
            )

    def __enter__(self) -> "Lease":
        self._heart.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release the lease, so that the next run can start at once."""
        self._ended.set()
        self._heart.join()
        if self._is_lost:
            return
        try:
            self._store.write(_key(self._number), self._claimed(is_released=True))
        except StorageError as failed:
            # The error that ended the run matters more; the next run only has to wait.
            log.warning("the lease could not be released: %s", failed)

    def claim(self) -> bool:
        """Try to become the holder; whether this succeeded."""
        started_at_s = _boot_clock_s()
        if not self._store.write_if_absent(_key(self._number), self._claimed()):
            return False
        # After a sleep between reading and claiming, the number may be an old one.
        if _latest(self._store) != self._number:
            self._store.delete(_key(self._number))
            return False
        self._renewed_at_s = started_at_s
        for number in _numbers(self._store):
            if number < self._number:
                self._store.delete(_key(number))
        return True

    def renew(self) -> None:
        """Renew the lease, unless another run has taken over."""
        started_at_s = _boot_clock_s()
        if _latest(self._store) != self._number:
            self._is_lost = True
            return
        self._num_renewals += 1
        self._store.write(_key(self._number), self._claimed())
        self._renewed_at_s = started_at_s

    def _beat(self) -> None:
        while not self._is_lost and not self._ended.wait(_interval_s(self._life_s)):
            try:
                self.renew()
            except StorageError as error:
                log.warning("the lease could not be renewed: %s", error)

    def _claimed(self, is_released: bool = False) -> bytes:
        state = {"num_renewals": self._num_renewals, "is_released": is_released}
        return json.dumps(self._claim | state).encode()


def take(store: Store, config: LeaseConfig) -> Lease:
    """Become the only writer to this output, unless another one is alive."""
    latest = _latest(store)
    if latest is not None:
        _refuse_if_alive(store, latest)
    lease = Lease(store, (latest or 0) + 1, config.life_s)
    if not lease.claim():
        raise LeaseHeldError(f"{store.uri('')}: another run has just started to write here")
    return lease


def _refuse_if_alive(store: Store, number: int) -> None:
    """Return once the holder has released, its process is gone, or its lease has expired."""
    claim, silent_since_s = _read_claim(store, number), _boot_clock_s()
    if not _is_over(claim):
        log.warning(
            "%s: %s wrote here; waiting up to %.0f s to see whether it is alive",
            *(store.uri(""), claim["holder"], claim["life_s"]),
        )
    while not _is_over(claim) and _boot_clock_s() - silent_since_s < claim["life_s"]:
        time.sleep(_interval_s(claim["life_s"]) / CHECKS_PER_RENEWAL)
        before, claim = claim, _read_claim(store, number)
        if claim != before and not claim["is_released"]:
            raise LeaseHeldError(f"{store.uri('')}: {claim['holder']} is writing here")


def _read_claim(store: Store, number: int) -> dict[str, Any]:
    try:
        return read_json(store, _key(number))
    except StorageError as error:
        if error.reason != "not_found":
            raise
        raise LeaseHeldError(
            f"{store.uri('')}: another run has just started to write here"
        ) from None


def _is_over(claim: dict[str, Any]) -> bool:
    """Whether the holder has released it, or was a process of this machine that is gone."""
    there, here = claim.get("process"), this_process()
    if claim["is_released"]:
        return True
    if there is None or here is None or there["machine"] != here["machine"]:
        return False
    return _started(there["pid"]) != there["started"]


def _numbers(store: Store) -> list[int]:
    """Of all leases; there may be other files, such as those that NFS leaves after a removal."""
    found = (CLAIM.fullmatch(entry.key) for entry in store.entries(f"{FOLDER}/"))
    return [int(claim[1]) for claim in found if claim]


def _latest(store: Store) -> int | None:
    return max(_numbers(store), default=None)


def _key(number: int) -> str:
    return f"{FOLDER}/{number:08d}.json"


def _interval_s(life_s: float) -> float:
    """The time between two renewals."""
    return min(life_s / RENEWALS_PER_LIFE, MAX_INTERVAL_S)


def _holder() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def this_process() -> dict[str, Any] | None:
    """What identifies this process among all machines; None where the system does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        machine = f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None
    return {"machine": machine, "pid": os.getpid(), "started": _started(os.getpid())}


def _started(pid: int) -> str | None:
    """The start time of a process, which differs from that of a later one with the same pid."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if status[0] in GONE_STATES else status[STARTED_FIELD]


def _boot_clock_s() -> float:
    """Seconds of a clock that runs on while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
