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
    OperationError,
    Split,
    Stack,
    Transpose,
    Unstack,
)

EVERY = [Stack(1), Unstack(1), Concatenate(1), Concatenate(0, [1, 2]), Chunk(-1), Split([1, 2], 1)]
EVERY.append(Transpose(0, 2))


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
