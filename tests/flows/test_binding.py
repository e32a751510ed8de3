"""A pipeline is proven before anything starts; errors name file, line and remedy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.operators.kit import tiny_classifier
from tests.operators.own_operators import MeanRed

from swath.flows.pipelines.binding import Bound, bind, load, override, parse, shipped
from swath.schemas.errors import ConfigurationError, ModelError, SwathError
from swath.schemas.pipeline import Pipeline, Step

OWN = "tests.operators.own_operators:MeanRed"


def bound(text: str, *settings: str) -> Bound:
    return bind(override(parse(text, "field.yaml"), settings))


def steps(*lines: str) -> str:
    return "\n".join(["name: field", "steps:", *(f"  {line}" for line in lines)])


def fingerprint_of(step: str, text: str, *settings: str) -> str:
    return bound(text, *settings).fingerprints[step]


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_pipeline_binds(name: str) -> None:
    table = bind(load(name))
    assert len(set(table.schema.names)) == len(table.schema.names)
    assert set(table.step_of.values()) <= set(table.fingerprints)


def test_source_table_and_limits_are_set_like_steps() -> None:
    pipeline = bound(
        steps("- decode"),
        "source.root=s3://shop/in",
        "source.exclude=['*.gif']",
        "table.publish=wave",
        "limits.seconds=3",
    ).pipeline
    assert (pipeline.source.root, pipeline.source.exclude) == ("s3://shop/in", ("*.gif",))
    assert (pipeline.table.publish, pipeline.limits.seconds) == ("wave", 3)
    assert (
        bound(steps("- {op: decode, name: limits}"), "limits.max_pixels=9").pipeline.steps[0].config["max_pixels"] == 9
    )
    with pytest.raises(ConfigurationError, match=r"--set table.publish=often: .*'run' or 'wave'; table takes name, "):
        bound(steps("- decode"), "table.publish=often")
    with pytest.raises(ConfigurationError, match=r"one of decode; or, for the pipeline itself, source, table, limits"):
        bound(steps("- decode"), "tables.publish=run")


# Errors: file, line, remedy

WRONG = {
    "no YAML": ("name: field\nsteps: [decode", "field.yaml:2: not valid YAML: "),
    "a tab": ("name: field\nsteps:\n\t- decode", "field.yaml:3: not valid YAML: "),
    "a list": ("- decode\n- ocr", "field.yaml: a pipeline is a `name:` and a list of `steps:`; found "),
    "nothing": ("", "field.yaml: a pipeline is a `name:` and a list of `steps:`; found 'None'"),
    "no steps": ("name: field", "field.yaml:1: steps: Field required"),
    "no step": ("name: field\nsteps: []", "field.yaml:2: steps: Tuple should have at least 1 item"),
    "a wrong name": ("name: My Field\nsteps: [decode]", "field.yaml:1: name: String should match pattern"),
    "a field of the pipeline": (
        "name: field\nstep: [decode]\nsteps: [decode]",
        "field.yaml:2: step: unknown field",
    ),
    "a field of the source": (
        "name: field\nsource:\n  include: ['*']\n  exlude: ['*']\nsteps: [decode]",
        "field.yaml:4: source.exlude: unknown field",
    ),
    "a value of the pipeline": (
        "name: field\nsteps: [decode]\nmax_rejects: 3",
        "field.yaml:3: max_rejects: Input should be less than or equal to 1",
    ),
    "a field of a step": (
        steps("- exif", "- op: decode", "  whne: page = 1"),
        "field.yaml:5: steps.1.whne: unknown field",
    ),
    "a field beside the short form": (
        steps("- exif", "- decode:", "  whne: page = 1"),
        "field.yaml:4: steps.1: a step is one operator (`decode: {max_pixels: 1}`) with `name:` and `when:` beside it",
    ),
    "a field of an operator": (
        steps("- exif", "- decode:", "    max_pixels: 5", "    dpy: 300"),
        "field.yaml:6: step 'decode': dpy: unknown field; decode takes resources, max_pixels, min_side, dpi",
    ),
    "a field of an operator, in the long form": (
        steps("- op: decode", "  config:", "    dpy: 300"),
        "field.yaml:5: step 'decode': dpy: unknown field",
    ),
    "a value of an operator": (
        steps("- decode: {dpi: -1}"),
        "field.yaml:3: step 'decode': dpi: Input should be greater than 0",
    ),
    "a field of its resources": (
        steps("- decode:", "    resources: {gpu: 1}"),
        "field.yaml:4: step 'decode': resources.gpu: unknown field",
    ),
    "a required field": (
        steps("- decode", "- classify"),
        "field.yaml:4: step 'classify': model: Field required",
    ),
    "configuration that is none": (
        steps("- decode: 5"),
        "field.yaml:3: steps.0.config: Input should be a valid dictionary",
    ),
    "an operator": (
        steps("- exif", "- decoed"),
        "field.yaml:4: there is no operator 'decoed'; did you mean 'decode'?",
    ),
    "an import": (
        steps("- no_such_farm.ndre:NDRE"),
        "field.yaml:3: operator 'no_such_farm.ndre:NDRE' cannot be imported",
    ),
    "a missing decode": (
        steps("- exif", "- vegetation"),
        "field.yaml:4: step 'vegetation': reads a column 'pixels' that no earlier step makes; "
        "put a step `decode` before it",
    ),
    "a decode too late": (
        steps("- vegetation", "- decode"),
        "field.yaml:3: step 'vegetation': reads a column 'pixels'",
    ),
    "two steps of one name": (
        steps("- decode", "- decode"),
        "field.yaml:2: steps: two steps are called 'decode'; give one of them a `name:`",
    ),
    "a key twice": (
        steps("- decode:", "    dpi: 100", "    dpi: 200"),
        "field.yaml:5: 'dpi' stands in line 4 already",
    ),
    "a when of a later column": (
        steps("- decode", "- op: vegetation", "  when: sharpness > 5", "- assess_quality"),
        "field.yaml:4: step 'vegetation': reads a column 'sharpness' that no earlier step makes",
    ),
    "a when inside the configuration": (
        steps("- decode", "- vegetation:", "    when: page = 1"),
        "field.yaml:5: step 'vegetation': when: unknown field",
    ),
    "a when of no column": (
        steps("- decode", "- op: vegetation", "  when: widht_px > 5"),
        "field.yaml:4: step 'vegetation': reads a column 'widht_px' that no earlier step makes; put the step that "
        "makes it before",
    ),
    "a when of pixels": (
        steps("- decode", "- op: vegetation", "  when: pixels > 5"),
        "field.yaml:4: step 'vegetation': when: 'pixels > 5' reads 'pixels', which is no value of the table",
    ),
    "a when that is no SQL": (
        steps("- decode", "- op: vegetation", "  when: width_px >"),
        "field.yaml:4: step 'vegetation': when: 'width_px >' is no SQL expression",
    ),
    "a when with a function": (
        steps("- decode", "- op: vegetation", "  when: sqrt(width_px) > 5"),
        "field.yaml:4: step 'vegetation': when: 'sqrt(width_px) > 5' uses 'SQRT(width_px)', which is not understood",
    ),
    "an empty when": (
        steps("- decode", "- op: vegetation", "  when: ''"),
        "field.yaml:4: step 'vegetation': when: '' is no SQL expression",
    ),
    "a model": (
        steps("- decode", "- classify: {model: /no/such/model.onnx}"),
        "field.yaml:4: step 'classify': model '/no/such/model.onnx'",
    ),
    "a class with no name for a step": (
        steps("- 'my_farm.ndre:_'"),
        "field.yaml:3: steps.0: a step cannot be called '_' after its operator; give it a `name:`",
    ),
}


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said_with_file_line_and_remedy(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        bound(text)
    assert str(caught.value).startswith(message), str(caught.value)
    assert caught.value.exit_code == 2


def test_a_missing_model_stays_a_model_error() -> None:
    with pytest.raises(ModelError):
        bound(steps("- decode", "- classify: {model: /no/such/model.onnx}"))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("decode.dpi", "--set decode.dpi: write STEP.FIELD=VALUE, where STEP is one of exif, decode"),
        ("decode=5", "--set decode=5: write STEP.FIELD=VALUE"),
        ("decoed.dpi=5", "--set decoed.dpi=5: write STEP.FIELD=VALUE"),
        ("=5", "--set =5: write"),
        ("decode.dpi=[", "--set decode.dpi=[: '[' is not valid YAML"),
        ("decode.dpy=5", "--set decode.dpy=5: unknown field; decode takes resources, max_pixels, min_side, dpi"),
        ("decode.dpi=-5", "--set decode.dpi=-5: Input should be greater than 0; decode takes"),
        ("decode.resources.cpus=0", "--set decode.resources.cpus=0: Input should be greater than 0"),
        ("decode.dpi.x=5", "--set decode.dpi.x=5: 'dpi' has no fields"),
    ],
)
def test_a_wrong_setting_is_named_itself(setting: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        bound(steps("- exif", "- decode: {dpi: 100}"), setting)
    assert str(caught.value).startswith(message), str(caught.value)


def test_settings_reach_their_step_and_leave_lines_known() -> None:
    text = steps("- decode: {dpi: 100}", "- preprocess")
    operators = {step.name: step.operator for step in bound(text, "decode.dpi=300", "decode.resources.cpus=2").steps}
    assert operators["decode"].dpi == 300  # type: ignore[attr-defined]
    assert operators["decode"].resources.cpus == 2
    with pytest.raises(ConfigurationError, match=r"^field\.yaml:4: step 'vegetation'"):
        bound(steps("- exif", "- vegetation"), "exif.resources.cpus=2")


def test_what_cannot_be_read_as_a_pipeline_is_said(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\nsteps: [decode]")
    for path, message in (
        ("no_such_one", "there is no pipeline 'no_such_one': not one of captures, documents, photos, rasters, survey"),
        (tmp_path, "there is no pipeline"),
        (tmp_path / "latin.yaml", "it is no UTF-8 text"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            load(str(path))


def test_two_makers_of_one_column_are_refused_unless_one_has_a_name_of_its_own() -> None:
    with pytest.raises(SwathError, match="makes a column 'mean_red' that step 'mean_red' has already"):
        bind(Pipeline(name="field", steps=(Step(op="decode"), Step(op=OWN), Step(op=f"{__name__}:Twin"))))
    with pytest.raises(ConfigurationError, match="makes a column 'etag' that every item has already"):
        bind(Pipeline(name="field", steps=(Step(op=f"{__name__}:Etag"),)))


class Twin(MeanRed):
    """Makes the same column under another name of operator."""


class Etag(MeanRed):
    def inputs(self) -> tuple[Any, ...]:
        return ()

    def outputs(self) -> tuple[Any, ...]:
        (column,) = super().outputs()
        return (column.renamed("etag"),)


# Forms that mean the same


def test_short_form_long_form_and_python_mean_the_same() -> None:
    short = bound(
        steps("- decode: {dpi: 150}", "- assess_quality", "- vegetation:", "  name: green", "  when: page = 1")
    )
    long = bound(
        steps(
            "- {op: decode, name: decode, config: {dpi: 150}}",
            "- op: assess_quality",
            "- {op: vegetation, name: green, when: page = 1, config: {}}",
        )
    )
    python = bind(
        Pipeline(
            name="field",
            steps=(
                Step(op="decode", config={"dpi": 150}),
                Step(op="assess_quality"),
                Step(op="vegetation", name="green", when="page = 1"),
            ),
        )
    )
    assert short == long == python
    assert short.fingerprints == long.fingerprints == python.fingerprints
    assert short.schema.equals(python.schema, check_metadata=True)


def test_a_built_in_operator_by_its_path_is_the_same_operator() -> None:
    by_path = bound(steps("- 'swath.operators.image.codec:Decode'", "- assess_quality"))
    assert by_path.fingerprints == bound(steps("- decode", "- assess_quality")).fingerprints


def test_an_operator_of_ones_own_keeps_its_column_names_when_its_step_has_no_name() -> None:
    assert bound(steps("- decode", f"- {OWN}")).step_of["mean_red"] == "mean_red"


def test_a_step_with_a_name_of_its_own_puts_it_before_its_columns() -> None:
    table = bound(steps("- decode", f"- {OWN}", f"- op: {OWN}", "  name: red"))
    assert {name: step for name, step in table.step_of.items() if "red" in name} == {
        "mean_red": "mean_red",
        "red_mean_red": "red",
    }


# Fingerprints

BASE = steps("- exif", "- decode", "- assess_quality", "- preprocess", "- vegetation")


def changed(text: str, *settings: str) -> set[str]:
    before, after = bound(BASE).fingerprints, bound(text, *settings).fingerprints
    return {name for name in before if before[name] != after.get(name)}


def test_fingerprints_change_with_configuration_downstream_of_a_transform_and_nowhere_else() -> None:
    assert changed(BASE) == set()
    assert changed(BASE, "vegetation.side=333") == {"vegetation"}
    assert changed(BASE, "preprocess.scale=0.5") == {"preprocess", "vegetation"}
    assert changed(BASE, "decode.dpi=100") == {"decode", "assess_quality", "preprocess", "vegetation"}


def test_fingerprints_do_not_change_with_resources_or_a_step_nobody_reads() -> None:
    assert changed(BASE, "vegetation.resources.cpus=2", "decode.resources.batch=1") == set()
    assert changed(BASE.replace("  - exif\n", "")) == {"exif"}
    assert changed(BASE + "\n  - perceptual_hash") == set()


def test_fingerprints_change_with_routing_and_with_what_it_reads() -> None:
    routed = BASE.replace("- vegetation", "- op: vegetation\n    when: latitude > 0")
    assert changed(routed) == {"vegetation"}
    before = fingerprint_of("vegetation", routed)
    assert fingerprint_of("vegetation", routed.replace("> 0", "> 1")) != before


def test_fingerprints_change_with_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    text = steps("- decode", f"- {OWN}", "- vegetation")
    before = bound(text).fingerprints
    monkeypatch.setattr(MeanRed, "version", 4)
    after = bound(text).fingerprints
    assert {name for name in before if before[name] != after[name]} == {"mean_red"}


def test_fingerprints_change_with_the_content_of_the_model(tmp_path: Path) -> None:
    import onnx

    path = tmp_path / "model.onnx"
    model = onnx.load(tiny_classifier())
    onnx.save(model, path)
    text = steps("- decode", f"- classify: {{model: '{path}', size: 32, classes: indices}}")
    before = bound(text).fingerprints
    model.graph.name = "other"
    onnx.save(model, path)
    after = bound(text).fingerprints
    assert {name for name in before if before[name] != after[name]} == {"classify"}


# Decoding no larger than needed


def min_side(*lines: str) -> int | None:
    decode = next(step.operator for step in bound(steps(*lines)).steps if step.name == "decode")
    return decode.min_side  # type: ignore[attr-defined, no-any-return]


def test_decode_is_as_large_as_its_readers_need() -> None:
    assert min_side("- decode", "- vegetation: {side: 300}") == 300
    assert min_side("- decode", "- vegetation: {side: 300}", "- vegetation: {side: 700}", "  name: fine") == 700
    assert min_side("- decode", "- vegetation: {side: 300}", f"- {OWN}") is None  # does not say what it can do with
    assert min_side("- decode", "- exif") is None
    assert min_side("- decode: {min_side: 99}", "- vegetation: {side: 300}") == 99


# What the table leaves out

READ = steps("- decode", "- ocr")


def test_what_the_table_leaves_out_is_made_but_no_column_of_it() -> None:
    whole, less = bound(READ), bound(READ + "\ntable: {leave_out: [lines, text]}")
    assert [name for name in whole.schema.names if name not in less.schema.names] == ["lines", "text"]
    assert not {"lines", "text"} & set(less.step_of)
    assert less.fingerprints == whole.fingerprints
    assert [step.discreet for step in less.steps] == [False, True]
    assert not any(step.discreet for step in whole.steps)


def test_rows_that_hold_what_is_now_left_out_are_not_current() -> None:
    whole, less = bound(READ), bound(READ + "\ntable: {leave_out: [lines, text]}")
    assert less.fingerprint != whole.fingerprint
    assert less.fingerprint == bound(READ + "\ntable: {leave_out: [text, lines]}").fingerprint
    assert whole.fingerprint == bound(READ + "\ntable: {leave_out: []}").fingerprint


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("txet", "field.yaml:5: the table cannot leave out 'txet', which is not made by any step; the steps make "),
        ("status", "field.yaml:5: the table cannot leave out 'status', which is not made by any step"),
    ],
)
def test_what_is_not_there_cannot_be_left_out(name: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        bound(READ + f"\ntable: {{leave_out: [{name}]}}")
    assert str(error.value).startswith(message)


def test_a_bare_on_or_no_is_a_text_as_in_yaml_1_2() -> None:
    loaded = parse("name: on\ndoc: no\nsteps:\n  - decode\ntable: {publish: run}\n")
    assert (loaded.pipeline.name, loaded.pipeline.doc) == ("on", "no")


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_pipeline_has_the_same_fingerprint_in_every_process(name: str) -> None:
    script = f"from swath.flows.pipelines.binding import bind, load; print(bind(load({name!r})).fingerprint)"
    said = {
        subprocess.run(
            [sys.executable, "-c", script], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert said == {f"{bind(load(name)).fingerprint}\n".encode()}
