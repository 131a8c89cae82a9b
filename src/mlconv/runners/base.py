"""What every runner is: something that executes a model on feeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

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


@runtime_checkable
class Stateful(Runner, Protocol):
    """A runner of models that keep variables: ``run`` begins with their fresh values."""

    def run_on(self, feeds: Feeds) -> Outputs:
        """A run that begins with the values that the last run left."""
        ...


class InARow:
    """A runner of which each run but the first begins with the variables that the last one left."""

    def __init__(self, runner: Stateful) -> None:
        self.name, self.inputs, self.outputs = runner.name, runner.inputs, runner.outputs
        self._runner, self._is_fresh = runner, True

    def run(self, feeds: Feeds) -> Outputs:
        run = self._runner.run if self._is_fresh else self._runner.run_on
        self._is_fresh = False
        return run(feeds)

    def spread(self, feeds: Feeds) -> Outputs | None:
        return self._runner.spread(feeds)

    def close(self) -> None:
        self._runner.close()
