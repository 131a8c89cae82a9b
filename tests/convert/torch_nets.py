"""Tiny networks that the PyTorch tests name by REF: ``torch_nets.py:Residual``."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812


class Residual(nn.Module):
    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, channels, 3, 2, 1), nn.BatchNorm2d(channels)
        self.depthwise, self.head = (
            nn.Conv2d(channels, channels, 3, 1, 1, groups=channels),
            nn.Linear(channels, 5),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = F.relu6(self.norm(self.stem(image)))
        return self.head((x + F.hardswish(self.depthwise(x))).mean((2, 3)))


class Recurrent(nn.Module):
    def __init__(self, kind: str = "LSTM") -> None:
        super().__init__()
        self.cell = getattr(nn, kind)(4, 6, batch_first=True)

    def forward(self, x: torch.Tensor) -> Any:
        return self.cell(x)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, query: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        return self.heads(query, memory, memory, need_weights=False)[0]


def encoder() -> nn.Module:
    return nn.TransformerEncoder(
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1, enable_nested_tensor=False
    )


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 8, 3, 2, 1)
        self.up, self.out = nn.ConvTranspose2d(8, 4, 2, 2), nn.Conv2d(8, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.down1(x).relu()
        return F.interpolate(self.out(torch.cat([a, self.up(self.down2(a).relu())], 1)), scale_factor=2.0)


class Many(nn.Module):
    """Two inputs, two optional ones, and outputs of every kind, one of which is an input."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.linear = nn.Embedding(11, 4), nn.Linear(4, 4)

    def forward(
        self, ids: torch.Tensor, x: torch.Tensor, scale: Any = None, *, mask: Any = None
    ) -> dict[str, Any]:
        y = self.table(ids).mean(1) + self.linear(x)
        y = y if scale is None else y * scale
        y = y if mask is None else torch.where(mask, y, torch.zeros_like(y))
        return {"y": y, "count": x.shape[0], "x": x, "nothing": None, "pair": (y + 1, y.argmax(-1)), "c": 3.5}


class Pair(NamedTuple):
    first: torch.Tensor
    second: torch.Tensor


class Nested(nn.Module):
    def forward(self, batch: dict[str, torch.Tensor], state: tuple[torch.Tensor, torch.Tensor]) -> Pair:
        return Pair(batch["a"] + state[0], batch["b"] * state[1])


class Variadic(nn.Module):
    def forward(self, *parts: torch.Tensor) -> list[torch.Tensor]:
        return [parts[0] - parts[1]]


class BranchOnData(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.sum() > 0:
            return x * 2
        return x - 1


class Scriptable(nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        y = x * 2
        if bool(x.sum() > 0):
            y = y + 1
        for i in range(x.size(0)):
            y = y + i
        return {"y": y}


class LongBranch(nn.Module):
    """Long sequences take another way."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -x.sum(1) if x.shape[1] > 16 else x.sum(1)


class ShortBranch(nn.Module):
    """Only short sequences are doubled; the way that an example of 2 or 3 does not take."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum(1) * 2 if x.shape[1] < 12 else x.sum(1)


class Strided(nn.Module):
    """Small images shrink to one pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Conv2d(3, 3, 3, 2, 1) for _ in range(5)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x).mean((2, 3))


class EvenBranch(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -x if x.shape[1] % 2 == 0 else x + 1


class OneSizeBranch(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -x if x.shape[1] == 23 else x + 1


class InnerBranch(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -x if 80 <= x.shape[1] < 96 else x + 1


class RareBranch(nn.Module):
    """No number from a normal distribution is above 6, so that no trial takes the branch."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x + 1
        return -y if float(np.abs(x.detach().numpy()).max()) > 6 else y


class RareAny(nn.Module):
    """The same through a view that is written in place, and without numpy."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = torch.zeros(4)
        seen[:2].copy_(x[0, :2])
        return -x if 9.0 in seen.round() else x + 1


class ReadsItsOwn(nn.Module):
    """It reads a buffer and sizes, and its recurrent cell is what the dynamo exporter does not take."""

    scale: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(3))
        self.cell = nn.LSTM(4, 6, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = int(self.scale) if float(self.scale.numpy()) > 2 else 1
        y = x * scale if torch.tensor(x.shape[1]) > 0 else x
        return self.cell(y.view(int(x.shape[0]), -1, 4))[0]


class Holds(nn.Module):
    """Its constant fits one batch size alone."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.ones(2, 4)


class Complex(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fft.fft(x)


class Unsupported(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.qr(x)[0] + torch.linalg.eigvalsh(x)


class Counts(nn.Module):
    runs: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("runs", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.runs += 1
        return x + self.runs


class Noisy(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.rand_like(x)


class Cached(nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        return {"logits": x + 1, "cache": object()}


class Raises(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise ValueError("the sensor is off" + "!" * int(x.numel() == 0))


def cannot_be_built() -> nn.Module:
    raise KeyError("no such size")


def no_module() -> int:
    return 3


def half() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4)).half()


instance = nn.Linear(4, 2)
