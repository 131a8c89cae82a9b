"""What every error means: its cause, an example, what to do. `mlconv explain ID` prints it, the docs render it.

One entry for each concrete class of `mlconv.errors`. An example is a command with the error that it printed;
progress and most logs are left out.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Any

from mlconv.errors import MlconvError, UnknownErrorId, by_id, listed, nearest

EXIT_CODES = {
    0: "done, and every piece of evidence holds",
    1: "the evidence says no",
    2: "the call cannot be carried out as it was written",
    3: "the input is missing, broken, of the wrong kind, or unsafe",
    4: "the conversion itself failed",
    5: "a package, a tool or a device is missing or does not fit",
    6: "inconclusive where a verdict was asked for",
    7: "stopped: a time or memory limit, a crash of native code, or a defect of mlconv itself",
    130: "interrupted",
}
_WIDTH = 100


@dataclass(frozen=True, slots=True)
class Entry:
    """One error, for somebody who has just met it.

    Attributes:
        title: The error in one line.
        cause: How it comes about, in one to three sentences.
        example: A command and what it prints, as a terminal shows them.
        cures: What to type or do, the likeliest first.
    """

    id: str
    title: str
    cause: str
    example: str
    cures: tuple[str, ...]

    @property
    def kind(self) -> type[MlconvError]:
        return by_id()[self.id]

    def text(self) -> str:
        """As `mlconv explain` prints it."""
        kind = self.kind
        head = f"{self.id} {kind.code}: {self.title}\nexit code {kind.exit}: {EXIT_CODES[kind.exit]}"
        cures = "\n".join(_wrapped(cure, "  - ", "    ") for cure in self.cures)
        return f"{head}\n\n{_wrapped(self.cause)}\n\nExample:\n{textwrap.indent(self.example, '  ')}\n\nWhat to do:\n{cures}"

    def to_json(self, seconds: float) -> dict[str, Any]:
        """The document ``mlconv.explain/1``."""
        return {
            "schema": "mlconv.explain/1", "ok": True, "id": self.id, "code": self.kind.code, "exit": self.kind.exit,
            "title": self.title, "cause": self.cause, "example": self.example, "cures": list(self.cures),
            "warnings": [], "seconds": seconds,
        }  # fmt: skip


def entry(name: str) -> Entry:
    """The entry of an id; `MLC214`, `mlc214` and `214` are the same.

    Raises:
        UnknownErrorId: No error has it.
    """
    digits = name.strip().upper().removeprefix("MLC")
    found = _BY_ID.get(f"MLC{digits}")
    if found is None:
        close = [f"MLC{near}" for near in nearest(digits, [known.removeprefix("MLC") for known in _BY_ID])]
        raise UnknownErrorId(
            f"there is no error id `{name}`",
            why=f"nearest: {listed(close)}"
            if close
            else "an id is MLC and three digits, as printed in error[MLC214]",
            fix=f"mlconv explain {close[0] if close else 'MLC214'}",
        )
    return found


def _wrapped(text: str, first: str = "", rest: str = "") -> str:
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )


_USAGE = (
    Entry(
        "MLC001", "a word of the command line is not understood",
        "An option, a command or a value is misspelt or not of the form that the option takes. "
        "Nothing was read or written.",
        """\
$ mlconv onnx net.onnx --opzet 17
error[MLC001]: no such option: --opzet
hint: `--opset`? mlconv onnx --help lists all""",
        (
            "`mlconv COMMAND --help` lists the options with the form of their values",
            "quote what the shell would take apart: --input 'ids=1,16:int64[0..999]', 'net.py:make(width=8)'",
            "a file whose name begins with a dash goes after `--`: mlconv onnx -- -net.onnx",
        ),
    ),
    Entry(
        "MLC002", "the output exists",
        "Something stands at the output's place that this conversion did not make, and it is never replaced unasked. "
        "An artifact that was made from the same source, and was not touched since, is replaced without asking.",
        """\
$ mlconv onnx net.onnx -o served.onnx
error[MLC002]: `served.onnx` exists
hint: --force to replace it, or -o with another name""",
        (
            "`--force` replaces the file, once the new one is proven; a run that fails leaves the old one",
            "`-o OTHER.onnx` keeps both",
        ),
    ),
    Entry(
        "MLC003", "the output cannot be written",
        "The output's folder does not exist, belongs to somebody else, or its disk is full. "
        "This is found out before the conversion wherever that is possible.",
        """\
$ mlconv onnx net.onnx -o build/net.onnx
error[MLC003]: the folder of `build/net.onnx` does not exist
hint: mkdir -p build, or another -o""",
        ("make the folder: mkdir -p FOLDER", "`-o` with a path in a folder of your own", "look at the space that is left: df -h FOLDER"),
    ),
    Entry(
        "MLC004", "`--input` names an input that the model has not",
        "Inputs go by the names that `mlconv inspect` prints; for PyTorch these are the parameters of `forward`. "
        "There may also be more `--input` options than inputs.",
        """\
$ mlconv onnx net.onnx --input image=1,4
error[MLC004]: the model has no input `image`; it has `x`
hint: --input x=1,4""",
        (
            "`mlconv inspect MODEL` prints the names",
            "leave the name out: `--input 1,3,224,224` stands for the inputs in order",
        ),
    ),
    Entry(
        "MLC005", "`--input` does not fit the model",
        "The shape or dtype that `--input` gives is not of its grammar, or contradicts what the model itself fixes: "
        "another number of axes, or another size where the model has a constant one.",
        """\
$ mlconv onnx net.onnx --input x=1,2,2
error[MLC005]: `--input` gives `x` 3 axes, and the model has 2: 1,4
hint: --input x=1,4""",
        (
            "write [NAME=]DIM,DIM,...[:DTYPE[LO..HI]], for example x=1,3,224,224 or ids=batch,16:int64[0..999]",
            "a word makes an axis dynamic (batch,3,224,224), and batch=1..8 gives its range",
            "a size that the model fixes can only be changed where the model is made: export it again",
        ),
    ),
    Entry(
        "MLC006", "the data does not fit the model",
        "The file of `--data` cannot be read as plain arrays, or its names, shapes or dtypes are not those of the model's inputs. "
        "Arrays of Python objects are refused, since reading them could run code.",
        """\
$ mlconv onnx net.onnx --data test.npz
error[MLC006]: `test.npz` does not fit the model: `images` is no input, input `x` is missing
  why: the model takes `x`
hint: name the arrays as the inputs""",
        (
            "numpy.savez('test.npz', x=array) with the names that `mlconv inspect MODEL` prints",
            "axis 0 counts the samples and takes the batch axis's place: (N, 3, 16, 16) for an input 1,3,16,16",
            "a folder of .npz files holds one sample a file, each array in the input's own shape",
        ),
    ),
    Entry(
        "MLC007", "an option means nothing to the converter of this source",
        "No converter of the route takes the option, so it would have no effect, and mlconv drops no option silently. "
        "Which options a converter takes depends on the source's format and the target.",
        """\
$ mlconv onnx net.onnx --signature serve
error[MLC007]: `--signature` means nothing to `onnx-rewrite`, which converts onnx to onnx
  why: `--signature` is for sources of saved-model, tflite, torch-export; this conversion takes --atol, --data, --input, --metadata, --opset, --no-optimize, --outputs, --no-parity, --precision, --preprocess, --rtol, --runtime, --samples, --seed
hint: leave --signature out""",
        (
            "leave the option out",
            "`mlconv --json formats` lists the options of every converter",
            "another converter may take it: --via NAME",
        ),
    ),
    Entry(
        "MLC008", "there is no such error id",
        "Ids are MLC and three digits; MLC000 is never used. An id of a newer mlconv is unknown to an older one.",
        """\
$ mlconv explain MLC999
error[MLC008]: there is no error id `MLC999`
  why: nearest: `MLC799`
hint: mlconv explain MLC799""",
        ("copy the id out of the brackets: error[MLC214] is `mlconv explain MLC214`", "`mlconv --version` tells which mlconv this is"),
    ),
    Entry(
        "MLC009", "the source does not tell its input shapes",
        "A PyTorch module has no signature: it runs on whatever `forward` accepts. Exporting it needs one shape for each input.",
        """\
$ mlconv onnx net.py:make
error[MLC009]: `net.py:make` does not tell the shape of `x`
  why: forward takes `x`
hint: --input x=1,4""",
        (
            "`--input x=batch,3,224,224` for images of any batch size",
            "`--input ids=batch,length:int64` for token ids",
            "torch.export.save writes the shapes into the file: convert the .pt2 instead",
        ),
    ),
    Entry(
        "MLC010", "`--outputs` names an output that the model has not",
        "Outputs go by the names that `mlconv inspect` prints. In `mlconv compare` the pairs of `--outputs A=B` name "
        "an output of the reference first and one of the candidate second.",
        """\
$ mlconv onnx net.onnx --outputs scores
error[MLC010]: the model has no value `scores`; its outputs are `y`
hint: --outputs y""",
        ("`mlconv inspect MODEL` prints the names", "leave `--outputs` out to keep all"),
    ),
    Entry(
        "MLC011", "there is no such signature",
        "A SavedModel, a TFLite file, a .pt2 archive or a Core ML package may hold several entry points. "
        "The one that `--signature` names is not among them, or there are several and none was named.",
        """\
$ mlconv inspect net.onnx --signature serve
error[MLC011]: the model has no signature `serve`
  why: an ONNX model has one graph
hint: leave --signature out""",
        ("`mlconv inspect MODEL` prints the signatures", "`--signature NAME` with one of them, or no `--signature` where there is one only"),
    ),
    Entry(
        "MLC012", "weights without the module that they belong to",
        "A state dict holds named tensors and no network: the code that computes with them stands in your project. "
        "mlconv has to be told which module to build.",
        """\
$ mlconv onnx net.safetensors
error[MLC012]: `net.safetensors` holds weights and no network
  why: a state dict names tensors, not what computes with them
hint: mlconv onnx net.safetensors --module FILE.py:CALLABLE --input x=1,3,224,224""",
        (
            "`--module net.py:make` with a function or class that builds the module",
            "`--module 'timm:create_model(\"resnet18\", num_classes=10)'` for a published architecture",
            "torch.export.save(torch.export.export(module, args), 'net.pt2') in your project needs no code afterwards",
        ),
    ),
    Entry(
        "MLC013", "the output is the source",
        "The output is the source file, or lies within the source's folder. The source is never written to, not even with `--force`.",
        """\
$ mlconv onnx net.onnx -o net.onnx
error[MLC013]: `net.onnx` is the source, which is never written to
hint: another -o""",
        ("`-o OTHER.onnx`", "leave `-o` out: ONNX made from ONNX is called NAME.opsetN.onnx"),
    ),
    Entry(
        "MLC014", "this opset cannot be asked for",
        "The number is older than anything that converts without loss, or newer than the installed onnxruntime loads: "
        "an artifact that nothing here can load could not be proven.",
        """\
$ mlconv onnx net.onnx --opset 5
error[MLC014]: opset 5 cannot be asked for; 13 to 26 can
  why: opset 13 came with onnxruntime 1.6 (2020), and converting further down loses operators
hint: --opset 18, or leave --opset out""",
        ("leave `--opset` out: 18, or an ONNX source's own", "a newer onnxruntime loads newer opsets: pip install -U onnxruntime"),
    ),
    Entry(
        "MLC015", "there is no such converter for this pair",
        "`--via` names a converter that does not exist, or one that does not lie on any route from the source's format to the target.",
        """\
$ mlconv onnx net.onnx --via tf2onnx
error[MLC015]: no converter `tf2onnx` leads from onnx to onnx
  why: these do: onnx-rewrite
hint: --via onnx-rewrite""",
        ("`mlconv formats` lists the converters with what they read and write", "leave `--via` out: the best that is installed is taken"),
    ),
    Entry(
        "MLC016", "there is no such schema",
        "`mlconv schema` takes the name of a document, or of the command that prints it.",
        """\
$ mlconv schema conversion
error[MLC016]: there is no schema `conversion`
  why: there are `check`, `compare`, `convert`, `demo`, `doctor`, `error`, `explain`, `formats`, `inspect`
hint: mlconv schema convert""",
        ("`mlconv schema convert` for what the converting commands print", "`mlconv schema error` for failures"),
    ),
    Entry(
        "MLC017", "there is no table of this runtime",
        "`--runtime` takes NAME==VERSION of a runtime whose opsets and operators mlconv has as a table. A release that is newer than "
        "the table is held to the newest one of its major version, with a warning.",
        """\
$ mlconv onnx net.onnx --runtime onnxruntime==0.17
error[MLC017]: mlconv has no table of onnxruntime 0.17
  why: its table holds 1.8 to 1.31
hint: --runtime onnxruntime==1.8""",
        (
            "`--runtime onnxruntime==1.17`; `ort-web`, `ort-web-webgl`, `openvino` and `tensorrt` have tables too",
            "on the device: python -c 'import onnxruntime; print(onnxruntime.__version__)'",
        ),
    ),
    Entry(
        "MLC018", "PREPROCESS is not understood, or does not give what the input takes",
        "`--preprocess` tells how pictures become numbers, and a word of it is no stage, or a value is none. "
        "Or the stages give another size, other channels or other numbers than the model's input takes: no picture is stretched, "
        "cut or rounded unless a stage says so.",
        """\
$ mlconv onnx net.onnx --data photos --preprocess resise=256,crop=224,0..1
error[MLC018]: --preprocess resise=256,crop=224,0..1: there is no stage `resise`
  why: stages: resize, crop, letterbox, upright, order, scale, mean, std, layout; presets: imagenet, 0..1, -1..1, yolo; or file.py:callable
hint: --preprocess resize=256,crop=224,0..1""",
        (
            "take the numbers that the model was trained with: `imagenet` for most classifiers of torchvision and timm, `yolo` for Ultralytics' models",
            "`resize`, `crop` and `letterbox` without a size take that of the input",
            "what no stage does, a function does: --preprocess prepare.py:picture takes a PIL picture and returns an array",
        ),
    ),
    Entry(
        "MLC019", "a SavedModel has no graph of that tag",
        "A SavedModel may hold several graphs, each with tags, such as one to train and one to serve. Without `--tag` that tagged "
        "`serve` is taken, else the only one.",
        """\
$ mlconv onnx saved
error[MLC019]: `saved` has 2 graphs and none tagged `serve`
  why: they are tagged `train`, `eval`
hint: --tag train""",
        (
            "`--tag NAME` with one of the tags that the message lists; several are joined by a comma: `--tag serve,gpu`",
            "`mlconv inspect FOLDER` tells the tags",
            "`--tag ''` takes the graph without a tag, where others have one",
        ),
    ),
)  # fmt: skip

_INPUT = (
    Entry(
        "MLC101", "there is no such file",
        "Nothing stands at the path. A word with a colon is taken for FILE.py:NAME where no file has that name.",
        """\
$ mlconv inspect nope.onnx
error[MLC101]: there is no `nope.onnx`
  why: nearest in `.`: `net.onnx`, `prose.onnx`
hint: did you mean net.onnx?""",
        ("look at the path and the current folder: ls", "a REF is FILE.py:NAME, where FILE.py exists: net.py:make"),
    ),
    Entry(
        "MLC102", "the path cannot be read",
        "It is a pipe, a device or a folder where a file is needed, or you have no permission to read it.",
        """\
$ mlconv inspect /dev/null
error[MLC102]: `/dev/null` is a device, and a model is a file or a folder
hint: save what it gives to a file, and name that""",
        ("ls -l PATH shows its kind and its permissions", "write a stream to a file first: cat > net.onnx"),
    ),
    Entry(
        "MLC103", "the format is not recognised",
        "The content is not that of any format that mlconv reads; the suffix alone never decides. "
        "Often the file is a web page, a Git LFS pointer or an archive in place of the model.",
        """\
$ mlconv inspect prose.onnx
error[MLC103]: `prose.onnx` is of no format that mlconv knows
  why: it looks like text: 'This is not a model.'
hint: mlconv formats names those it knows""",
        (
            "look at its beginning: head -c 200 FILE",
            "a Git LFS pointer begins with `version https://git-lfs`: git lfs pull",
            "`mlconv formats` lists the formats",
        ),
    ),
    Entry(
        "MLC104", "the model file is broken",
        "The format is known, and the content contradicts it: the file was cut off, damaged, or written by a defective tool.",
        """\
$ mlconv inspect cut.onnx
error[MLC104]: `cut.onnx` is broken ONNX
  why: field 7 claims 111 bytes and 87 are left
hint: get the file again, or export it again""",
        (
            "fetch the file again, and compare its size or checksum with the original's",
            "export it again from where it was made",
            "if its own framework loads it, please report it with the file",
        ),
    ),
    Entry(
        "MLC105", "the command does not take this format",
        "The format is known, and there is no converter from it to the target, or nothing here that runs it.",
        """\
$ mlconv onnx net.mlmodel
error[MLC105]: `net.mlmodel` is coreml, which is not converted to onnx
  why: these are: keras, keras-h5, onnx, saved-model, tf-graph, tflite, torch-export, torch-module, torch-pickle, torch-weights, torchscript
hint: mlconv formats""",
        (
            "convert the model that this file was made from",
            "`mlconv inspect MODEL` reads it all the same",
            "`mlconv formats` tells what is converted to what",
        ),
    ),
    Entry(
        "MLC106", "this kind of file is never converted",
        "It is recognised, and it is no model that could be converted: arrays, a package of Python code, a SavedModel in chunks. "
        "The message says what to do instead.",
        """\
$ mlconv onnx test.npz
error[MLC106]: `test.npz` is an archive of numpy arrays
  why: arrays alone are no model
hint: --data takes it; of weights save a .safetensors file, and name the module with --module""",
        ("do what the hint says", "convert the model that it was made from"),
    ),
    Entry(
        "MLC107", "the model is compiled for the Edge TPU",
        "edgetpu_compiler replaced the operators by machine code of the chip. The network cannot be recovered from the file.",
        """\
$ mlconv onnx net_edgetpu.tflite
error[MLC107]: `net_edgetpu.tflite` is compiled for the Edge TPU
  why: its operators are machine code of that chip; the network is no longer in the file
hint: convert the .tflite file that was given to edgetpu_compiler""",
        (
            "convert the file that was compiled, usually the same name without `_edgetpu`",
            "`mlconv inspect MODEL` tells what is still in the compiled one",
        ),
    ),
    Entry(
        "MLC110", "the file holds a pickle that would run code",
        "Loading a pickle can run any code, so mlconv reads pickles without executing them and refuses those that need it. "
        "State dicts load without consent, whatever settings stand beside them; of a pickled module only the weights do.",
        """\
$ mlconv onnx whole.pt
error[MLC110]: `whole.pt` is a pickle that would run code to load
  why: it imports `torch.nn.modules.linear.Linear`
hint: --trust-pickle, if you know who made it; without loading it: --module FILE.py:NAME, where NAME builds the same network""",
        (
            "`--module net.py:make`, code that builds the same network: the weights are read out of the pickle, which is not loaded",
            "best: torch.save(module.state_dict(), ...) or torch.export.save(...) where the module is at home",
            "`--trust-pickle` loads it; only for files whose maker you trust as you trust a program",
        ),
    ),
    Entry(
        "MLC111", "the model carries Python code",
        "A Keras Lambda layer, or another place in a model file where its framework would evaluate Python while loading.",
        """\
$ mlconv onnx net.keras
error[MLC111]: `net.keras` carries Python code in `scale`
  why: Keras would run it as it loads the model
hint: --trust-model, if you know who made it; better: replace the Lambda by a layer class""",
        (
            "`--trust-model` runs it; only for files whose maker you trust as you trust a program",
            "replace the Lambda by a layer of Keras (Rescaling, Normalization, keras.ops in a subclass) and save again",
        ),
    ),
    Entry(
        "MLC112", "the model's graph touches files, the network or Python",
        "An operator of the graph reads or writes files, opens connections or calls back into Python. "
        "A model that is converted has no need of it, and a stranger's may do harm.",
        """\
$ mlconv onnx saved
error[MLC112]: `saved` has operators that touch files, the network or Python: `ReadFile` (1)
  why: running the model would run them with your rights
hint: --trust-model, if you know who made it""",
        (
            "save the model again without pre-processing that reads files: keep that in front of the model",
            "`--trust-model`, for a SavedModel whose maker you trust",
            "`--outputs` or another `--signature` may leave the operator out",
        ),
    ),
    Entry(
        "MLC113", "a path in the model leads outside its folder",
        "The model names a file of its own (external data, a shard, an archive's member) by an absolute path, by `..`, or by a link "
        "that leaves its folder. Such a path could read or overwrite anything, and is refused even where nothing uses it.",
        """\
$ mlconv inspect net.onnx
error[MLC113]: the data of tensor `w` lies at `../w.bin`, which is not a file in the model's folder
  why: external data must stay in the folder of the model, links followed
hint: put the data file beside the model (copy it where it is a link), and save the model again""",
        (
            "copy the data beside the model, and save the model with a plain file name as the location",
            "files from a hub's cache are often links: copy the folder with cp -rL",
        ),
    ),
    Entry(
        "MLC114", "a REF names nothing that is there",
        "FILE.py:NAME or MODULE:NAME names a module that cannot be found, a name that it has not, or something that is no "
        "nn.Module and gives none.",
        """\
$ mlconv onnx net.py:mak --input x=1,4
error[MLC114]: `net.py` has no `mak`
  why: nearest: `make`
hint: net.py:make""",
        (
            "name an instance, a class or a function that returns an nn.Module: net.py:make",
            "arguments are literals in parentheses, quoted for the shell: 'net.py:make(width=8)'",
            "a module is looked for in the current folder and among the installed packages",
        ),
    ),
    Entry(
        "MLC115", "the weights do not fit the module",
        "Names or shapes of the state dict are not those of the module that was built. Usual wrappers (`module.`, `model.`) are "
        "taken off by themselves; what is left is a module built with other arguments, or another architecture.",
        """\
$ mlconv onnx ten.safetensors --module net.py:make --input x=1,4
error[MLC115]: `ten.safetensors` does not fit the module: 2 of another shape
  why: of another shape: `fc.weight` [10, 4] where the module has [2, 4], `fc.bias` [10] where the module has [2]
hint: 'net.py:make(width=10)'""",
        (
            "build the module as it was trained: --module 'net.py:make(num_classes=10)'",
            "`--weights-prefix encoder.` takes the tensors of one part of a larger network",
            "the message names the tensors that are missing, with the nearest in the file: where few fit, it is another network",
        ),
    ),
    Entry(
        "MLC116", "a data file of the model is missing",
        "The model keeps its weights in files beside it, and one of them is not there. Model and data belong together.",
        """\
$ mlconv onnx big.onnx
error[MLC116]: `big.onnx.data`, which holds the data of tensor `w`, is missing
hint: put `big.onnx.data` beside the model, or export it into one file""",
        (
            "put the file beside the model, under the name that the message tells",
            "where the model was renamed, its data was not: the name stands inside the model, so keep the old one",
        ),
    ),
    Entry(
        "MLC117", "a picture cannot be decoded",
        "Pillow does not decode a file that bears a picture's suffix: it is cut off, of another format, or claims more pixels than "
        "Pillow's limit allows. Nothing is left out silently, since the figures would then be of fewer pictures than were named.",
        """\
$ mlconv onnx image.onnx --data photos --preprocess resize,0..1
error[MLC117]: `photos/cat.jpg` cannot be decoded
  why: it is not of a format that Pillow reads
hint: save it as .png or .jpg with 8 bits a channel, or leave it out""",
        (
            "open it: a download that failed often leaves a web page under the picture's name",
            "HEIC, RAW, SVG and PSD files have to be saved as .jpg or .png",
        ),
    ),
    Entry(
        "MLC120", "a Hugging Face model, whose class is Python",
        "The folder or name holds weights and a configuration; what computes with them is a class of transformers or timm. "
        "A model file never chooses what mlconv imports, so you name that class, and the message has the lines to paste.",
        """\
$ mlconv onnx resnet
error[MLC120]: `resnet` is a timm model
  why: its network is Python of the package timm, which a REF names
hint: mlconv onnx 'timm:create_model("resnet18", num_classes=10)' --weights resnet/model.safetensors --input x=batch,3,224,224""",
        (
            "paste the factory of the message into net.py, and type the line before it",
            "a shape of the line is the usual one of that architecture: change it to what you serve",
            "names such as google/vit-base-patch16-224 are not fetched: hf download NAME --local-dir FOLDER, then mlconv onnx FOLDER",
        ),
    ),
    Entry(
        "MLC121", "Keras weights without their model",
        "A `.weights.h5` file has tensors by layer and no configuration, so nothing says what computes with them.",
        """\
$ mlconv onnx net.weights.h5
error[MLC121]: `net.weights.h5` holds Keras weights and no network
  why: it has tensors by layer, and no configuration of the model
hint: in Python: build the model, model.load_weights(...), model.save('model.keras'); then mlconv onnx model.keras""",
        ("build the model in Python, load the weights into it, and save the whole: model.save('model.keras')",),
    ),
    Entry(
        "MLC122", "a GGUF file",
        "It holds the quantized weights of a language model for llama.cpp. The graph is code of that program.",
        """\
$ mlconv onnx llama.gguf
error[MLC122]: `llama.gguf` is a GGUF file
  why: it holds quantized weights for llama.cpp, without a graph
hint: convert the checkpoint that it was made from: a factory in net.py, then mlconv onnx net.py:make""",
        ("convert the Hugging Face folder that it was made from: `mlconv onnx FOLDER` prints the factory",),
    ),
    Entry(
        "MLC123", "a compiled Core ML model",
        "Xcode or the device compiled it. The network cannot be got back.",
        """\
$ mlconv onnx net.mlmodelc
error[MLC123]: `net.mlmodelc` is a compiled Core ML model
  why: Xcode compiled it for its runtime, and there is no way back
hint: convert the .mlmodel or .mlpackage that it was compiled from""",
        ("convert the .mlmodel or .mlpackage that it was compiled from, or the model which that was made of",),
    ),
    Entry(
        "MLC124", "a MediaPipe task bundle",
        "It is a zip archive of one or more TFLite files with what a task needs beside them.",
        """\
$ mlconv onnx hand.task
error[MLC124]: `hand.task` is a MediaPipe task bundle
  why: it holds the models `hand_landmark.tflite`
hint: unzip hand.task, then mlconv onnx hand_landmark.tflite""",
        ("unpack it, and convert the TFLite files one by one",),
    ),
    Entry(
        "MLC125", "a TensorRT engine",
        "It is machine code for one GPU and one version of TensorRT, and holds no network any more.",
        """\
$ mlconv onnx net.engine
error[MLC125]: `net.engine` is a TensorRT engine
  why: it is machine code for one GPU and one version of TensorRT
hint: convert the ONNX file that it was built from""",
        ("the ONNX file that it was built from is what you want; `mlconv check FILE.onnx` tells whether it is sound",),
    ),
    Entry(
        "MLC126", "an OpenVINO model",
        "OpenVINO's format has no way back to ONNX, and OpenVINO reads ONNX itself.",
        """\
$ mlconv onnx net.xml
error[MLC126]: `net.xml` is an OpenVINO model
  why: OpenVINO has no way back
hint: convert the model that it was made from; OpenVINO reads ONNX itself""",
        ("convert the model that it was made from",),
    ),
    Entry(
        "MLC127", "an ExecuTorch program",
        "It is lowered for its runtime: memory is planned, operators are fused, and the network cannot be got back.",
        """\
$ mlconv onnx net.pte
error[MLC127]: `net.pte` is an ExecuTorch program
  why: it is lowered for its runtime, and the network cannot be got back
hint: convert the .pt2 file that it was made from""",
        ("convert the exported program that it was lowered from: torch.export.save(program, 'net.pt2')",),
    ),
    Entry(
        "MLC128", "a program compiled by AOTInductor",
        "Such a .pt2 holds a compiled library in place of the network.",
        """\
$ mlconv onnx aot.pt2
error[MLC128]: `aot.pt2` is compiled by AOTInductor
  why: it holds machine code, and no longer the network
hint: convert what was compiled: torch.export.save(program, 'net.pt2'), then mlconv onnx net.pt2""",
        ("save the exported program beside the compiled one: torch.export.save(program, 'net.pt2')",),
    ),
    Entry(
        "MLC129", "an archive, not a model",
        "mlconv unpacks nothing by itself: a path in an archive may lead anywhere, and which of its files is meant is not said.",
        """\
$ mlconv onnx model.tar.gz
error[MLC129]: `model.tar.gz` is a gzip archive, not a model
hint: unpack it first: tar -xzf model.tar.gz""",
        ("unpack it by the line of the hint, and name the model in it",),
    ),
    Entry(
        "MLC130", "a model of scikit-learn or of another library of estimators",
        "mlconv converts neural networks. Estimators and trees have converters of their own, which know their kinds.",
        """\
$ mlconv onnx svm.pkl
error[MLC130]: `svm.pkl` is a pickled scikit-learn model
  why: mlconv converts neural networks; estimators and trees have converters of their own
hint: pip install skl2onnx, load the model in Python, and call skl2onnx.to_onnx(model, X[:1])""",
        (
            "scikit-learn: skl2onnx; XGBoost and LightGBM: onnxmltools; CatBoost writes ONNX itself",
            "what they write is an ONNX file like any other: `mlconv check model.onnx`",
        ),
    ),
    Entry(
        "MLC139", "a Keras file uses layers of its author's own",
        "A Keras file names the classes and functions of its layers and does not hold their code. Those that are not Keras's own "
        "have to be given, and naming the file that defines them is the consent to run it.",
        """\
$ mlconv onnx gate.keras
error[MLC139]: `gate.keras` uses a class or function that Keras does not have: `Gate`
  why: a Keras file holds names and no code; the code was in `layers`
hint: --custom-objects layers.py, with the code; or export the model where its classes are defined: model.export('folder'), and convert the folder""",
        (
            "`--custom-objects layers.py`, or `--custom-objects package.layers` for an installed module; what lies beside the file is found",
            "classes need no registration, and one that was registered as `package>Name` is found as `Name`",
            "`model.export('folder')` where the classes are defined writes a SavedModel, which needs no code",
        ),
    ),
    Entry(
        "MLC140", "the custom objects are of the other Keras",
        "Keras 2 (tf_keras) and Keras 3 have classes of their own, and a model is loaded by one of the two. A layer that derives "
        "from the other's `Layer` does not fit into it.",
        """\
$ mlconv onnx gate.keras --custom-objects old_layers.py
error[MLC140]: `Gate` of `old_layers.py` is a class of Keras 2 (tf_keras), and `gate.keras` was written by Keras 3
hint: write `import keras` in old_layers.py, in place of its import of Keras""",
        (
            "import in the file the Keras that wrote the model: `import keras` for Keras 3, `import tf_keras as keras` for Keras 2",
            "`from tensorflow import keras` is the Keras of the model: mlconv sees to that",
            "`model.export('folder')` with the Keras that wrote the model, and convert the folder",
        ),
    ),
    Entry(
        "MLC144", "the graph contradicts itself",
        "The file is read whole, and no runtime takes its graph: an operator gets types or shapes that it does not take, reads a value "
        "that nothing makes, or has an attribute of another opset. Such files come out of tools that write ONNX by hand.",
        """\
$ mlconv onnx net.onnx
error[MLC144]: the graph of `net.onnx` is not valid: the inputs of Add are of different types (tensor(float) and tensor(int64))
  why: Type Error: Type parameter (T) of Optype (Add) bound to different types (tensor(float) and tensor(int64) in node ().
hint: put a Cast before it where the model was made, and export it again""",
        (
            "`mlconv check MODEL` prints every fault, by operator",
            "mend it where the model is made, and export it again",
            "another version of the exporter may write it right: it is a defect of the tool that wrote the file",
        ),
    ),
)  # fmt: skip

_CONVERSION = (
    Entry(
        "MLC201", "the converter failed",
        "The framework's exporter gave up, in words that mlconv does not know better. Where several converters serve the pair, "
        "all were tried; the message is the first one's.",
        """\
$ mlconv onnx net.pt2
error[MLC201]: `torch-onnx` could not convert `net.pt2`
  why: RuntimeError: ...
hint: read the log; --debug shows where it happened
log: ~/.cache/mlconv/logs/20261121-144502-4711-4719.log""",
        (
            "read the log: the framework's own words stand there",
            "another road: --via NAME, another --opset, or --no-optimize",
            "another form of the same model: a .pt2 of torch.export, a SavedModel of model.export",
            "`mlconv doctor` tells of versions that do not fit each other",
        ),
    ),
    Entry(
        "MLC210", "the model's control flow depends on the values of its inputs",
        "`forward` decides by the values of a tensor (`if x.sum() > 0`, `for i in range(int(n))`). A traced graph would keep the one "
        "branch that the example took and be wrong for other inputs, so nothing is written.",
        """\
$ mlconv onnx net.py:Gate --input x=1,4
error[MLC210]: the model's control flow depends on the values of its inputs, at net.py:10 `if x.sum() > 0:`
  why: an exported graph would keep the one branch that the example took
hint: write the branch with torch.where or torch.cond, or convert torch.jit.script(module), which keeps both""",
        (
            "torch.where(condition, a, b) computes both and chooses, which is cheap for small branches",
            "torch.cond keeps one graph for each branch",
            "torch.jit.script(module).save('net.pt') keeps `if` and loops; convert net.pt",
        ),
    ),
    Entry(
        "MLC214", "operators have no form in the target",
        "The source computes with operators that the target format does not have, or that no converter here can write. "
        "All of them are named, so that one look tells how much is in the way.",
        """\
$ mlconv onnx model.tflite
error[MLC214]: 2 operators of `model.tflite` have no ONNX form: HASHTABLE_LOOKUP (#12), custom `Sinh` (#31)
hint: cut the model before them with --outputs, or see mlconv explain MLC214""",
        (
            "`--outputs NAME` ends the model before them, where they come last (decoding, non-maximum suppression, look-ups)",
            "a higher `--opset` has more operators",
            "write them in terms of others in the source, and export it again",
            "convert the model that a .tflite file was made from: a SavedModel keeps more",
        ),
    ),
    Entry(
        "MLC215", "a tensor's type has no place in the target",
        "Inputs, outputs or the computation use strings, complex numbers, sparse tensors, resources or Python numbers, where "
        "runtimes take dense tensors of numbers.",
        """\
$ mlconv onnx words.onnx
error[MLC215]: input `text` takes strings, which cannot be drawn at random
  why: what is drawn are numbers of a shape, a type and a range
hint: --data FILE.npz or FILE.py:CALLABLE with texts of yours, or --no-parity""",
        (
            "export the part of the model that computes with numbers, and keep tokenizers and look-ups in front of it",
            "complex numbers as two real ones: torch.view_as_real",
            "`--data` with real strings, where the input takes them; `--no-parity` where nothing can be compared",
        ),
    ),
    Entry(
        "MLC216", "your own code raised",
        "The module, its constructor, the data generator or another callable that you named raised an exception. "
        "With `forward`, the shapes or dtypes of `--input` are often the reason.",
        """\
$ mlconv onnx 'net.py:make(width=-1)' --input x=1,4
error[MLC216]: `net.py:make(width=-1)` raised RuntimeError
  why: RuntimeError: Trying to create tensor with negative dimension -1: [-1, 4] (at net.py:7 `self.fc = torch.nn.Linear(4, width)`)
hint: mend it there, or give `net.py:make` other arguments""",
        (
            "give the shapes and dtypes that it takes: --input x=1,4 or ids=1,16:int64",
            "run it outside mlconv: python -c 'import net; net.make()'",
            "`--debug` prints the whole traceback",
        ),
    ),
    Entry(
        "MLC217", "the model cannot be expressed at this opset",
        "Something in the model came with a later opset than the one asked for, and cannot be rewritten in older operators.",
        """\
$ mlconv onnx warp.onnx --opset 13
error[MLC217]: `GridSample` cannot be expressed at opset 13; the model is at 18
hint: --opset 18, or a number between 13 and 18""",
        (
            "the opset that the hint names, or one between",
            "leave `--opset` out: 18 is loaded by every onnxruntime since 1.14",
            "update the runtime on the device in place of lowering the model",
        ),
    ),
    Entry(
        "MLC218", "the source does not run in its own framework",
        "Before anything is compared the source itself has to run. It cannot be loaded by the installed version of its framework, "
        "or does not take the inputs that were drawn for it.",
        """\
$ mlconv onnx net.pb
error[MLC218]: `net.pb` is not frozen: it holds 1 variable without values
  why: the first are `w`
hint: convert the SavedModel or freeze the graph with its checkpoint""",
        (
            "`--data test.npz` with inputs that it is meant for",
            "`--input ids=1,16:int64[0..9]` draws from a range, `--input x=batch=4..8,3,32,32` keeps an axis to sizes that run",
            "install the framework's version that wrote the file, or save it again with the installed one",
            "`--no-parity` converts without running the source, and proves nothing",
        ),
    ),
    Entry(
        "MLC219", "the program names a device that is not here",
        "It was traced, scripted or exported on a GPU, and computes on that GPU by name. Devices in its code and its constants are "
        "changed to the CPU by themselves; what is left is a device that the program works out as it runs, or an operator of one "
        "device alone.",
        """\
$ mlconv onnx net_cuda.pt --input x=1,4
error[MLC219]: `net_cuda.pt` was made for a device that is not the CPU, and cannot be moved
  why: NotImplementedError: RuntimeError: Could not run 'aten::empty.memory_format' with arguments from the 'CUDA' backend
hint: make it again on the CPU, where mlconv runs it: module.cpu() and inputs on the CPU before torch.jit.trace or torch.export.export""",
        (
            "trace, script or export it again on the CPU: module.cpu(), and inputs on the CPU",
            "in forward make tensors where the input lies: torch.zeros(..., device=x.device) in place of device='cuda'",
            "convert the module's code with its weights: mlconv onnx net.py:make --weights net.pth",
        ),
    ),
    Entry(
        "MLC220", "the runtime lacks operators of the model",
        "The release of `--runtime` has no kernel for these operators, or not in the version or for the types that the model needs. "
        "onnxruntime and OpenVINO were measured, the other tables are those that their authors publish.",
        """\
$ mlconv onnx warp.onnx --runtime ort-web-webgl==1.20
error[MLC220]: ort-web-webgl 1.20 lacks an operator of the model at opset 18: `GridSample` 16 (in no release of ort-web-webgl known here)
  why: per docs/webgl-operators.md of the npm package onnxruntime-web 1.20.1
hint: cut the model before them with --outputs, or compute it another way and export it again""",
        (
            "the `--opset` that the hint names, where an older version of the operator is there",
            "the newer runtime that the hint names, where one has them",
            "`--no-optimize`, where only the optimized ORT file holds them",
            "`mlconv check MODEL --runtime ort-web==1.20` tells whether another runtime has them",
        ),
    ),
    Entry(
        "MLC227", "the model does not take these inputs",
        "The source loads, and raises on inputs of these shapes, types or values: a size that two tensors must share, an index beyond "
        "its table, a state made for another batch. Without `--input` and `--data` mlconv draws them from what the file declares, "
        "which may be wider than what the network takes.",
        """\
$ mlconv onnx net.onnx
error[MLC227]: the source does not take `x` n,c float32: the sizes do not fit each other in MatMul
  why: MatMul: Compute MatMul dimension mismatch
hint: give sizes that the model takes, in place of these: --input x=n,c; or --data with inputs of them""",
        (
            "`--input x=n,4` with the sizes that the network takes; `mlconv inspect MODEL` prints the weights' side of it",
            "`--input 'ids=1,16:int64[0..9]'` keeps integers within the table that they index",
            "`--data test.npz` with inputs that it is meant for",
        ),
    ),
    Entry(
        "MLC228", "the model gives another answer each time",
        "It draws random numbers as it runs (dropout that stays on, noise, sampling), or reads a state that changes. "
        "Two runs on the same inputs differ, so that nothing can be compared with the source.",
        """\
$ mlconv onnx net.onnx
error[MLC228]: the source does not give the same answer twice: `y` changes from run to run
  why: it draws random numbers, or keeps a state
hint: take the random operator or the state out of the model, or give --no-parity""",
        (
            "take what is random out of the model, or make it an input: forward(x, noise)",
            "`--outputs NAME` with an output that does not depend on it",
            "`--no-parity` converts it, and proves nothing",
        ),
    ),
    Entry(
        "MLC229", "the model remembers something from run to run",
        "`forward` writes to a buffer of its module: running statistics, a cache, a counter. A graph keeps nothing between two runs, "
        "and would begin each time from the value that stood there when it was exported.",
        """\
$ mlconv onnx nets.py:Counts --input x=1,4
error[MLC229]: forward writes to 1 buffers of the module: `runs`
  why: an ONNX graph keeps nothing between two runs
hint: let forward take the state as an input and return it as an output""",
        (
            "let forward take the state and return the new one: forward(x, state) -> y, state",
            "running statistics of batch norms stand still in eval mode: leave .train() out of forward",
        ),
    ),
    Entry(
        "MLC230", "an axis that shall be dynamic is of one size",
        "`--input` gives the axis a name, and the model computes with the size of its example as a constant: view(2, -1), a position "
        "embedding of one length, `if x.shape[0] == 2`. A graph with a dynamic axis would be wrong at every other size.",
        """\
$ mlconv onnx nets.py:FixedBatch --input x=batch,4
error[MLC230]: the model holds the axis `batch` to the size 2
  why: its code computes with that size as a constant, so a graph with a dynamic axis would be wrong at others; the TorchScript exporter: the model holds the axis `batch` to the size of its example
hint: give a number in place of `batch` in --input, or take the constant out of forward (view(-1, ...), x.shape)""",
        (
            "a number in place of the name: --input x=1,3,224,224",
            "take the constant out of forward: x.shape[0] in place of 2, view(-1, ...)",
            "one artifact for each size, where the model must have it fixed",
        ),
    ),
    Entry(
        "MLC231", "forward computes outside torch",
        "A tensor leaves torch for numpy or plain Python in the middle of `forward`. No exporter follows it there: what is computed would "
        "be a constant in the graph, the example's own.",
        """\
$ mlconv onnx nets.py:Numpy --input x=1,4
error[MLC231]: forward leaves torch's tensors for numpy, at nets.py:126 `return self.fc(torch.from_numpy(np.tanh(x.numpy())))`
  why: RuntimeError: .numpy() is not supported for tensor subclasses. (at nets.py:126 `return self.fc(torch.from_numpy(np.tanh(x.numpy())))`); the TorchScript exporter: forward leaves torch's tensors for numpy, at nets.py:126 `return self.fc(torch.from_numpy(np.tanh(x.numpy())))`
hint: compute it with torch's own functions (torch.tanh for np.tanh), or move it out of forward""",
        (
            "write it with torch: torch.tanh for np.tanh, torch.stack for np.stack",
            "move it in front of the model or behind it, and convert what is between",
        ),
    ),
)  # fmt: skip

_VERDICTS = (
    Entry(
        "MLC301", "the converted model is not valid",
        "onnx's own checker, or shape inference, contradicts the graph that came out of the conversion. "
        "A runtime may load it all the same, another may not. Nothing was written, unless --write-anyway.",
        """\
$ mlconv onnx net.keras
error[MLC301]: the converted model is not valid ONNX: node `Erfc` has no schema at opset 18
hint: --write-anyway keeps the file, mlconv check shows all findings""",
        (
            "`--no-optimize` leaves the simplifier out; another `--opset` or `--via` takes another road",
            "`--write-anyway`, then `mlconv check ARTIFACT` for every finding",
            "please report it with the model: a converter wrote something that it should not",
        ),
    ),
    Entry(
        "MLC302", "the runtime does not run the converted model",
        "The artifact was made, and its runtime refuses to load it or to run it on inputs on which the source runs.",
        """\
$ mlconv onnx net.pt2 --opset 23
error[MLC302]: onnxruntime-cpu does not run the converted model: NOT_IMPLEMENTED : Could not find an implementation for Attention(23)
hint: --write-anyway keeps the file for a look; another --opset or --no-optimize may do""",
        (
            "another `--opset`: 18 is what most kernels are written for",
            "`--no-optimize`, or another converter with `--via NAME`",
            "a newer runtime: pip install -U onnxruntime",
        ),
    ),
    Entry(
        "MLC303", "NaN or infinity in the outputs",
        "The artifact gives NaN or infinity where the source gives numbers, or the source itself does. "
        "Half precision overflows beyond 65,504; a logarithm or a division by zero does it in any precision.",
        """\
$ mlconv onnx log.onnx
error[MLC303]: the source itself gives NaN in `y`: 4 of 4 elements of sample 0
hint: --write-anyway keeps the file for a look""",
        (
            "`--precision fp32`, where fp16 overflows",
            "`--data` with real inputs: random ones may lie outside what the model was made for",
            "where the source itself gives NaN: run it on those inputs in its own framework first",
        ),
    ),
    Entry(
        "MLC304", "the runtime cannot compute an operator in that type",
        "onnxruntime knows the operator and has no kernel for the type that it is in here: convolutions in float64, activations of "
        "16-bit integers. Most kernels are written for float32 alone.",
        """\
$ mlconv onnx net.onnx
error[MLC304]: onnxruntime has no kernel for Conv of opset 11 (`Conv_0`) in the type that it computes in
  why: Could not find an implementation for Conv(11) node with name 'Conv_0'
hint: let the model compute in float32 where it was made (model.float(), .astype('float32')), and export it again""",
        (
            "export the model in float32: model.float() in PyTorch, dtype='float32' in Keras",
            "a newer runtime may have the kernel: pip install -U onnxruntime",
            "`--write-anyway` keeps the file, for a runtime that has it",
        ),
    ),
    Entry(
        "MLC310", "the artifact computes something else than the source",
        "Source and artifact ran on the same inputs, each in its own runtime, and an output differs by more than what they compute in "
        "explains. The tolerance scales with the output's range; the worst element is named, by sample and index.",
        """\
$ mlconv compare net.onnx old.onnx
error[MLC310]: `y` differs from the reference: max |d| 0.39 of 4.22, cosine 0.993 (fp32 allows 4.2e-05)
  why: worst at [1, 0, 2]: 0.244199 in the source, -0.148012 here
hint: --atol and --rtol, where you know why they may differ""",
        (
            "look whether both sides are the same version of the model: mlconv inspect prints the source's digest",
            "`--no-optimize`, another `--opset` or `--via NAME` show which step does it",
            "`--precision fp32`, where fp16 is too coarse for this model",
            "`--atol X`, only where you know why the outputs may differ that far",
            "`--write-anyway` keeps the file for a look; the exit code stays 1",
        ),
    ),
    Entry(
        "MLC311", "inputs or outputs are not those of the source",
        "An input or output is missing, has another name, another shape or another dtype. Whoever loads the model by its "
        "names would not find it, whatever the figures are.",
        """\
$ mlconv compare net.onnx renamed.onnx
error[MLC311]: the output is called `z` instead of `y`; --outputs y=z pairs them
hint: --outputs A=B,... pairs outputs whose names differ""",
        (
            "in `compare`: --outputs REFERENCE=CANDIDATE pairs names that differ",
            "`mlconv inspect` on both shows the signatures side by side",
            "after a conversion this is a defect: please report it with the model",
        ),
    ),
    Entry(
        "MLC320", "the model is not sound",
        "`mlconv check` found something that fails: the structure, loading in the runtime, or one run. The lines above name each.",
        """\
$ mlconv check big.onnx
error[MLC320]: `big.onnx` is not sound: external data, load failed
hint: mend in the source what is said above""",
        (
            "read the lines with FAILED: each tells what was found",
            "`mlconv onnx MODEL -o repaired.onnx` writes a clean copy of an ONNX model where it can",
            "`--data` or `--input`, where the model runs on other inputs than random ones",
        ),
    ),
)  # fmt: skip

_WORKER = (
    Entry(
        "MLC701", "the time limit was reached",
        "A framework's worker did not finish within `--timeout` seconds (1800 by default), and was ended. Nothing was written.",
        """\
$ mlconv onnx net.pt2 --timeout 60
error[MLC701]: no result within the time limit of 60 s
hint: --timeout 120, or a smaller model
log: ~/.cache/mlconv/logs/20261121-144502-4711-4719.log""",
        (
            "`--timeout SECONDS` with more",
            "fewer samples (`--samples 2`) or smaller inputs (`--input`), where running the source is what takes long",
            "the log tells what it was doing",
        ),
    ),
    Entry(
        "MLC702", "the memory limit was reached",
        "A framework's worker took more memory than `--memory` allows (80 % of the machine's by default) or was ended by the system "
        "for lack of it. Exporting takes several times the size of the weights.",
        """\
$ mlconv onnx net.pt2 --memory 2
error[MLC702]: the worker took more than its memory limit of 2.0 GiB
hint: --memory 4, or a machine with more memory
log: ~/.cache/mlconv/logs/20261121-144502-4711-4719.log""",
        (
            "`--memory GIB` with more, or a machine that has more",
            "smaller inputs: --input with a batch of 1 and a smaller size",
            "close what else is running; in a container, raise the container's own limit",
        ),
    ),
    Entry(
        "MLC703", "native code crashed",
        "The framework or runtime ended the worker by a signal, or it left without an answer: a defect in native code, which "
        "a broken or unusual model sets off. mlconv itself and your files are untouched.",
        """\
$ mlconv onnx net.tflite
error[MLC703]: the worker was killed by SIGABRT: native code crashed
hint: read the log; report the crash to the framework, or try another route with --via
log: ~/.cache/mlconv/logs/20261121-144502-4711-4719.log""",
        (
            "read the log: its last lines are the crash's own words",
            "another road: --via NAME, --no-optimize, or another form of the same model",
            "another version of the framework; `mlconv doctor` tells which is installed",
        ),
    ),
    Entry(
        "MLC710", "interrupted",
        "Ctrl-C, or a signal to end. The workers are gone, and an old output still stands as it was.",
        """\
$ mlconv onnx net.pt2
^C
error[MLC710]: interrupted; nothing was written
hint: run it again when you are ready""",
        ("run the same command again", "a run that was killed outright leaves a folder `.mlconv-*`, which the next run in that place removes"),
    ),
    Entry(
        "MLC799", "a defect of mlconv itself",
        "Something happened that mlconv's authors did not foresee. It says nothing about your model.",
        """\
$ mlconv inspect net.onnx
error[MLC799]: mlconv itself failed: KeyError: 'shape'
hint: --debug shows where; please report it with the command that you typed""",
        ("the same command with `--debug` prints the traceback: report it with that, and the model if you may share it", "a newer mlconv may have it mended: pip install -U mlconv"),
    ),
)  # fmt: skip

_ENVIRONMENT = (
    Entry(
        "MLC901", "a package is missing",
        "This source or target needs a framework that is not installed. mlconv installs nothing by itself; the hint is the exact command.",
        """\
$ mlconv onnx net.keras
error[MLC901]: `tf2onnx` needs `tensorflow`, `keras`, `tf2onnx`, which are not installed
hint: pip install 'mlconv[tensorflow,cpu]'""",
        (
            "type the command of the hint, in the environment that mlconv runs in",
            "MLCONV_PYTHON_TENSORFLOW=/path/to/other/venv/bin/python uses another environment, where versions clash",
            "`mlconv formats` and `mlconv doctor` show what is there and what is missing",
        ),
    ),
    Entry(
        "MLC902", "installed packages do not fit each other",
        "Two packages that own the same folder are both installed, or one needs a version of another that is not the installed one. "
        "What then happens depends on which was installed last.",
        """\
$ mlconv doctor
error[MLC902]: onnxruntime and onnxruntime-gpu are both installed, and share one folder: CUDA may be gone
hint: pip uninstall onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu""",
        ("type the command of the hint", "a fresh environment: python -m venv .venv, then pip install 'mlconv[cpu]' with the extras that you need"),
    ),
    Entry(
        "MLC903", "an interpreter that was named cannot be started",
        "MLCONV_PYTHON_<NAME> points to the Python of another environment, and nothing there can be run as one.",
        """\
$ MLCONV_PYTHON_TORCH=/opt/torch mlconv onnx net.pt2
error[MLC903]: `/opt/torch` cannot be started as a Python interpreter
  why: [Errno 13] Permission denied: '/opt/torch'
hint: let MLCONV_PYTHON_<NAME> name the `python` of an environment, or unset it""",
        (
            "name the interpreter, not its folder: /opt/torch/bin/python",
            "unset MLCONV_PYTHON_TORCH to use the environment that mlconv runs in",
            "it needs numpy and the framework; mlconv itself need not be installed there",
        ),
    ),
    Entry(
        "MLC905", "the model is newer than an installed package",
        "A later version of the framework or runtime wrote the file, and the installed one does not know what it holds: a format's version, "
        "an operator's, an argument of a layer. It says nothing against the model.",
        """\
$ mlconv onnx later.pt --input 1,4
error[MLC905]: `later.pt` was saved by a later torch than the one that is installed
  why: RuntimeError: [enforce fail at inline_container.cc:230] . Attempted to read a PyTorch file with version 999, but the maximum supported version for reading is 10. The version of your PyTorch installation may be too old, please upgrade PyTorch to latest version to mitigate this issue.
hint: pip install -U torch; or save it again with the installed version""",
        (
            "type the command of the hint",
            "MLCONV_PYTHON_TORCH=/path/to/other/venv/bin/python uses another environment's, where this one must stay",
            "save or export the model again with the version that is installed",
        ),
    ),
    Entry(
        "MLC906", "your code wants to download something",
        "What builds the module fetches weights or settings from the network, which is not there; the hubs of Hugging Face are kept offline "
        "in any case. mlconv itself never downloads.",
        """\
$ mlconv onnx nets.py:downloads --input x=1,4
error[MLC906]: `nets.py:downloads` wants to download something, and cannot
  why: <urlopen error [Errno -2] Name or service not known>
hint: make the module without it, as in pretrained=False, and give its file with --weights; or fetch it once outside mlconv, into the cache that the code looks in""",
        (
            "make the module without its weights, and give the file: --weights FILE",
            "run the code once in Python with the network on: most hubs then find the files in their cache",
            "HF_HUB_OFFLINE=0 mlconv onnx ... lets Hugging Face's hub download this once",
        ),
    ),
)  # fmt: skip

ENTRIES: tuple[Entry, ...] = (*_USAGE, *_INPUT, *_CONVERSION, *_VERDICTS, *_WORKER, *_ENVIRONMENT)
_BY_ID = {entry.id: entry for entry in ENTRIES}
