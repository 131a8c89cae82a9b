"""What torch says while a module runs, is traced or is exported."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace

from mlconv.errors import (
    BadInputOption,
    DeviceBakedIn,
    InputsRefused,
    LeavesTensors,
    MlconvError,
    OutdatedPackage,
    UnsupportedOperator,
    UnsupportedType,
    listed,
)
from mlconv.messages.table import Message, Scene
from mlconv.tensors import TensorSpec, show_shape, typed

Candidate = tuple[TensorSpec, ...]
_IMAGE_SIZES = (224, 256, 299, 384, 32, 28, 64, 96, 112, 128, 160, 192, 300, 320, 416, 448, 512, 640)
"""Heights and widths that published networks take, the commonest first."""

# ------------------------------------------------------------------ while forward runs


def refused(scene: Scene, what: str, fix: str | None = None) -> MlconvError:
    """Inputs that a source does not take: `--input`'s fault where that gave them."""
    kind = BadInputOption if scene.is_asked else InputsRefused
    names = listed([spec.name for spec in scene.inputs]) or "its inputs"
    return kind(
        what,
        fix=fix or f"give {names} the shape and dtype that the model takes: --input NAME=DIM,DIM,...:DTYPE",
    )


def _wants(what: str) -> Callable[[re.Match[str], Scene], MlconvError]:
    """An input of another shape or dtype; ``what`` may hold the pattern's groups."""

    def tell(match: re.Match[str], scene: Scene) -> MlconvError:
        told = what.format(**match.groupdict())
        return refused(scene, f"forward does not take {scene.given}: {told}")

    return tell


def _on_device(_match: re.Match[str], _scene: Scene) -> MlconvError:
    return DeviceBakedIn(
        "forward puts a tensor on a device of its own",
        fix="make tensors where the input is (device=x.device in place of .cuda()), or register them as buffers",
    )  # fmt: skip


def _mixed(_match: re.Match[str], scene: Scene) -> MlconvError:
    others = [spec for spec in scene.inputs if spec.dtype != "float32"]
    if others and scene.is_asked:
        spec = others[0]
        return refused(scene, f"the weights are float32, and `{spec.name}` is {spec.dtype}",
                       typed(spec.name, f"{show_shape(spec.shape)}:float32"))  # fmt: skip
    return UnsupportedType(
        "forward mixes floating-point types: a tensor of one meets weights of another",
        fix="let the tensor follow the weights: x.to(self.layer.weight.dtype) in place of x.half()",
    )  # fmt: skip


def _list_of_tensors(_match: re.Match[str], scene: Scene) -> MlconvError:
    return InputsRefused(
        f"forward takes a list of tensors where `--input` gives one: {scene.given}",
        fix="let forward take one batched tensor, or *images; `--input` gives each parameter one tensor",
    )  # fmt: skip


def _one_state(_match: re.Match[str], scene: Scene) -> MlconvError:
    return InputsRefused(
        f"a recurrent layer's first state is made for another batch than {scene.given}",
        fix="--input with the batch that it is made for (1, most often), or make it from the input: x.new_zeros(1, x.shape[0], n)",
    )  # fmt: skip


def _trains(_match: re.Match[str], scene: Scene) -> MlconvError:
    return refused(
        scene, "a layer computes batch statistics, as in training, and there is one row only",
        "leave training=True and .train() out of forward; or --input with a batch of 2 and more",
    )  # fmt: skip


RUN: tuple[Message, ...] = (
    Message(r"Torch not compiled with CUDA|Found no NVIDIA driver|No CUDA GPUs are available|Expected all tensors to be on the same "
            r"device|CUDA error|MPS backend|Placeholder storage has not been allocated on MPS", _on_device),
    Message(r"must have the same dtype, but got|expected m1 and m2 to have the same dtype|Input type \([\w :.]+\) and (bias|weight) type"
            r"|expected scalar type \w+ but found \w+", _mixed),
    Message(r"must be tuple of Tensors, not Tensor|expected a non-empty list of Tensors", _list_of_tensors),
    Message(r"Expected hidden(\[\d\])? size|Expected hidden\[\d\]", _one_state),
    Message(r"Expected more than 1 value per channel when training", _trains),
    Message(r"mat1 and mat2 shapes cannot be multiplied \(\d+x(?P<given>\d+) and (?P<wanted>\d+)x\d+\)",
            _wants("a layer takes {wanted} features and is given {given}")),
    Message(r"weight of size \[\d+, (?P<per>\d+)[\d, ]*\], expected input\[(?P<size>[\d, ]+)\] to have (?P<wanted>\d+) channels, but got (?P<given>\d+)",
            _wants("a convolution takes {wanted} channels and is given {given}")),
    Message(r"Kernel size can't be greater than actual input size|Output size is too small|non-positive output|output size is too small",
            _wants("it is too small for the network's strides")),
    Message(r"Expected (?P<rank>[\w ()]+) input to (?P<layer>\w+), but got input of size: \[(?P<size>[\d, ]*)\]",
            _wants("{layer} takes {rank} tensors")),
    Message(r"The size of tensor a \((?P<a>\d+)\) must match the size of tensor b \((?P<b>\d+)\) at non-singleton dimension (?P<axis>\d+)",
            _wants("a size of {a} meets one of {b}")),
    Message(r"shape '(?P<shape>\[[-\d, ]+\])' is invalid for input of size (?P<size>\d+)",
            _wants("it is reshaped to {shape}, which its {size} numbers do not fill")),
    Message(r"normalized_shape=(?P<shape>\[[\d, ]+\])", _wants("a layer norm takes a last axis of {shape}")),
    Message(r"not enough values to unpack \(expected (?P<axes>\d+), got (?P<given>\d+)\)|too many values to unpack \(expected (?P<more>\d+)\)",
            lambda match, scene: _wants(f"it is taken apart into {match['axes'] or match['more']} sizes")(match, scene)),
)  # fmt: skip


def candidates(inputs: Candidate, text: str) -> list[Candidate]:
    """Inputs that a module may take in place of those on which it raised this text, the likeliest first.

    They are guesses, to be run: the dtype, the axis or the size that the message speaks of, then sizes of pictures.
    """
    made: list[Candidate] = []
    for index, spec in enumerate(inputs):
        shapes = _other_shapes(spec, text)
        dtypes = [spec.dtype]
        if re.search(r"same dtype|Input type|expected scalar type Float", text):
            dtypes = ["float32"]
        if re.search(r"scalar types: Long, Int|must be long|expected scalar type Long", text):
            dtypes = ["int64"]
        for dtype in dtypes:
            for shape in (spec.shape, *shapes):
                other = replace(spec, shape=shape, dtype=dtype)
                if other != spec:
                    made.append((*inputs[:index], other, *inputs[index + 1 :]))
    return list(dict.fromkeys(made))


def _other_shapes(spec: TensorSpec, text: str) -> list[tuple[int | str | None, ...]]:
    shape = spec.shape
    if shape is None:
        return []
    found: list[tuple[int | str | None, ...]] = []
    if match := re.search(r"\(\d+x(\d+) and (\d+)x\d+\)", text):
        given, wanted = int(match[1]), int(match[2])
        found += [
            (*shape[:axis], wanted, *shape[axis + 1 :])
            for axis in reversed(range(len(shape)))
            if shape[axis] == given
        ]
    if match := re.search(r"to have (\d+) channels", text):
        wanted = int(match[1])
        if len(shape) >= 3 and shape[-1] == wanted:
            found.append((*shape[:-3], shape[-1], *shape[-3:-1]))
        if len(shape) >= 3:
            found.append((*shape[:-3], wanted, *shape[-2:]))
    if match := re.search(r"size of tensor a \((\d+)\) must match the size of tensor b \((\d+)\)", text):
        for old, new in ((int(match[1]), int(match[2])), (int(match[2]), int(match[1]))):
            found += [
                (*shape[:axis], new, *shape[axis + 1 :]) for axis in range(len(shape)) if shape[axis] == old
            ]
    if match := re.search(r"normalized_shape=\[(\d+)\]", text):
        found.append((*shape[:-1], int(match[1])))
    if match := re.search(r"shape '\[(?:-1, )?([\d, ]+)\]' is invalid", text):
        found.append((*shape[:-1], math.prod(int(number) for number in match[1].split(","))))
    if match := re.search(r"(\d)D \(batched\)|values to unpack \(expected (\d)", text):
        rank = int(match[1] or match[2])
        found += [(1, channels, *[_IMAGE_SIZES[0]] * (rank - 2)) for channels in (3, 1) if rank > len(shape)]
    if len(shape) == 4 or (len(shape) == 3 and not found):
        found += [(*shape[:-2], size, size) for size in _IMAGE_SIZES]
    return found


# ------------------------------------------------------------------ while it is traced or exported


def _numpy(_match: re.Match[str], scene: Scene) -> MlconvError:
    return LeavesTensors(
        f"forward leaves torch's tensors for numpy{f', at {scene.place}' if scene.place else ''}",
        fix="compute it with torch's own functions (torch.tanh for np.tanh), or move it out of forward",
    )  # fmt: skip


def quantized(operator: str) -> UnsupportedOperator:
    """A module of torch's eager-mode quantization."""
    return UnsupportedOperator(
        f"the module is quantized in torch's eager mode, which has no ONNX form: `{operator}`",
        fix="convert the float module, as it was before torch.ao.quantization.convert or quantize_dynamic, and quantize what comes out",
    )  # fmt: skip


def _complex(_match: re.Match[str], _scene: Scene) -> MlconvError:
    return UnsupportedType(
        "the model computes with complex numbers in a way that ONNX has no form for",
        fix="split them into real and imaginary parts (torch.view_as_real)",
    )  # fmt: skip


EXPORT: tuple[Message, ...] = (
    Message(
        r"(?P<op>quantized::\w+|torch\.classes\.quantized\.\w+)", lambda match, _: quantized(match["op"])
    ),
    Message(
        r"\.numpy\(\) is not supported for tensor subclasses|Can't call numpy\(\)|can't convert .* tensor to numpy",
        _numpy,
    ),
    Message(
        r"[Cc]omplex",
        _complex,
        untried="torch 2.13 lowers complex numbers or names the operator that it cannot",
    ),
)


# ------------------------------------------------------------------ while a file is loaded


def _later_torch(_match: re.Match[str], scene: Scene) -> MlconvError:
    return OutdatedPackage(
        f"`{scene.ref}` was saved by a later torch than the one that is installed",
        fix="pip install -U torch; or save it again with the installed version",
    )  # fmt: skip


def _unknown_operator(match: re.Match[str], scene: Scene) -> MlconvError:
    if match["op"].startswith(("aten::", "prim::", "prims::")):
        return _later_torch(match, scene)
    return UnsupportedOperator(
        f"`{scene.ref}` calls `{match['op']}`, an operator of a library that torch itself does not have",
        fix="script or export the model without it (torchvision's nms: the part in front of it), and convert that",
    )  # fmt: skip


LOAD: tuple[Message, ...] = (
    Message(r"Attempted to read a PyTorch file with version \d+, but the maximum supported", _later_torch),
    Message(r"Unknown builtin op: (?P<op>[\w:]+)", _unknown_operator),
)
