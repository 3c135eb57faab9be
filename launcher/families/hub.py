"""The hub: may this model be fetched from it, and does it answer?"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from launcher.config.model_schema import ModelConfig
from launcher.families.weights import HERE, as_typed, home
from launcher.problems import Problem, Refused

PATIENCE = 5.0  # seconds for a name, a connection and an answer; most failures are told at once


def access_problems(model: ModelConfig, lacking: str = "") -> Iterator[Problem]:
    """What would keep a repository, or what the cache lacks of it, from being fetched.

    Args:
        lacking: what is missing of a repository whose other files are in the cache.
    """
    from huggingface_hub import constants  # milliseconds; the rest of that package takes a second

    value, local = as_typed(model), f"type model.path=FOLDER for a local copy, {HERE}"
    where = f"in the cache, {lacking}" if lacking else "no folder here and no weights in the cache"
    if constants.HF_HUB_OFFLINE:
        yield Problem(value, f"{where}; HF_HUB_OFFLINE is set", f"unset HF_HUB_OFFLINE, {local}")
    elif model.gated and token() is None:
        rule = f"{where}; the repository is gated: accept its licence first"
        yield Problem(value, rule, f"accept it at {model.licence} and type `hf auth login`, or {local}")


def fetch_configs(model: ModelConfig) -> None:
    """Fetch what a repository says of its pipeline: some kilobytes, which go to the hub's cache.

    Raises:
        Refused: it can't be reached, or may not be read.
    """
    from huggingface_hub import constants, snapshot_download

    found = list(access_problems(model)) or list(answer_problems(model, constants.ENDPOINT))
    if not found:
        try:
            wanted = ["model_index.json", "*/config.json", "*_config.json"]
            snapshot_download(home(model), revision=model.revision, allow_patterns=wanted)
            return
        except Exception as error:  # of a dozen kinds, by who has failed: the hub, HTTP, the disk
            told = f"its configuration can't be fetched ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
            found = [Problem(as_typed(model), told, f"type model.path=FOLDER for a local copy, {HERE}")]
    raise Refused(found)


def token() -> str | None:
    """The user's token, wherever huggingface_hub finds one: environment, file or notebook."""
    from huggingface_hub import constants

    told = any(name.startswith(("HF_", "HUGGING_FACE", "COLAB")) for name in os.environ)
    if not told and not os.path.exists(constants.HF_TOKEN_PATH):
        return None  # known without huggingface_hub's HTTP client, whose import takes longer than a plan
    from huggingface_hub import get_token

    return get_token()


@dataclass(frozen=True)
class Answer:
    """What the hub says of a repository's model_index.json: an HTTP status and the hub's own word for an error."""

    status: int = 0
    error: str = ""
    flaw: str = ""  # why there is no answer at all


def ask(endpoint: str, repository: str, revision: str | None, file: str = "model_index.json") -> Answer:
    """Ask for the headers of a repository's file.

    By the client that fetches the files: another one has other certificates, and other variables name its proxy.
    """
    import urllib.parse

    from huggingface_hub import get_session  # 0.2 s, when a repository is to be fetched

    told: list[Answer] = []

    def connect() -> None:
        try:
            url = f"{endpoint}/{repository}/resolve/{revision or 'main'}/{urllib.parse.quote(file)}"
            known = token()
            headers = {"Authorization": f"Bearer {known}"} if known else {}
            response = get_session().head(url, headers=headers, timeout=PATIENCE)
            told.append(Answer(response.status_code, response.headers.get("X-Error-Code") or ""))
        except Exception as error:  # of a dozen kinds: an address that is none, a proxy, a certificate, what is no HTTP
            told.append(Answer(flaw=_reason(error)))

    thread = threading.Thread(target=connect, daemon=True)  # a resolver knows no time limit
    thread.start()
    thread.join(2 * PATIENCE)
    return told[0] if told else Answer(flaw=f"no answer within {2 * PATIENCE:g} s")


def _reason(error: BaseException) -> str:
    """Why there was no answer, in the words of the system where it has some."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return " ".join(str(error).split())[:200] or type(error).__name__


def answer_problems(model: ModelConfig, endpoint: str, lacking: str = "") -> Iterator[Problem]:
    """Weights that are not here come from the hub: it must answer, have the repository, and let this user in.

    Args:
        lacking: what the cache does not have of a repository that is there in part.
    """
    value, local = as_typed(model), f"type model.path=FOLDER for a local copy, {HERE}"
    answer = ask(endpoint, home(model), model.revision)
    if answer.flaw:
        where = f"in the cache, {lacking}" if lacking else "no folder here and no weights in the cache"
        rule = f"{where}; {endpoint} can't be reached ({answer.flaw})"
        yield Problem(value, rule, f"connect, or {local}")
    elif answer.error == "GatedRepo" or (not answer.error and answer.status in (401, 403) and model.gated):
        rule = "this repository is gated, and the hub lets only those in who accepted its licence"
        yield Problem(value, rule, f"accept it at {model.licence or endpoint + '/' + home(model)}, or {local}")
    elif answer.error == "RevisionNotFound":
        rule = f"the repository {home(model)} has no such branch, tag or commit"
        yield Problem(f"model.revision={model.revision}", rule, "leave it out: the repository's own default is used")
    elif answer.error == "EntryNotFound":
        rule = "the repository holds no diffusers pipeline: it has no model_index.json"
        yield Problem(value, rule, f"choose a repository in diffusers' format, or {local}")
    elif answer.error == "RepoNotFound" or answer.status in (401, 403, 404):
        rule = f"no folder here, and {endpoint} has no repository of this name that you may read"
        yield Problem(value, rule, f"check the spelling, or {local}")


def offline_flaw() -> str | None:
    """Why nothing can be fetched for a part that the cache does not hold, as the end of a sentence; None if it can."""
    from huggingface_hub import constants

    return "no such file or folder here, nor in the cache; HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else None


def answer_flaw(endpoint: str, repository: str, revision: str | None, file: str) -> str | None:
    """Why a repository's file can't be fetched, as the end of a sentence; None if it can be, as far as is known."""
    answer = ask(endpoint, repository, revision, file)
    if answer.flaw:
        return f"no such file or folder here, nor in the cache; {endpoint} can't be reached ({answer.flaw})"
    if answer.error == "GatedRepo":
        return f"is gated: accept the licence at {endpoint}/{repository} and type `hf auth login`"
    if answer.error == "RevisionNotFound":
        return f"{repository} has no branch, tag or commit {revision}"
    if answer.error == "EntryNotFound":
        return f"{repository} has no {file}"
    if answer.error == "RepoNotFound" or answer.status in (401, 403, 404):
        return f"no such file or folder here, and {endpoint} has no repository {repository} that you may read"
    return None
