"""Requests to the Hugging Face Hub: repeated while a fault may pass by itself, else refused in one sentence."""

from collections.abc import Callable, Sequence
import functools
import json
import os
import re
import sys
import time
from typing import TYPE_CHECKING, TypeVar

from bert_tpu.core import command

if TYPE_CHECKING:
    from huggingface_hub import HfFileSystem

WAITS_S = (5.0, 30.0, 120.0)  # between attempts, each of which is several of huggingface_hub, within 23 s
FIRST_WAITS_S = (1.0, 5.0)  # while files are listed: a person may be waiting
REASON_CHARS = 200  # of an error of the network

Result = TypeVar("Result")


@functools.cache
def files() -> "HfFileSystem":
    """The file system of this process."""
    import huggingface_hub

    # With token=None the library would use a token that it has stored on this machine.
    return huggingface_hub.HfFileSystem(token=token() or False, endpoint=endpoint())


def endpoint() -> str | None:
    """The Hub's address in the environment variable HF_ENDPOINT; None for the Hub itself."""
    return os.environ.get("HF_ENDPOINT", "").strip().rstrip("/") or None


def token() -> str:
    """The token in the environment variable HF_TOKEN; "" if there is none. Raises UserError if it cannot be one."""
    text = os.environ.get("HF_TOKEN", "").strip()
    if not (text.isascii() and text.isprintable() and " " not in text):
        raise command.UserError("HF_TOKEN has characters that no token has; set it again")
    return text


def ask(
    name: str,
    request: Callable[[], Result],
    waits_s: Sequence[float] = WAITS_S,
    advice: Callable[[BaseException], str] | None = None,
) -> Result:
    """The result of a request to the Hub, which is repeated while the reason of a failure may pass.

    name: of the input or the repository, for messages.
    request: makes the request.
    waits_s: between the attempts.
    advice: error -> the reason and what to do, "" if the reason may pass by itself; None: `reading_advice`.

    Raises UserError that says what to do.
    """
    from huggingface_hub import errors

    reason = ""
    for wait_s in (0, *waits_s):
        if wait_s:
            print(f"{name}: {reason}; the next attempt is in {wait_s:g} s", file=sys.stderr, flush=True)
            time.sleep(wait_s)
        try:
            return request()
        except (OSError, ValueError, errors.HTTPError, errors.EntryNotFoundError) as error:
            # HfFileSystem hides the reason in FileNotFoundError.
            cause = error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ else error
            if sentence := (advice or reading_advice)(cause):
                raise command.UserError(f"{name}: {sentence}") from None
            reason = short_reason(cause)
        except RuntimeError as error:  # a large file did not arrive whole
            reason = short_reason(error.__cause__ or error)
        except (TypeError, LookupError, AttributeError):  # from the library, which takes any JSON for an answer
            reason = "another server answers in its place"
    raise command.UserError(f"{name}: the Hub does not answer ({reason}); run the same command again later to continue")


def short_reason(error: BaseException) -> str:
    """The error's message, short and without the query of a URL, which may be a signature."""
    return re.sub(r"\?\S*", "", " ".join(str(error).split()) or type(error).__name__)[:REASON_CHARS]


def reading_advice(error: BaseException) -> str:
    """Returns why a data set cannot be read, and what to do about it; "" if the reason may pass by itself."""
    from huggingface_hub import errors

    has_token = bool(os.environ.get("HF_TOKEN", "").strip())
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else 0
    match error:
        case errors.OfflineModeIsEnabled():
            return "HF_HUB_OFFLINE is set; unset it to read from the Hub"
        case errors.GatedRepoError():
            return (
                "its owner lends it only to accounts that accept its terms; accept them on its page on the Hub and set "
                "HF_TOKEN to a token of that account"
            )
        case errors.RepositoryNotFoundError() | errors.HFValidationError():
            private = "the account of HF_TOKEN must have access" if has_token else "set HF_TOKEN to a token with access"
            return f"the Hub has no such data set, or it is private; check the name, and for a private one {private}"
        case errors.RevisionNotFoundError():
            return "the data set has no such revision; check what follows the @"
        case errors.EntryNotFoundError() | FileNotFoundError():
            return "the file is gone from the Hub; list the inputs again by starting into another --out"
        case errors.DisabledRepoError():
            return "the Hub has disabled this data set; use another"
        case ValueError() if not isinstance(error, json.JSONDecodeError):  # which a proxy on the way may cause
            return f"the name is not understood ({short_reason(error)}); correct it"
    if status in (401, 403):
        return f"the Hub refuses {'this HF_TOKEN' if has_token else 'to read it without HF_TOKEN'}; set a valid token"
    if 400 <= status < 500 and status not in (408, 429):
        return f"the Hub refuses the request with status {status}; check the name"
    return ""
