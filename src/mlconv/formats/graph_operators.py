"""Operators that reach beyond tensors: TensorFlow's that touch files, the network or Python, and TorchScript's.

TensorFlow's SECURITY.md calls models programs, which may read and write files and use the network. The lists were taken
from the 1,908 operators that TensorFlow 2.21 registers, and a few that older versions had; ModelScan
(protectai/modelscan, settings.py) names two, ReadFile and WriteFile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from mlconv.formats import graph_def
from mlconv.formats.graph_def import Graph, Node
from mlconv.formats.saved_model import MetaGraph

PYTHON = frozenset(["PyFunc", "PyFuncStateless", "EagerPyFunc"])
FILES = frozenset(
    [
        "ReadFile",
        "WriteFile",
        "MatchingFiles",
        "WholeFileReader",
        "WholeFileReaderV2",
        "TextLineReader",
        "TextLineReaderV2",
        "FixedLengthRecordReader",
        "FixedLengthRecordReaderV2",
        "TFRecordReader",
        "TFRecordReaderV2",
        "LMDBReader",
        "RecordInput",
        "TextLineDataset",
        "TFRecordDataset",
        "TFRecordDatasetV2",
        "FixedLengthRecordDataset",
        "FixedLengthRecordDatasetV2",
        "CSVDataset",
        "CSVDatasetV2",
        "ExperimentalCSVDataset",
        "SqlDataset",
        "ExperimentalSqlDataset",
        "LMDBDataset",
        "ExperimentalLMDBDataset",
        "MatchingFilesDataset",
        "ExperimentalMatchingFilesDataset",
        "CacheDataset",
        "CacheDatasetV2",
        "SnapshotDataset",
        "SnapshotDatasetV2",
        "SnapshotDatasetReader",
        "SnapshotNestedDatasetReader",
        "SnapshotChunkDataset",
        "ListSnapshotChunksDataset",
        "SaveDataset",
        "SaveDatasetV2",
        "LoadDataset",
        "DistributedSave",
        "DatasetToTFRecord",
        "ExperimentalDatasetToTFRecord",
        "LoadAndRemapMatrix",
        "CreateSummaryFileWriter",
        "CreateSummaryDbWriter",
        "DumpTensor",
        "CalibrationStatisticsSaver",
        "DecodeProtoV2",
        "EncodeProto",
        "FileSystemSetConfiguration",
        "DebugIdentity",
        "DebugIdentityV2",
        "DebugIdentityV3",
        "DebugNanCount",
        "DebugNumericSummary",
        "GenerateVocabRemapping",
        "ImmutableConst",
    ]
)
NETWORK = frozenset(
    [
        "RpcServer",
        "RpcServerStart",
        "RpcServerRegister",
        "RpcClient",
        "RpcCall",
        "RpcCheckStatus",
        "RpcGetValue",
        "DataServiceDataset",
        "DataServiceDatasetV2",
        "DataServiceDatasetV3",
        "DataServiceDatasetV4",
        "RegisterDataset",
        "RegisterDatasetV2",
        "RemoteCall",
        "BigQueryReader",
        "GenerateBigQueryReaderPartitions",
        "CloudBigtableClient",
    ]
)
SAVING = frozenset(["Save", "SaveV2", "SaveSlices", "MergeV2Checkpoints"])
CHECKPOINTS = SAVING | frozenset(["Restore", "RestoreV2", "RestoreSlice", "DTensorRestoreV2"])
"""TensorFlow's own saver consists of these in every SavedModel: nothing runs them unless something else leads to them."""

_ALWAYS = PYTHON | FILES | NETWORK
_VOCABULARIES = frozenset({"InitializeTableFromTextFile", "InitializeTableFromTextFileV2"})
_TORCH = frozenset(["aten.save", "aten.from_file", "aten.load"])


def untrusted_torch(operators: dict[str, int]) -> dict[str, int]:
    """Operators of TorchScript or a torch program that read or write files."""
    return {name: count for name, count in operators.items() if name in _TORCH}


def untrusted_saved_model(graphs: Iterable[MetaGraph]) -> dict[str, int]:
    """Operators of all graphs and functions of a SavedModel that reach out, with their counts.

    Operators of checkpoints count where a signature, an initializer or a function of the loaded objects leads to them,
    not in the saver that TensorFlow adds: of that loading runs the half that restores, where nothing may be saved.
    Vocabulary files count where the SavedModel has no assets to hold them.
    """
    counts: Counter[str] = Counter()
    for graph in graphs:
        counts += _kinds(graph.graph.all_nodes(), _ALWAYS if graph.assets else _ALWAYS | _VOCABULARIES)
        counts += _printers(graph.graph)
        run = _led_to(graph)
        counts += _kinds(run, CHECKPOINTS)
        restoring = set(map(id, graph_def.reached(graph.graph, graph.restorers, ()))) - set(map(id, run))
        counts += _kinds((node for node in graph.graph.all_nodes() if id(node) in restoring), SAVING)
    return dict(sorted(counts.items()))


def untrusted_graph(graph: Graph) -> dict[str, int]:
    """The same of a frozen graph, in which a Saver is a name scope that no output leads to."""
    saver = graph_def.saver_nodes(graph.nodes)
    roots = [node.name for node in graph.nodes if node.name not in saver]
    counts = _kinds(graph.all_nodes(), _ALWAYS | _VOCABULARIES) + _printers(graph)
    counts += _kinds(graph_def.reached(graph, roots, ()), CHECKPOINTS)
    return dict(sorted(counts.items()))


def _kinds(nodes: Iterable[Node], wanted: frozenset[str]) -> Counter[str]:
    return Counter(node.kind for node in nodes if node.kind in wanted)


def _printers(graph: Graph) -> Counter[str]:
    """PrintV2 writes into a file where its attribute says so."""
    found = (node for node in graph.all_nodes() if node.kind == "PrintV2")
    return Counter(node.kind for node in found if b"file://" in bytes(node.attribute("output_stream")))


def _led_to(graph: MetaGraph) -> list[Node]:
    """Nodes that running or loading the model may run: all but those that only a saver leads to."""
    own = set(map(id, graph_def.reached(graph.graph, (*graph.savers, *graph.restorers))))
    scopes = graph_def.saver_nodes(graph.graph.nodes)  # TF1 leaves those of earlier savers in the graph
    roots = [node.name for node in graph.graph.nodes if id(node) not in own and node.name not in scopes]
    roots += [
        graph_def.producer(tensor) for signature in graph.signatures.values() for tensor in signature.tensors
    ]
    return graph_def.reached(graph.graph, (*roots, *graph.initializers), graph.concrete_functions)
