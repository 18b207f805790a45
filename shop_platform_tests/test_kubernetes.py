"""The values for Dagster's Helm chart make sense to Dagster and to Kubernetes; no cluster and no Helm are at hand.

The chart's templates are not: `launcher_of` and `context_of` do what they do with these values, as read in the chart.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import kubernetes.client
import kubernetes_validate
import pytest
import yaml
from dagster._config import Shape, process_config
from dagster._core.instance.config import dagster_instance_config_schema
from dagster_k8s import K8sRunLauncher, k8s_job_executor
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.job import DagsterK8sJobConfig, construct_dagster_k8s_job

FOLDER = Path(__file__).parents[1] / "deploy" / "kubernetes"
VALUES: dict[str, Any] = yaml.safe_load((FOLDER / "values.yaml").read_text("utf-8"))
(DEPLOYMENT,) = VALUES["dagster-user-deployments"]["deployments"]

#: Of the JSON schemas of Kubernetes that the package holds.
KUBERNETES = "1.34"


def snake_case(name: str) -> str:
    return re.sub(r"(?=[A-Z])", "_", name).lower()


def snake_keys(values: Mapping[str, Any]) -> dict[str, Any]:
    return {snake_case(name): value for name, value in values.items()}


def launcher_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """The run launcher's config that the chart renders."""
    config = snake_keys(values["runLauncher"]["config"]["k8sRunLauncher"])
    return config | {
        "run_k8s_config": snake_keys(config["run_k8s_config"]),
        "job_namespace": "shop-platform",
        "service_account_name": "dagster",
        "dagster_home": values["global"]["dagsterHome"],
        "instance_config_map": "dagster-instance",
        "postgres_password_secret": values["global"]["postgresqlSecretName"],
    }


def context_of(deployment: Mapping[str, Any]) -> dict[str, Any]:
    """What the chart hands on from the code location to its runs."""
    taken = snake_keys({name: deployment[name] for name in ("env", "volumes", "volumeMounts", "resources")})
    return {"k8s": taken | {"image_pull_policy": deployment["image"]["pullPolicy"], "namespace": "shop-platform"}}


def plain(model: object) -> dict[str, Any]:
    found = kubernetes.client.ApiClient().sanitize_for_serialization(model)
    assert isinstance(found, dict)
    return found


def run_pod() -> dict[str, Any]:
    """The Kubernetes job of a run, as dagster-k8s makes it of the launcher's config and of the code location's."""
    launcher = launcher_of(VALUES)
    shared = {name: launcher[name] for name in ("run_k8s_config", "security_context")}
    ours = K8sContainerContext.create_from_config({"k8s": shared})
    config = ours.merge(K8sContainerContext.create_from_config(context_of(DEPLOYMENT))).run_k8s_config
    job_config = DagsterK8sJobConfig(
        job_image=f"{DEPLOYMENT['image']['repository']}:{DEPLOYMENT['image']['tag']}",
        dagster_home=launcher["dagster_home"],
        postgres_password_secret=launcher["postgres_password_secret"],
        instance_config_map=launcher["instance_config_map"],
    )
    return plain(construct_dagster_k8s_job(job_config, ["dagster"], "dagster-run-1", config))


def server_pod() -> dict[str, Any]:
    """A pod of the code location, as the chart's template fills it in."""
    container = {name: DEPLOYMENT[name] for name in ("env", "volumeMounts", "resources", "securityContext")}
    container |= {"name": "code", "image": f"{DEPLOYMENT['image']['repository']}:{DEPLOYMENT['image']['tag']}"}
    spec = {"securityContext": DEPLOYMENT["podSecurityContext"], "volumes": DEPLOYMENT["volumes"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "code"}, "spec": spec | {"containers": [container]}}


def named(values: object) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every environment variable below some values."""
    if isinstance(values, list):
        for each in values:
            yield from named(each)
    elif isinstance(values, dict):
        if "name" in values and ("value" in values or "valueFrom" in values):
            yield values["name"], values
        for each in values.values():
            yield from named(each)


def refused(schema: Any, config: object) -> list[str]:
    return [error.message for error in process_config(schema, config).errors or []]


def test_the_run_launcher_takes_its_config_and_nothing_that_it_does_not_know() -> None:
    schema = Shape(K8sRunLauncher.config_type())
    assert refused(schema, launcher_of(VALUES)) == []
    assert refused(schema, launcher_of(VALUES) | {"no_such_option": 1})


def test_the_executor_for_a_pod_a_step_takes_its_config() -> None:
    config = yaml.safe_load((FOLDER / "k8s_job_executor.yaml").read_text("utf-8"))["execution"]["config"]
    assert refused(k8s_job_executor.config_schema.config_type, config) == []
    assert refused(k8s_job_executor.config_schema.config_type, config | {"max_concurrent": "four"})


def test_dagsters_instance_takes_pools_and_run_monitoring() -> None:
    daemon, concurrency = VALUES["dagsterDaemon"], VALUES["concurrency"]
    instance = VALUES["additionalInstanceConfig"] | {
        "concurrency": {
            "pools": snake_keys(concurrency["pools"]),
            "runs": snake_keys(concurrency["runs"]),
        },
        "run_monitoring": snake_keys(daemon["runMonitoring"]),
        "run_retries": snake_keys(daemon["runRetries"]),
        "telemetry": VALUES["telemetry"],
    }
    schema = Shape(dagster_instance_config_schema())
    assert refused(schema, instance) == []
    assert refused(schema, instance | {"run_monitoring": {"enabled": True, "pollInterval": 1}})
    assert instance["concurrency"]["pools"] == {"default_limit": 1, "granularity": "op"}


@pytest.mark.parametrize("made", [run_pod, server_pod])
def test_kubernetes_takes_the_pods_which_are_no_root_and_bounded(made: Callable[[], dict[str, Any]]) -> None:
    manifest = made()
    kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    pod = manifest["spec"] if manifest["kind"] == "Pod" else manifest["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["resources"]["limits"]["memory"] == "4Gi"
    assert {mount["name"] for mount in container["volumeMounts"]} >= {"shop", "certs"}
    assert dict(named(container["env"]))["DATABASE_URL"]["valueFrom"]["secretKeyRef"]["name"] == "shop-platform"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest | {"no_such_field": 1}, KUBERNETES, strict=True)


@pytest.mark.parametrize("part", ["dagsterWebserver", "dagsterDaemon"])
def test_webserver_and_daemon_are_no_root_either_and_bounded(part: str) -> None:
    values = VALUES[part]
    assert values["podSecurityContext"] == DEPLOYMENT["podSecurityContext"]
    assert values["securityContext"] == DEPLOYMENT["securityContext"]
    assert values["image"] == DEPLOYMENT["image"]
    assert values["resources"]["limits"]["memory"]


def test_no_value_is_a_secret() -> None:
    for name, variable in named(VALUES):
        if re.search("PASSWORD|KEY|DATABASE_URL|TOKEN", name):
            assert "secretKeyRef" in variable["valueFrom"], name
    assert "postgresqlPassword" not in VALUES["postgresql"]
    assert VALUES["generatePostgresqlPasswordSecret"] is False


def test_kubernetes_takes_the_manifests_and_the_values_name_what_they_make() -> None:
    manifests = list(yaml.safe_load_all((FOLDER / "shop_platform.yaml").read_text("utf-8")))
    for manifest in manifests:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    claims = {each["metadata"]["name"] for each in manifests if each["kind"] == "PersistentVolumeClaim"}
    assert claims == {v["persistentVolumeClaim"]["claimName"] for v in DEPLOYMENT["volumes"] if "secret" not in v}
