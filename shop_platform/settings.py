"""Every setting of the platform: its environment variable, default and meaning."""

from __future__ import annotations

import datetime as dt
import os
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shop_platform.errors import SettingsError
from shop_platform.handwritten import known_zone
from shop_platform.hosts import OR_ALLOW, is_safe_web_address

Count = Annotated[int, Field(ge=1)]

#: As many as Elasticsearch allows.
Shards = Annotated[int, Field(ge=1, le=1_024)]

Scale = Literal["50k", "500k", "5m", "50m"]

#: How many users, products and events a synthetic shop of each scale has, named after its events.
SCALES: dict[Scale, dict[str, int]] = {
    "50k": {"users": 1_000, "products": 20, "events": 50_000},
    "500k": {"users": 10_000, "products": 50, "events": 500_000},
    "5m": {"users": 100_000, "products": 200, "events": 5_000_000},
    "50m": {"users": 1_000_000, "products": 1_000, "events": 50_000_000},
}


class Settings(BaseSettings):
    """Settings, as the environment holds them whenever `load_settings` is called."""

    model_config = SettingsConfigDict(
        env_prefix="SHOP_", env_ignore_empty=True, extra="ignore", frozen=True, populate_by_name=True
    )

    database_url: SecretStr | None = Field(
        None,
        validation_alias="DATABASE_URL",
        description="PostgreSQL to use, as a URL; unset: an embedded PostgreSQL 18 is started.",
    )
    elasticsearch_url: SecretStr | None = Field(
        None,
        validation_alias="ELASTICSEARCH_URL",
        description="Elasticsearch to use, as a URL, or the nodes of one cluster as several with commas between them; "
        "unset: an embedded Elasticsearch 9.2 is started.",
    )
    elasticsearch_api_key: SecretStr | None = Field(
        None, validation_alias="ELASTICSEARCH_API_KEY", description="API key for Elasticsearch, encoded form."
    )
    elasticsearch_username: str | None = Field(
        None,
        validation_alias="ELASTICSEARCH_USERNAME",
        description="User for Elasticsearch, where no API key is used.",
    )
    elasticsearch_password: SecretStr | None = Field(
        None, validation_alias="ELASTICSEARCH_PASSWORD", description="Password that goes with the user."
    )
    elasticsearch_ca_certs: Path | None = Field(
        None,
        validation_alias="ELASTICSEARCH_CA_CERTS",
        description="PEM file with the authority that signed Elasticsearch's certificate.",
    )
    elasticsearch_verify_certs: bool = Field(
        True,
        validation_alias="ELASTICSEARCH_VERIFY_CERTS",
        description="Verify Elasticsearch's TLS certificate; turn off only for a trial.",
    )
    allow_unencrypted: Literal["in-a-private-network"] | None = Field(
        None,
        description="in-a-private-network: connections to other hosts may go without verified TLS, because nobody else "
        "can listen there; unset: such connections are refused.",
    )
    elasticsearch_heap: str = Field(
        "1g",
        pattern=r"^\d+[mg]$",
        description="Largest Java heap of the embedded Elasticsearch, for example 512m or 2g.",
    )
    elasticsearch_java_options: str | None = Field(
        None,
        description="More options for its Java: -XX:TieredStopAtLevel=1 takes half the processor time on a small shop, "
        "and writes a large one more slowly; unset: none.",
    )
    elasticsearch_shards: Shards = Field(
        1, description="Primary shards of the search logs' index, when the platform makes it the next time."
    )
    elasticsearch_embedding_shards: Shards = Field(
        1, description="Primary shards of the index of embeddings, when the platform makes it the next time."
    )
    elasticsearch_replicas: int | None = Field(
        None,
        ge=0,
        le=10,
        description="Copies of each shard beside the first, in indexes made from now on; unset: one, where there is a "
        "second node.",
    )
    home: Path = Field(
        Path(".shop"),
        description="Folder for everything that the platform keeps: embedded servers' data, Dagster's runs, reports; "
        "by default one in the folder in which you are.",
    )
    config: Path | None = Field(
        None,
        description="TOML file that maps files of yours onto the shop; unset: a synthetic shop is made.",
    )
    data: Path | None = Field(
        None,
        description="Folder in which the files named by SHOP_CONFIG are; unset: the one that the TOML file names.",
    )
    source_database_url: SecretStr | None = Field(
        None, description="PostgreSQL whose tables SHOP_CONFIG names, as a URL; best of a role that may only read."
    )
    source_elasticsearch_url: SecretStr | None = Field(
        None, description="Elasticsearch whose indices SHOP_CONFIG names, as a URL."
    )
    source_elasticsearch_api_key: SecretStr | None = Field(
        None, description="API key for that Elasticsearch, encoded form; it needs no more than to read."
    )
    encoder: Literal["onnx", "sentence-transformers"] = Field(
        "onnx",
        description="What computes embeddings: onnx (ONNX Runtime on the processor), or sentence-transformers, which "
        "can use a GPU and is taken wherever NVIDIA's driver is installed.",
    )
    encoder_model: Path | None = Field(
        None,
        description="Folder of a sentence-transformers model to embed searches with; unset: the packaged "
        "all-MiniLM-L6-v2.",
    )
    segments: Path | None = Field(
        None, description="TOML file with the segments of the shop; unset: the four of segmentation/segments.toml."
    )
    alert_webhook: SecretStr | None = Field(
        None,
        description="URL that alerts are posted to, as Slack's JSON: failed runs and checks, stale assets; unset: they "
        "are logged.",
    )
    engine: Literal["postgres", "spark"] = Field(
        "postgres",
        validation_alias="ENGINE",
        description="What counts events and embeds searches: postgres, or spark (Apache Spark, from the extra "
        "shop-platform[spark]).",
    )
    spark_master: str = Field(
        "local[*]",
        validation_alias="SPARK_MASTER",
        pattern=r"^(local(\[[^\]]+\])?|spark://.+|sc://[^/;@]+(/(;use_ssl=true)?)?)$",
        description="Where Spark runs: local[*], local[2], spark://host:7077 for a standalone cluster, or "
        "sc://host:15002 for a server of Spark Connect (sc://host:15002/;use_ssl=true by TLS; its token in "
        "SPARK_CONNECT_AUTHENTICATE_TOKEN).",
    )
    active_users: Literal["exact", "sketch"] = Field(
        "exact",
        description="How weekly active users are counted: exact, or with ENGINE=spark also sketch, which estimates "
        "them by HyperLogLog (95 % of the weeks within 0.8 %) and keeps no row for each user and week.",
    )
    lake: str | None = Field(
        None,
        description="Folder or URL that Spark and the platform both reach, for the copy of the shop as Parquet; unset: "
        "the folder lake of the shop, on this machine.",
    )
    seed: int = Field(42, ge=0, description="Seed of the synthetic shop and of KMeans.")
    scale: Scale = Field(
        "50k",
        description="Size of the synthetic shop: 50k, 500k, 5m or 50m events, each in a database of its own.",
    )
    users: Count = Field(1_000, description="Users of the synthetic shop; unset: as many as SHOP_SCALE means.")
    products: Count = Field(20, description="Products of the synthetic shop; unset: as many as SHOP_SCALE means.")
    events: Count = Field(50_000, description="Events of the synthetic shop; unset: as many as SHOP_SCALE means.")
    searches: Count = Field(12_000, description="Search logs of the synthetic shop.")
    start: dt.date = Field(
        dt.date(2025, 1, 1),
        description="First day of the synthetic shop, which lasts 365 days.",
    )
    time_zone: str | None = Field(
        None,
        description="Time zone in which days, weeks and months are cut; unset: the one in SHOP_CONFIG, else UTC.",
    )
    quarantine_at_most: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Share of a table's rows that may break the contract before nothing is loaded; unset: the one in "
        "SHOP_CONFIG, else 0.05.",
    )
    wait_for_run: float = Field(
        600,
        ge=0,
        description="Seconds that a run waits for another one that writes the same, before it stops and says so.",
    )
    statement_timeout: float = Field(
        3600, ge=1, description="Seconds that one statement may take in PostgreSQL, before it is ended."
    )
    silence: float = Field(
        60,
        gt=0,
        description="Seconds of silence after which PostgreSQL is asked whether it still works on a statement, and "
        "after which a request to Elasticsearch is given up and made again.",
    )
    events_by_month: str | None = Field(
        None,
        pattern=r"^(19|20)\d\d-(0[1-9]|1[0-2])$",
        description="First month, such as 2024-01, of the asset `events_by_month`, which loads chosen months of "
        "`events`; unset: there is no such asset.",
    )
    search_logs_keep_days: Count | None = Field(
        None,
        description="Days for which search logs are kept; older ones are neither loaded nor left in Elasticsearch; "
        "unset: all are kept.",
    )
    pseudonym_key: SecretStr | None = Field(
        None,
        min_length=32,
        description="Key of at least 32 characters, from which pseudonyms of users follow, in place of their ids in "
        "tables, search logs and artefacts; unset: they have their ids.",
    )
    remeasure_growth: float = Field(
        0.1,
        ge=0,
        description="The benchmarks run again once `events` has grown by this share since they last ran.",
    )

    keep_runs: Count = Field(
        1_000,
        description="How many of Dagster's runs are kept, with their events and logs; those that made what stands stay "
        "as well.",
    )

    queries: Path | None = Field(
        None,
        description="Folder of .sql files, each a query of yours that is measured and advised on like the dashboard's.",
    )
    query_time_limit: int = Field(60, ge=1, description="Seconds that one execution of a measured query may take.")
    measure_seconds: float = Field(
        4,
        ge=0.1,
        description="Seconds for which ways to answer a query are measured in turns; up to four times as long where "
        "that can't tell them apart. Less is quicker, with wider intervals.",
    )
    index_budget: float = Field(
        0.5,
        gt=0,
        description="Room that the advised indexes may take together, as a share of the measured tables' size.",
    )

    retention_cohort: Literal["day", "week", "month", "quarter"] = Field(
        "month", description="Calendar period whose new users make a cohort: day, week, month or quarter."
    )
    retention_start: Literal["signup", "viewed", "add_to_cart", "purchased"] = Field(
        "signup",
        description="What puts a user into a cohort: signup, or the first event viewed, add_to_cart or purchased.",
    )
    retention_period: Literal["day", "week", "month"] = Field(
        "week", description="Length of a period of activity: day, week or month."
    )
    retention_periods: int = Field(8, ge=1, le=60, description="How many periods; the first is number 0.")
    retention_anchor: Literal["user", "calendar", "cohort"] = Field(
        "user",
        description="From where periods count: the user's own start, the calendar period that holds it, or the one that"
        " holds the cohort's first day (user, calendar, cohort).",
    )
    retention_activity: Literal["any", "viewed", "add_to_cart", "purchased"] = Field(
        "any", description="Which events make a user active: any, viewed, add_to_cart or purchased."
    )
    retention_minimum: Count = Field(1, description="How many such events make a user active.")
    retention_measure: Literal["n-period", "unbounded", "revenue"] = Field(
        "n-period",
        description="Active in the period (n-period), in it or later (unbounded), or buying in it, with the sum"
        " (revenue).",
    )
    retention_breakdown: str | None = Field(
        None, description="Groups of users beside the whole: category, segment or a column of users; unset: none."
    )
    retention_least_users: Count = Field(30, description="Retention of fewer users than this is marked as uncertain.")
    week_start: Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"] = Field(
        "monday", description="First day of a week in retention by calendar weeks."
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_from_scale(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Numbers that are not set follow the scale; an unknown scale is refused later, with the others named."""
        return SCALES.get(values.get("scale", "50k"), {}) | values

    @field_validator("active_users")
    @classmethod
    def _only_by_spark(cls, value: str, info: ValidationInfo) -> str:
        if value == "sketch" and info.data.get("engine") == "postgres":
            raise ValueError("is sketch, which needs ENGINE=spark: PostgreSQL counts users exactly")
        return value

    @field_validator("alert_webhook")
    @classmethod
    def _web_address(cls, webhook: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        """Whoever reads the address on its way may write to the channel."""
        if webhook is None:
            return None
        if not webhook.get_secret_value().startswith(("http://", "https://")):
            raise ValueError("is no http:// or https:// address")
        if not (is_safe_web_address(webhook.get_secret_value()) or info.data.get("allow_unencrypted")):
            raise ValueError(f"leads to another host by plain HTTP: use https://; {OR_ALLOW}")
        return webhook

    @field_validator("home", mode="after")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        try:
            return value.expanduser().resolve()
        except RuntimeError as error:  # ~somebody, who has no home
            raise ValueError(str(error)) from error

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str | None) -> str | None:
        if value is not None:
            known_zone(value)
        return value


def load_settings() -> Settings:
    """Read the settings from the environment.

    Raises:
        SettingsError: a variable has a value that can't be used; the message names it and never shows a secret.
    """
    try:
        return _settings_of(frozenset(os.environ.items()), _working_folder())
    except ValidationError as error:
        problems = "; ".join(f"{_variable(e['loc'])}: {e['msg']}" for e in error.errors())
        raise SettingsError(f"Unusable setting in the environment: {problems}.") from None


@lru_cache(maxsize=8)
def _settings_of(environment: frozenset[tuple[str, str]], folder: str) -> Settings:  # noqa: ARG001  what they depend on
    """The settings of this environment and working folder: to read them takes 2 ms, and each connection asks."""
    return Settings()


def _working_folder() -> str:
    try:
        return str(Path.cwd())
    except FileNotFoundError:  # somebody has removed it
        return ""


def _variable(location: tuple[int | str, ...]) -> str:
    """The environment variable that an error is about; that is its place already where it has a name of its own."""
    name = ".".join(map(str, location))
    return f"SHOP_{name.upper()}" if name in Settings.model_fields else name
