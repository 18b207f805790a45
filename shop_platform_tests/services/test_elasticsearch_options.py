"""A client for Elasticsearch gets what the settings say, and no secret leaves them otherwise."""

from __future__ import annotations

import traceback
from pathlib import Path
from urllib.parse import quote

import pytest
from elasticsearch import Elasticsearch
from hypothesis import given
from hypothesis import strategies as st

from shop_platform.errors import SettingsError
from shop_platform.services.elasticsearch import client_options
from shop_platform.settings import Settings


def test_credentials_inside_the_url_are_moved_out_of_it() -> None:
    options = client_options(Settings(elasticsearch_url="https://reader:hu%2Fsh@es.example/prefix"))
    assert options["hosts"] == ["https://es.example:443/prefix"]
    assert options["basic_auth"] == ("reader", "hu/sh")
    assert options["verify_certs"] is True


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1), st.integers(1, 65_535))
def test_any_password_survives_a_url_when_it_is_encoded(password: str, port: int) -> None:
    options = client_options(Settings(elasticsearch_url=f"https://reader:{quote(password, safe='')}@es:{port}"))
    assert options["basic_auth"] == ("reader", password)
    assert options["hosts"] == [f"https://es:{port}"]


@given(st.text("#?/:@[]% \\,", max_size=5), st.text("#?/:@[]% \\,", max_size=5))
def test_a_password_that_is_not_encoded_is_never_shown(before: str, after: str) -> None:
    password = f"{before}canary{after}"
    try:
        shown = str(client_options(Settings(elasticsearch_url=f"https://reader:{password}@es:9200"))["hosts"])
    except SettingsError as error:
        shown = "".join(traceback.format_exception(error)) + str(error.__context__)
    assert "canary" not in shown


def test_an_address_of_version_6_keeps_its_brackets() -> None:
    assert client_options(Settings(elasticsearch_url="http://[::1]:9200"))["hosts"] == ["http://[::1]:9200"]


@pytest.mark.parametrize("first", ["https://reader:hu%2Csh@es-1", "https://es-1"])
def test_the_nodes_of_one_cluster_are_all_named_and_share_the_credentials_of_one(first: str) -> None:
    options = client_options(Settings(elasticsearch_url=f"{first}, https://es-2:9200,https://reader:hu%2Csh@es-3/es"))
    assert options["hosts"] == ["https://es-1:443", "https://es-2:9200", "https://es-3:443/es"]
    assert options["basic_auth"] == ("reader", "hu,sh")


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("https://a:canary@es-1,https://a:other@es-2", "nodes of one cluster"),
        ("https://a:canary@es-1,http://es-2", "nodes of one cluster"),
        ("https://a:canary@es-1,es-2:9200", "must look like"),
        ("https://a:canary@es-1,", "must look like"),
        ("https://a:can,ary@es-1", "must look like"),
    ],
)
def test_nodes_that_can_not_be_of_one_cluster_are_refused_without_a_secret(url: str, complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint) as caught:
        client_options(Settings(elasticsearch_url=url))
    told = "".join(traceback.format_exception(caught.value)) + str(caught.value.__context__)
    assert "canary" not in told
    assert "ary@" not in str(caught.value)


def test_an_api_key_and_a_certificate_authority_are_handed_on(tmp_path: Path) -> None:
    authority = tmp_path / "ca.crt"
    authority.write_text("")
    options = client_options(
        Settings(elasticsearch_url="https://reader:p@es", elasticsearch_api_key="key", elasticsearch_ca_certs=authority)
    )
    assert (options["api_key"], options["ca_certs"]) == ("key", str(authority))
    assert "basic_auth" not in options


def test_a_user_and_password_beside_the_url_are_handed_on() -> None:
    settings = Settings.model_validate(
        {"elasticsearch_url": "http://localhost", "elasticsearch_username": "u", "elasticsearch_password": "p"}
    )
    options = client_options(settings)
    assert options["basic_auth"] == ("u", "p")
    assert "verify_certs" not in options


def test_verification_can_be_turned_off() -> None:
    settings = Settings(elasticsearch_url="https://localhost", elasticsearch_verify_certs=False)
    assert client_options(settings)["verify_certs"] is False


def test_patience_is_bounded() -> None:
    options = client_options(Settings(elasticsearch_url="http://localhost"))
    assert (options["request_timeout"], options["max_retries"], options["retry_on_timeout"]) == (60, 6, True)


@pytest.mark.parametrize(
    "changed",
    [
        {"elasticsearch_url": "https://es"},
        {"elasticsearch_url": "https://reader:p@es:1/a"},
        {"elasticsearch_url": "http://[::1]:9200", "elasticsearch_api_key": "key"},
        {"elasticsearch_url": "https://localhost", "elasticsearch_verify_certs": False},
    ],
)
def test_the_client_takes_the_options(changed: dict[str, object]) -> None:
    with Elasticsearch(**client_options(Settings(**changed))) as client:  # type: ignore[arg-type]
        assert client


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"elasticsearch_url": "localhost:9200"}, "must look like"),
        ({"elasticsearch_url": "https://"}, "must look like"),
        ({"elasticsearch_url": "https://es:99999"}, "must look like"),
        ({"elasticsearch_url": "https://u@es"}, "ELASTICSEARCH_PASSWORD"),
        ({"elasticsearch_url": "http://localhost", "elasticsearch_username": "u"}, "ELASTICSEARCH_PASSWORD"),
        ({"elasticsearch_url": "https://es", "elasticsearch_ca_certs": Path("nowhere.crt")}, "nowhere.crt"),
    ],
)
def test_settings_that_can_not_be_used_are_named(changed: dict[str, object], complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint):
        client_options(Settings(**changed))  # type: ignore[arg-type]
