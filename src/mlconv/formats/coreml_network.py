"""Classic Core ML models: layers, weights and pipelines of an `.mlmodel`.

Field numbers: apple/coremltools, mlmodel/format/Model.proto and NeuralNetwork.proto.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from mlconv.formats import protobuf
from mlconv.formats.protobuf import BYTES, FIXED32, WireError


def _numbered(text: str) -> dict[int, str]:
    return {int(number): name for number, name in (entry.split(":") for entry in text.split())}


MODEL_TYPES: dict[int, str] = _numbered(
    """
    200:pipelineClassifier 201:pipelineRegressor 202:pipeline 300:glmRegressor 301:supportVectorRegressor
    302:treeEnsembleRegressor 303:neuralNetworkRegressor 304:bayesianProbitRegressor 400:glmClassifier
    401:supportVectorClassifier 402:treeEnsembleClassifier 403:neuralNetworkClassifier
    404:kNearestNeighborsClassifier 500:neuralNetwork 501:itemSimilarityRecommender 502:mlProgram
    555:customModel 556:linkedModel 560:classConfidenceThresholding 600:oneHotEncoder 601:imputer
    602:featureVectorizer 603:dictVectorizer 604:scaler 606:categoricalMapping 607:normalizer
    609:arrayFeatureExtractor 610:nonMaximumSuppression 900:identity 2000:textClassifier 2001:wordTagger
    2002:visionFeaturePrint 2003:soundAnalysisPreprocessing 2004:gazetteer 2005:wordEmbedding
    2006:audioFeaturePrint 3000:serializedModel
    """
)
"""The fields of Model of which each file has one."""

LAYERS: dict[int, str] = _numbered(
    """
    100:convolution 120:pooling 130:activation 140:innerProduct 150:embedding 160:batchnorm 165:mvn
    170:l2normalize 175:softmax 180:lrn 190:crop 200:padding 210:upsample 211:resizeBilinear 212:cropResize
    220:unary 230:add 231:multiply 240:average 245:scale 250:bias 260:max 261:min 270:dot 280:reduce
    290:loadConstant 300:reshape 301:flatten 310:permute 320:concat 330:split 340:sequenceRepeat
    345:reorganizeData 350:slice 400:simpleRecurrent 410:gru 420:uniDirectionalLSTM 430:biDirectionalLSTM
    500:custom 600:copy 605:branch 615:loop 620:loopBreak 625:loopContinue 635:rangeStatic 640:rangeDynamic
    660:clip 665:ceil 670:floor 680:sign 685:round 700:exp2 710:sin 715:cos 720:tan 730:asin 735:acos
    740:atan 750:sinh 755:cosh 760:tanh 770:asinh 775:acosh 780:atanh 790:erf 795:gelu 815:equal
    820:notEqual 825:lessThan 827:lessEqual 830:greaterThan 832:greaterEqual 840:logicalOr 845:logicalXor
    850:logicalNot 855:logicalAnd 865:modBroadcastable 870:minBroadcastable 875:maxBroadcastable
    880:addBroadcastable 885:powBroadcastable 890:divideBroadcastable 895:floorDivBroadcastable
    900:multiplyBroadcastable 905:subtractBroadcastable 920:tile 925:stack 930:gather 935:scatter
    940:gatherND 945:scatterND 950:softmaxND 952:gatherAlongAxis 954:scatterAlongAxis 960:reverse
    965:reverseSeq 975:splitND 980:concatND 985:transpose 995:sliceStatic 1000:sliceDynamic
    1005:slidingWindows 1015:topK 1020:argMin 1025:argMax 1040:embeddingND 1045:batchedMatmul 1065:getShape
    1070:loadConstantND 1080:fillLike 1085:fillStatic 1090:fillDynamic 1100:broadcastToLike
    1105:broadcastToStatic 1110:broadcastToDynamic 1120:squeeze 1125:expandDims 1130:flattenTo2D
    1135:reshapeLike 1140:reshapeStatic 1145:reshapeDynamic 1150:rankPreservingReshape 1155:constantPad
    1170:randomNormalLike 1175:randomNormalStatic 1180:randomNormalDynamic 1190:randomUniformLike
    1195:randomUniformStatic 1200:randomUniformDynamic 1210:randomBernoulliLike 1215:randomBernoulliStatic
    1220:randomBernoulliDynamic 1230:categoricalDistribution 1250:reduceL1 1255:reduceL2 1260:reduceMax
    1265:reduceMin 1270:reduceSum 1275:reduceProd 1280:reduceMean 1285:reduceLogSum 1290:reduceSumSquare
    1295:reduceLogSumExp 1313:whereNonZero 1315:matrixBandPart 1320:lowerTriangular 1325:upperTriangular
    1330:whereBroadcastable 1350:layerNormalization 1400:NonMaximumSuppression 1450:oneHot 1455:cumSum
    1460:clampedReLU 1461:argSort 1465:pooling3d 1466:globalPooling3d 1470:sliceBySize 1471:convolution3d
    """
)
"""The fields of NeuralNetworkLayer of which each layer has one."""

_NETWORKS = frozenset({303, 403, 500})
_PIPELINES = {200: (1,), 201: (1,), 202: ()}
ML_PROGRAM = 502
_BODIES = {605: (1, 2), 615: (3, 4)}  # branch: if, else; loop: condition, body
_MAX_DEPTH = 32

# Where layers keep WeightParams: paths of field numbers.
_GATES = (1, 2, 3, 4, 20, 21, 22, 23, 40, 41, 42, 43, 60, 61, 62)
_WEIGHTS: dict[int, tuple[tuple[int, ...], ...]] = {
    100: ((90,), (91,)), 130: ((25, 1), (71, 1), (71, 2)), 140: ((20,), (21,)), 150: ((20,), (21,)),
    160: ((15,), (16,), (17,), (18,)), 245: ((2,), (5,)), 250: ((2,),), 290: ((2,),), 400: ((30,), (31,), (32,)),
    410: tuple((number,) for number in (30, 31, 32, 50, 51, 52, 70, 71, 72)),
    420: tuple((20, gate) for gate in _GATES), 430: tuple((20, gate) for gate in _GATES), 500: ((20,),),
    1040: ((20,), (21,)), 1045: ((8,), (9,)), 1070: ((2,),), 1350: ((3,), (4,)), 1471: ((60,), (61,)),
}  # fmt: skip


@dataclass(slots=True)
class Network:
    """What the layers of a model come to.

    Attributes:
        operators: Layers by type, bodies and pipelined models included; other kinds of models count as one each.
        parameters: Elements of all weights.
        dtypes: Stored weights by dtype: ``float32``, ``float16``, or ``uint4`` where quantized to four bits.
    """

    operators: Counter[str] = field(default_factory=Counter)
    parameters: int = 0
    dtypes: Counter[str] = field(default_factory=Counter)


def model_type(model: memoryview) -> tuple[int, memoryview]:
    """The field that says what kind of model it is, and its content; 0 where there is none."""
    for number, wire, value in protobuf.fields(model):
        if number in MODEL_TYPES and wire == BYTES and isinstance(value, memoryview):
            return number, value
    return 0, memoryview(b"")


def add_model(network: Network, model: memoryview, depth: int = 0) -> None:
    """Count a model into ``network``.

    Raises:
        WireError: The bytes are broken, or models are nested without end.
    """
    if depth > _MAX_DEPTH:
        raise WireError(f"models within models, {_MAX_DEPTH} deep")
    number, content = model_type(model)
    if number in _NETWORKS:
        _add_layers(network, content, depth)
    elif number in _PIPELINES:
        for part in protobuf.messages(protobuf.message(content, *_PIPELINES[number]), 1):
            add_model(network, part, depth + 1)
    elif number and number != ML_PROGRAM:
        network.operators[MODEL_TYPES[number]] += 1


def _add_layers(network: Network, content: memoryview, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise WireError(f"networks within networks, {_MAX_DEPTH} deep")
    for layer in protobuf.messages(content, 1):
        kind, options = _layer(layer)
        network.operators[LAYERS.get(kind, "unknown")] += 1
        for path in _WEIGHTS.get(kind, ()):
            for weights in _at(options, path):
                _add_weights(network, weights)
        for number in _BODIES.get(kind, ()):
            _add_layers(network, protobuf.message(options, number), depth + 1)


def _layer(layer: memoryview) -> tuple[int, memoryview]:
    for number, _, value in protobuf.fields(layer):
        if number in LAYERS and isinstance(value, memoryview):
            return number, value
    return 0, memoryview(b"")


def _at(data: memoryview, path: tuple[int, ...]) -> Iterator[memoryview]:
    """Every submessage at a path; a step may be repeated (a bidirectional layer has two sets of gates)."""
    if not path:
        yield data
        return
    for part in protobuf.messages(data, path[0]):
        yield from _at(part, path[1:])


def _add_weights(network: Network, weights: memoryview) -> None:
    """Count one WeightParams: floats, float16 bytes, or raw bytes of so many bits each."""
    count, dtype = 0, "float32"
    bits = protobuf.integer(weights, 40, 1)
    for number, wire, value in protobuf.fields(weights):
        if number == 1:
            count += 1 if wire == FIXED32 else len(value) // 4 if isinstance(value, memoryview) else 0
        elif number == 2 and isinstance(value, memoryview):
            count, dtype = count + len(value) // 2, "float16"
        elif number in (30, 31) and isinstance(value, memoryview):
            width = bits if 0 < bits <= 8 else 8
            count, dtype = count + len(value) * 8 // width, f"uint{width}" if number == 30 else "int8"
    if count:
        network.parameters += count
        network.dtypes[dtype] += 1
