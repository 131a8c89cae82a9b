"""Which PyTorch architectures convert, by which exporter, and how far the graph lies from the module.

Random weights, no network. Run ``python benchmarks/torch_architectures.py [NAME...]``; it prints a Markdown table.
``max |d|`` is the greatest difference from eager PyTorch at a batch size that the exporter did not see, ``of`` the
greatest output there.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mlconv.checks.samples import draw
from mlconv.convert.job import Job, Options
from mlconv.errors import MlconvError
from mlconv.formats import ModelFile
from mlconv.input_grammar import parse_input

IMAGE = ("batch,3,224,224",)
IDS = ("input_ids=batch,time:int64[0..99]", "attention_mask=batch,time:int64[1..1]")


@dataclass(frozen=True, slots=True)
class Case:
    """A name of the table, the callable of this file that builds it, and its `--input`."""

    name: str
    ref: str
    inputs: tuple[str, ...]
    opset: int = 18


TIMM = (
    "resnet18", "mobilenetv2_100", "mobilenetv3_small_100", "efficientnet_b0", "convnext_tiny",
    "swin_tiny_patch4_window7_224", "vit_base_patch16_224", "ghostnet_100", "levit_128s", "fastvit_t8", "regnety_004",
    "mobilenetv4_conv_small", "densenet121", "mixer_s32_224",
)  # fmt: skip

CASES = (
    *(Case(name, f'from_timm("{name}")', IMAGE) for name in TIMM),
    Case("shufflenet_v2 (torchvision)", "shufflenet", IMAGE),
    Case("bert (tiny)", "bert", IDS),
    Case("t5 encoder (tiny)", "t5_encoder", IDS),
    Case("vit (transformers, tiny)", "vit", ("pixel_values=batch,3,32,32",)),
    Case("gpt2 (tiny)", "gpt2", IDS),
    Case("llama (tiny)", "llama", IDS),
    Case("lstm", "lstm", ("batch,12,8",)),
    Case("lstm, dynamic time", "lstm", ("batch,time,8",)),
    Case("gru", "gru", ("batch,12,8",)),
    Case("if on data", "BranchOnData", ("batch,4",)),
    Case("affine_grid + bicubic", "Warp", ("batch,3,32,32",)),
    Case("resnet18, opset 13", 'from_timm("resnet18")', IMAGE, 13),
    Case("vit_base, opset 17", 'from_timm("vit_base_patch16_224")', IMAGE, 17),
    Case("bert (tiny), opset 17", "bert", IDS, 17),
)


def from_timm(name: str) -> nn.Module:
    import_torchvision()
    import timm

    model = timm.create_model(name, pretrained=False)
    for parameter in model.parameters():
        if not parameter.any():  # a head that starts at zero would hide every difference
            nn.init.normal_(parameter, std=0.02)
    return model


def shufflenet() -> nn.Module:
    return import_torchvision().models.shufflenet_v2_x1_0(weights=None)


def import_torchvision() -> Any:
    """Import torchvision, also a build for CUDA on a machine without: only its own operators are missing then."""
    original = torch.library.register_fake

    def lenient(name: str, *args: Any, **kwargs: Any) -> Any:
        def register(function: Any) -> Any:
            with contextlib.suppress(RuntimeError):
                return original(name, *args, **kwargs)(function)
            return function

        return register

    torch.library.register_fake = lenient
    try:
        import torchvision

        return torchvision
    finally:
        torch.library.register_fake = original


def _small(**more: int) -> dict[str, Any]:
    return {
        "vocab_size": 100,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
    } | more


def transformers() -> Any:
    import_torchvision()  # transformers imports it
    import transformers

    return transformers


def bert() -> nn.Module:
    t = transformers()
    return t.BertModel(t.BertConfig(**_small()))


def t5_encoder() -> nn.Module:
    t = transformers()
    return t.T5EncoderModel(
        t.T5Config(vocab_size=100, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
    )


def vit() -> nn.Module:
    t = transformers()
    config = {key: value for key, value in _small().items() if key != "vocab_size"}
    return t.ViTModel(t.ViTConfig(**config, image_size=32, patch_size=8))


def gpt2() -> nn.Module:
    t = transformers()
    return t.GPT2Model(t.GPT2Config(vocab_size=100, n_embd=32, n_layer=2, n_head=4, use_cache=False))


def llama() -> nn.Module:
    t = transformers()
    return t.LlamaModel(t.LlamaConfig(**_small(), num_key_value_heads=2, use_cache=False))


def lstm() -> nn.Module:
    return nn.LSTM(8, 16, 2, batch_first=True, bidirectional=True)


def gru() -> nn.Module:
    return nn.GRU(8, 16, batch_first=True)


class BranchOnData(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if x.sum() > 0 else x - 1


class Warp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Linear(3, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        grid = F.affine_grid(self.theta(x.mean((2, 3))).view(-1, 2, 3), list(x.shape), align_corners=False)
        return F.interpolate(F.grid_sample(x, grid, align_corners=False), scale_factor=1.5, mode="bicubic")


def row(case: Case) -> str:
    from mlconv.convert.torch_to_onnx import run

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = Options(input=tuple(map(parse_input, case.inputs)), opset=case.opset)
        job = Job(
            ModelFile(f"{__file__}:{case.ref}", Path(__file__), "torch-module"),
            "onnx",
            folder / "m.onnx",
            folder,
            options,
        )
        start = time.process_time()
        try:
            made = run(job)
        except MlconvError as error:
            return f"| {case.name} | {error.code}: {error.what} | - | - | - | - | {time.process_time() - start:.0f} |"
        seconds = time.process_time() - start
        nodes, worst, greatest = compare(made, job.output)
    return f"| {case.name} | ok | {made.exporter} | {nodes} | {worst:.1e} | {greatest:.1e} | {seconds:.0f} |"


def compare(made: Any, path: Path) -> tuple[int, float, float]:
    """The number of nodes, the greatest difference over all outputs and the greatest output, at batch 5 and 7 steps."""
    import onnx
    import onnxruntime

    feeds = draw(made.inputs, {"batch": 5, "time": 7}, 1, 0).feeds
    wanted = made.reference.run(feeds)
    found = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, feeds)
    pairs = zip(wanted.values(), found, strict=True)
    worst = max(float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max(initial=0.0)) for a, b in pairs)
    greatest = max(float(np.abs(a.astype(np.float64)).max(initial=0.0)) for a in wanted.values())
    return len(onnx.load(path).graph.node), worst, greatest


def main(names: list[str]) -> None:
    print("| architecture | outcome | exporter | nodes | max \\|d\\| | of | CPU s |\n|-|-|-|-|-|-|-|")
    for case in CASES:
        if not names or case.name in names:
            print(row(case), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    main(sys.argv[1:])
