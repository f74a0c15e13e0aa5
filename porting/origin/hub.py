# SPDX-License-Identifier: Apache-2.0
"""Fetch a model from the Hugging Face hub into the hub's own cache: small files first, then the weights they name.

To plan, the headers of the weights are enough: they are fetched as parts of the files, and not kept. Nothing that could
be code or pickled weights is ever asked for. Which commit was fetched is part of the answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from porting.checkpoint.beside import FILES as BESIDE
from porting.checkpoint.index import INDEX, read_weight_map
from porting.checkpoint.remote import open_remote
from porting.checkpoint.tensors import SINGLE, Checkpoint
from porting.files.files import find_file
from porting.files.progress import Progress, silent

SMALL = (
    "added_tokens.json",
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "merges.txt",
    INDEX,
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    *BESIDE,
)
STAGE = "fetch"
PARTIAL = 206
_WHOLE = re.compile(r"/([0-9]{1,18})$")
ADAPTER = "adapter_model.safetensors"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A commit of a repository, in the hub's cache."""

    directory: Path
    commit: str


class Unavailable(Exception):
    """The hub cannot give what was asked for; the text completes "the hub's org/name …"."""

    def __init__(self, words: str, help: str = "") -> None:
        super().__init__(words)
        self.help = help


def fetch(repository: str, revision: str | None, progress: Progress) -> Snapshot:
    """Fetch config, tokenizer and safetensors of a repository, or what its cache has when offline."""
    progress(STAGE, 0, 2)
    directory = _download(repository, revision, SMALL)
    commit = directory.name
    progress(STAGE, 1, 2)
    patterns = tuple(re.sub(r"([*?\[])", r"[\1]", name) for name in _weights(directory))
    directory = _download(repository, commit, patterns)
    progress(STAGE, 2, 2)
    return Snapshot(directory, commit)


def fetch_small(repository: str, revision: str | None, progress: Progress) -> Snapshot:
    """Fetch config, tokenizer and index of a repository, and no weights."""
    progress(STAGE, 0, 1)
    directory = _download(repository, revision, SMALL)
    progress(STAGE, 1, 1)
    return Snapshot(directory, directory.name)


def headers(repository: str, snapshot: Snapshot, progress: Progress) -> Checkpoint:
    """Return the checkpoint of a commit by the headers of its files, which stay where they are.

    Raises `Unavailable` where the hub cannot be reached or has no safetensors.
    """
    from huggingface_hub import hf_hub_url  # noqa: PLC0415 - slow, and needed for hub ids alone

    def part(name: str, start: int, stop: int) -> tuple[bytes, int]:
        return _part(hf_hub_url(repository, name, revision=snapshot.commit), start, stop)

    with _explained():
        return open_remote(snapshot.directory, _weights(snapshot.directory), part, progress)


def cached(repository: str, revision: str | None, progress: Progress = silent) -> Snapshot:
    """Return what the hub's cache has of a repository; nothing is fetched."""
    del progress
    directory = _download(repository, revision, ("*",), only_cached=True)
    return Snapshot(directory, directory.name)


def _weights(directory: Path) -> list[str]:
    index = find_file(directory, INDEX)
    if index is not None:
        return sorted(set(read_weight_map(index).values()))
    return [SINGLE if find_file(directory, "config.json") is not None else ADAPTER]


def _part(url: str, start: int, stop: int) -> tuple[bytes, int]:
    """Return a part of a file and the size of the whole; no more is read, whatever is sent."""
    from huggingface_hub import constants  # noqa: PLC0415 - as above
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status  # noqa: PLC0415 - as above

    asked = {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with get_session().stream(
        "GET", url, headers={**build_hf_headers(), **asked}, timeout=timeout, follow_redirects=True
    ) as response:
        hf_raise_for_status(response)
        whole = _WHOLE.search(response.headers.get("Content-Range", ""))
        if response.status_code != PARTIAL or whole is None:
            raise Unavailable("is on a server that does not send parts of files")
        data = b""
        for piece in response.iter_bytes():
            data += piece
            if len(data) >= stop - start:
                break
    size = int(whole[1])
    if len(data) < min(stop, size) - start:
        raise Unavailable("was sent cut short")
    return data[: stop - start], size


def _download(
    repository: str, revision: str | None, patterns: tuple[str, ...], *, only_cached: bool = False
) -> Path:
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - slow, and needed for hub ids alone

    with _explained():
        path = snapshot_download(
            repository,
            revision=revision,
            allow_patterns=list(patterns),
            local_files_only=only_cached,
        )
        return Path(path)


@contextmanager
def _explained() -> Iterator[None]:
    """Turn what the hub's library raises into `Unavailable`."""
    from huggingface_hub import errors  # noqa: PLC0415 - slow, and needed for hub ids alone

    # OSError, and the base class of its HTTP client, whichever that is: a lost connection is none of the hub's own.
    network = cast("tuple[type[Exception], ...]", errors.HfHubHTTPError.__bases__)
    try:
        yield
    except errors.GatedRepoError as error:
        hint = "accept its terms on its page, then log in with `hf auth login`"
        raise Unavailable("is gated: access must be granted first", hint) from error
    except errors.RevisionNotFoundError as error:
        raise Unavailable("does not exist: there is no such revision") from error
    except errors.RepositoryNotFoundError as error:
        hint = "a private model needs `hf auth login` first"
        raise Unavailable("does not exist, or is private", hint) from error
    except errors.HFValidationError as error:
        raise Unavailable("is not a valid id") from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        hint = (
            "check the connection and HF_HUB_OFFLINE, or fetch the model with `hf download` first"
        )
        raise Unavailable("is not in the cache and cannot be reached", hint) from error
    except network as error:
        raise Unavailable(f"cannot be fetched: {str(error)[:160]}") from error
