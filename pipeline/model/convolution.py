"""A causal convolution whose past is an argument.

B rows, I input channels, O output channels, N input columns, P columns of the past.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CausalConv1d(nn.Module):
    """Each output ends where the input columns it has read end; before a stream is silence."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv1d(
            in_channels, out_channels, kernel_size, stride, dilation=dilation, bias=bias
        )
        self.in_channels = in_channels
        self.num_past = (kernel_size - 1) * dilation + 1 - stride

    def forward(self, x_BIN: Tensor, past_BIP: Tensor | None = None) -> Tensor:
        """Hear a whole number of strides: a stream's beginning, or what follows `past_BIP`.

        The past is updated in place.
        """
        if past_BIP is None:
            return self.conv(F.pad(x_BIN, (self.num_past, 0)))
        heard_BIN = _joined(past_BIP, x_BIN)
        past_BIP.copy_(heard_BIN[..., heard_BIN.shape[-1] - self.num_past :])
        return self.conv(heard_BIN)

    def silence(self, num_rows: int, device: torch.device) -> Tensor:
        """The past of streams that have heard nothing."""
        return torch.zeros(num_rows, self.in_channels, self.num_past, device=device)


def _joined(past_BIP: Tensor, x_BIN: Tensor) -> Tensor:
    """The past and what follows it, in memory as `x_BIN` is: channel by channel or together."""
    if x_BIN.is_contiguous():
        return torch.cat((past_BIP, x_BIN), dim=-1)
    return torch.cat((past_BIP.mT, x_BIN.mT), dim=1).mT
