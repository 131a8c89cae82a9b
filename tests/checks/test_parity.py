"""The verdict on two runs of one output, by figures worked out by hand."""

import numpy as np
import pytest

from mlconv.checks.parity import OutputParity, Rule, compare

RNG = np.random.default_rng(0)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True), np.float32)


def one(reference: list[np.ndarray], candidate: list[np.ndarray | None], **rule: object) -> OutputParity:
    return compare("y", reference, candidate, Rule(**rule))  # type: ignore[arg-type]


def test_the_figures_are_those_worked_out_by_hand() -> None:
    reference = [np.array([[1.0, 2.0, 4.0]], np.float32), np.array([[0.0, -4.0, 3.0]], np.float32)]
    candidate = [np.array([[1.0, 2.5, 4.0]], np.float32), np.array([[0.0, -4.0, 4.0]], np.float32)]
    row = one(reference, list(candidate))
    assert row.max_abs == 1.0
    assert row.mean_abs == pytest.approx(1.5 / 6)
    assert row.max_rel == pytest.approx(1 / 3)
    assert row.range == 8.0
    assert row.atol == pytest.approx(8e-5)
    assert row.cosine == pytest.approx(50 / np.sqrt(46 * 55.25))
    assert row.sqnr_db == pytest.approx(10 * np.log10(46 / 1.25))
    assert row.argmax_agreement == 1.0
    assert row.worst_index == (1, 0, 2)
    assert row.worst == (3.0, 4.0)
    assert not row.ok


def test_two_unrelated_softmaxes_disagree_although_they_differ_by_less_than_a_thousandth() -> None:
    a, b = (softmax(RNG.normal(0, 0.05, (4, 1000))) for _ in range(2))
    row = one([a[:2], a[2:]], [b[:2], b[2:]])
    assert row.max_abs is not None
    assert row.max_abs < 1e-3
    assert not row.ok


def test_rounding_in_another_order_is_allowed() -> None:
    a = [RNG.normal(0, 3, (4, 10)).astype(np.float32) for _ in range(4)]
    row = one(a, [x * np.float32(1 + 2e-6) for x in a])
    assert row.ok
    assert row.informative


def test_half_precision_is_given_a_hundredth_of_the_range_and_no_more() -> None:
    a = [RNG.normal(0, 1, (4, 10)).astype(np.float32) for _ in range(4)]
    assert one(a, [x.astype(np.float16).astype(np.float32) for x in a], computes="fp16").ok
    assert not one(a, [x + np.float32(0.1) for x in a], computes="fp16").ok


def test_the_user_s_tolerance_replaces_the_default() -> None:
    a = [np.array([[1.0, 2.0]], np.float32)] * 2
    b = [np.array([[1.5, 2.0]], np.float32)] * 2
    assert not one(a, list(b)).ok
    assert one(a, list(b), atol=0.6).ok
    assert not one(a, list(b), atol=0.4, rtol=0.0).ok


def test_nan_where_the_source_has_numbers_is_told_in_words() -> None:
    row = one([np.ones((1, 3), np.float32)], [np.array([[1, np.nan, 1]], np.float32)])
    assert not row.ok
    assert row.fault_kind == "not-finite"
    assert row.fault == "`y` is NaN in 1 of 3 elements of sample 0, where the source has numbers"


def test_nan_in_the_source_itself_is_a_failure() -> None:
    row = one([np.array([np.nan, 1], np.float32)], [np.array([np.nan, 1], np.float32)])
    assert not row.ok
    assert row.fault is not None
    assert "the source itself gives NaN" in row.fault


def test_infinity_on_one_side_alone_is_a_failure_and_on_both_is_none() -> None:
    inf = np.array([np.inf, 1, 2], np.float32)
    assert one([inf, inf + 1], [inf, inf + 1]).ok
    row = one([np.array([9, 1, 2], np.float32)], [inf])
    assert not row.ok
    assert row.fault is not None
    assert "infinity" in row.fault


@pytest.mark.parametrize(
    ("candidate", "word"),
    [
        (None, "missing"),
        (np.zeros((1, 4), np.float32), r"shape \[1, 4\] instead of \[1, 3\]"),
        (np.zeros((1, 3), np.int64), "int64 instead of float32"),
        (np.zeros((1, 3), np.float16), "float16 instead of float32"),
    ],
)
def test_a_missing_output_another_shape_or_another_dtype_is_told_in_words(
    candidate: np.ndarray | None, word: str
) -> None:
    row = one([np.zeros((1, 3), np.float32)], [candidate])
    assert not row.ok
    assert row.fault_kind == "signature"
    assert row.fault is not None
    import re

    assert re.search(word, row.fault)


def test_quantized_integers_may_differ_by_two_steps_or_as_far_as_the_source_s_own_kernels() -> None:
    a = [RNG.integers(0, 200, (2, 50)).astype(np.uint8) for _ in range(3)]
    assert one(a, [x + np.uint8(2) for x in a], step=1.0).ok
    assert not one(a, [x + np.uint8(3) for x in a], step=1.0).ok
    row = one(a, [x + np.uint8(3) for x in a], step=1.0, spread=(5.0, 1.0))
    assert row.ok
    assert (row.max_lsb, row.spread, row.atol) == (3.0, 5.0, 5.0)


def test_kernels_that_lie_apart_on_one_sample_excuse_nothing_on_another() -> None:
    small, large = (RNG.standard_normal((2, 50)).astype(np.float32) * scale for scale in (1.0, 1000.0))
    spread = (0.01, 6.0)
    assert one([small, large], [small + np.float32(0.005), large + np.float32(5.0)], spread=spread).ok
    assert not one([small, large], [small + np.float32(5.0), large], spread=spread).ok


def test_kernels_that_lie_apart_by_more_than_rounding_are_no_excuse() -> None:
    a = [RNG.standard_normal((2, 50)).astype(np.float32) for _ in range(2)]
    assert not one(a, [x + np.float32(0.5) for x in a], spread=(1.0, 1.0)).ok


def test_indices_must_be_equal() -> None:
    a = [np.arange(10)[None], np.arange(10)[None] + 1]
    assert one(a, list(a)).ok
    assert not one(a, [a[0], a[1] + 1]).ok


def test_indices_may_differ_where_the_source_s_own_kernels_do() -> None:
    a = [np.arange(100)[None] % 5]
    b = a[0].copy()
    b[0, 0] = 4
    assert one(a, [b], spread_share=0.01).ok
    b[0, 1] = 4
    assert not one(a, [b], spread_share=0.01).ok


def test_an_output_that_does_not_move_is_uninformative() -> None:
    still = [np.full((1, 5), 0.5, np.float32)] * 4
    row = one(still, list(still))
    assert row.ok
    assert not row.informative
    moving = [np.full((1, 5), value, np.float32) for value in (0.1, 0.2)]
    assert one(moving, list(moving)).informative


def test_an_output_that_differs_within_itself_and_never_from_sample_to_sample_is_uninformative() -> None:
    still = [np.arange(5, dtype=np.float32)[None]] * 4
    assert not one(still, list(still)).informative


@pytest.mark.parametrize(
    ("moves", "apart", "informative"), [(3, 0, True), (1, 0, False), (0, 0, False), (3, 1, False)]
)
def test_codes_that_are_equal_while_they_move_by_more_than_a_step_show_something(
    moves: int, apart: int, informative: bool
) -> None:
    a = [np.full((1, 5), 7 + number % 2 * moves, np.int8) for number in range(4)]
    b = [a[0] + np.int8(apart), *a[1:]]
    assert one(a, list(b), step=1.0, spread=(4.0,)).informative is informative
    real = [[np.float32(0.5) * x.astype(np.float32) for x in side] for side in (a, b)]
    assert one(real[0], list(real[1]), step=0.5, spread=(2.0,)).informative is informative


def test_an_empty_output_is_uninformative() -> None:
    empty = [np.zeros((0, 4), np.float32)] * 2
    row = one(empty, list(empty))
    assert row.ok
    assert not row.informative


def test_samples_of_different_shapes_are_one_verdict() -> None:
    a = [np.ones((1, 3), np.float32), np.zeros((2, 3), np.float32), np.ones((1, 3), np.float32) * 2]
    row = one(a, [a[0], a[1] + np.float32(1), a[2]])
    assert not row.ok
    assert row.worst_index is not None
    assert row.worst_index[0] == 1


def test_booleans_are_compared_as_they_are() -> None:
    a = [np.array([True, False]), np.array([False, False])]
    assert one(a, list(a)).ok
    assert not one(a, [~a[0], a[1]]).ok


def test_what_the_source_s_own_last_bit_explains_is_allowed_and_no_more() -> None:
    a = [np.linspace(0, 1, 10, dtype=np.float32)[None] * (i + 1) for i in range(3)]
    b: list[np.ndarray | None] = [x + np.float32(2e-4) for x in a]
    assert not one(a, b).ok
    assert one(a, b, noise=(5e-5,) * 3).ok
    assert not one(a, [x + np.float32(5e-4) for x in a], noise=(5e-5,) * 3).ok


def test_a_network_that_jumps_at_the_last_bit_is_not_excused_from_everything() -> None:
    a = [np.linspace(0, 1, 10, dtype=np.float32)[None] * (i + 1) for i in range(3)]
    row = one(a, [x + np.float32(0.1) for x in a], noise=(1.0,) * 3)
    assert row.atol == pytest.approx(3e-3)
    assert not row.ok


def test_one_value_near_zero_makes_no_fillers_of_the_rest() -> None:
    """A tanh of 32 units with one of them at 5e-6, as a small BERT's pooler has: 31 results, and no mask."""
    a = np.linspace(0.01, 0.3, 32, dtype=np.float32)[None]
    a[0, 12] = -5.4e-6
    found = compare("y", [a], [a + np.float32(1e-7)], Rule())
    assert found.ok
    assert found.atol == pytest.approx(1e-5 * (0.3 + 5.4e-6), rel=0.05)


def test_the_filler_of_a_mask_widens_no_tolerance() -> None:
    logits = [RNG.normal(size=(4, 20)).astype(np.float32) for _ in range(4)]
    masks = [RNG.random((4, 20)) < 0.5 for _ in range(4)]
    a = [np.where(mask, x, np.float32(-1e9)) for x, mask in zip(logits, masks, strict=True)]
    b = [np.where(mask, -x, np.float32(-1e9)) for x, mask in zip(logits, masks, strict=True)]
    assert one(a, list(a)).ok
    assert not one(a, list(b)).ok


def test_boxes_in_pixels_do_not_excuse_the_scores_beside_them() -> None:
    a = [
        np.concatenate([640 * RNG.random((100, 4)), RNG.random((100, 80))], 1).astype(np.float32)
        for _ in range(4)
    ]
    b = [np.concatenate([x[:, :4], x[:, :3:-1]], 1) for x in a]
    assert not one(a, list(b)).ok
    assert not one(a, [x + np.float32(4e-3) for x in a]).ok


def test_each_sample_is_judged_by_its_own_scale() -> None:
    a = [RNG.normal(size=(4, 20)).astype(np.float32) * scale for scale in (1, 1, 1e4, 1)]
    assert not one(a, [a[0], a[1] + np.float32(1e-3), a[2], a[3]]).ok
    assert one(a, [a[0], a[1], a[2] + np.float32(1e-3), a[3]]).ok


def test_class_ids_of_any_width_must_be_equal() -> None:
    a = [RNG.integers(0, 10, (4, 8)).astype(np.uint8) for _ in range(3)]
    assert not one(a, [x + np.uint8(1) for x in a]).ok


def test_text_is_equal_or_not() -> None:
    a = [np.array(["cat", "dog"]), np.array(["cat", "cow"])]
    assert one(a, list(a)).ok
    assert not one(a, [a[0], np.array(["cat", "dog"])]).ok
