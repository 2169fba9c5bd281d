"""What a whole text is conditioned on: values such as the guidance scale, and voices.

D width of the backbone, T vectors of a voice, C = 5 x T positions of a cross-attention source,
W width of a voice vector.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from nightscribe.errors import NightscribeError
from nightscribe.model.native_tensors import NativeTensor, whole
from nightscribe.model.tts.config import (
    MAX_SPEAKERS,
    LookupCondition,
    SpeakerCondition,
    TextToSpeechConfig,
)

MAX_POSITION_PERIOD = 10_000.0


class ConditionError(NightscribeError):
    """A condition that the model does not have."""


class Lookup(nn.Module):
    """A learned vector for each value, and one for no value."""

    def __init__(self, condition: LookupCondition, dim: int) -> None:
        super().__init__()
        self.condition = condition
        self.table = nn.Embedding(condition.num_rows + 1, condition.dim)
        self.project_out = nn.Linear(condition.dim, dim, bias=False)
        self.no_value_D = nn.Parameter(torch.zeros(dim))

    def forward(self, value: str | None) -> Tensor:
        if value is None:
            return self.no_value_D
        values = self.condition.values
        if value not in values:
            raise ConditionError(
                f"{self.condition.name} must be one of {', '.join(values)}, not {value}"
            )
        return self.project_out(self.table.weight[values.index(value)])

    def native_tensors(self, prefix: str) -> Iterator[tuple[str, NativeTensor]]:
        yield f"{prefix}.embed.weight", whole(self.table.weight)
        yield f"{prefix}.output_proj.weight", whole(self.project_out.weight)
        yield f"{prefix}.learnt_padding", whole(self.no_value_D, 1, 1, len(self.no_value_D))


class Speakers(nn.Module):
    """Voices to a cross-attention source: five speakers, a learned vector where one is absent."""

    def __init__(self, condition: SpeakerCondition, dim: int) -> None:
        super().__init__()
        self.condition = condition
        self.project_out = nn.Linear(condition.dim, dim, bias=False)
        self.no_voice_D = nn.Parameter(torch.zeros(dim))

    def forward(self, voices: Sequence[Tensor], num_vectors: int) -> Tensor:
        """The source CD of some voices, each WT; all have `num_vectors` vectors."""
        device = self.no_voice_D.device
        rows = [self.project_out(voice_WT.to(device).T) for voice_WT in voices[:MAX_SPEAKERS]]
        absent_TD = self.no_voice_D.expand(num_vectors, -1)
        source_CD = torch.cat([*rows, *[absent_TD] * (MAX_SPEAKERS - len(rows))])
        if not self.condition.position_scale:
            return source_CD
        return source_CD + self.condition.position_scale * _position_code(source_CD)

    def native_tensors(self, prefix: str) -> Iterator[tuple[str, NativeTensor]]:
        yield f"{prefix}.output_proj.weight", whole(self.project_out.weight)
        yield f"{prefix}.learnt_padding", whole(self.no_voice_D, 1, 1, len(self.no_voice_D))


def _position_code(source_CD: Tensor) -> Tensor:
    """Cosines, then sines, of each position at periods from 1 to 10,000."""
    num_positions, dim = source_CD.shape
    half = torch.arange(dim // 2, device=source_CD.device)
    positions_C1 = torch.arange(num_positions, device=source_CD.device)[:, None]
    angles = positions_C1 / MAX_POSITION_PERIOD ** (half / (dim // 2 - 1))
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


class Conditions(nn.Module):
    """All conditions of a model, in fp32."""

    def __init__(self, config: TextToSpeechConfig) -> None:
        super().__init__()
        self.dim = config.dim
        lookups = {lookup.name: Lookup(lookup, config.dim) for lookup in config.lookups}
        self.lookups = nn.ModuleDict(lookups)
        self.speakers = None if config.speakers is None else Speakers(config.speakers, config.dim)

    def added(self, values: Mapping[str, str | None]) -> Tensor:
        """The sum of the looked-up vectors, which is added to every input of a text."""
        sum_D = self._device_of().new_zeros(self.dim)
        for name, lookup in self.lookups.items():
            sum_D = sum_D + lookup(values.get(name))
        return sum_D

    def _device_of(self) -> Tensor:
        return next(self.parameters(), torch.zeros(0))

    def native_tensors(self) -> Iterator[tuple[str, NativeTensor]]:
        prefix = "condition_provider.conditioners"
        for name, lookup in self.lookups.items():
            assert isinstance(lookup, Lookup)
            yield from lookup.native_tensors(f"{prefix}.{name}")
        if self.speakers is not None:
            name = self.speakers.condition.name
            yield from self.speakers.native_tensors(f"{prefix}.{name}")


def guidance_value(scale: float) -> str:
    """How a guidance scale is written as the value of a condition; never as that of another."""
    written = f"{scale:.1f}"
    return written if float(written) == scale else str(scale)
