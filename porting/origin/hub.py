"""Fetch a model from the Hugging Face hub into the hub's own cache: small files first, then the weights they name.

Nothing that could be code or pickled weights is ever asked for. Which commit was fetched is part of the answer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from porting.checkpoint.beside import FILES as BESIDE
from porting.checkpoint.tensors import INDEX, SINGLE, read_weight_map
from porting.files.files import find_file
from porting.files.progress import Progress

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
    index = find_file(directory, INDEX)
    alone = {SINGLE} if find_file(directory, "config.json") is not None else {ADAPTER}
    weights = alone if index is None else set(read_weight_map(index).values())
    patterns = tuple(re.sub(r"([*?\[])", r"[\1]", name) for name in sorted(weights))
    directory = _download(repository, commit, patterns)
    progress(STAGE, 2, 2)
    return Snapshot(directory, commit)


def cached(repository: str, revision: str | None) -> Snapshot:
    """Return what the hub's cache has of a repository; nothing is fetched."""
    directory = _download(repository, revision, ("*",), only_cached=True)
    return Snapshot(directory, directory.name)


def _download(
    repository: str, revision: str | None, patterns: tuple[str, ...], *, only_cached: bool = False
) -> Path:
    from huggingface_hub import errors, snapshot_download  # noqa: PLC0415 - slow, and needed for hub ids alone

    try:
        path = snapshot_download(
            repository,
            revision=revision,
            allow_patterns=list(patterns),
            local_files_only=only_cached,
        )
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
    except OSError as error:
        raise Unavailable(f"cannot be fetched: {str(error)[:160]}") from error
    return Path(path)
