"""Write down what the reference says about the golden inputs: python -m tests.goldens.make"""

from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.goldens.inputs import LANGUAGE_MODEL, MIMI, samples, weight
from tests.model.reference import native, random_moshi_language_model, random_moshi_mimi

GOLDEN = Path(__file__).with_name("moshi.safetensors")


def golden_moshi():
    """The reference's models with the golden weights."""
    mimi = random_moshi_mimi(MIMI, seed=0)
    language_model = random_moshi_language_model(LANGUAGE_MODEL, seed=0)
    for model in (mimi, language_model):
        for name, tensor in native(model.state_dict()):
            if tensor.is_floating_point() and not name.endswith("_initialized"):
                tensor.copy_(weight(name, tuple(tensor.shape)))
    for codebook in (m for m in mimi.modules() if hasattr(m, "embedding_sum")):
        codebook._embedding = None
    return mimi, language_model


@torch.no_grad()
def hear() -> dict[str, torch.Tensor]:
    mimi, language_model = golden_moshi()
    samples_BN = torch.from_numpy(samples()).float() / 32768
    with mimi.streaming(1):
        frames = samples_BN[:, None].split(MIMI.frame_samples, dim=-1)
        latents, codes = [], []
        for frame in frames:
            latents.append(mimi.encode_to_latent(frame, quantize=False))
            codes.append(mimi.quantizer.encode(latents[-1]))
    codes_BFK = torch.cat(codes, dim=-1).mT
    start_BK = torch.full_like(codes_BFK[:, :1], LANGUAGE_MODEL.audio_card)
    said = _say(language_model, torch.cat((start_BK, codes_BFK), dim=1))
    return {"latents_BFD": torch.cat(latents, dim=-1).mT, "codes_BFK": codes_BFK.short()} | said


def _say(language_model, codes_BTK: torch.Tensor) -> dict[str, torch.Tensor]:
    text_B1 = torch.full((1, 1), LANGUAGE_MODEL.text_start_id)
    logits, extra = [], []
    with language_model.streaming(1):
        for codes_BK in codes_BTK.unbind(1):
            inputs_BK1 = torch.cat((text_B1, codes_BK), dim=-1)[..., None]
            hidden_B1D, logits_B11V = language_model.forward_text(inputs_BK1)
            text_B1 = logits_B11V[:, 0, 0].argmax(-1, keepdim=True)
            logits.append(logits_B11V[:, 0, 0])
            heads = [head(hidden_B1D).softmax(-1) for head in language_model.extra_heads]
            extra.append(torch.cat(heads, dim=1))
    logits_BTV = torch.stack(logits, dim=1)
    tokens_BT = logits_BTV.argmax(-1).short()
    return {
        "logits_BTV": logits_BTV,
        "tokens_BT": tokens_BT,
        "extra_BTHA": torch.stack(extra, dim=1),
    }


if __name__ == "__main__":
    save_file({name: tensor.contiguous() for name, tensor in hear().items()}, GOLDEN)
