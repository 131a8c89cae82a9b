"""``mlconv.formats/1``: formats, converters and runners as they are here."""

from __future__ import annotations

from typing import Any

from mlconv import registry
from mlconv.formats import FORMATS, Format

WHAT: dict[Format, str] = {
    "torch-export": "a .pt2 from torch.export.save",
    "torchscript": "a TorchScript archive, current or old",
    "torch-module": "FILE.py:NAME or MODULE:NAME that is or returns an nn.Module; naming it is the consent to run it",
    "torch-weights": "a state dict, .pt, .pth, .bin, .ckpt or .safetensors; needs --module",
    "torch-pickle": "a pickled module; refused unless --trust-pickle",
    "saved-model": "a TensorFlow SavedModel folder, TF1 or TF2",
    "keras": "a Keras 3 .keras file",
    "keras-h5": "a Keras HDF5 file, .h5",
    "tf-graph": "a frozen GraphDef .pb",
    "tflite": "a TFLite file, float or quantized",
    "tflite-edgetpu": "a TFLite file compiled for the Edge TPU",
    "onnx": "an ONNX file, external data included",
    "ort": "an onnxruntime .ort file",
    "coreml": "a Core ML .mlmodel",
    "coreml-package": "a Core ML .mlpackage",
}


def formats() -> dict[str, Any]:
    """The document, but for ``seconds``."""
    converters, runners, plugins = registry.converters(), registry.runners(), registry.broken_plugins()
    return {
        "schema": "mlconv.formats/1", "ok": True,
        "formats": [{"id": name, "what": WHAT[name], "converts_to": _targets(name)} for name in FORMATS],
        "converters": [
            {"name": c.name, "from": c.source, "to": c.target, "available": not c.missing(), "missing": list(c.missing()),
             "install": c.install, "options": sorted(c.accepts)}
            for c in converters
        ],
        "runners": [
            {"name": r.name, "formats": list(r.formats), "available": not r.missing(), "missing": list(r.missing()), "install": r.install}
            for r in runners
        ],
        "plugins": [{"name": p.name, "distribution": p.distribution, "error": p.reason} for p in plugins],
        "warnings": [f"the plugin `{p.name}` of {p.distribution} cannot be loaded: {p.reason}" for p in plugins],
    }  # fmt: skip


def _targets(source: str) -> list[str]:
    targets = dict.fromkeys(converter.target for converter in registry.converters())
    return [target for target in targets if registry.routes(source, target)]


def formats_text(document: dict[str, Any]) -> str:
    """A line a format, with what converts it and what that still needs."""
    width = max(len(item["id"]) for item in document["formats"])
    lines = []
    for item in document["formats"]:
        targets = f" -> {', '.join(item['converts_to'])}" if item["converts_to"] else ""
        lines.append(f"{item['id'].ljust(width)}  {item['what']}{targets}")
    for kind in ("converters", "runners"):
        lines.append("")
        for item in document[kind]:
            about = f"{item['from']} -> {item['to']}" if kind == "converters" else ", ".join(item["formats"])
            state = (
                "installed" if item["available"] else f"needs {', '.join(item['missing'])}: {item['install']}"
            )
            lines.append(f"{item['name']}  {about}  ({state})")
    return "\n".join(lines)
