"""A model small enough to be trained within a test, and speech that it can update: beeps."""

import numpy as np
import sentencepiece
import torch
from sentencepiece.sentencepiece_model_pb2 import ModelProto  # type: ignore[attr-defined]

from nightscribe.model.config import LanguageModelConfig, MimiConfig, SpeechToTextConfig
from nightscribe.model.language_model import LanguageModel
from nightscribe.model.mimi import Mimi
from nightscribe.model.speech_to_text import SpeechToText
from nightscribe.training.targets import TimedTokens
from nightscribe.training.windows import Utterance

RATE_HZ = 24000
WORDS = ("low", "high")
PITCHES_HZ = (150, 5000)
FIRST_WORD_ID = 4

MIMI = MimiConfig(
    sample_rate_hz=RATE_HZ,
    frame_rate_hz=12.5,
    num_filters=2,
    encoder_ratios=(4, 5, 6, 8),
    kernel_size=7,
    residual_kernel_size=3,
    last_kernel_size=3,
    num_residual_layers=1,
    dilation_base=2,
    compress=2,
    seanet_dim=16,
    dim=16,
    num_heads=2,
    num_layers=1,
    ffn_dim=32,
    context=20,
    rope_max_period=10000.0,
    norm_eps=1e-5,
    codebook_dim=8,
    codebook_size=16,
    num_codebooks=3,
)
LANGUAGE_MODEL = LanguageModelConfig(
    dim=32,
    num_heads=2,
    num_layers=2,
    ffn_dim=64,
    context=30,
    rope_max_period=10000.0,
    norm_eps=1e-8,
    num_codebooks=3,
    audio_card=16,
    text_card=34,
    text_start_id=34,
    num_text_rows=35,
    num_vad_heads=4,
    vad_head_dim=6,
)
CONFIG = SpeechToTextConfig(
    mimi=MIMI, language_model=LANGUAGE_MODEL, delay_s=0.24, silence_prefix_s=0.0
)


def small_model() -> SpeechToText:
    """Random weights, the same each time; the codec tells loud low and high beeps apart."""
    torch.manual_seed(1)
    mimi = Mimi(MIMI).eval().requires_grad_(False)
    for name, parameter in mimi.named_parameters():
        if "bias" not in name and parameter.dim() > 1:
            parameter.mul_(3)
    _spread_codebooks(mimi)
    return SpeechToText(CONFIG, mimi, LanguageModel(LANGUAGE_MODEL))


def _spread_codebooks(mimi: Mimi) -> None:
    """Put the codebooks' entries where sounds are."""
    sound = np.concatenate([beep(hz, 0.4) for hz in (*PITCHES_HZ, 0, *PITCHES_HZ)])
    latents_FD = mimi(torch.from_numpy(sound[: len(sound) // 1920 * 1920])[None])[0]
    for codebooks in (mimi.quantizer.semantic, mimi.quantizer.acoustic):
        rest_FW = codebooks.project_in(latents_FD)
        for level in range(len(codebooks.codebooks_KVW)):
            entries = torch.linspace(0, len(rest_FW) - 1, MIMI.codebook_size).long()
            codebooks.codebooks_KVW[level] = rest_FW[entries]
            nearest = torch.cdist(rest_FW, codebooks.codebooks_KVW[level]).argmin(dim=1)
            rest_FW = rest_FW - codebooks.codebooks_KVW[level][nearest]
        codebooks.settle()


def beep(pitch_hz: float, duration_s: float) -> np.ndarray:
    seconds_N = np.arange(int(duration_s * RATE_HZ)) / RATE_HZ
    return (0.5 * np.sin(2 * np.pi * pitch_hz * seconds_N)).astype(np.float32)


def spoken(words: list[str]) -> Utterance:
    """Each word a beep of its own pitch, 0.24 s long, with 0.24 s of silence before each."""
    sounds, timed = [], []
    for index, word in enumerate(words):
        kind = WORDS.index(word)
        sounds += [beep(0, 0.24), beep(PITCHES_HZ[kind], 0.24)]
        start_s = 0.48 * index + 0.24
        timed.append(TimedTokens((FIRST_WORD_ID + kind,), start_s, start_s + 0.24))
    return Utterance(np.concatenate([*sounds, beep(0, 0.24)]), tuple(timed))


def tokenizer_model() -> bytes:
    """The two words as pieces, and letters for all others."""
    proto = ModelProto()
    kinds = ModelProto.SentencePiece.Type
    specials = [("<unk>", kinds.UNKNOWN), ("<s>", kinds.CONTROL), ("</s>", kinds.CONTROL)]
    for piece, kind in (*specials, ("<pad>", kinds.CONTROL)):
        proto.pieces.add(piece=piece, score=0.0, type=kind)
    for word in WORDS:
        proto.pieces.add(piece=f"\u2581{word}", score=-1.0)
    for letter in "\u2581abcdefghijklmnopqrstuvwxyz'":
        proto.pieces.add(piece=letter, score=-10.0)
    proto.trainer_spec.model_type = proto.trainer_spec.ModelType.UNIGRAM
    proto.trainer_spec.unk_id, proto.trainer_spec.pad_id = 0, 3
    proto.normalizer_spec.add_dummy_prefix = True
    proto.normalizer_spec.remove_extra_whitespaces = True
    proto.normalizer_spec.escape_whitespaces = True
    return proto.SerializeToString()


def tokenizer(model: bytes) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_proto=model)
