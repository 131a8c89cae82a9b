"""Modules that users really bring and that fail, each beside the same one with the advice of its message followed.

`message_models.torch_nets` lays this file into a test's folder as ``nets.py``.
"""

from __future__ import annotations

import numpy as np
import torch  # noqa: TID253  this file is a test's model, and no test imports it
from torch import Tensor, nn  # noqa: TID253


class Tokens(nn.Module):
    """Ten tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 4)

    def forward(self, ids: Tensor) -> Tensor:
        return self.table(ids)


class Picture(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).mean((2, 3))


class Rows(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x)


class Positions(Rows):
    """Position embeddings of one length."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.ones(1, 16, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x + self.positions)


class Flattened(Rows):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.view(-1, 4, 4))


class Normalized(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)


class Unpacked(Picture):
    def forward(self, x: Tensor) -> Tensor:
        _, _, height, width = x.shape
        return super().forward(x) * (height / width)


class OneBatch(nn.Module):
    """An initial state of batch 1."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(4, 3, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        state = torch.zeros(1, 1, 3), torch.zeros(1, 1, 3)
        return self.rnn(x, state)[0]


class OneBatchCured(OneBatch):
    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(1, x.shape[0], 3), x.new_zeros(1, x.shape[0], 3)
        return self.rnn(x, state)[0]


class FixedBatch(Rows):
    """A batch size that became a number."""

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.view(2, 4))


class Branches(Rows):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x) if x.sum() > 0 else -self.fc(x)


class BranchesCured(Rows):
    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x.sum() > 0, self.fc(x), -self.fc(x))


class Counted(Rows):
    """A slice as long as a value says: GuardOnDataDependentSymNode."""

    def forward(self, x: Tensor) -> Tensor:
        kept = int(x.abs().sum().clamp(1, 2))
        return self.fc(x)[:, :kept].sum(1)


class CountedCured(Rows):
    def forward(self, x: Tensor) -> Tensor:
        kept = x.abs().sum().clamp(1, 2).long()
        return (self.fc(x) * (torch.arange(2) < kept)).sum(1)


class Numpy(Rows):
    """Leaves torch on the way."""

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.from_numpy(np.tanh(x.numpy())))


class NumpyCured(Rows):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.tanh(x))


class Cuda(Rows):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x + torch.ones(4).cuda())


class CudaCured(Rows):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x + torch.ones(4, device=x.device))


class Half(Rows):
    """A tensor in half precision meets float32 weights."""

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.half())


class HalfCured(Rows):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.to(self.fc.weight.dtype))


class QuantizedCured(Rows):
    pass


class Dynamic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 2)), dtype=torch.qint8)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


class Bessel(Rows):
    """Operators that ONNX does not have."""

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.special.bessel_j0(x)) + torch.linalg.eigvalsh(x[:, :1, None]).sum()


class BesselCured(Rows):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.sin(x))


@torch.library.custom_op("ours::twice", mutates_args=())
def twice(x: Tensor) -> Tensor:
    return 2 * x


@twice.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


class Custom(Rows):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(twice(x))


class CustomCured(Rows):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(2 * x)


class Listed(Rows):
    """Takes a list of tensors."""

    def forward(self, images: list[Tensor]) -> Tensor:  # type: ignore[override]
        return self.fc(torch.stack(images))


class ListedCured(Rows):
    def forward(self, images: Tensor) -> Tensor:
        return self.fc(images)


class Counts(Rows):
    """Keeps a state."""

    runs: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("runs", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        return self.fc(x) * self.runs


class Trains(nn.Module):
    """Batch statistics of one row."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.batch_norm(x, None, None, training=True)


def downloads() -> nn.Module:
    net = Rows()
    net.load_state_dict(torch.hub.load_state_dict_from_url("https://weights.invalid/rows.pth"))
    return net


def misfit() -> nn.Module:
    """What torchvision does as it is imported, where its compiled part was built for another torch."""
    torch.library.register_fake("torchvision::nms")(lambda *_: None)
    return Rows()


class Varying(nn.Module):
    """Packed sequences of lengths that are an input."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(4, 3, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0]


class VaryingCured(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(4, 3, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.rnn(x)[0] * (torch.arange(x.shape[1]) < lengths[:, None])[..., None]
