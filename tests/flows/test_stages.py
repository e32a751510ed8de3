"""Steps fused into stages, stages given workers, and rows that cross from one stage to the next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.operators.kit import field_picture, jpeg, png, tiny_classifier

from swath.flows.pipelines.binding import Bound, bind
from swath.flows.work.stages import Cluster, fuse, pools
from swath.flows.work.worker import Context, StageWorker
from swath.schemas.columns import schema_of
from swath.schemas.errors import ConfigurationError
from swath.schemas.items import MANIFEST, item_id, object_id
from swath.schemas.pipeline import Limits, Pipeline, Step


def bound(**resources: dict[str, Any]) -> Bound:
    """decode, assess_quality, classify, perceptual_hash, with resources by step."""
    configs: dict[str, dict[str, Any]] = {
        "decode": {},
        "assess_quality": {},
        "classify": {"model": str(tiny_classifier()), "size": 32, "classes": "indices"},
        "perceptual_hash": {},
    }
    steps = [
        Step(op=op, config=config | ({"resources": resources[op]} if op in resources else {}))
        for op, config in configs.items()
    ]
    return bind(Pipeline(name="photos", steps=tuple(steps)))


def shape(stages: Any) -> list[tuple[str, float, float]]:
    return [(stage.name, stage.resources.cpus, stage.resources.gpus) for stage in stages]


def test_neighbours_that_want_the_same_become_one_stage() -> None:
    (stage,) = fuse(bound().steps)
    assert shape([stage]) == [("decode + assess_quality + classify + perceptual_hash", 1, 0)]
    assert stage.first
    assert stage.last
    assert stage.fetches


def test_a_model_on_a_gpu_is_prepared_in_the_stage_before_it() -> None:
    stages = fuse(bound(classify={"gpus": 0.5, "memory_bytes": 7}).steps)
    assert shape(stages) == [
        ("decode + assess_quality + classify", 1, 0),
        ("classify", 1, 0.5),
        ("perceptual_hash", 1, 0),
    ]
    assert [(link.step.name, link.half) for stage in stages for link in stage.links] == [
        ("decode", "whole"),
        ("assess_quality", "whole"),
        ("classify", "prepare"),
        ("classify", "run"),
        ("perceptual_hash", "whole"),
    ]
    assert [(stage.first, stage.last) for stage in stages] == [(True, False), (False, False), (False, True)]
    assert [stage.resources.memory_bytes for stage in stages] == [0, 7, 0]  # weights are only where they are loaded


def test_memory_of_fused_steps_adds_up() -> None:
    (stage,) = fuse(bound(decode={"memory_bytes": 5}, classify={"memory_bytes": 7}).steps)
    assert stage.resources.memory_bytes == 12


def workers(cluster: Cluster, **resources: dict[str, Any]) -> list[int]:
    return [pool.workers for pool in pools(fuse(bound(**resources).steps), cluster)]


def test_workers_fill_the_cores_and_leave_what_reading_and_writing_need() -> None:
    assert workers(Cluster(cpus=18, gpus=0, cores=16)) == [16]
    assert workers(Cluster(cpus=16, gpus=0, cores=16)) == [14]
    assert workers(Cluster(cpus=4, gpus=0, cores=2)) == [2]
    assert workers(Cluster(cpus=100, gpus=0, cores=20), decode={"cpus": 4}) == [4, 4]


def test_workers_of_several_stages_fit_together() -> None:
    gpu = {"gpus": 0.5}
    for cpus in range(5, 40, 3):
        given = pools(fuse(bound(classify=gpu).steps), Cluster(cpus=cpus, gpus=2, cores=cpus))
        assert sum(pool.workers * pool.stage.resources.cpus for pool in given) <= cpus - 2
        assert sum(pool.workers * pool.stage.resources.gpus for pool in given) <= 2
        assert min(pool.workers for pool in given) >= 1
    assert [pool.workers for pool in given] == [16, 4, 16]


def test_more_stages_than_cores_still_get_a_worker_each_where_ray_has_the_room() -> None:
    assert workers(Cluster(cpus=5, gpus=1, cores=1), classify={"gpus": 1}) == [1, 1, 1]


def test_too_many_gpus_are_refused_with_the_sum() -> None:
    with pytest.raises(ConfigurationError) as caught:
        workers(Cluster(cpus=16, gpus=1, cores=16), classify={"gpus": 2})
    assert str(caught.value) == (
        "the steps want 2 GPUs (0 for decode + assess_quality + classify + 2 for classify + 0 for perceptual_hash), "
        "there are 1; set `resources: {gpus: 0}` on them, or run on a cluster that has some"
    )


def test_too_many_cpus_are_refused_with_the_sum() -> None:
    with pytest.raises(ConfigurationError) as caught:
        workers(Cluster(cpus=8, gpus=0, cores=8), decode={"cpus": 4}, classify={"cpus": 2})
    assert str(caught.value).startswith("one worker of each stage wants 8 CPUs (4 for decode + 1 for assess_quality")
    assert "there are 6 (8 less 2 for reading and writing); lower `resources: {cpus: ...}`" in str(caught.value)


# Rows that cross


@pytest.fixture
def manifest(tmp_path: Path) -> pa.Table:
    contents = [jpeg(field_picture(i)) if i % 2 else png(field_picture(i)) for i in range(7)]
    contents[2] = contents[2][: len(contents[2]) // 2]
    contents[5] = b"no picture"
    rows = []
    for index, content in enumerate(contents):
        path = tmp_path / f"{index}.img"
        path.write_bytes(content)
        uri = f"file://{path}"
        row = dict.fromkeys((column.name for column in MANIFEST), None)
        row |= {"item_id": item_id(uri), "object_id": object_id(uri), "source_uri": uri, "size_bytes": len(content)}
        rows.append(row)
    return pa.Table.from_pylist(rows, schema_of(MANIFEST))


def processed(bound: Bound, manifest: pa.Table, tmp_path: Path) -> tuple[pa.Table, list[pa.Table]]:
    """The finished rows, and what crossed between the stages."""
    context = Context(
        run_id="run",
        wave=0,
        columns=bound.columns,
        fingerprint=bound.fingerprint,
        fingerprints=bound.fingerprints,
        models=bound.models,
        makes={step.name: tuple(step.makes) for step in bound.steps},
        runs=tuple(step.name for step in bound.steps),
        limits=Limits(),
        suspects=f"file://{tmp_path}/suspects",
        artifacts=f"file://{tmp_path}/artifacts",
    )
    tables = [manifest]
    for stage in fuse(bound.steps):
        worker = StageWorker(stage, context, watched=False)
        tables.append(worker(tables[-1]))
        worker.close()
    return tables[-1], tables[1:-1]


TIMES = ["seconds", "processed_at"]


def test_rows_through_several_stages_are_those_of_one(manifest: pa.Table, tmp_path: Path) -> None:
    whole, nothing = processed(bound(), manifest, tmp_path)
    cut, crossing = processed(bound(classify={"cpus": 2}), manifest, tmp_path)
    assert nothing == []
    assert len(crossing) == 2
    assert whole.drop_columns(TIMES).equals(cut.drop_columns(TIMES))
    assert whole["item_id"].equals(manifest["item_id"])
    assert whole["status"].to_pylist() == ["ok", "ok", "rejected", "ok", "ok", "rejected", "ok"]
    assert whole["reject_reason"].to_pylist()[2] == "truncated"
    assert [labels is None for labels in whole["labels"].to_pylist()] == [False, False, True, False, False, True, False]
    assert [set(dict(seconds)) for seconds in whole["seconds"].to_pylist()] == [
        set(dict(seconds)) for seconds in cut["seconds"].to_pylist()
    ]
    assert whole.schema.equals(bound().schema, check_metadata=True)


def test_a_stage_before_decode_that_reads_no_bytes_hands_them_on(manifest: pa.Table, tmp_path: Path) -> None:
    size = Step(op="tests.operators.own_operators:FileSize", config={"resources": {"cpus": 2}})
    pipeline = Pipeline(name="sizes", steps=(size, Step(op="decode")))
    rows, crossing = processed(bind(pipeline), manifest, tmp_path)
    assert len(crossing) == 1
    assert rows["file_size"].equals(manifest["size_bytes"])
    assert rows["status"].to_pylist().count("ok") == 5  # two of the seven are broken


def test_only_what_is_still_read_crosses_between_stages(manifest: pa.Table, tmp_path: Path) -> None:
    import pickle

    def crossing_names(**resources: Any) -> list[set[str]]:
        _, crossing = processed(bound(**resources), manifest, tmp_path)
        return [set(pickle.loads(table["row"][0].as_py())) - set(bound().schema.names) for table in crossing]

    assert crossing_names(classify={"cpus": 2}) == [{"pixels", "classify:prepared"}, {"pixels"}]
    assert crossing_names(classify={"cpus": 2}, perceptual_hash={"cpus": 2}) == [{"pixels", "classify:prepared"}]
