"""Sound as the speaker networks want it: 16 kHz, and log mel features of 25 ms every 10 ms.

The features are those of Kaldi with 80 bins and without dither, less their mean over time.

N samples, T frames, M samples of a frame, F mel bins, P phases.
"""

from functools import cache
from math import ceil, gcd

import torch
import torch.nn.functional as F
from torch import Tensor

SAMPLE_RATE_HZ = 16_000
FULL_SCALE = 32768.0

FRAME_LENGTH = 400
FRAME_STEP = 160
FRAME_STEP_S = FRAME_STEP / SAMPLE_RATE_HZ
FFT_LENGTH = 512
NUM_BINS = 80
LOWEST_HZ = 20.0
PREEMPHASIS = 0.97
WINDOW_POWER = 0.85  # of a Hann window: Kaldi calls the result povey
LOG_FLOOR = torch.finfo(torch.float32).eps

# Zero crossings of the resampling filter on each side, and the share of the lower Nyquist
# frequency that it keeps.
ZERO_CROSSINGS = 16
KEPT_SHARE = 0.95


def num_frames(num_samples: int) -> int:
    """How many whole frames lie in that many samples."""
    return max(0, 1 + (num_samples - FRAME_LENGTH) // FRAME_STEP)


def log_mel(samples_N: Tensor) -> Tensor:
    """Features of at least one frame of samples between -1 and 1; the mean is still in them."""
    return log_mel_of(frames_of(samples_N))


def frames_of(samples_N: Tensor) -> Tensor:
    """The samples of each frame; a view."""
    return samples_N.unfold(0, FRAME_LENGTH, FRAME_STEP)


def log_mel_of(frames_TM: Tensor) -> Tensor:
    """The features of any frames, each of them for itself."""
    frames_TM = frames_TM - frames_TM.mean(dim=1, keepdim=True)
    before_TM = torch.cat([frames_TM[:, :1], frames_TM[:, :-1]], dim=1)
    shaped_TM = (frames_TM - PREEMPHASIS * before_TM) * _window().to(frames_TM.device)
    power_TM = torch.fft.rfft(shaped_TM, FFT_LENGTH).abs().square()
    mel_TF = power_TM @ _mel_bank().to(frames_TM.device)
    return mel_TF.clamp(min=LOG_FLOOR).log()


@cache
def _window() -> Tensor:
    return torch.hann_window(FRAME_LENGTH, periodic=False).pow(WINDOW_POWER)


@cache
def _mel_bank() -> Tensor:
    """Triangles of equal width in mels from the lowest frequency to half of the sample rate."""
    edges = torch.linspace(
        _mel(torch.tensor(LOWEST_HZ)).item(),
        _mel(torch.tensor(SAMPLE_RATE_HZ / 2)).item(),
        NUM_BINS + 2,
        dtype=torch.float64,
    )
    bins_M1 = _mel(torch.arange(FFT_LENGTH // 2 + 1) * (SAMPLE_RATE_HZ / FFT_LENGTH))[:, None]
    left_F, centre_F, right_F = edges[:-2], edges[1:-1], edges[2:]
    rising_MF = (bins_M1 - left_F) / (centre_F - left_F)
    falling_MF = (right_F - bins_M1) / (right_F - centre_F)
    bank_MF = torch.minimum(rising_MF, falling_MF).clamp(min=0)
    bank_MF[-1] = 0  # Kaldi leaves the highest bin out
    return bank_MF.float()


def _mel(frequency_hz: Tensor) -> Tensor:
    return 1127.0 * (1 + frequency_hz.double() / 700).log()


def at_16_khz(samples_N: Tensor, sample_rate_hz: int) -> Tensor:
    """int16 samples of any rate as samples between -1 and 1 at 16 kHz."""
    samples_N = samples_N.float() / FULL_SCALE
    if sample_rate_hz == SAMPLE_RATE_HZ:
        return samples_N
    divisor = gcd(sample_rate_hz, SAMPLE_RATE_HZ)
    step, num_phases = sample_rate_hz // divisor, SAMPLE_RATE_HZ // divisor
    kernels_P1M, reach = _resampling_kernels(step, num_phases)
    padded_N = F.pad(samples_N, (reach, reach + step))
    phases_PN = F.conv1d(padded_N[None], kernels_P1M.to(samples_N.device), stride=step)
    num_resampled = ceil(len(samples_N) * num_phases / step)
    return phases_PN.T.flatten()[:num_resampled]


@cache
def _resampling_kernels(step: int, num_phases: int) -> tuple[Tensor, int]:
    """A windowed sinc for each phase of the output, and its reach in samples of the input."""
    cutoff = KEPT_SHARE * min(1.0, num_phases / step)  # of the Nyquist frequency of the input
    reach = ceil(ZERO_CROSSINGS / cutoff)
    offsets_M = torch.arange(-reach, reach + step, dtype=torch.float64)
    phases_P1 = torch.arange(num_phases, dtype=torch.float64)[:, None] * step / num_phases
    times_PM = offsets_M - phases_P1
    window_PM = (torch.pi * times_PM / (2 * reach)).cos().square() * (times_PM.abs() < reach)
    kernels_PM = torch.sinc(cutoff * times_PM) * cutoff * window_PM
    return kernels_PM.float()[:, None], reach
