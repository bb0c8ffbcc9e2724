"""Which failures of the Hub pass by themselves, how long to wait, and what to tell people."""

from __future__ import annotations

import email.utils
import re
import time

from lightadapt_data.errors import ServiceError

CONFLICTS = (409, 412)
"""Somebody else was faster: the next try starts from what they left, at once."""
BUSY = (408, 425, 429)


def seconds_to_wait(error: Exception, delay: float | None) -> float | None:
    """Return how long to wait before another try, or None when there should be none.

    Args:
        error: what the client raised.
        delay: seconds to wait if the server does not say; None after the last try.
    """
    import httpx2
    from huggingface_hub.errors import OfflineModeIsEnabled

    reason = _root(error)
    status = _status(reason)
    if delay is None or isinstance(reason, OfflineModeIsEnabled):
        return None
    if status in CONFLICTS:
        return 0.0
    if status in BUSY or status >= 500:
        return _asked_to_wait(reason, delay)
    is_lost = isinstance(reason, httpx2.TransportError | ConnectionError | TimeoutError)
    return delay if is_lost else None


def in_short(error: Exception) -> str:
    """Return one line that says what happened, without the token."""
    from huggingface_hub import get_token

    reason = _root(error)
    said = getattr(reason, "server_message", None) or str(reason) or type(reason).__name__
    text = " ".join(str(said).split())[:300]
    token = get_token()
    text = text.replace(token, "***") if token else text
    status = _status(reason)
    return f"{status} {text}" if status and str(status) not in text else text


def told(error: Exception, endpoint: str, repo: str) -> ServiceError:
    """Return the error that tells people what to do."""
    from huggingface_hub import get_token
    from huggingface_hub.errors import LocalTokenNotFoundError, OfflineModeIsEnabled

    reason = _root(error)
    status = _status(reason)
    what = f"publish: {endpoint} {{}} ({in_short(error)}); "
    again = "run again: what the Hub has by then is not sent twice"
    if isinstance(reason, OfflineModeIsEnabled):
        return ServiceError(what.format("was not asked") + f"unset HF_HUB_OFFLINE and {again}")
    if status in (401, 403) or isinstance(reason, LocalTokenNotFoundError):
        has = "refused the token for" if get_token() else "wants a token for"
        return ServiceError(
            what.format(f"{has} {repo}") + f"give a token that may write to {repo.split('/')[0]} "
            f"by `hf auth login` or HF_TOKEN, and {again}"
        )
    if status == 404:
        return ServiceError(
            what.format(f"knows no {repo}, or not what was asked of it")
            + f"check publish.endpoint and publish.repo, and {again}"
        )
    is_refused = 400 <= status < 500 and status not in (*BUSY, *CONFLICTS)
    if is_refused or isinstance(reason, ValueError):
        return ServiceError(what.format(f"refused {repo}") + f"put that right and {again}")
    return ServiceError(what.format(f"did not take {repo}") + f"nothing is half-published; {again}")


def _root(error: BaseException) -> BaseException:
    """Return what lies behind a client's RuntimeError of a failed upload."""
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _status(error: BaseException) -> int:
    return int(getattr(getattr(error, "response", None), "status_code", None) or 0)


def _asked_to_wait(error: BaseException, delay: float) -> float:
    """Return the seconds of Retry-After, or of the Hub's own header, or else `delay`."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    asked = headers.get("Retry-After", "").strip()
    if asked.isdigit():
        return float(asked)
    if asked:
        try:
            at = email.utils.parsedate_to_datetime(asked).timestamp()
        except ValueError:
            return delay
        return max(0.0, at - time.time())
    limit = re.search(r"\br=0\s*;\s*t=(\d+)", headers.get("ratelimit", ""))
    return float(limit[1]) if limit else delay
