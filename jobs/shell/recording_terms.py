"""Terms that a manifest names for single recordings: checked before anything is started."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from nightscribe.model.terms_config import Terms, TermsConfig
from nightscribe.model.tokenizer import Tokenizer
from nightscribe.records import Recording


@dataclass(slots=True)
class RecordingTerms:
    """Whether any recording has terms."""

    tokenizer: Tokenizer
    are_there: bool = False

    def checked(self, found: Iterable[Recording]) -> Iterator[Recording]:
        """The same recordings; ValueError for terms that the model cannot prefer."""
        from nightscribe.transcription.transcriber import term_edges

        for recording in found:
            if recording.terms:
                self.are_there = True
                try:
                    term_edges(recording.terms, self.tokenizer)
                except ValueError as error:
                    raise ValueError(f"{recording.path}: {error}") from None
            yield recording

    def with_those_of_the_run(self, config: TermsConfig) -> Terms | None:
        terms = config.read()
        if not self.are_there:
            return terms
        return replace(terms or Terms((), config.strength), are_in_clips=True)
