"""Checks the manifests beside it: those of Kubernetes against its published schemas, those of KServe against the models of
its own client, which are made from the definitions of its resources, and LeaderWorkerSet, which has no client, against the
list of its fields below, its pods as those of a StatefulSet.

    pip install PyYAML kubernetes kubernetes-validate && pip install --no-deps kserve
    python docker/kubernetes/check.py

Run with kubernetes 37.0, kubernetes-validate 1.37 and kserve 0.21.
"""

import ast
import importlib.util
import re
import sys
from pathlib import Path

import kubernetes.client.models as native
import kubernetes_validate
import yaml

HERE = Path(__file__).parent

# Of leaderworkerset.x-k8s.io/v1 (LeaderWorkerSet 0.7): fields and what they hold; a tuple has all values.
LEADER_WORKER_SET = {
    "apiVersion": "str",
    "kind": "str",
    "metadata": "V1ObjectMeta",
    "spec": {
        "replicas": "int",
        "leaderWorkerTemplate": {
            "size": "int",
            "restartPolicy": ("RecreateGroupOnPodRestart", "None"),
            "leaderTemplate": "template",
            "workerTemplate": "template",
            "subGroupPolicy": {"subGroupSize": "int", "subGroupPolicyType": ("LeaderWorker", "LeaderExcluded")},
        },
        "rolloutStrategy": {
            "type": ("RollingUpdate",),
            "rollingUpdateConfiguration": {"partition": "int", "maxUnavailable": "int", "maxSurge": "int"},
        },
        "startupPolicy": ("LeaderCreated", "LeaderReady"),
        "networkConfig": {"subdomainPolicy": ("Shared", "UniquePerReplica")},
    },
}


def kserve_models():
    """Types of the fields of each of KServe's models, by the names that manifests have; the package is not run."""
    package = Path(importlib.util.find_spec("kserve").submodule_search_locations[0])
    models = {}
    for file in sorted((package / "models").glob("v1*.py")):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef):
                maps = {
                    target.id: ast.literal_eval(item.value)
                    for item in node.body
                    if isinstance(item, ast.Assign) and isinstance(item.value, ast.Dict)
                    for target in item.targets
                }
                names, types = maps["attribute_map"], maps["openapi_types"]
                models[node.name] = {names[key]: types[key] for key in types}
    return models


def fields(kind, models):
    if kind in models:
        return models[kind]
    model = getattr(native, kind, None)
    return model and {model.attribute_map[key]: kind for key, kind in model.openapi_types.items()}


def check(value, kind, place, models):
    """Complains of fields that the kind does not have, and of values of another kind."""
    listed = re.fullmatch(r"[lL]ist\[(.*)\]", kind)
    mapped = re.fullmatch(r"[dD]ict[(\[]str, (.*)[)\]]", kind)
    known = fields(kind, models)
    if listed:
        if not isinstance(value, list):
            yield f"{place} must be a list"
            return
        for at, item in enumerate(value):
            yield from check(item, listed[1], f"{place}[{at}]", models)
    elif mapped:
        for key, item in value.items():
            yield from check(item, mapped[1], f"{place}.{key}", models)
    elif known:
        if not isinstance(value, dict):
            yield f"{place} must be a {kind}"
            return
        for key, item in value.items():
            if key not in known:
                yield f"{place} has no field {key}"
            else:
                yield from check(item, known[key], f"{place}.{key}", models)
    elif kind in ("str", "int", "bool", "float"):
        if type(value).__name__ != kind:
            yield f"{place} must be {kind}, and is {value!r}"
    elif kind != "object":
        yield f"{place} is of the unknown kind {kind}"


def check_groups(value, wanted, place, models):
    """The same for a LeaderWorkerSet."""
    if wanted == "template":
        labels = value["metadata"]["labels"]
        pods = {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": {"name": "group"},
            "spec": {"serviceName": "group", "selector": {"matchLabels": labels}, "template": value},
        }
        try:
            kubernetes_validate.validate(pods, "1.37", strict=True)
        except kubernetes_validate.ValidationError as problem:
            yield f"{place}: {problem.message}"
    elif isinstance(wanted, dict):
        for key, item in value.items():
            if key in wanted:
                yield from check_groups(item, wanted[key], f"{place}.{key}", models)
            else:
                yield f"{place} has no field {key}"
    elif isinstance(wanted, tuple):
        if value not in wanted:
            yield f"{place} is {value!r}, and must be one of {', '.join(wanted)}"
    else:
        yield from check(value, wanted, place, models)


def main():
    models = kserve_models()
    problems = []
    for file in sorted(HERE.glob("*.yaml")):
        for manifest in yaml.safe_load_all(file.read_text()):
            version, kind = manifest["apiVersion"], manifest["kind"]
            place = f"{file.name}: {kind}"
            try:
                if version.startswith("serving.kserve.io/"):
                    name = version.split("/")[1].capitalize() + kind
                    problems += check(manifest, name, place, models)
                elif version == "leaderworkerset.x-k8s.io/v1":
                    problems += check_groups(manifest, LEADER_WORKER_SET, place, models)
                else:
                    kubernetes_validate.validate(manifest, "1.37", strict=True)
            except kubernetes_validate.ValidationError as problem:
                problems.append(f"{place}: {problem.message}")
            print("checked", place)
    sys.exit("\n".join(problems) or None)


main()
