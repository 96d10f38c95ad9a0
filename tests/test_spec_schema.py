from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from stoker.spec import ClusterSpec, EngineGroup
from stoker.spec.engines import list_launchers
from stoker.spec.keys import list_keys
from stoker.spec.schema import render_schema
from stoker.spec.template import render_template

READY_MADE = sorted((Path(__file__).parent.parent / "cluster_profiles").glob("*.toml"))


def _definition(schema: dict[str, Any], name: str) -> dict[str, Any]:
    return schema["$defs"][name]


def test_the_schema_is_json_and_says_its_dialect() -> None:
    schema = render_schema()

    assert json.loads(json.dumps(schema)) == schema
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert list(schema["properties"]) == list(ClusterSpec.model_fields)


def test_every_key_is_in_the_schema_with_its_description() -> None:
    schema = render_schema()
    tables = {
        "": schema,
        **{name: _definition(schema, name) for name in ("ClusterSection", "ControllerSection", "Heartbeat")},
        **{
            name: _definition(schema, name)
            for name in ("EngineGroup", "IPythonSection", "KernelSection", "QueueSection")
        },
        "Host": _definition(schema, "Host")["anyOf"][1],
    }

    texts = [text for table in tables.values() for text in table["properties"].values()]
    # What a section says of itself is not said again where it stands.
    described = {text["description"] for text in (*texts, *schema["$defs"].values()) if "description" in text}

    assert {key.description for key in list_keys()} <= described
    assert all(table["additionalProperties"] is False for table in tables.values())
    assert "``" not in json.dumps(schema)


def test_a_host_is_a_text_or_a_table() -> None:
    host = _definition(render_schema(), "Host")

    assert [choice["type"] for choice in host["anyOf"]] == ["string", "object"]


def test_every_launcher_has_a_rule_that_refuses_the_keys_of_others() -> None:
    rules = _definition(render_schema(), "EngineGroup")["allOf"]

    found = {
        rule["if"]["properties"]["launcher"]["const"]: {
            key for key, value in rule["then"]["properties"].items() if value is False
        }
        for rule in rules
    }

    assert list(found) == ["local", "ssh", "slurm", "pbs", "lsf", "sge", "mpi"]
    assert found == {
        launcher: {key for key in EngineGroup.model_fields if launcher not in (list_launchers(key) or found)}
        for launcher in found
    }


@pytest.mark.parametrize("path", READY_MADE, ids=lambda path: path.stem)
def test_ready_made_specs_are_valid(path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")

    jsonschema.validate(tomllib.loads(path.read_text()), render_schema())


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('[[engines]]\nhosts = ["a"]', id="key of another launcher"),
        pytest.param('[[engines]]\nlauncher = "ssh"', id="ssh without hosts"),
        pytest.param('[[engines]]\nlauncher = "slurm"\ncount = "cores"', id="slurm without a number"),
        pytest.param("[controller]\nhmw = 1", id="misspelt key"),
        pytest.param('[[engines]]\nlauncher = "mpi"\nfork = false', id="forking with mpi"),
        pytest.param("[cluster]\nlease = 0", id="no lease"),
        pytest.param("[cluster]\nfrozen_after = 0", id="no time to be frozen"),
        pytest.param("[cluster]\nlog_limit = 0", id="no room for a log"),
        pytest.param("[controller.heartbeat]\nperiod = 0.01", id="period"),
        pytest.param("[controller.heartbeat]\nlimit = 0", id="limit"),
        pytest.param("[queue]\nport = 0", id="port of the queue"),
        pytest.param("[queue]\nlease = 0.5", id="lease of the queue"),
        pytest.param("[queue]\nattempts = 2.5", id="attempts of the queue"),
        pytest.param("[queue]\ntime_limit = 0", id="time limit of the queue"),
        pytest.param("[queue]\ndirectory = 5", id="directory of the queue"),
    ],
)
def test_faulty_specs_are_not_valid(text: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(tomllib.loads(text), render_schema())


def test_the_template_is_valid() -> None:
    jsonschema = pytest.importorskip("jsonschema")

    jsonschema.validate(tomllib.loads(render_template("lab")), render_schema())
