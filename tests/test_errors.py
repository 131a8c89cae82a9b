"""Errors: ids, exit codes, the text that a terminal shows, the way through JSON."""

import io
import json
import re
from contextlib import redirect_stderr

import pytest

from mlconv import errors
from mlconv.cli.terminal import Session
from mlconv.errors import MlconvError, by_id, counted

FAMILIES: dict[type[MlconvError], tuple[str, int]] = {
    errors.UsageError: ("0", 2),
    errors.InputError: ("1", 3),
    errors.ConversionError: ("2", 4),
    errors.VerdictError: ("3", 1),
    errors.WorkerError: ("7", 7),
    errors.SetupError: ("9", 5),
}
KINDS = list(by_id().values())
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.id}-{kind.__name__}")


def shown(error: MlconvError) -> list[str]:
    heard = io.StringIO()
    with redirect_stderr(heard):
        Session(no_color=True).error(error)
    return heard.getvalue().splitlines()


def concrete(kind: type[MlconvError] = MlconvError) -> list[type[MlconvError]]:
    """Every subclass without subclasses of its own, and every one that can be raised: it has an id."""
    below = [found for child in kind.__subclasses__() for found in concrete(child)]
    return [*([kind] if "id" in vars(kind) else []), *below]


@every_kind
def test_a_terminal_shows_what_why_hint_and_log_a_line_each(kind: type[MlconvError]) -> None:
    error = kind("`net.pt2` is 3 bytes long", why="it was cut off", fix="fetch it again", log="/logs/1.log")
    assert shown(error) == [
        f"error[{kind.id}]: `net.pt2` is 3 bytes long",
        "  why: it was cut off",
        "hint: fetch it again",
        "log: /logs/1.log",
    ]


@every_kind
def test_what_is_not_known_takes_no_line(kind: type[MlconvError]) -> None:
    assert shown(kind("`net.pt2` is cut off", fix="fetch it again")) == [
        f"error[{kind.id}]: `net.pt2` is cut off",
        "hint: fetch it again",
    ]


@every_kind
def test_an_error_comes_back_from_its_json_as_it_was(kind: type[MlconvError]) -> None:
    error = kind("`größe` is 3", why="because", fix="--force", log="/logs/1.log")
    back = MlconvError.from_json(json.loads(json.dumps(error.to_json())))
    assert type(back) is kind
    assert (back.what, back.why, back.fix, back.log) == ("`größe` is 3", "because", "--force", "/logs/1.log")
    assert str(back).splitlines()[:2] == [f"[{back.id}] `größe` is 3", "  why: because"]


@every_kind
def test_the_document_has_the_keys_of_the_contract(kind: type[MlconvError]) -> None:
    assert kind("a", fix="b").to_json() == {
        "schema": "mlconv.error/1", "ok": False, "id": kind.id, "code": kind.code, "exit": kind.exit,
        "what": "a", "why": None, "hint": "b", "log": None, "retry": kind.retry,
    }  # fmt: skip


@every_kind
def test_an_id_stands_in_the_hundreds_of_its_family_and_has_its_exit_code(kind: type[MlconvError]) -> None:
    [(hundreds, code)] = [told for family, told in FAMILIES.items() if issubclass(kind, family)]
    assert re.fullmatch(rf"MLC{hundreds}\d\d", kind.id)
    assert kind.exit == (130 if kind is errors.Interrupted else code)


@every_kind
def test_a_code_is_the_id_in_words(kind: type[MlconvError]) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", kind.code)


def test_no_id_and_no_code_is_used_twice() -> None:
    kinds = concrete()
    assert len({kind.id for kind in kinds}) == len({kind.code for kind in kinds}) == len(kinds)
    assert set(kinds) == set(KINDS), "every class with an id is found by it"


def test_mlc000_is_never_used() -> None:
    assert "MLC000" not in by_id()


def test_ids_come_in_order() -> None:
    assert list(by_id()) == sorted(by_id())


def test_every_class_is_a_family_or_has_an_id_and_a_code_of_its_own() -> None:
    families = {MlconvError, *FAMILIES}
    classes = {
        value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, MlconvError)
    }
    assert {kind for kind in classes if "id" not in vars(kind) or "code" not in vars(kind)} == families


def test_limits_and_interruptions_may_be_tried_again_and_nothing_else() -> None:
    assert {kind for kind in KINDS if kind.retry} == {errors.TimedOut, errors.OutOfMemory, errors.Interrupted}


def test_a_fix_is_never_left_out() -> None:
    with pytest.raises(TypeError, match="fix"):
        errors.Corrupt("`net.pt2` is cut off")  # type: ignore[call-arg]


def test_an_unknown_input_tells_the_names_and_types_the_nearest() -> None:
    error = errors.UnknownInput.named("imge", ["image", "mask"])
    assert error.what == "the model has no input `imge`; it has `image`, `mask`"
    assert error.fix == "--input image=..."


def test_an_unknown_input_that_is_like_none_types_the_first() -> None:
    assert errors.UnknownInput.named("q", ["image", "mask"]).fix == "--input image=..."


def test_an_input_of_a_model_without_inputs_is_to_be_left_out() -> None:
    error = errors.UnknownInput.named("x", [])
    assert (error.what, error.fix) == ("the model has no input `x`; it has none", "leave --input out")


def test_the_nearest_names_come_best_first() -> None:
    assert errors.nearest("--opzet", ["--outputs", "--opset", "--force"])[0] == "--opset"


def test_no_name_is_near_to_one_that_is_like_none() -> None:
    assert errors.nearest("zzz", ["image", "mask"]) == []


def test_at_most_the_limit_of_names_is_near() -> None:
    assert len(errors.nearest("conv1", [f"conv{i}" for i in range(9)], 2)) == 2


def test_a_list_of_names_has_backticks() -> None:
    assert errors.listed(["a", "b"]) == "`a`, `b`"
    assert errors.listed([]) == ""


def test_a_long_list_of_names_is_cut_and_counts_the_rest() -> None:
    assert errors.listed(["a", "b", "c", "d"], 2) == "`a`, `b` and 2 more"
    assert errors.listed(["a", "b"], 2) == "`a`, `b`"


def test_what_is_counted_is_told_in_the_singular_and_the_plural() -> None:
    assert [counted(number, "tensor") for number in (0, 1, 2, 1024)] == [
        "0 tensors", "1 tensor", "2 tensors", "1,024 tensors",
    ]  # fmt: skip
