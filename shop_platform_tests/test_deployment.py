"""The compose file and the files that it mounts hang together; it can't be started without an engine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from psycopg.conninfo import conninfo_to_dict

from shop_platform.services.transport import safe_conninfo
from shop_platform.settings import Settings

ROOT = Path(__file__).parents[1]
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
SERVICES: dict[str, Any] = yaml.safe_load(COMPOSE)["services"]
COMPOSE_FILES = ROOT / "deploy" / "compose"
ONE_SHOT = {"certificates"}


def variables_of(text: str) -> set[str]:
    """Variables that compose fills in: ${NAME...}, but not the escaped $${NAME}."""
    return set(re.findall(r"(?<!\$)\$\{([A-Z_]+)", text))


def test_every_variable_is_explained_in_the_example() -> None:
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    explained = {line.split("=")[0] for line in lines if re.match(r"^[A-Z_]+=", line)}
    assert variables_of(COMPOSE) == explained


def test_secrets_have_no_default_anywhere() -> None:
    for name in ("POSTGRES_PASSWORD", "ELASTIC_PASSWORD"):
        assert set(re.findall(r"\$\{" + name + r"([^}]*)\}", COMPOSE.replace("$${", ""))) == {f":?set {name} in .env"}
        assert f"\n{name}=\n" in (ROOT / ".env.example").read_text(encoding="utf-8")


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_every_service_has_a_health_check_and_a_pinned_image(service: str) -> None:
    definition = SERVICES[service]
    assert ("healthcheck" in definition) == (service not in ONE_SHOT)
    assert re.search(r":\d+\.\d+(\.\d+)?(-\w+)?$", definition["image"])


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_every_service_is_confined(service: str) -> None:
    definition = SERVICES[service]
    assert definition["read_only"] is True
    assert definition["security_opt"] == ["no-new-privileges:true"]
    assert definition["cap_drop"] == ["ALL"]
    assert definition["mem_limit"]
    assert definition["pids_limit"] > 0
    assert "/tmp" in definition["tmpfs"]  # noqa: S108  a folder in a container
    assert not definition.get("privileged")
    if service in ONE_SHOT:
        # It gives keys away, and talks to nobody.
        assert set(definition["cap_add"]) == {"CHOWN", "DAC_OVERRIDE", "FOWNER"}
        assert definition["network_mode"] == "none"
    else:
        assert "cap_add" not in definition
        assert not definition["user"].startswith(("0", "root"))
    assert not any("docker.sock" in volume for volume in definition["volumes"])


def test_every_mounted_file_exists() -> None:
    for definition in SERVICES.values():
        for volume in definition.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (ROOT / source).is_file()


def test_what_talks_to_the_servers_verifies_them_by_certificates_that_are_made_for_their_names() -> None:
    environment = {name: str(value) for name, value in SERVICES["dagster_code"]["environment"].items()}
    parts = conninfo_to_dict(safe_conninfo(environment["DATABASE_URL"], "DATABASE_URL", Settings()))
    node = urlsplit(environment["ELASTICSEARCH_URL"])
    made = yaml.safe_load(
        (COMPOSE_FILES / "make_certificates.sh").read_text("utf-8").split("<<'YAML'\n")[1].split("YAML")[0]
    )
    assert {each["name"] for each in made["instances"]} == {parts["host"], node.hostname}
    assert all(each["name"] in each["dns"] for each in made["instances"])
    assert node.scheme == "https"
    storage = yaml.safe_load((COMPOSE_FILES / "dagster.yaml").read_text("utf-8"))["storage"]["postgres"]["postgres_db"]
    authority = environment["ELASTICSEARCH_CA_CERTS"]
    assert storage["params"] == {"sslmode": "verify-full", "sslrootcert": authority}
    assert (parts["sslmode"], parts["sslrootcert"]) == ("verify-full", authority)
    # PostgreSQL must own its key, or it does not start.
    assert SERVICES["postgres"]["user"] == "999:999"
    assert "-o 999 -g 999" in (COMPOSE_FILES / "make_certificates.sh").read_text("utf-8")


def test_only_loopback_is_published() -> None:
    ports = [port for definition in SERVICES.values() for port in definition.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_versions_are_those_that_the_platform_is_tested_with() -> None:
    assert SERVICES["postgres"]["image"].startswith("postgres:18.")
    assert SERVICES["elasticsearch"]["image"].split(":")[1].startswith("9.2.")
