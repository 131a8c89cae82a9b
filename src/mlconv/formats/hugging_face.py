"""A Hugging Face folder or name: what to paste and type, since its class and inputs stand in `config.json` alone.

mlconv does not convert these by itself: which class computes with the weights is Python of the package `transformers`
(or of the folder), which a file must not choose to import. The factory names it, and naming it is the consent.
"""

from __future__ import annotations

import json
import keyword
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from mlconv.errors import HuggingFaceModel

Config = Mapping[str, Any]

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_LARGEST_CONFIG = 16 << 20  # bytes
_LONGEST = 512
"""Greatest sequence that the line asks for: parity runs there, and a context of 128k tokens would take hours."""
_OFFSET_POSITIONS = frozenset(
    {
        "roberta",
        "xlm-roberta",
        "xlm-roberta-xl",
        "camembert",
        "mpnet",
        "longformer",
        "esm",
        "data2vec-text",
        "xmod",
    }
)
"""Model types whose positions begin behind the padding token: a table of 514 rows serves 512 tokens."""
_AUDIO_SAMPLES = 16000  # one second, at the rate that these networks are trained with
_IMAGE_SIZE = 224


@dataclass(frozen=True, slots=True)
class Folder:
    """What the JSON files of a model say.

    Attributes:
        config: `config.json`.
        preprocessor: `preprocessor_config.json`; empty where there is none.
        weights: The file of weights that timm's loader would take, by name; None where there is none.
        modules: Whether sentence-transformers adds layers of its own after the network.
    """

    config: Config
    preprocessor: Config
    weights: str | None = None
    modules: bool = False


def read(folder: Path) -> Folder | None:
    """The model of a folder; None where its `config.json` is not one of `transformers` or `timm`."""
    config = _json(folder / "config.json")
    if not ("architectures" in config or "model_type" in config or "pretrained_cfg" in config):
        return None
    weights = next(
        (name for name in ("model.safetensors", "pytorch_model.bin") if (folder / name).is_file()), None
    )
    return Folder(
        config, _json(folder / "preprocessor_config.json"), weights, (folder / "modules.json").is_file()
    )


def is_name(text: str, suffixes: tuple[str, ...]) -> bool:
    """Whether a text that is no path has the form ``org/name``, and none of the suffixes of models."""
    return _NAME.fullmatch(text) is not None and not text.endswith(suffixes)


def cached(name: str) -> Folder | None:
    """The model ``org/name`` where an earlier download left it on this machine; nothing is fetched."""
    home = Path(os.environ.get("HF_HOME") or Path("~/.cache/huggingface").expanduser())
    hub = Path(os.environ.get("HF_HUB_CACHE") or home / "hub") / f"models--{name.replace('/', '--')}"
    try:
        revision = (hub / "refs" / "main").read_text().strip()
    except (OSError, ValueError):
        return None
    return read(hub / "snapshots" / revision) if re.fullmatch(r"[0-9a-f]+", revision) else None


def refusal(source: str, found: Folder | None) -> HuggingFaceModel:
    """The error for a folder, or for a name: with the factory to paste, and the line to type after it.

    Args:
        source: As the user named it, and as `from_pretrained` takes it.
        found: None for a name of which nothing is on this machine.
    """
    if found is None:
        return HuggingFaceModel(
            f"`{source}` is no file; Hugging Face names are not fetched",
            why="mlconv uses no network, and what the model takes stands in its config.json",
            fix=f"hf download {source} --local-dir {source.rpartition('/')[2]}, then mlconv onnx {source.rpartition('/')[2]} prints "
            "the lines to paste, with the inputs of its config.json",
        )
    if "pretrained_cfg" in found.config:
        return _timm(source, found)
    kind, own_code = _class(found.config)
    why = "which class computes with these weights, and what it takes, is Python: a few lines say it"
    if own_code:
        why = (
            "its class is Python in the model's own repository: read it before you run these lines, which do"
        )
    elif found.modules:
        why = f"{why}; the pooling of sentence-transformers (modules.json) is not part of {kind}"
    return HuggingFaceModel(
        f"`{source}` is a Hugging Face model", why=why, fix=_paste(source, kind, own_code, _inputs(found))
    )


def _paste(source: str, kind: str, own_code: bool, inputs: Mapping[str, str]) -> str:
    arguments = [repr(source), *(["trust_remote_code=True"] if own_code else [])]
    shapes = " ".join(f"--input {shlex.quote(f'{name}={shape}')}" for name, shape in inputs.items())
    # the cache of a decoder is an object, and no tensor; models that have none do not mind
    return (
        f"put this into net.py, then: mlconv onnx net.py:make {shapes}\n"
        f"    from transformers import AutoConfig, {kind}\n"
        "\n"
        "    def make():\n"
        f"        config = AutoConfig.from_pretrained({', '.join(arguments)})\n"
        "        config.use_cache = False\n"
        f"        return {kind}.from_pretrained({', '.join([*arguments, 'config=config'])}).eval()"
    )


def _timm(source: str, found: Folder) -> HuggingFaceModel:
    config = found.config
    name = str(config.get("architecture"))
    arguments = [json.dumps(name if re.fullmatch(r"[\w.-]+", name) else "ARCHITECTURE")]
    if isinstance(config.get("num_classes"), int):
        arguments.append(f"num_classes={config['num_classes']}")
    pretrained = config["pretrained_cfg"] if isinstance(config["pretrained_cfg"], dict) else {}
    size = pretrained.get("input_size")
    shape = [3, _IMAGE_SIZE, _IMAGE_SIZE]
    if isinstance(size, list) and len(size) == 3 and all(_is_size(side) for side in size):
        shape = size
    ref = shlex.quote(f"timm:create_model({', '.join(arguments)})")
    weights = f" --weights {shlex.quote(str(Path(source) / found.weights))}" if found.weights else ""
    return HuggingFaceModel(
        f"`{source}` is a timm model", why="its network is Python of the package timm, which a REF names",
        fix=f"mlconv onnx {ref}{weights} --input x=batch,{','.join(map(str, shape))}",
    )  # fmt: skip


def _class(config: Config) -> tuple[str, bool]:
    """The class to import from `transformers`, and whether its code lies in the model's own repository."""
    own = config.get("auto_map")
    if isinstance(own, dict):
        models = [key for key in own if key.startswith("AutoModel") and key.isidentifier()]
        if models:
            return models[-1], True
    name = next(iter(_architectures(config)), "")
    return (name if name.isidentifier() and not keyword.iskeyword(name) else "AutoModel"), False


def _architectures(config: Config) -> list[str]:
    names = config.get("architectures")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


# ------------------------------------------------------------------ what it takes


def _inputs(found: Folder) -> dict[str, str]:
    """The inputs of inference, with shapes as `--input` takes them."""
    config = found.config
    if isinstance(config.get("vision_config"), dict):  # CLIP, SigLIP and their like
        text = config.get("text_config")
        tokens = _tokens(text) if isinstance(text, dict) else {}
        return {**tokens, **_pixels(found, config["vision_config"])}
    inputs = _speech(config) or _vision(found) or _tokens(config)
    if config.get("is_encoder_decoder") is True:
        positions = _number(
            config, "max_target_positions", _number(config, "max_position_embeddings", _LONGEST)
        )
        inputs["decoder_input_ids"] = f"batch,decoder_sequence=2..{min(positions, _LONGEST)}:int64"
    return inputs


def _speech(config: Config) -> dict[str, str]:
    if "num_mel_bins" in config and "max_source_positions" in config:  # Whisper: two frames a position
        frames = 2 * _number(config, "max_source_positions", 1500)
        return {"input_features": f"batch,{_number(config, 'num_mel_bins', 80)},{frames}"}
    if "feat_extract_norm" in config and "conv_stride" in config:  # wav2vec 2.0, HuBERT, WavLM
        return {"input_values": f"batch,{_AUDIO_SAMPLES}"}
    return {}


def _vision(found: Folder) -> dict[str, str]:
    names = " ".join(_architectures(found.config))
    sees = re.search(r"Image|ObjectDetection|Segmentation|Depth|Vision", names)
    known = "image_mean" in found.preprocessor or "image_processor_type" in found.preprocessor
    if not (sees or known or {"num_channels", "image_size"} & set(found.config)):
        return {}
    return _pixels(found, found.config)


def _pixels(found: Folder, config: Config) -> dict[str, str]:
    size = config.get("image_size")
    height, width = _size(size) or _size(_preprocessed(found)) or (_IMAGE_SIZE, _IMAGE_SIZE)
    return {"pixel_values": f"batch,{_number(config, 'num_channels', 3)},{height},{width}"}


def _preprocessed(found: Folder) -> object:
    """The size that the preprocessor gives: of its crop, where it crops."""
    told = found.preprocessor
    return told.get("crop_size") if told.get("do_center_crop") else told.get("size")


def _size(told: object) -> tuple[int, int] | None:
    if isinstance(told, dict):
        return _size([told.get("height"), told.get("width")]) or _size(told.get("shortest_edge"))
    height, width = told if isinstance(told, list) and len(told) == 2 else (told, told)
    return (height, width) if _is_size(height) and _is_size(width) else None


def _is_size(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 20


def _tokens(config: Config) -> dict[str, str]:
    """Ids and mask of a text. From two tokens on: the exporter takes a size of 1 for a constant."""
    longest = _number(config, "max_position_embeddings", _number(config, "n_positions", _LONGEST))
    if str(config.get("model_type")) in _OFFSET_POSITIONS:
        longest -= _number(config, "pad_token_id", 1) + 1
    sequence = f"batch,sequence=2..{max(2, min(longest, _LONGEST))}:int64"
    return {"input_ids": sequence, "attention_mask": f"{sequence}[0..1]"}


def _number(config: Config, key: str, default: int) -> int:
    value = config.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else default


def _json(path: Path) -> dict[str, Any]:
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST_CONFIG:
            return {}
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
