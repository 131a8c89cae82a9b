"""What must be consented to before a worker touches a source."""

from __future__ import annotations

from mlconv.convert.job import Options
from mlconv.errors import ModuleNeeded, UntrustedPickle, WrongFormat
from mlconv.formats import ModelFile, mapped, weights
from mlconv.formats.refs import for_shell
from mlconv.formats.safety import assert_safe
from mlconv.model import identify


def assert_trusted(model: ModelFile, options: Options) -> None:
    """Refuse whatever would run code that nobody asked for, in the source and in its weights.

    Raises:
        InputError: See ``formats.safety``.
        ModuleNeeded: Weights without the module that they belong to.
    """
    if model.format == "torch-weights" and options.module is None:
        raise ModuleNeeded(
            f"`{model.ref}` holds weights and no network", why="a state dict names tensors, not what computes with them",
            fix=f"mlconv onnx {for_shell(model.ref)} --module FILE.py:CALLABLE --input x=1,3,224,224",
        )  # fmt: skip
    # with a module beside it only the tensors of a pickle are read, and nothing of it is loaded
    if options.module is None or not _is_readable(model):
        assert_safe(model, trust_pickle=options.trust_pickle, trust_model=options.trust_model)
    if options.weights is not None:
        given = identify(options.weights)
        if given.format in ("torchscript", "torch-export"):
            raise _whole_network(options.weights, given)
        if given.format not in ("torch-weights", "torch-pickle"):
            raise WrongFormat(f"`{options.weights}` is {given.format}, and --weights takes a state dict",
                              fix="--weights with a .safetensors, .pt or .pth file")  # fmt: skip
        if _is_readable(given):
            return
        if given.format == "torch-pickle" and not options.trust_pickle:
            raise UntrustedPickle(f"the weights `{options.weights}` hold a pickle that would run code",
                                  fix="--trust-pickle, if you know who made the file; or save the state dict as .safetensors")  # fmt: skip
        assert_safe(given, trust_pickle=options.trust_pickle, trust_model=options.trust_model)


def _whole_network(text: str, given: ModelFile) -> WrongFormat:
    kind, load = (
        ("TorchScript", "jit.load({!r}).state_dict()")
        if given.format == "torchscript"
        else ("an exported program", "export.load({!r}).state_dict")
    )
    return WrongFormat(
        f"`{text}` is {kind}: a whole network, and --weights takes a state dict", why="it needs no module beside it",
        fix=f"convert it itself: mlconv onnx {for_shell(text)}; or save what it holds: "
        f"torch.save(torch.{load.format(text)}, 'weights.pth')",
    )  # fmt: skip


def _is_readable(model: ModelFile) -> bool:
    """Whether a pickled module's weights can be had without loading it."""
    return model.format == "torch-pickle" and weights.is_readable(mapped.path_of(model))
