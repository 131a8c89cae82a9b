"""Loading TorchScript archives, current, old and mobile.

TorchScript runs in an interpreter of its own that knows no Python. Of its operators two open files,
``aten::save`` and ``aten::from_file`` (all schemas of torch 2.13 were searched for names of files): an archive
that names one is refused before it is loaded, since ``__setstate__`` runs while loading.
"""

from __future__ import annotations

import re
import tempfile
import zipfile
from pathlib import Path

import torch

from mlconv.convert.torch_import import devices
from mlconv.errors import Corrupt, SourceDoesNotRun, UntrustedOperator
from mlconv.messages import Scene, recognised, torch_words

_FILES = ("aten::save", "aten::from_file")
_CALL = re.compile(r"\.\s*(save|from_file)\s*\(")
_MENTION = re.compile(r"\.\s*(save|from_file)\b")
_CONTINUED = re.compile(r"\\\r?\n|#[^\n]*")


def load(path: Path, ref: str) -> torch.jit.ScriptModule:
    """The module in eval mode, on the CPU, whatever device its code names.

    Raises:
        UntrustedOperator: It can open files.
        Corrupt, SourceDoesNotRun: torch does not read it.
        DeviceBakedIn: It needs a device that is not here.
    """
    if zipfile.is_zipfile(path):
        _scan_code(path, ref)
    try:
        with tempfile.TemporaryDirectory(prefix="mlconv-") as scratch:
            place = devices.torchscript_on_cpu(path, Path(scratch)) if zipfile.is_zipfile(path) else path
            module = torch.jit.load(str(place), map_location="cpu")  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError, UnicodeDecodeError) as error:
        if devices.is_of_device(error):
            raise devices.baked_in(ref, devices.first_words(error)) from error
        known = recognised(error, Scene(ref), torch_words.LOAD)
        if known:
            raise known from error
        told = next((line.strip() for line in str(error).splitlines() if line.strip()), "")[:300]
        kind = (
            Corrupt
            if re.search("zip archive|central directory|not find|failed reading|unexpected EOF", str(error))
            else SourceDoesNotRun
        )
        raise kind(
            f"torch {torch.__version__} does not load `{ref}`", why=told,
            fix="save it again with torch.jit.save, or convert the nn.Module itself: mlconv onnx FILE.py:NAME",
        ) from error  # fmt: skip
    if not hasattr(module, "forward"):
        raise SourceDoesNotRun(f"`{ref}` has no method `forward`", fix="script a module that has one")
    for node in _nodes(module):
        if node.kind() in _FILES:
            raise _opens_files(ref, node.kind())
    return module.eval()  # type: ignore[no-any-return]


def _scan_code(path: Path, ref: str) -> None:
    """Look for the two operators in the archive's source text, also where a name stands for them."""
    try:
        with zipfile.ZipFile(path) as archive:
            texts = [
                archive.read(info).decode("utf-8", "replace")
                for info in archive.infolist()
                if "/code/" in info.filename
            ]
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise Corrupt(
            f"`{ref}` is a damaged archive", why=str(error), fix="fetch or save it again"
        ) from error
    texts += [
        _CONTINUED.sub(" ", text) for text in texts
    ]  # a comment or a continued line may stand inside of a call
    runs_at_load = any("__setstate__" in text for text in texts)
    for text in texts:
        if match := (_MENTION if runs_at_load else _CALL).search(text):
            raise _opens_files(ref, match[1])


def _nodes(module: torch.jit.ScriptModule) -> list[torch._C.Node]:
    """Every operator of the forward method, those in branches and loops included."""
    blocks: list[torch._C.Block | torch._C.Graph] = [module.inlined_graph]
    found: list[torch._C.Node] = []
    while blocks:
        for node in blocks.pop().nodes():
            found.append(node)
            blocks += list(node.blocks())
    return found


def _opens_files(ref: str, operator: str) -> UntrustedOperator:
    return UntrustedOperator(
        f"`{ref}` calls `{operator}`, which opens files", why="a model that is only converted has no business there",
        fix="script the module without that call, and torch.jit.save it again",
    )  # fmt: skip
