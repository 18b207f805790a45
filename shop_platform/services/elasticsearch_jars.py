"""The jars of the embedded Elasticsearch: fetched by their Maven coordinates, cached for the user, always verified.

The coordinates and checksums that the project trusts are in `elasticsearch_jars.toml`. To move to another version of
Elasticsearch, run `python -m shop_platform.services.elasticsearch_jars VERSION`, which resolves the dependencies and
prints that file anew; review what changed before you commit it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from shop_platform.errors import ServiceError

if TYPE_CHECKING:
    from jgo.maven import MavenContext

_PINS = Path(__file__).with_name("elasticsearch_jars.toml")

#: Seconds to wait while another process fetches, and how many downloads go on at once.
_FETCH_TIMEOUT, _DOWNLOADS = 900.0, 8

#: Called with the number of jars fetched so far and the number to fetch.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Jars:
    """Verified jars: the version, the server's own (`lib`), and those of its HTTP transport (`netty`)."""

    version: str
    lib: tuple[Path, ...]
    netty: tuple[Path, ...]


def pinned_version() -> str:
    """Version of Elasticsearch that the project's checksums are for."""
    return str(tomllib.loads(_PINS.read_text(encoding="utf-8"))["version"])


def cache_folder() -> Path:
    """Where the jars are kept for this user, laid out as a Maven repository."""
    return user_cache_path("shop_platform") / "maven"


def ensure_jars(progress: Progress | None = None, *, repository: str | None = None) -> Jars:
    """Give the jars, fetching those that are missing or not what they should be.

    All are verified each time, about 0.1 s; so what was cut short or changed in the cache is noticed before it runs.

    Args:
        progress: told of each jar that is fetched.
        repository: URL of the Maven repository to fetch from; None: Maven Central.

    Raises:
        ServiceError: a jar can't be fetched, or what was fetched does not have the checksum that the project holds.
    """
    pins = tomllib.loads(_PINS.read_text(encoding="utf-8"))
    wanted: dict[str, str] = pins["lib"] | pins["netty"]
    cache = cache_folder()
    if _missing(cache, wanted):  # else the cache need not even be writable
        with _cache_lock(cache):
            missing = _missing(cache, wanted)  # once more: whoever held the lock may have fetched them
            if missing:
                _fetch(cache, missing, wanted, repository, progress)
    return Jars(
        version=pins["version"],
        lib=tuple(_path(cache, name) for name in pins["lib"]),
        netty=tuple(_path(cache, name) for name in pins["netty"]),
    )


def _missing(cache: Path, wanted: dict[str, str]) -> list[str]:
    return [name for name, sha256 in wanted.items() if not _is_whole(_path(cache, name), sha256)]


@contextmanager
def _cache_lock(cache: Path) -> Iterator[None]:
    """One process fetches; the others wait, then find the jars whole."""
    lock = FileLock(cache / "fetch.lock", timeout=_FETCH_TIMEOUT)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise ServiceError(
            f"Another process has been fetching Elasticsearch's jars into {cache} for {_FETCH_TIMEOUT:.0f} s: "
            "end it if it hangs, then try again."
        ) from error
    except OSError as error:
        raise ServiceError(f"The cache {cache} can't be written ({error.strerror}): set XDG_CACHE_HOME.") from error
    try:
        yield
    finally:
        lock.release()


def _path(cache: Path, coordinates: str) -> Path:
    group, artifact, version = coordinates.split(":")
    return cache.joinpath(*group.split("."), artifact, version, f"{artifact}-{version}.jar")


def _is_whole(path: Path, sha256: str) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError:
        return False


def _fetch(
    cache: Path, missing: list[str], wanted: dict[str, str], repository: str | None, progress: Progress | None
) -> None:
    """Fetch jars into the cache, each verified before it gets its name there."""
    # The library writes a file under its final name while it downloads, so it downloads somewhere else.
    with tempfile.TemporaryDirectory(dir=cache) as temporary, _system_authorities():
        context = _context(Path(temporary), repository)

        def fetch(coordinates: str) -> None:
            try:
                fetched = _download(context, coordinates, wanted[coordinates])
            except ServiceError:  # a connection that broke, or a proxy's error page, deserves a second try
                fetched = _download(context, coordinates, wanted[coordinates])
            target = _path(cache, coordinates)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(fetched, target)

        try:
            with ThreadPoolExecutor(_DOWNLOADS) as pool:
                for done, _ in enumerate(pool.map(fetch, missing), start=1):
                    if progress is not None:
                        progress(done, len(missing))
        except OSError as error:
            raise ServiceError(f"The jars can't be written to the cache {cache}: {error.strerror}.") from error


def _download(context: MavenContext, coordinates: str, sha256: str) -> Path:
    from requests import RequestException

    artifact = context.create_dependency(coordinates).artifact
    artifact.cached_path.unlink(missing_ok=True)  # of the first attempt
    try:
        fetched: Path = artifact.resolve()
    except (RequestException, RuntimeError, ValueError) as error:
        raise ServiceError(
            f"Elasticsearch's jar {coordinates} can't be fetched ({type(error).__name__}). Connect to the "
            "network and try again, or point ELASTICSEARCH_URL at an Elasticsearch of your own."
        ) from error
    if not _is_whole(fetched, sha256):
        raise ServiceError(
            f"What was fetched as {coordinates} does not have the checksum that this project holds: "
            "it is not used. Look at what stands between you and the repository, then try again."
        )
    return fetched


@contextmanager
def _system_authorities() -> Iterator[None]:
    """Trust the certificate authorities that `SSL_CERT_FILE` names, as other programs do.

    The library beneath looks only for `REQUESTS_CA_BUNDLE` and `CURL_CA_BUNDLE`, in the environment.
    """
    authorities = os.environ.get("SSL_CERT_FILE")
    if not authorities or {"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"} & os.environ.keys():
        yield
        return
    os.environ["REQUESTS_CA_BUNDLE"] = authorities
    try:
        yield
    finally:
        del os.environ["REQUESTS_CA_BUNDLE"]


def _context(folder: Path, repository: str | None = None) -> MavenContext:
    """A Maven context that keeps what it fetches in a folder of ours, not in the user's own repository."""
    from jgo.maven import MavenContext

    remotes = None if repository is None else {"repository": repository}
    return MavenContext(repo_cache=folder, remote_repos=remotes, timeout=60)


def _resolve(version: str) -> str:
    """The text of `elasticsearch_jars.toml` for a version of Elasticsearch, from what Maven resolves today."""
    with tempfile.TemporaryDirectory() as temporary:
        context = _context(Path(temporary))

        def closure(coordinates: str) -> dict[str, str]:
            inputs, transitive = context.resolver.resolve([context.create_dependency(coordinates)])
            return {
                f"{d.groupId}:{d.artifactId}:{d.version}": hashlib.sha256(d.artifact.resolve().read_bytes()).hexdigest()
                for d in [*inputs, *transitive]
            }

        lib = closure(f"org.elasticsearch:elasticsearch:{version}")
        netty = closure(f"org.elasticsearch.plugin:transport-netty4:{version}")
    lines = [
        "# The jars of the embedded Elasticsearch: Maven coordinates, and the sha256 of each jar.",
        "# Made by `python -m shop_platform.services.elasticsearch_jars VERSION`.",
        "# `lib` is the server; `netty` is its HTTP transport, less what the server has already.",
        f'\nversion = "{version}"',
    ]
    for name, jars in (("lib", lib), ("netty", {key: jars for key, jars in netty.items() if key not in lib})):
        lines += [f"\n[{name}]", *(f'"{key}" = "{jars[key]}"' for key in sorted(jars))]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(_resolve(sys.argv[1]))
