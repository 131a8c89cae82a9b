"""Pickles read without being loaded: nothing is imported, no class is looked up, nothing is called.

A pickle is a program for a stack machine. This one has the same stack and memo, but where Python's would import a name
it keeps the name, and where that would call something it keeps a note of the call. Which names are harmless is the list
of ``pickle_names``; every other name is foreign, and so is what it would have made.
"""

from __future__ import annotations

import mmap
import pickletools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, cast

from mlconv.formats.pickle_names import DTYPES, STORAGE_DTYPES, Global, is_allowed

MAX_OPERATIONS = 20_000_000  # a state dict takes about 40 for a tensor; what is longer is not read to its end
MAX_FOREIGN = 1000  # names that tell enough
_KEY_LIMIT = 200  # characters of a storage's name; torch counts the storages, or writes their addresses
_MARK = object()
_BAD_PICKLE = (ValueError, IndexError, KeyError, TypeError, OverflowError, AttributeError, RecursionError)


@dataclass(frozen=True, slots=True, eq=False)
class Storage:
    """Bytes outside the pickle.

    Attributes:
        dtype: numpy's name; None for bytes without a type.
        is_view: Whether it is a part of another storage, as torch before 1.6 could write it.
    """

    key: str
    dtype: str | None
    elements: int
    is_view: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A tensor that loading would build on a storage; ``storage`` is None where there is none, or none that was read.

    Attributes:
        is_quantized: Whether its elements stand for real numbers by a scale that is not kept here.
        is_negative, is_conjugate: Whether the storage holds the elements negated or conjugated, as torch's views do.
        is_known: Whether torch said nothing else of it that would change its elements.
    """

    storage: Storage | None
    dtype: str
    shape: tuple[int, ...]
    offset: int = 0
    strides: tuple[int, ...] = ()
    is_quantized: bool = False
    is_negative: bool = False
    is_conjugate: bool = False
    is_known: bool = True


class Mapping(dict[Any, Any]):
    """An OrderedDict, with what torch sets on a state dict as ``_metadata``."""

    versions: object = None


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """What a call would have returned.

    Attributes:
        states: What BUILD would have set on it, mostly its ``__dict__``. Items that were set on it are not kept.
    """

    by: object
    args: object = None
    states: list[Any] = field(default_factory=list)


@dataclass(slots=True)
class Pickle:
    """One pickle.

    Attributes:
        root: The value: dicts, lists (sets too), tuples, text, numbers, ``Tensor``, ``Made``.
            A key of a dict that is neither text nor a number of 64 bits nor None stands as an ``object``.
        foreign: Names outside the list, in order of appearance.
        tensors: Every tensor, in order.
        storages: Every storage by its key.
        complete: Whether it was read to its end. Where it was not, nothing is known of the rest.
    """

    root: Any = None
    foreign: list[Global] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
    storages: dict[str, Storage] = field(default_factory=dict)
    complete: bool = True

    @property
    def is_plain(self) -> bool:
        """Whether loading it with ``weights_only=True`` would import nothing but tensors and containers."""
        return self.complete and not self.foreign


def read(data: bytes | mmap.mmap, *, allow: Callable[[Global], bool] | None = None) -> Pickle:
    """Read one pickle, from the start of ``data`` or from where a mapped file stands, up to and with its STOP.

    Args:
        data: The bytes, or a file mapped into memory.
        allow: Names that are harmless besides those of the list.

    Raises:
        PickleError: The bytes are no pickle. Its ``partial`` holds what was read before.
    """
    # a mapped file clips a length that leaves it; of a plain file Python would try to allocate it
    genops = cast(
        "Callable[[object], Iterator[tuple[pickletools.OpcodeInfo, Any, int | None]]]", pickletools.genops
    )
    machine = _Machine(allow or (lambda _: False))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd escapes in text of protocol 0
        try:
            for count, (opcode, arg, _) in enumerate(genops(data)):
                if count > MAX_OPERATIONS or len(machine.result.foreign) > MAX_FOREIGN:
                    machine.result.complete = False
                    break
                machine.step(opcode.name, arg)
        except _BAD_PICKLE as error:
            machine.result.complete = False
            raise PickleError(str(error) or type(error).__name__, machine.result) from error
    return machine.result


class PickleError(ValueError):
    """The bytes are no pickle, or one that breaks off; ``partial`` is what was read before."""

    def __init__(self, why: str, partial: Pickle) -> None:
        super().__init__(why)
        self.partial = partial


_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}


class _Machine:
    """The stack machine. Python's own is Lib/pickle.py, ``_Unpickler``; operations are named as in pickletools."""

    def __init__(self, allow: Callable[[Global], bool]) -> None:
        self.result = Pickle()
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.allow = allow

    def step(self, name: str, arg: Any) -> None:
        if name in _PUSHED:
            self.stack.append(arg)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name not in _IGNORED:
            getattr(self, f"_{name.lower()}")(arg)

    def pop_mark(self) -> list[Any]:
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:  # an IndexError where there is none
            at -= 1
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise ValueError("a mark stands where a value is needed")
        return value

    def named(self, module: object, name: object) -> Global:
        if not isinstance(module, str) or not isinstance(name, str):
            module, name = "?", "?"
        found = Global(_PYTHON_2.get(module, module), name)
        if not is_allowed(found) and not self.allow(found) and found not in self.result.foreign:
            self.result.foreign.append(found)
        return found

    def made(self, by: object, args: object) -> object:
        value = _tensor(by, args)
        if value is None:
            return _mapping(args) if isinstance(by, Global) and str(by) in _MAPPINGS else Made(by, args)
        return self.kept(value)

    def kept(self, tensor: Tensor) -> Tensor:
        if tensor not in self.result.tensors[-1:]:  # a Parameter is made of the tensor before it
            self.result.tensors.append(tensor)
        return tensor

    def _mark(self, _: Any) -> None:
        self.stack.append(_MARK)

    def _stop(self, _: Any) -> None:
        self.result.root = self.pop()

    def _pop(self, _: Any) -> None:
        self.stack.pop()

    def _pop_mark(self, _: Any) -> None:
        self.pop_mark()

    def _dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def _put(self, arg: int) -> None:
        self.memo[arg] = self.stack[-1]

    _binput = _long_binput = _put

    def _memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _get(self, arg: int) -> None:
        self.stack.append(self.memo[arg])

    _binget = _long_binget = _get

    def _tuple(self, _: Any) -> None:
        self.stack.append(tuple(self.pop_mark()))

    def _tuple1(self, _: Any) -> None:
        self.stack.append((self.pop(),))

    def _tuple2(self, _: Any) -> None:
        second, first = self.pop(), self.pop()
        self.stack.append((first, second))

    def _tuple3(self, _: Any) -> None:
        third, second, first = self.pop(), self.pop(), self.pop()
        self.stack.append((first, second, third))

    def _list(self, _: Any) -> None:
        self.stack.append(self.pop_mark())

    _frozenset = _list

    def _dict(self, _: Any) -> None:
        items = self.pop_mark()
        made: dict[Any, Any] = {}
        _fill(made, items)
        self.stack.append(made)

    def _append(self, _: Any) -> None:
        self._extend([self.pop()])

    def _appends(self, _: Any) -> None:
        self._extend(self.pop_mark())

    _additems = _appends

    def _extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Made):
            raise TypeError("something is appended to what is no list")

    def _setitem(self, _: Any) -> None:
        value, key = self.pop(), self.pop()
        _fill(self.stack[-1], [key, value])

    def _setitems(self, _: Any) -> None:
        items = self.pop_mark()
        _fill(self.stack[-1], items)

    def _global(self, arg: str) -> None:
        module, _, name = arg.partition(" ")
        self.stack.append(self.named(module, name))

    def _stack_global(self, _: Any) -> None:
        name, module = self.pop(), self.pop()
        self.stack.append(self.named(module, name))

    def _inst(self, arg: str) -> None:
        module, _, name = arg.partition(" ")
        self.stack.append(self.made(self.named(module, name), tuple(self.pop_mark())))

    def _obj(self, _: Any) -> None:
        kind, *args = self.pop_mark()
        self.stack.append(self.made(kind, tuple(args)))

    def _reduce(self, _: Any) -> None:
        args, by = self.pop(), self.pop()
        self.stack.append(self.made(by, args))

    _newobj = _reduce

    def _newobj_ex(self, _: Any) -> None:
        _kwargs, args, kind = self.pop(), self.pop(), self.pop()
        self.stack.append(self.made(kind, args))

    def _build(self, _: Any) -> None:
        state = self.pop()
        target = self.stack[-1]
        tensor = _built(target, state)
        if tensor is not None:
            self.stack[-1] = self.kept(tensor)
        elif isinstance(target, Made):
            target.states.append(state)
        elif isinstance(target, Mapping) and isinstance(state, dict):
            target.versions = state.get("_metadata")

    def _persid(self, arg: str) -> None:
        self.stack.append(_storage((arg,)))

    def _binpersid(self, _: Any) -> None:
        found = _storage(self.pop())
        if isinstance(found, Storage):
            self.result.storages.setdefault(found.key, found)
        self.stack.append(found)

    def _ext1(self, arg: int) -> None:
        self.stack.append(self.named("copyreg", f"extension {arg}"))

    _ext2 = _ext4 = _ext1

    def _next_buffer(self, _: Any) -> None:
        raise ValueError("it needs buffers that lie outside of it")


_PUSHED = frozenset(
    [
        "INT",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG",
        "LONG1",
        "LONG4",
        "STRING",
        "BINSTRING",
        "SHORT_BINSTRING",
        "BINBYTES",
        "SHORT_BINBYTES",
        "BINBYTES8",
        "BYTEARRAY8",
        "UNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE",
        "BINUNICODE8",
        "FLOAT",
        "BINFLOAT",
    ]
)
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": list}
_IGNORED = frozenset({"PROTO", "FRAME", "READONLY_BUFFER"})
_MAPPINGS = frozenset({"collections.OrderedDict", "collections.Counter", "collections.defaultdict"})


def _fill(target: Any, items: list[Any]) -> None:
    if isinstance(target, Made):
        return
    if not isinstance(target, dict) or len(items) % 2:
        raise TypeError("items are set on what is no dictionary")
    for key, value in zip(items[::2], items[1::2], strict=True):
        # a tuple nested a million deep would overflow C's stack when it is hashed
        is_plain = isinstance(key, (str, float, bytes, type(None))) or is_small(key)
        target[key if is_plain else object()] = value


def is_small(value: object) -> bool:
    """Whether a value is an integer of 64 bits. Python writes none of more than 4300 digits as text."""
    return isinstance(value, int) and -(1 << 63) <= value < 1 << 63


def storage_key(value: object) -> str | None:
    """The name of a storage; None of what names none. Tuples that hold each other twice over would be endless as text."""
    if isinstance(value, bytes):
        return value[:_KEY_LIMIT].decode("latin-1")
    return str(value)[:_KEY_LIMIT] if isinstance(value, str) or is_small(value) else None


def _mapping(args: object) -> dict[Any, Any]:
    """An OrderedDict; Python 2 gave its items to the call as a list of pairs."""
    made = Mapping()
    match args:
        case (list() as pairs,) if all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs):
            _fill(made, [part for pair in pairs for part in pair])
    return made


def _storage(identity: object) -> object:
    """The storage that torch's ``persistent_load`` would give: ("storage", type, key, location, elements, ...)."""
    if isinstance(identity, tuple) and len(identity) >= 5 and identity[0] in ("storage", b"storage"):
        _, kind, key, _, elements, *view = identity
        name = storage_key(key)
        if (
            name is not None
            and isinstance(kind, Global)
            and isinstance(elements, int)
            and 0 <= elements < 1 << 60
        ):
            dtype = STORAGE_DTYPES.get(kind.name.removesuffix("Storage"))
            return Storage(name, dtype, elements, is_view=view[:1] not in ([], [None]))
    return Made("persistent", identity)


def _tensor(by: object, args: object) -> Tensor | None:
    """The tensor that a call would build, or None where it builds none that can be told."""
    if (
        not isinstance(by, Global)
        or not isinstance(args, tuple)
        or by.module not in ("torch._utils", "torch._tensor", "torch.nn.parameter")
    ):
        return None
    match by.name.removeprefix("_rebuild_"), args:
        case (
            ("tensor" | "tensor_v2" | "qtensor") as kind,
            (Storage() as storage, int() as offset, shape, strides, *rest),
        ):
            made = _checked(storage, storage.dtype or "uint8", shape, offset, strides)
            if kind == "qtensor":
                return replace(made, is_quantized=True)
            return _with_bits(made, rest[2:])  # after requires_grad and the hooks
        case "tensor_v3", (Storage() as storage, int() as offset, shape, strides, _, _, dtype, *rest):
            return _with_bits(_checked(storage, _dtype(dtype), shape, offset, strides), rest)
        case "meta_tensor_no_storage", (dtype, shape, *_):
            return _checked(None, _dtype(dtype), shape, 0, ())
        case (("parameter" | "parameter_with_state" | "Parameter"), (Tensor() as tensor, *_)):
            return tensor
        case "from_type_v2", (function, _, inner, *_):
            return _tensor(function, inner)
        case _:
            return None


def _with_bits(tensor: Tensor, rest: list[Any]) -> Tensor:
    """The tensor with the bits of which its metadata tells (torch/_utils.py, ``set_tensor_metadata``)."""
    match rest:
        case [] | [None]:
            return tensor
        case [dict() as bits] if bits.keys() <= {"neg", "conj"} and all(
            isinstance(bit, bool) for bit in bits.values()
        ):
            return replace(tensor, is_negative=bits.get("neg", False), is_conjugate=bits.get("conj", False))
        case _:
            return replace(tensor, is_known=False)


def _built(target: object, state: object) -> Tensor | None:
    """The tensor that BUILD makes: torch before 0.4 set a tensor's storage so. It leaves the kind of all else."""
    if not isinstance(target, Made) or not isinstance(state, tuple) or len(state) != 4:
        return None
    storage, offset, shape, strides = state
    if not isinstance(storage, Storage) or not isinstance(offset, int):
        return None
    return _checked(storage, storage.dtype or "uint8", shape, offset, strides)


def _checked(storage: Storage | None, dtype: str, shape: object, offset: int, strides: object) -> Tensor:
    sizes, steps = _sizes(shape), _sizes(strides)
    if not 0 <= offset < 1 << 60:
        raise ValueError("a tensor begins at an element of its storage that cannot be")
    if storage is not None and len(steps) != len(sizes):
        raise ValueError(f"a tensor has {len(sizes)} sizes and {len(steps)} strides")
    return Tensor(storage, dtype, sizes, offset, steps)


def _sizes(value: object) -> tuple[int, ...]:
    if isinstance(value, Made) and isinstance(value.args, tuple) and len(value.args) == 1:
        value = value.args[0]  # torch.Size((2, 3))
    if not isinstance(value, (tuple, list)) or len(value) > 64:
        raise ValueError("a tensor's shape is no list of sizes")
    if not all(isinstance(size, int) and 0 <= size < 1 << 60 for size in value):
        raise ValueError("a tensor has a size that cannot be")
    return tuple(value)


def _dtype(value: object) -> str:
    return DTYPES.get(value.name, "uint8") if isinstance(value, Global) else "uint8"
