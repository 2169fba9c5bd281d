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
        self.num_past = (kernel_size - 1) * dilation + 1 - stride

    def forward(self, x_BIN: Tensor, past_BIP: Tensor | None = None) -> Tensor:
        """Hear a whole number of strides: a stream's beginning, or what follows `past_BIP`.

        The past is updated in place.
        """
        if past_BIP is None:
            return self.conv(F.pad(x_BIN, (self.num_past, 0)))
        heard_BIN = torch.cat((past_BIP, x_BIN), dim=-1)
        past_BIP.copy_(heard_BIN[..., heard_BIN.shape[-1] - self.num_past :])
        return self.conv(heard_BIN)

    def silence(self, num_rows: int) -> Tensor:
        """The past of streams that have heard nothing."""
        return self.conv.weight.new_zeros(num_rows, self.conv.in_channels, self.num_past)
