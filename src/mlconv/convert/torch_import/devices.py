"""Sources that name a device: moved to the CPU where that is only a matter of names, told where it is not.

A trace on a GPU keeps ``torch.device("cuda:0")`` wherever the module made a tensor, and no ``map_location`` moves that.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from mlconv.convert.torch_import.ref_import import chain_of
from mlconv.errors import DeviceBakedIn
from mlconv.formats import archive, torchscript

_DEVICE_MISSING = re.compile(
    r"not compiled with (CUDA|XPU|MPS)|from the '(CPU|CUDA|MPS|XPU|HPU|XLA)' backend|NVIDIA driver|No CUDA GPUs|"
    r"all tensors to be on the same device|not linked with support for mps|invalid device ordinal|"
    r"deserialize object on a (CUDA|MPS)|Cannot access accelerator|cuda runtime|CUDA error",
    re.IGNORECASE,
)
_CHUNK_BYTES = 1 << 24


def is_of_device(error: BaseException) -> bool:
    """Whether an error of torch says that a device is not here, or that tensors lie on several."""
    return _DEVICE_MISSING.search(chain_of(error)) is not None


def baked_in(ref: str, why: str) -> DeviceBakedIn:
    """The refusal of a program that cannot be moved."""
    return DeviceBakedIn(
        f"`{ref}` was made for a device that is not the CPU, and cannot be moved", why=why,
        fix="make it again on the CPU, where mlconv runs it: module.cpu() and inputs on the CPU before torch.jit.trace "
        "or torch.export.export",
    )  # fmt: skip


def first_words(error: BaseException) -> str:
    """The line of an error of torch that names the device."""
    lines = [line.strip() for line in chain_of(error).splitlines()]
    told = next((line for line in lines if _DEVICE_MISSING.search(line)), lines[0] if lines else "")
    return f"{type(error).__name__}: {told.partition('. This could be because')[0][:300]}"


def torchscript_on_cpu(path: Path, scratch: Path) -> Path:
    """The archive, or a copy of it in ``scratch`` whose code names the CPU where it named another device.

    Raises:
        Corrupt: It is damaged.
    """
    opened = archive.open_archive(path)
    if not torchscript.devices(opened):
        return path
    moved = scratch / "on_cpu.pt"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(moved, "w", zipfile.ZIP_STORED) as copy:
        for name, entry in opened.members.items():
            info = zipfile.ZipInfo(name)
            info.file_size = entry.file_size
            if name.removeprefix(opened.root).startswith("code/") and name.endswith(".py"):
                text = opened.read(name.removeprefix(opened.root)).decode("utf-8", "surrogateescape")
                copy.writestr(info, torchscript.on_cpu(text).encode("utf-8", "surrogateescape"))
                continue
            with source.open(entry) as member, copy.open(info, "w", force_zip64=True) as target:
                while chunk := member.read(_CHUNK_BYTES):
                    target.write(chunk)
    return moved
