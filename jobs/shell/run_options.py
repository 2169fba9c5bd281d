"""What a command asks of a run: which failures to retry, and what to transcribe anew."""

from dataclasses import dataclass

from nightscribe.options import check_options, option
from nightscribe.storage.failure_retry import RETRIES
from nightscribe.storage.plan_changes import Revision


@dataclass(frozen=True, kw_only=True, slots=True)
class FailuresConfig:
    """What counts as a success."""

    max: int | None = option(
        None, "exit with code 1 if more recordings than this failed; null: never", common=True
    )
    retry: str = option(
        "passing",
        "which failures of earlier attempts to retry: passing (storage, engine, killed "
        "process), all or none",
        choices=RETRIES,
        common=True,
    )

    def __post_init__(self) -> None:
        check_options(self, "failures")


@dataclass(frozen=True, kw_only=True, slots=True)
class ReviseConfig:
    """Whether to transcribe anew what is there."""

    on: bool = option(
        False,
        "transcribe anew what is there, with other settings, as a new revision",
        common=True,
    )
    where: str | None = option(
        None,
        "only the transcripts for which this holds, as in \"status != 'ok' or confidence < 0.8\"",
        common=True,
    )

    def __post_init__(self) -> None:
        if self.where is not None and not self.on:
            raise ValueError("revise.where chooses what to transcribe anew: add revise=true")
        if self.where is not None:
            Revision(self.where)

    @property
    def revision(self) -> Revision | None:
        """What to transcribe anew; None: nothing."""
        return Revision(self.where) if self.on else None
