"""Checkpoints of text-to-speech models, in the native layout that they are published in."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nightscribe.model.checkpoints import native_config
from nightscribe.model.checkpoints.locations import Location, Repository, fetch, locate
from nightscribe.model.checkpoints.native import mimi_config_of, native_name, take_dequantized
from nightscribe.model.checkpoints.open import CONFIG, fingerprint
from nightscribe.model.checkpoints.settings import CheckpointError, Settings
from nightscribe.model.checkpoints.stored_tensors import Read, StoredTensors
from nightscribe.model.checkpoints.weight_files import open_weights
from nightscribe.model.config import MimiConfig
from nightscribe.model.mimi import Mimi
from nightscribe.model.mimi_decoder import MimiDecoder
from nightscribe.model.native_tensors import NativeTensor, without_memory
from nightscribe.model.tokenizer import Tokenizer, open_tokenizer
from nightscribe.model.tts.backbone import Backbone
from nightscribe.model.tts.conditioning import Conditions
from nightscribe.model.tts.config import (
    DepthConfig,
    LookupCondition,
    SpeakerCondition,
    TextToSpeechConfig,
)
from nightscribe.model.tts.depth_transformer import DepthTransformer

MODEL_TYPE = "tts"
VOICE_TENSOR = "speaker_wavs"
_DEPTH_LAYER = re.compile(r"depformer\.layers\.\d+\.self_attn\.")
# A stored projection that the model with a second text stream never uses.
_UNUSED = re.compile(r"depformer_text_emb\.low_rank\.weight")
_UNUSED_CODEC = re.compile(r".*\._initialized$")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechCheckpoint:
    """A model ready to be loaded: its tensors are read one at a time, on demand."""

    name: str
    revision: str
    config: TextToSpeechConfig
    tokenizer: Tokenizer
    model: Mapping[str, Read]
    mimi_decoder: Mapping[str, Read]
    mimi_encoder: Mapping[str, Read]

    def model_tensors(self) -> Iterator[tuple[str, Tensor]]:
        return _tensors(self.model)

    def mimi_decoder_tensors(self) -> Iterator[tuple[str, Tensor]]:
        return _tensors(self.mimi_decoder)

    def mimi_encoder_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Of the encoder, which audio prompts need."""
        return _tensors(self.mimi_encoder)


def open_speech_checkpoint(name: str) -> SpeechCheckpoint:
    """Open a folder or a hub repository; raises CheckpointError with one sentence."""
    location, file_name = locate(name)
    if isinstance(location, Repository):
        location = location.pinned(CONFIG)
    settings = Settings.read(fetch(location, CONFIG))
    if settings.text("model_type", "stt") != MODEL_TYPE:
        raise CheckpointError(f"{name} is not a text-to-speech model: its model_type is not 'tts'")
    weights = file_name or settings.text("moshi_name", "model.safetensors")
    return _open(location, settings, weights)


def _open(location: Location, settings: Settings, weights: str) -> SpeechCheckpoint:
    mimi = mimi_config_of(location, settings)
    config = text_to_speech_config(settings, mimi)
    stored, files = open_weights(location, weights)
    codec, codec_files = open_weights(location, settings.text("mimi_name"))
    decoder, encoder = _codec_reads(codec.renamed(native_name), mimi)
    tokenizer_path = fetch(location, settings.text("tokenizer_name"))
    all_files: tuple[Path, ...] = (*files, *codec_files, tokenizer_path)
    return SpeechCheckpoint(
        name=location.name,
        revision=location.commit or fingerprint(all_files),
        config=config,
        tokenizer=open_tokenizer(tokenizer_path),
        model=_model_reads(stored.renamed(_name), config),
        mimi_decoder=decoder,
        mimi_encoder=encoder,
    )


def _name(name: str) -> str:
    """As in the speech-to-text models, but sets of depth weights keep their numbers."""
    return name if _DEPTH_LAYER.match(name) else native_name(name)


def _model_reads(stored: StoredTensors, config: TextToSpeechConfig) -> dict[str, Read]:
    with without_memory():
        parts = Backbone(config), DepthTransformer(config), Conditions(config)
        places: dict[str, NativeTensor] = {}
        for part in parts:
            places |= dict(part.native_tensors())
    num_sets = config.depth.num_weight_sets
    reads = {
        name: _stacked(stored, name, tuple(place.shape), num_sets) for name, place in places.items()
    }
    stored.refuse_rest(_UNUSED)
    return reads


def _stacked(stored: StoredTensors, name: str, shape: tuple[int, ...], num_sets: int) -> Read:
    """A tensor that may be stored as one, or as a tensor for each set of depth weights."""
    stem = re.sub(r"(in|out)_proj[._]weight$", r"\1_projs", name)
    if not _DEPTH_LAYER.match(name) or f"{stem}.0.weight" not in stored:
        return take_dequantized(stored, name, shape)
    of_set = (shape[0] // num_sets, *shape[1:])
    reads = [take_dequantized(stored, f"{stem}.{i}.weight", of_set) for i in range(num_sets)]
    return lambda: torch.cat([read() for read in reads])


def _codec_reads(
    stored: StoredTensors, config: MimiConfig
) -> tuple[dict[str, Read], dict[str, Read]]:
    with without_memory():
        parts = MimiDecoder(config).native_tensors(), Mimi(config).native_tensors()
    decoder, encoder = (
        {name: take_dequantized(stored, name, tuple(place.shape)) for name, place in part.items()}
        for part in parts
    )
    stored.refuse_rest(_UNUSED_CODEC)
    return decoder, encoder


def text_to_speech_config(settings: Settings, mimi: MimiConfig) -> TextToSpeechConfig:
    """Sizes of the model; refuses what this architecture does not have."""
    _expect_text_to_speech(settings)
    tts, model_id = settings.section("tts_config"), settings.section("model_id")
    num_codebooks, text_card = settings.count("n_q"), settings.count("text_card")
    lookups, speakers = _conditions(settings)
    suffix = ""
    if speakers is not None:
        suffix = f".{model_id.text('sig')}@{model_id.index('epoch')}.safetensors"
    return TextToSpeechConfig(
        mimi=mimi,
        dim=settings.count("dim"),
        num_heads=native_config.num_heads(settings, "dim"),
        num_layers=settings.count("num_layers"),
        ffn_dim=native_config.ffn_dim(settings),
        context=settings.count("context"),
        rope_max_period=settings.positive("max_period"),
        norm_eps=native_config.RMS_NORM_EPS,
        num_codebooks=num_codebooks,
        audio_card=settings.count("card"),
        text_card=text_card,
        text_card_out=settings.count("text_card_out", text_card),
        codebook_delays=_codebook_delays(settings, num_codebooks),
        has_second_stream=settings.flag("demux_second_stream", False),
        words_ahead=tts.index("second_stream_ahead", 0),
        depth=_depth(settings, num_codebooks),
        lookups=lookups,
        speakers=speakers,
        audio_delay_steps=int(tts.positive("audio_delay") * mimi.frame_rate_hz),
        padding_id=settings.index("existing_text_padding_id", 3),
        voice_suffix=suffix,
    )


def _codebook_delays(settings: Settings, num_codebooks: int) -> tuple[int, ...]:
    text_delay, *delays = settings.indices("delays")
    if len(delays) != num_codebooks or text_delay != 0:
        raise settings.wrong("delays", f"0 for the text and {num_codebooks} delays of codebooks")
    return tuple(delays)


def _depth(settings: Settings, num_codebooks: int) -> DepthConfig:
    dim = settings.count("depformer_dim")
    default_ffn = int(settings.positive("hidden_scale") * dim)
    outer = settings.count("depformer_dim_feedforward", default_ffn)
    key = "depformer_weights_per_step_schedule"
    weight_sets = settings.indices(key, tuple(range(num_codebooks)))
    if len(weight_sets) != num_codebooks:
        raise settings.wrong(key, f"a list of {num_codebooks} whole numbers")
    rank_key = "depformer_low_rank_embeddings"
    return DepthConfig(
        dim=dim,
        num_heads=settings.count("depformer_num_heads"),
        num_layers=settings.count("depformer_num_layers"),
        ffn_dim=native_config.gated_dim(outer, dim),
        norm_eps=native_config.RMS_NORM_EPS,
        weight_sets=weight_sets,
        low_rank=settings.count(rank_key) if settings.has(rank_key) else None,
    )


def _conditions(settings: Settings) -> tuple[tuple[LookupCondition, ...], SpeakerCondition | None]:
    conditioners, fuser = settings.section("conditioners"), settings.section("fuser")
    added, attended = fuser.names("sum", ()), fuser.names("cross", ())
    fuser.expect("prepend", [])
    if unknown := {*conditioners.keys()} - {*added, *attended}:
        raise settings.wrong("conditioners", f"conditions of the fuser, which lacks {min(unknown)}")
    if len(attended) > 1:
        raise fuser.wrong("cross", "one condition at most")
    lookups = tuple(_lookup(conditioners.section(name), name) for name in added)
    scale = 0.0
    if fuser.flag("cross_attention_pos_emb", False):
        scale = fuser.positive("cross_attention_pos_emb_scale", 1.0)
    speakers = [_speaker(conditioners.section(name), name, scale) for name in attended]
    return lookups, speakers[0] if speakers else None


def _lookup(settings: Settings, name: str) -> LookupCondition:
    settings.expect("type", "lut")
    table = settings.section("lut")
    table.expect("tokenizer", "noop")
    return LookupCondition(
        name=name,
        num_rows=table.count("n_bins"),
        dim=table.count("dim"),
        values=table.names("possible_values"),
    )


def _speaker(settings: Settings, name: str, position_scale: float) -> SpeakerCondition:
    settings.expect("type", "tensor")
    dim = settings.section("tensor").count("dim")
    return SpeakerCondition(name=name, dim=dim, position_scale=position_scale)


def _expect_text_to_speech(settings: Settings) -> None:
    settings.expect("norm", "rms_norm_f32")
    settings.expect("gating", "silu")
    settings.expect("positional_embedding", "rope")
    settings.expect("causal", True)
    settings.expect("layer_scale", None)
    settings.expect("dep_q", settings.count("n_q"))
    settings.expect("depformer_multi_linear", True)
    settings.expect("depformer_weights_per_step", True)
    settings.expect("depformer_pos_emb", "none")
    settings.expect("depformer_norm", None)
    settings.expect("cross_attention", bool(settings.section("fuser").names("cross", ())))
    settings.expect("lora", False, None)
    settings.expect("quantize", False, None)
    settings.section("tts_config").expect("multistream", False, None)


def read_voice(path: Path, config: TextToSpeechConfig) -> Tensor:
    """The vectors WT of a voice file; raises CheckpointError if it is no voice of this model."""
    if config.speakers is None:
        raise CheckpointError(f"{path}: this model continues a recording and reads no voice files")
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path} is not a voice: voices of this model are safetensors files")
    location, _ = locate(str(path))
    stored, _ = open_weights(location, path.name)
    if stored.names() != [VOICE_TENSOR]:
        raise CheckpointError(f"{path} must hold one tensor, {VOICE_TENSOR!r}")
    voice_1WT = stored.take(VOICE_TENSOR, stored.shape(VOICE_TENSOR)).read()
    check_voice(voice_1WT, config, f"{path}: {VOICE_TENSOR!r}")
    return voice_1WT[0].float()


def check_voice(voice_1WT: Tensor, config: TextToSpeechConfig, name: str) -> None:
    """Raises CheckpointError if these are no vectors of a voice of this model."""
    assert config.speakers is not None
    shape, width = list(voice_1WT.shape), config.speakers.dim
    if len(shape) != 3 or shape[:2] != [1, width] or not shape[2]:
        raise CheckpointError(f"{name} has shape {shape}, not [1, {width}, any]")
    if not voice_1WT.isfinite().all():
        raise CheckpointError(f"{name} has values that are not finite")


def _tensors(reads: Mapping[str, Read]) -> Iterator[tuple[str, Tensor]]:
    return ((name, read()) for name, read in reads.items())
