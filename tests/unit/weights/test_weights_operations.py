"""Operations move values, and their reverses move them back."""

from __future__ import annotations

import copy
import pickle
from operator import methodcaller

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dtype_sampler.weights import (
    Chunk,
    Concatenate,
    Interleave,
    OperationError,
    Pad,
    PermuteForRope,
    RegroupExperts,
    Reshape,
    Scale,
    Split,
    Stack,
    Transpose,
    UngroupExperts,
    Unpad,
    Unstack,
)

EVERY = [Stack(1), Unstack(1), Concatenate(1), Concatenate(0, [1, 2]), Chunk(-1), Split([1, 2], 1)]
EVERY.append(Transpose(0, 2))
OTHERS = [
    *(Split(), Interleave(1), PermuteForRope(4, [0]), Reshape((2, -1)), Scale((128, 128))),
    *(RegroupExperts(), UngroupExperts(), Unpad(), Pad(1), Transpose(0, 2, unless_fits=True)),
]


def tensors(*shapes):
    """Tensors whose elements are all different."""
    given, start = [], 0
    for shape in shapes:
        one = torch.arange(start, start + torch.Size(shape).numel()).reshape(shape)
        start += one.numel()
        given.append(one)
    return given


def same(one, other):
    return [[t.tolist() for t in column] for column in one] == [
        [t.tolist() for t in column] for column in other
    ]


dims = st.sampled_from([0, 1, -1, -2])


@given(dims, st.integers(1, 4), st.integers(1, 3))
@settings(deadline=None)
def test_stack_and_back(dim, count, columns):
    given = [tensors(*[(2, 3)] * count) for _ in range(columns)]
    stacked = Stack(dim).convert(given, columns)
    assert [len(column) for column in stacked] == [1] * columns
    assert same([[torch.stack(column, dim)] for column in given], stacked)
    assert same(Stack(dim).reverse().convert(stacked, columns), given)


@given(dims, st.lists(st.integers(1, 3), min_size=2, max_size=4), st.integers(1, 2))
@settings(deadline=None)
def test_concatenate_and_back(dim, sizes, groups):
    shape = [2, 2]
    columns = []
    for size in sizes:
        shape[dim] = size
        columns.append(tensors(*[tuple(shape)] * groups))
    operation = Concatenate(dim, sizes)
    joined = operation.convert(columns, 1)
    assert len(joined) == 1
    assert len(joined[0]) == groups
    assert joined[0][0].shape[dim] == sum(sizes)
    assert same(operation.reverse().convert(joined, len(sizes)), columns)
    if len(set(sizes)) == 1:
        equal = Concatenate(dim)
        assert same(equal.convert(columns, 1), joined)
        assert same(equal.reverse().convert(joined, len(sizes)), columns)


@given(dims, st.integers(2, 4))
@settings(deadline=None)
def test_chunk_and_back(dim, parts):
    (given,) = tensors((4 * parts, 4 * parts))
    cut = Chunk(dim).convert([[given]], parts)
    assert len(cut) == parts
    assert same(Chunk(dim).reverse().convert(cut, 1), [[given]])


def test_transpose_is_its_own_reverse():
    given = tensors((2, 3), (4, 5))
    turned = Transpose(0, 1).convert([given], 1)
    assert [tuple(one.shape) for one in turned[0]] == [(3, 2), (5, 4)]
    assert same(Transpose().reverse().convert(turned, 1), [given])


@pytest.mark.parametrize("operation", EVERY, ids=repr)
class TestEveryOperation:
    def test_its_reverse_has_it_as_reverse(self, operation):
        assert operation.reverse().reverse() == operation

    def test_what_gives_views_gives_nothing_else(self, operation):
        columns = [tensors((3, 3, 3))]
        if not getattr(operation, "gives_views", False):
            columns = [tensors((1, 2, 2)), tensors((2, 2, 2))]
            with_sizes = (
                type(operation)(0, [1, 2]) if isinstance(operation, Concatenate) else operation
            )
            made = with_sizes.convert(columns, 1)
        else:
            made = operation.convert(columns, 3 if isinstance(operation, Chunk) else 2)
        given = {one.untyped_storage().data_ptr() for column in columns for one in column}
        found = {one.untyped_storage().data_ptr() for column in made for one in column}
        assert found.issubset(given) == getattr(operation, "gives_views", False)

    def test_is_a_plain_value(self, operation):
        names = {type(one).__name__: type(one) for one in EVERY}
        for other in (
            copy.deepcopy(operation),
            pickle.loads(pickle.dumps(operation)),
            eval(repr(operation), names),
        ):
            assert other == operation
            assert hash(other) == hash(operation)
        assert operation not in [one for one in EVERY if one is not operation]
        with pytest.raises(AttributeError):
            setattr(operation, type(operation).__slots__[0], 5)


@pytest.mark.parametrize(
    ("operation", "shapes", "targets", "message"),
    [
        (Unstack(), [[(2,), (2,)]], 1, r"Unstack\(dim=0\) takes one tensor of a source, .* are 2"),
        (Unstack(), [[]], 1, r"Unstack\(dim=0\) takes one tensor of a source, and there are 0"),
        (Concatenate(), [[(2,)]], 1, r"joins several tensors, and there is one"),
        (Concatenate(0, [1, 2]), [[(2,)], [(1,)]], 1, "the parts are 2 and 1 long"),
        (Concatenate(), [[(2,)], [(2,)] * 2, [(2,)]], 1, "the sources give 1, 2 and 1 tensors"),
        (Chunk(), [[(2,)], [(2,)]], 2, r"Chunk\(dim=0\) takes one source, and there are 2"),
        (Chunk(), [[(5,)]], 2, "5 can't be cut into 2 equal parts"),
        (Split([2, 2]), [[(5,)]], 2, r"the tensor is 5 long, not 2\+2"),
    ],
)
def test_what_they_can_not_take(operation, shapes, targets, message):
    with pytest.raises(OperationError, match=message):
        operation.convert([tensors(*column) for column in shapes], targets)


def test_what_the_message_says_to_write_works():
    columns = [tensors((2,)), tensors((3,))]
    with pytest.raises(OperationError) as error:
        Concatenate(0, [3, 2]).convert(columns, 1)
    written = str(error.value).partition("write ")[2].partition(" if")[0]
    operation = eval(written)
    assert same(operation.reverse().convert(operation.convert(columns, 1), 2), columns)


def test_sizes_may_be_any_sequence():
    assert Split([1, 2]) == Split((1, 2))
    assert Concatenate(0, [1, 2]).reverse() == Split((1, 2), 0)
    assert methodcaller("reverse")(Split([1, 2], 1)) == Concatenate(1, (1, 2))


@pytest.mark.parametrize("sizes", [4, 2.5])
def test_sizes_are_a_list(sizes):
    with pytest.raises(
        OperationError, match=r"^Split\(.+\): give the size of each part, as a list$"
    ):
        Split(sizes)


class TestScale:
    W = torch.arange(24.0).reshape(4, 6).to(torch.float8_e4m3fn)

    @pytest.mark.parametrize(
        ("block", "scale"),
        [
            (None, torch.tensor(3.0)),
            (None, torch.tensor([3.0])),
            (None, torch.tensor([1.0, 2, 3, 4])),
            (None, torch.tensor([[1.0], [2], [3], [4]])),
            (None, torch.tensor([[1.0, 2, 3], [4, 5, 6]])),
            ((2, 4), torch.tensor([[1.0, 2], [3, 4]])),
            ((3, 6), torch.tensor([[1.0], [2]])),
            ((4, 6), torch.tensor([[2.0]]).bfloat16()),
        ],
    )
    def test_of_any_kind(self, block, scale):
        ((found,),) = Scale(block).convert([[self.W], [scale]], 1)
        expected = torch.empty(4, 6)
        rows, columns = block or (2, 2)
        for i in range(4):
            for j in range(6):
                if scale.numel() == 1:
                    one = scale.reshape(())
                elif scale.ndim == 1 or (scale.shape[1] == 1 and len(scale) == 4):
                    one = scale.reshape(-1)[i]
                else:
                    one = scale[i // rows, j // columns if scale.shape[1] > 1 else 0]
                expected[i, j] = self.W[i, j].float() * one
        assert torch.equal(found, expected)

    def test_the_blocks_of_deepseek(self):
        # 576 rows have five scales, of 128 rows each, the last of fewer.
        weight = torch.ones(576, 256).to(torch.float8_e4m3fn)
        scale = torch.arange(10.0).reshape(5, 2)
        ((found,),) = Scale().convert([[weight], [scale]], 1)
        assert found[127, 0] == 0
        assert found[128, 0] == 2
        assert found[575, 255] == 9

    @pytest.mark.parametrize(
        ("columns", "message"),
        [
            ([[(4, 6)]], "takes a source and its scale, not 1"),
            ([[(4, 6)], [(3, 3)]], "3 scales are none for a length of 4"),
            ([[(4, 6)], [(3,)]], r"a scale of shape \[3\] is none for \[4, 6\]"),
            ([[(4, 6)], [(1,), (1,)]], "there are 1 tensors and 2 scales"),
        ],
    )
    def test_what_is_none(self, columns, message):
        with pytest.raises(OperationError, match=message):
            Scale().convert([tensors(*column) for column in columns], 1)

    def test_no_way_back(self):
        with pytest.raises(OperationError, match="a scale can't be taken out again"):
            Scale().reverse()


class TestShapes:
    def test_parts_of_the_targets_lengths(self):
        given = tensors((6, 2))
        shapes = [[(3, 2)], [(1, 2)], [(2, 2)]]
        for operation in (Split(), Chunk()):
            cut = operation.convert([given], 3, shapes)
            assert [len(column[0]) for column in cut] == [3, 1, 2]
            assert same(operation.reverse().convert(cut, 1), [given])
        with pytest.raises(OperationError, match="the targets' shapes tell the sizes, and are not"):
            Split().convert([given], 3)
        with pytest.raises(OperationError, match=r"the tensor is 6 long, not 3\+1\+1"):
            Split().convert([given], 3, [[(3, 2)], [(1, 2)], [(1, 2)]])
        # Of one alone that is not known, none is.
        assert [len(c[0]) for c in Chunk().convert([given], 3, [[(3, 2)], [None], [(2, 2)]])] == [
            2
        ] * 3

    def test_what_one_pattern_gathers(self):
        given = tensors((2, 3), (1, 3), (2, 3))
        joined = Concatenate(0).convert([given], 1)
        assert joined[0][0].shape == (5, 3)
        cut = Concatenate(0).reverse().convert(joined, 1, [[(2, 3), (1, 3), (2, 3)]])
        assert same(cut, [given])

    def test_transposed_unless_it_fits(self):
        given = tensors((2, 3))
        operation = Transpose(0, 1, unless_fits=True)
        assert operation.convert([given], 1, [[(2, 3)]])[0][0] is given[0]
        assert operation.convert([given], 1, [[(3, 2)]])[0][0].shape == (3, 2)
        for unknown in ((), [[None]]):
            with pytest.raises(
                OperationError, match="the target's shape tells whether, and is not"
            ):
                operation.convert([given], 1, unknown)

    def test_what_is_padded(self):
        given = tensors((2, 3))
        padded = Pad().convert([given], 1, [[(4, 3)]])
        assert padded[0][0].tolist() == [[0, 1, 2], [3, 4, 5], [0, 0, 0], [0, 0, 0]]
        assert same(Pad().reverse().convert(padded, 1, [[(2, 3)]]), [given])
        for operation, length, message in (
            (Pad(), 1, "2 is too long by 1"),
            (Unpad(), 3, "2 can't be cut to 3"),
        ):
            with pytest.raises(OperationError, match=message):
                operation.convert([given], 1, [[(length, 3)]])
            for unknown in ((), [[None]]):
                with pytest.raises(OperationError, match="the target's length is not known"):
                    operation.convert([given], 1, unknown)

    def test_reshaped(self):
        given = tensors((2, 3, 1, 2))
        operation = Reshape(None, (-1, 3, 1, 2))
        found = operation.convert([given], 1, [[(2, 6)]])
        assert found[0][0].shape == (2, 6)
        assert same(operation.reverse().convert(found, 1), [given])
        for unknown in ((), [[None]]):
            with pytest.raises(OperationError, match="the target's shape is not known"):
                operation.convert([given], 1, unknown)


@pytest.mark.parametrize(
    ("operation", "columns", "targets"),
    [
        (Interleave(), [[(4, 3)]], 1),
        (Interleave(1), [[(2, 6)], [(1, 2)]], 2),
        (Interleave(-1, inverse=True), [[(3, 4)]], 1),
        (PermuteForRope(2), [[(8, 3)], [(4,)]], 2),
        (PermuteForRope(2, [1]), [[(3,)], [(4, 2)]], 2),
        (RegroupExperts(), [[(2, 3)] * 4, [(2, 3)] * 4], 2),
        (RegroupExperts(), [[(2, 3)] * 4], 2),
        (UngroupExperts(), [[(2, 4, 3)], [(2, 4, 3)]], 2),
    ],
)
def test_there_and_back(operation, columns, targets):
    given = [tensors(*column) for column in columns]
    there = operation.convert(given, targets)
    assert same(operation.reverse().convert(there, len(given)), given)
    assert operation.reverse().reverse() == operation


def test_the_orders_that_they_make():
    ((found,),) = Interleave().convert([[torch.tensor([0, 10, 1, 11, 2, 12])]], 1)
    assert found.tolist() == [0, 1, 2, 10, 11, 12]
    # Two heads of two pairs each.
    ((found,),) = PermuteForRope(2).convert([[torch.tensor([0, 10, 1, 11, 20, 30, 21, 31])]], 1)
    assert found.tolist() == [0, 1, 10, 11, 20, 21, 30, 31]
    # Experts for text and for images in one list, from two sources.
    lists = [[torch.full((1, 1), source + n) for n in range(3)] for source in (10, 20)]
    text, image = RegroupExperts().convert(lists, 2)
    assert text[0].tolist() == [[[10], [20]], [[11], [21]]]
    assert image[0].tolist() == [[[12], [22]]]


@pytest.mark.parametrize(
    ("operation", "columns", "targets", "message"),
    [
        (Interleave(), [[(3,)]], 1, "3 can't be halved"),
        (PermuteForRope(2), [[(6,)]], 1, r"\[6\] is not of so many heads, in pairs"),
        (PermuteForRope(2), [[()]], 1, "is not of so many heads"),
        (RegroupExperts(), [[(1,)] * 2, [(1,)]], 2, "the sources give 2 and 1 tensors"),
        (RegroupExperts(), [[(1,)]], 2, "the sources give 1 tensors"),
    ],
)
def test_what_the_others_can_not_take(operation, columns, targets, message):
    with pytest.raises(OperationError, match=message):
        operation.convert([tensors(*column) for column in columns], targets)


@pytest.mark.parametrize("operation", OTHERS, ids=repr)
def test_the_others_are_plain_values(operation):
    names = {type(one).__name__: type(one) for one in OTHERS}
    for other in (
        copy.deepcopy(operation),
        pickle.loads(pickle.dumps(operation)),
        eval(repr(operation), names),
    ):
        assert other == operation
        assert hash(other) == hash(operation)
