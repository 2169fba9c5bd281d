"""Each file that deploys something, held against its own tool or schema."""

import copy
import gzip
import json
import shlex
import subprocess
import sys
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import jsonschema
import pytest
import yaml

from nightscribe.jobs.serve import JOB as SERVE
from nightscribe.jobs.shell.config import configurations
from nightscribe.jobs.transcribe import JOB as TRANSCRIBE

ROOT = Path(__file__).parent.parent.parent
OPS = ROOT / "ops"
SCHEMAS = Path(__file__).parent / "schemas"
# The package's folder, found without importing it.
RAY = Path(find_spec("ray").submodule_search_locations[0])
TOOLS = Path(sys.executable).parent
SHELL_SCRIPTS = [
    path
    for path in sorted([*OPS.rglob("*"), ROOT / ".ci/run"])
    if path.is_file() and path.read_bytes().startswith(b"#!/usr/bin/env bash\n")
]
KUBERAY = {
    "rayjob.yaml": "ray.io_rayjobs.v1",
    "raycluster.yaml": "ray.io_rayclusters.v1",
    "rayservice.yaml": "ray.io_rayservices.v1",
}


GPU = "nvidia.com/gpu"


def load(path: Path) -> dict:
    return yaml.safe_load(path.read_text())


@cache
def kuberay_schema(name: str) -> dict:
    schema = strict(json.loads(gzip.decompress((SCHEMAS / f"{name}.json.gz").read_bytes())))
    schema["properties"]["metadata"] = {
        "type": "object",
        "required": ["name"],
        "additionalProperties": False,
        "properties": {"name": {"type": "string"}, "labels": {"type": "object"}},
    }
    jsonschema.Draft202012Validator.check_schema(schema)
    return schema


def strict(schema: dict) -> dict:
    """The same schema with unknown keys forbidden and Kubernetes' int-or-string understood."""
    if schema.pop("x-kubernetes-int-or-string", False):
        return {"type": ["integer", "string"]}
    if "properties" in schema:
        schema["properties"] = {key: strict(value) for key, value in schema["properties"].items()}
        schema["additionalProperties"] = schema.get("x-kubernetes-preserve-unknown-fields", False)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            schema[key] = strict(schema[key])
    return schema


def cluster_of(manifest: dict) -> dict:
    """The cluster in a RayJob, a RayService or a RayCluster."""
    spec = manifest["spec"]
    return spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec


def validate_kuberay(manifest: dict, schema: dict) -> None:
    for error in jsonschema.Draft202012Validator(schema).iter_errors(manifest):
        raise error


@pytest.mark.parametrize("name", KUBERAY)
def test_kuberay_accepts_the_manifest(name):
    validate_kuberay(load(OPS / "kuberay" / name), kuberay_schema(KUBERAY[name]))


@pytest.mark.parametrize("name", KUBERAY)
def test_a_misspelt_key_in_a_manifest_is_refused(name):
    manifest = load(OPS / "kuberay" / name)
    cluster_of(manifest)["workerGroupSpecs"][0]["minReplica"] = 1
    with pytest.raises(jsonschema.ValidationError, match="minReplica"):
        validate_kuberay(manifest, kuberay_schema(KUBERAY[name]))


@pytest.mark.parametrize("name", KUBERAY)
def test_the_head_runs_no_work_and_gpus_are_tolerated(name):
    cluster = cluster_of(load(OPS / "kuberay" / name))
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    pods = [group["template"]["spec"] for group in cluster["workerGroupSpecs"]]
    (pod,) = [one for one in pods if GPU in one["containers"][0]["resources"]["limits"]]
    assert any(toleration["key"] == GPU for toleration in pod["tolerations"])


@pytest.mark.parametrize("name", ["aws.yaml", "machines.yaml"])
def test_ray_up_accepts_the_cluster_file(name):
    schema = json.loads((RAY / "autoscaler/ray-schema.json").read_text())
    cluster = load(OPS / "cluster" / name)
    jsonschema.validate(cluster, schema)
    misspelt = copy.deepcopy(cluster) | {"max_worker": 1}
    with pytest.raises(jsonschema.ValidationError, match="max_worker"):
        jsonschema.validate(misspelt, schema)


def test_the_manifests_and_the_pins_agree_on_rays_version():
    pins = (OPS / "constraints.txt").read_text().splitlines()
    pinned = next(line.split("==")[1] for line in pins if line.startswith("ray=="))
    for name in KUBERAY:
        assert cluster_of(load(OPS / "kuberay" / name))["rayVersion"] == pinned


def test_the_command_accepts_the_words_of_the_live_service():
    manifest = load(OPS / "kuberay/rayservice.yaml")
    deployed = yaml.safe_load(manifest["spec"]["serveConfigV2"])
    (application,) = deployed["applications"]
    module, _, function = application["import_path"].partition(":")
    assert callable(getattr(import_module(module), function))
    (config,) = configurations(SERVE, application["args"]["words"])
    assert config.serving.keys_file == "/keys/keys"
    engines = {one["groupName"]: one for one in cluster_of(manifest)["workerGroupSpecs"]}["engines"]
    assert config.serve.max_engines == engines["maxReplicas"]
    pod = engines["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > config.serve.drain_s
    ports = [one["containerPort"] for one in pod["containers"][0]["ports"]]
    assert ports == [deployed["http_options"]["port"], config.serve.engine_port]


@pytest.mark.parametrize("path", SHELL_SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_shellcheck_finds_nothing(path):
    check = subprocess.run([TOOLS / "shellcheck", path], capture_output=True, text=True)
    assert check.returncode == 0, check.stdout


def test_hadolint_finds_nothing_in_the_image():
    check = subprocess.run([TOOLS / "hadolint", OPS / "Dockerfile"], capture_output=True, text=True)
    assert check.returncode == 0, check.stdout


def test_the_image_runs_as_nobody_special():
    users = [
        line.split()[1]
        for line in (OPS / "Dockerfile").read_text().splitlines()
        if line.startswith("USER")
    ]
    assert users == ["1000"]


def nightly() -> dict[str, dict]:
    """The documents of the nightly job by kind."""
    documents = yaml.safe_load_all((OPS / "kuberay/nightly.yaml").read_text())
    return {document["kind"]: document for document in documents}


def test_kubernetes_accepts_the_nightly_job():
    schema = json.loads(gzip.decompress((SCHEMAS / "batch.cronjobs.v1.json.gz").read_bytes()))
    cron = nightly()["CronJob"]
    jsonschema.validate(cron, schema)
    cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["serviceAccount_name"] = "misspelt"
    with pytest.raises(jsonschema.ValidationError, match="serviceAccount_name"):
        jsonschema.validate(cron, schema)


def test_every_night_is_one_rayjob_that_the_account_may_create():
    by_kind = nightly()
    cron = by_kind["CronJob"]["spec"]
    assert cron["concurrencyPolicy"] == "Forbid"
    pod = cron["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == by_kind["ServiceAccount"]["metadata"]["name"]
    (rule,) = by_kind["Role"]["rules"]
    assert rule["resources"] == ["rayjobs"]
    assert {"create", "delete"} <= {*rule["verbs"]}
    assert by_kind["RoleBinding"]["roleRef"]["name"] == by_kind["Role"]["metadata"]["name"]


def test_the_cron_line_is_a_command_that_nightscribe_understands():
    (line,) = [one for one in (OPS / "nightly.cron").read_text().splitlines() if one[0] != "#"]
    words = shlex.split(line.partition(" nightscribe transcribe ")[2])
    (config,) = configurations(TRANSCRIBE, words)
    assert (config.deadline, config.quiet) == ("07:00", True)
