"""Terms that a model should prefer: names and rare words. Without torch."""

from dataclasses import dataclass
from pathlib import Path

from nightscribe.options import check_options, option


@dataclass(frozen=True, slots=True)
class Terms:
    """What decoding should prefer, and by how much; travels to the workers."""

    texts: tuple[str, ...]
    strength: float
    are_in_clips: bool = False  # whether clips may bring terms of their own

    def check_passes(self, frames_per_pass: int | None) -> None:
        """Refuse terms where several frames make one pass: their drafts know no terms."""
        if (frames_per_pass or 1) > 1:
            raise ValueError(
                f"terms need engine.frames_per_pass=1, not {frames_per_pass}; set it, or leave the "
                "terms out"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class TermsConfig:
    """Names and rare words that probably occur in the recordings."""

    file: str | None = option(
        None, "text file with a term on each line, written as in a transcript", common=True
    )
    strength: float = option(
        1.0,
        "added to the logit of a piece that begins or continues a term; higher finds more terms "
        "and inserts more of them where they were not spoken",
        minimum=0,
    )

    def __post_init__(self) -> None:
        check_options(self, "terms")

    def read(self) -> Terms | None:
        """The terms of the file, each once; None without a file."""
        if self.file is None:
            return None
        try:
            lines = Path(self.file).read_text("utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise ValueError(f"terms.file {self.file} is not in UTF-8; save it as UTF-8") from None
        except OSError as error:
            raise ValueError(f"terms.file {self.file} cannot be read: {error.strerror}") from None
        terms = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
        if not terms:
            raise ValueError(f"terms.file {self.file} has no terms; write one on each line")
        return Terms(terms, self.strength)
