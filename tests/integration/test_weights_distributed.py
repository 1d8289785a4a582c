"""Models whose tensors are spread over processes: DTensors, tensor parallel, FSDP2. On gloo."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from gloo_processes import original, run

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason="this torch has no gloo",
)


@pytest.fixture(scope="module", autouse=True)
def no_original_is_left() -> Iterator[None]:
    yield
    if original.cache_info().currsize:
        original().communicate()
        original.cache_clear()


worlds = pytest.mark.parametrize("world", [1, 2])


@worlds
def test_the_one_that_loaded_nothing(tmp_path, world):
    run(
        tmp_path,
        """
        for given in (lambda one: one, written):
            for placement in (Shard(0), Shard(1), Replicate()):
                m = nn.Module()
                m.weight = spread(torch.zeros(5, 4), placement)
                kept, memory = m.weight, m.weight.to_local().data_ptr()
                report = load_weights(m, given({"weight": value(5, 4)}))
                assert report.loaded == 1
                assert m.weight is kept
                assert isinstance(m.weight, DTensor)
                assert m.weight.to_local().data_ptr() == memory
                assert torch.equal(m.weight.full_tensor(), value(5, 4)), m.weight
        # Of another shape, or kind.
        for wrong in (value(5, 3), value(5), value(5, 4).to(torch.complex64)):
            before = m.weight.full_tensor()
            refused(m, written({"weight": wrong}), "weight")
            assert torch.equal(m.weight.full_tensor(), before)
            dist.barrier()
        """,
        world,
    )


@worlds
def test_fsdp2(tmp_path, world):
    """The forward pass is that of what was loaded, before and after the first one."""
    run(
        tmp_path,
        """
        plain = mlp()
        tensors = other(plain)
        source = written(tensors)
        plain.load_state_dict(tensors)
        x = value(2, 6)
        for device in ("cpu", "meta"):
            model = shard(mlp(device=device))
            if device == "cpu":
                # After it the root's parameters are whole, until it is told to give them up.
                model(x)
            assert load_weights(model, source).loaded == 4
            assert torch.equal(model(x), plain(x))
            # Again, into what has been used.
            model(x).sum().backward()
            load_weights(model, {name: one * 2 for name, one in tensors.items()})
            plain.load_state_dict({name: one * 2 for name, one in tensors.items()})
            assert torch.equal(model(x), plain(x))
            plain.load_state_dict(tensors)
            # And a step of an optimizer is one from there.
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            load_weights(model, source)
            model(x).sum().backward()
            optimizer.step()
            ours = torch.optim.SGD(plain.parameters(), lr=0.1)
            ours.zero_grad()
            plain(x).sum().backward()
            ours.step()
            if device == "cpu":
                for one in model.parameters():
                    assert isinstance(one, DTensor)
            plain.load_state_dict(tensors)
        """,
        world,
    )


@worlds
def test_fsdp2_in_another_dtype(tmp_path, world):
    run(
        tmp_path,
        """
        plain = mlp()
        tensors = other(plain)
        plain.load_state_dict(tensors)
        plain.bfloat16()
        model = shard(mlp(device="meta"))
        load_weights(model, tensors, dtype="bfloat16")
        x = value(2, 6).bfloat16()
        assert torch.equal(model(x), plain(x))
        # What is in use can't be made another: FSDP2 has noted its dtype.
        told = "0.weight: is a DTensor of torch.bfloat16 in use"
        refused(model, tensors, told, dtype="float32")
        assert torch.equal(model(x), plain(x))
        """,
        world,
    )


@worlds
def test_tensor_parallel_and_converters(tmp_path, world):
    run(
        tmp_path,
        """
        from torch.distributed.tensor.parallel import (
            ColwiseParallel, RowwiseParallel, parallelize_module,
        )
        plain = mlp(4)
        tensors = other(plain)
        plain.load_state_dict(tensors)
        source = written(tensors)
        for device in ("cpu", "meta"):
            model = mlp(4, device)
            parallelize_module(model, mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})
            load_weights(model, source)
            found = {name: one.full_tensor() for name, one in model.named_parameters()
                     if isinstance(one, DTensor)}
            found |= {name: one for name, one in model.named_parameters()
                      if not isinstance(one, DTensor)}
            for name, one in tensors.items():
                assert torch.equal(found[name], one), name
            torch.testing.assert_close(model(value(2, 6)), plain(value(2, 6)))
        # Experts that a converter stacks, and a fused one that it takes apart.
        dist.barrier()
        source = written({**{f"e.{n}": value(4, 2) * n for n in range(3)}, "both": value(6, 2)})
        rules = [
            WeightConverter([r"e\\.(?P<index>\\d+)"], ["experts"], [Stack(0)]),
            WeightConverter(["both"], ["one", "two"], [Chunk(0)]),
        ]
        m = nn.Module()
        m.experts = spread(torch.zeros(3, 4, 2), Shard(0))
        m.one, m.two = spread(torch.zeros(3, 2), Shard(0)), spread(torch.zeros(3, 2), Shard(1))
        assert load_weights(m, source, rules).loaded == 3
        stacked = torch.stack([value(4, 2) * n for n in range(3)])
        assert torch.equal(m.experts.full_tensor(), stacked)
        assert torch.equal(m.one.full_tensor(), value(6, 2)[:3])
        assert torch.equal(m.two.full_tensor(), value(6, 2)[3:])
        """,
        world,
    )


def test_two_dimensions_of_a_mesh(tmp_path):
    """FSDP2 over tensor parallel shards a dimension twice, and not side by side."""
    run(
        tmp_path,
        """
        from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

        mesh2 = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
        for rows in (8, 7, 5, 3):
            for placements in (
                (Shard(0), Shard(0)), (Shard(0), Shard(1)), (Replicate(), Shard(0)),
                (Shard(1), Replicate()),
            ):
                m = nn.Module()
                m.weight = spread(torch.zeros(rows, 4), *placements, mesh=mesh2)
                load_weights(m, {"weight": value(rows, 4)})
                assert torch.equal(m.weight.full_tensor(), value(rows, 4)), (rows, placements)
        tensors = other(mlp(8))
        source = written(tensors)
        for device in ("cpu", "meta"):
            model = mlp(8, device)
            parallelize_module(model[0], mesh2["tp"], ColwiseParallel())
            shard(model, mesh2["dp"])
            assert any("Strided" in str(one.placements) for one in model.parameters())
            load_weights(model, source)
            for name, one in model.named_parameters():
                assert torch.equal(one.full_tensor(), tensors[name]), (name, one.placements)
        """,
        4,
    )


@worlds
def test_odd_ones(tmp_path, world):
    """Tied, of fewer rows than processes, without elements, from float8, in a pattern's dtype."""
    run(
        tmp_path,
        """
        m = nn.Module()
        m.one = spread(torch.zeros(1, 3), Shard(0))
        m.none = spread(torch.zeros(0, 3), Shard(0))
        m.scalar = spread(torch.zeros(()), Replicate())
        m.tied = m.one
        m.kept = spread(torch.zeros(4, dtype=torch.bfloat16), Shard(0))
        tensors = {"one": value(1, 3), "none": torch.ones(0, 3), "scalar": torch.tensor(7.0),
                   "kept": value(4)}
        for given in (tensors, written(tensors)):
            refused(m, given, "kept: is a DTensor of torch.bfloat16 in use, and can't become",
                    keep_in_float32=["kept"])
            report = load_weights(m, given)
            assert report.loaded == 4
            assert m.tied is m.one
            for name, one in tensors.items():
                assert torch.equal(getattr(m, name).full_tensor(), one.to(getattr(m, name).dtype))
            for one in m.parameters():
                one.detach().to_local().zero_()
        # Nothing quantized is taken raw here either, nor what two names of one differ in.
        small = value(1, 3).to(torch.float8_e4m3fn)
        refused(m, {**tensors, "one": small, "one_scale": torch.tensor(2.0)},
                "with its scale one_scale beside it", ignore_unexpected=["scale"])
        # These differ in the first process alone, which has the one row.
        told = "tied: is shared with one" if rank == 0 else "another process can't load it"
        refused(m, {**tensors, "tied": -value(1, 3)}, told)
        assert m.scalar.full_tensor() == 0
        """,
        world,
    )


@pytest.mark.parametrize("on_meta", [False, True])
def test_all_load_or_none(tmp_path, on_meta):
    """What one process can't do, none does; and whatever it is, none waits for ever."""
    run(
        tmp_path,
        f"""
        from dtype_sampler.weights import RuleError

        def made():
            return shard(mlp(device="meta" if {on_meta} else "cpu"))

        def broken():
            raise KeyboardInterrupt

        tensors = other(mlp())
        here = written(tensors)
        whole = {{**tensors, "0.weight": tensors["0.weight"][:, :2]}}
        bad = [
            (folder / "no.safetensors", [], CheckpointError, "there is no such file"),
            (whole, [], LoadError, "of another shape"),
            (here, [WeightRenaming("(", "x")], RuleError, "unterminated"),
            ({{**tensors, "2.bias": lambda: 1 / 0}}, [], LoadError, "ZeroDivisionError"),
            ({{**tensors, "2.bias": broken}}, [], KeyboardInterrupt, ""),
        ]
        for guilty in range(world):
            for source, rules, kind, told in bad:
                model = made()
                before = [one.detach().to_local().clone() for one in model.parameters()]
                mine = rank == guilty
                try:
                    load_weights(model, source if mine else here, rules if mine else [])
                except BaseException as error:
                    assert isinstance(error, kind if mine else LoadError), error
                    said = told if mine else "another process can't load it"
                    assert said in str(error), error
                else:
                    raise AssertionError((guilty, kind))
                for one, value_before in zip(model.parameters(), before):
                    local = one.detach().to_local()
                    assert local.is_meta == {on_meta}
                    assert {on_meta} or torch.equal(local, value_before)
        # And then it is loaded.
        assert load_weights(model, here).loaded == 4
        for name, one in model.named_parameters():
            assert torch.equal(one.full_tensor(), tensors[name])
        """,
        2,
    )


@worlds
@pytest.mark.parametrize("mmap", [True, False])
def test_only_this_process_part_is_read(tmp_path, world, mmap):
    run(
        tmp_path,
        f"""
        from dtype_sampler.weights import mapped, sources

        asked = []
        real = sources.FileSource.read
        def read(self, key, rows=None):
            found = real(self, key, rows)
            asked.append((key, tuple(found.shape)))
            return found
        sources.FileSource.read = read
        m = nn.Module()
        m.weight = spread(torch.zeros(8, 4), Shard(0))
        m.column = spread(torch.zeros(8, 4), Shard(1))
        source = written({{"weight": value(8, 4), "column": value(8, 4)}})
        load_weights(m, source, mmap={mmap})
        assert dict(asked) == {{"weight": (8 // world, 4), "column": (8, 4)}}, asked
        assert torch.equal(m.weight.full_tensor(), value(8, 4))
        assert torch.equal(m.column.full_tensor(), value(8, 4))
        """,
        world,
    )


@worlds
def test_saved_as_it_computes(tmp_path, world):
    run(
        tmp_path,
        """
        model = mlp()
        tensors = other(model)
        load_weights(shard(model), tensors)
        model(value(2, 6))
        (folder / "out").mkdir(exist_ok=True)
        rules = [WeightRenaming("^first", "0")]
        saved = save_weights(model, folder / "out", rules)
        assert saved == folder / "out" / "model.safetensors"
        found = load_file(saved)
        assert found.keys() == {"first.weight", "first.bias", "2.weight", "2.bias"}
        for name, one in found.items():
            assert torch.equal(one, tensors[name.replace("first", "0")]), name
        # What the first process can't do, all tell, and none waits.
        for path, message in ((folder / "no" / "x.safetensors", "there is no folder"),
                              (folder / "x.bin", "name a .safetensors file")):
            try:
                save_weights(model, path)
            except CheckpointError as error:
                assert message in str(error)
            else:
                raise AssertionError
        assert not list((folder / "out").glob(".*"))
        """,
        world,
    )


def test_between_two_meshes(tmp_path):
    """From DTensors to DTensors that are placed otherwise."""
    run(
        tmp_path,
        """
        here, there = nn.Module(), nn.Module()
        here.weight = spread(value(5, 4), Shard(0))
        there.weight = spread(torch.zeros(5, 4), Shard(1))
        load_weights(there, here.state_dict())
        assert torch.equal(there.weight.full_tensor(), value(5, 4))
        plain = nn.Module()
        plain.weight = nn.Parameter(torch.zeros(5, 4))
        load_weights(plain, here.state_dict())
        assert torch.equal(plain.weight, value(5, 4))
        # A sum that is still to be made is no place for a value.
        from torch.distributed.tensor import Partial
        there.weight = nn.Parameter(
            DTensor.from_local(torch.zeros(5, 4), mesh, [Partial()], run_check=False)
        )
        refused(there, {"weight": value(5, 4)}, "weight: is a DTensor placed as P")
        """,
        2,
    )


@worlds
def test_fsdp1(tmp_path, world):
    """Its parameters are views of flat memory, which is what it computes with."""
    run(
        tmp_path,
        """
        import warnings
        from torch.distributed.fsdp import FullyShardedDataParallel

        warnings.simplefilter("ignore")
        plain = mlp()
        tensors = other(plain)
        plain.load_state_dict(tensors)
        x = value(2, 6)
        model = FullyShardedDataParallel(
            mlp(), use_orig_params=True, device_id=torch.device("cpu")
        )
        model(x)
        with FullyShardedDataParallel.summon_full_params(model):
            assert load_weights(model, written(tensors)).loaded == 4
        assert torch.equal(model(x), plain(x))
        with FullyShardedDataParallel.summon_full_params(model):
            told = "is a view of FSDP's flat memory, and can't become"
            refused(model, tensors, told, dtype="float64")
        assert torch.equal(model(x), plain(x))
        if world == 2:
            # Outside, a process has but parts of them, of other shapes.
            refused(model, tensors, "of another shape")
            assert torch.equal(model(x), plain(x))
        """,
        world,
    )
