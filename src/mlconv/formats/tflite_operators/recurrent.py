"""Recurrent operators, and state."""

from __future__ import annotations

from mlconv.formats.tflite_graph import Operator, Subgraph
from mlconv.formats.tflite_operators.entry import MacsRule, TfliteOperator


def _recurrent(*, has_time: bool) -> MacsRule:
    """Every step multiplies every matrix of constant weights once; biases and peepholes have one axis."""

    def rule(graph: Subgraph, operator: Operator) -> int | None:
        source = graph.input(operator, 0)
        if source is None or len(source.shape) != (3 if has_time else 2):
            return None
        inputs = [graph.tensor(index) for index in dict.fromkeys(operator.inputs)]
        weights = sum(t.elements for t in inputs if t is not None and t.is_constant and len(t.shape) == 2)
        return weights * source.elements // max(source.shape[-1], 1)

    return rule


OPERATORS = (
    TfliteOperator("LSTM", "recurrent:lstm_cell", macs=_recurrent(has_time=False), versions=4,
                   limits="the full kernel on integers with layer normalization or 8-bit gates"),
    TfliteOperator("RNN", "recurrent:rnn_cell", macs=_recurrent(has_time=False), versions=3),
    TfliteOperator("SVDF", "svdf:svdf", macs=_recurrent(has_time=False), versions=4),
    TfliteOperator("UNIDIRECTIONAL_SEQUENCE_LSTM", "recurrent:unidirectional_sequence_lstm",
                   macs=_recurrent(has_time=True), versions=4, limits="layer normalization in integers"),
    TfliteOperator("BIDIRECTIONAL_SEQUENCE_LSTM", "recurrent:bidirectional_sequence_lstm",
                   macs=_recurrent(has_time=True), versions=3),
    TfliteOperator("UNIDIRECTIONAL_SEQUENCE_RNN", "recurrent:unidirectional_sequence_rnn",
                   macs=_recurrent(has_time=True), versions=3),
    TfliteOperator("BIDIRECTIONAL_SEQUENCE_RNN", "recurrent:bidirectional_sequence_rnn",
                   macs=_recurrent(has_time=True), versions=3),
)  # fmt: skip
