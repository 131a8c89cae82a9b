"""Loading a `.pt2` archive without running anything that it holds.

``torch.export.load`` of torch 2.13 trusts the file: it unpickles weights, constants and opaque objects, falls back to
unpickling sample inputs, and loads compiled libraries under ``data/aotinductor`` (torch/export/pt2_archive/_package.py).
So the archive is written anew, of the members that a program needs, each one made harmless: the program's JSON is
checked word by word (``torch_pt2_program``), tensors that were pickled are read with ``weights_only=True`` and saved
again, and everything else is left out. torch loads that copy.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch

from mlconv.convert.torch_import.pt2_program import safe_program, to_cpu
from mlconv.errors import (
    AotInductorPackage,
    Corrupt,
    MlconvError,
    SourceDoesNotRun,
    UnknownSignature,
    UntrustedPickle,
    listed,
)
from mlconv.formats.refs import for_shell

_COPIED = ("archive_format", "archive_version", "byteorder", ".data/version")
_LEGACY = "serialized_exported_program.json"  # the layout that torch 2.1 to 2.6 wrote
_LEGACY_PAYLOADS = ("serialized_state_dict.pt", "serialized_constants.pt")
_CHUNK_BYTES = 1 << 24
_MOST_EXPANSION = 20
_MOST_JSON_BYTES = 1 << 30  # a program of 10,000 operators has about 20 MB


def load(path: Path, ref: str, scratch: Path, name: str | None = None) -> torch.export.ExportedProgram:
    """The program of a `.pt2` archive, on the CPU.

    Args:
        path: The archive; only read.
        ref: As the user calls it, for messages.
        scratch: An existing folder for the harmless copy.
        name: Which program, where the archive holds several.

    Raises:
        Corrupt, NotConvertible, UnknownSignature: The archive is broken, compiled, or has no such program.
        UntrustedPickle, UntrustedCode: It holds a pickle or an expression that only running could decode.
        SourceDoesNotRun: torch does not read this version of the format.
    """
    clean = scratch / "program.pt2"
    try:
        with zipfile.ZipFile(path) as archive, zipfile.ZipFile(clean, "w", zipfile.ZIP_STORED) as copy:
            _Copy(archive, copy, ref).write(name)
        return torch.export.load(clean)
    except MlconvError:
        raise
    except (
        zipfile.BadZipFile,
        KeyError,
        UnicodeDecodeError,
        json.JSONDecodeError,
        RecursionError,
        EOFError,
    ) as error:
        raise Corrupt(
            f"`{ref}` is a damaged .pt2 archive",
            why=f"{type(error).__name__}: {error}",
            fix="save it again with torch.export.save",
        ) from error
    except Exception as error:  # torch raises AssertionError, RuntimeError, SerializeError and others here
        raise SourceDoesNotRun(
            f"torch {torch.__version__} does not read `{ref}`",
            why=_last_line(error),
            fix="save it again with torch.export.save of this torch version, or install the version that wrote it",
        ) from error
    finally:
        clean.unlink(missing_ok=True)


class _Copy:
    """The members of one archive, and the archive that takes their harmless forms."""

    def __init__(self, archive: zipfile.ZipFile, copy: zipfile.ZipFile, ref: str) -> None:
        self.archive, self.copy, self.ref = archive, copy, ref
        names = archive.namelist()
        if not names:
            raise Corrupt(f"`{ref}` is an empty archive", fix="save it again with torch.export.save")
        size = sum(info.file_size for info in archive.infolist())
        if size > _MOST_EXPANSION * Path(str(archive.filename)).stat().st_size + (1 << 20):
            raise Corrupt(
                f"`{ref}` unpacks to {size} bytes", why="torch writes its archives without compression",
                fix="save it again with torch.export.save",
            )  # fmt: skip
        self.root = "" if _LEGACY in names else names[0].partition("/")[0] + "/"
        self.names = frozenset(name.removeprefix(self.root) for name in names if name.startswith(self.root))

    def write(self, name: str | None) -> None:
        if _LEGACY in self.names:
            self._write_legacy()
            return
        model = self._chosen(name)
        # torch's reader takes the first member's folder as the archive's root
        for member in _COPIED:
            if member in self.names:
                self._put(member, self._read(member, 64))
        self._put(
            "models/model.json", safe_program(self._read(f"models/{model}.json", _MOST_JSON_BYTES), self.ref)
        )
        self._put("data/sample_inputs/model.pt", b"")
        for folder, kind in (("weights", "weight"), ("constants", "constant")):
            self._write_payloads(folder, kind, model)

    def _chosen(self, name: str | None) -> str:
        models = sorted(
            n[len("models/") : -len(".json")]
            for n in self.names
            if n.startswith("models/") and n.endswith(".json")
        )
        if not models:
            raise AotInductorPackage(
                f"`{self.ref}` holds no exported program",
                why="compiled archives (AOTInductor) hold machine code in place of the network",
                fix="save the program that was compiled, with torch.export.save",
            )
        if name is None and ("model" in models or len(models) == 1):
            return "model" if "model" in models else models[0]
        if name in models:
            return str(name)
        raise UnknownSignature(
            f"`{self.ref}` holds the programs {listed(models)}" + (f" and no `{name}`" if name else ""),
            fix=f"--signature {for_shell(models[0])}",
        )

    def _write_payloads(self, folder: str, kind: str, model: str) -> None:
        """Tensors as raw bytes are copied; pickled ones are read as tensors alone and saved again."""
        legacy = f"data/{folder}/{model}.pt"
        if legacy in self.names:
            self._put(f"data/{folder}/model.pt", self._saved_again(legacy, f"the {kind}s"))
            return
        config = json.loads(self._read(f"data/{folder}/{model}_{folder}_config.json", _MOST_JSON_BYTES))
        done: set[str] = set()
        for tensor, entry in config["config"].items():
            member = f"data/{folder}/{self._payload(entry, kind, tensor)}"
            if member not in done:
                done.add(member)
                if entry["use_pickle"]:
                    self._put(member, self._saved_again(member, f"{kind} `{tensor}`"))
                else:
                    self._stream(member)
        self._put(f"data/{folder}/model_{folder}_config.json", json.dumps(to_cpu(config)).encode())

    def _payload(self, entry: Mapping[str, Any], kind: str, tensor: str) -> str:
        name = str(entry["path_name"])
        if "/" in name or "\\" in name or name.startswith("."):
            raise Corrupt(
                f"{kind} `{tensor}` of `{self.ref}` lies at `{name}`",
                fix="save it again with torch.export.save",
            )
        if kind == "constant" and not name.startswith("tensor_"):
            raise UntrustedPickle(
                f"`{self.ref}` holds the object `{tensor}`, which only unpickling could read",
                why="constants that are no tensors are stored as pickles, and loading one runs its code",
                fix="export a module whose constants are tensors alone",
            )
        return name

    def _saved_again(self, member: str, what: str) -> bytes:
        """What a pickle holds, if it holds tensors and containers alone, as a pickle of torch's own making."""
        try:
            value = torch.load(io.BytesIO(self._read(member, None)), weights_only=True, map_location="cpu")
        except Exception as error:
            raise UntrustedPickle(
                f"{what} of `{self.ref}` cannot be read without running the pickle that holds it",
                why=_last_line(error),
                fix="save it again with torch.export.save, of plain tensors",
            ) from error
        buffer = io.BytesIO()
        torch.save(value, buffer)
        return buffer.getvalue()

    def _write_legacy(self) -> None:
        for member in ("version", _LEGACY):
            data = self._read(member, _MOST_JSON_BYTES)
            self._put(member, safe_program(data, self.ref) if member == _LEGACY else data)
        for member in _LEGACY_PAYLOADS:
            self._put(member, self._saved_again(member, f"`{member}`") if member in self.names else b"")
        self._put("serialized_example_inputs.pt", b"")

    def _read(self, member: str, most: int | None) -> bytes:
        info = self.archive.getinfo(self.root + member)
        if most is not None and info.file_size > most:
            raise Corrupt(
                f"`{member}` in `{self.ref}` has {info.file_size} bytes",
                fix="save it again with torch.export.save",
            )
        return self.archive.read(info)

    def _put(self, member: str, data: bytes) -> None:
        # a fixed date, so that the copy is a function of the source alone
        self.copy.writestr(zipfile.ZipInfo(("program/" if self.root else "") + member), data)

    def _stream(self, member: str) -> None:
        info = zipfile.ZipInfo("program/" + member)
        info.file_size = self.archive.getinfo(self.root + member).file_size
        with self.archive.open(self.root + member) as source, self.copy.open(info, "w") as target:
            _copy_bytes(source, target)


def _copy_bytes(source: IO[bytes], target: IO[bytes]) -> None:
    while chunk := source.read(_CHUNK_BYTES):
        target.write(chunk)


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1][:300]}" if lines else type(error).__name__
