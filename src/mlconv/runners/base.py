"""What every runner is: something that executes a model on feeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, TypeAlias

from mlconv.tensors import TensorSpec

if TYPE_CHECKING:
    import numpy as np

Feeds: TypeAlias = "Mapping[str, np.ndarray]"
Outputs: TypeAlias = "Mapping[str, np.ndarray]"


class Runner(Protocol):
    """A loaded model on one device.

    Attributes:
        name: Runtime and device, as the record tells it: ``onnxruntime-cpu``, ``litert-cpu``, ``torch-cpu``.
        inputs: The signature; dynamic axes by name or None.
        outputs: In the model's order. Shapes may be None where only a run can tell.
    """

    @property
    def name(self) -> str: ...
    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...
    @property
    def outputs(self) -> tuple[TensorSpec, ...]: ...

    def run(self, feeds: Feeds) -> Outputs:
        """One run. ``feeds`` holds every input by name; the result every output by name, in order.

        Raises:
            Exception: Whatever the runtime raises; callers decide what it means.
        """
        ...

    def spread(self, feeds: Feeds) -> Outputs | None:
        """How far the runtime's own kernels lie apart on these feeds, per element of each output, or None.

        Only runtimes with several sets of kernels for quantized operators (LiteRT) tell it.
        """
        ...

    def close(self) -> None: ...
