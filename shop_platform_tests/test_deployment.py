"""The compose file and the files that it mounts hang together; it can't be started without an engine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
SERVICES: dict[str, Any] = yaml.safe_load(COMPOSE)["services"]
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


def test_every_mounted_file_exists() -> None:
    for definition in SERVICES.values():
        for volume in definition.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (ROOT / source).is_file()


def test_only_loopback_is_published() -> None:
    ports = [port for definition in SERVICES.values() for port in definition.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_versions_are_those_that_the_platform_is_tested_with() -> None:
    assert SERVICES["postgres"]["image"].startswith("postgres:18.")
    assert SERVICES["elasticsearch"]["image"].split(":")[1].startswith("9.2.")
