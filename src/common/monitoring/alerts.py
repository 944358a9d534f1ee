"""Alerts: who is told of a verdict that has changed, and who has been told what.

Targets are URLs of Apprise (https://github.com/caronc/apprise/wiki): mail, Slack, a webhook, and
many more. They hold passwords and tokens, so that none of them is ever shown.
"""

import hashlib
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

URLS = "ALERT_URLS"
# All targets are told at once, and waited for this long; Apprise itself gives a server 4 seconds
# to connect and 4 to answer, but a server that answers a byte at a time would never end.
SECONDS = 15.0
SHOWN_SENTENCES = 10
# A target that has not been told anything yet is not told of these: nothing is wrong.
QUIET = ("pass", "not enough data", "no data")
# Names of Apprise's `NotifyType`; a chat shows them as colours.
KINDS = {"fail": "failure", "warn": "warning", "pass": "success"}
# Apprise escapes HTML and Markdown; this is what chats read as a call to everybody. Sentences show
# values that came with requests.
CALLS = str.maketrans({"@": "\N{FULLWIDTH COMMERCIAL AT}", "<": "\N{FULLWIDTH LESS-THAN SIGN}"})


@dataclass(frozen=True)
class News:
    """What is to be told.

    Attributes:
        verdict: The one of this run.
        before: The one of the run before; None where there was none.
        sentences: Of the checks that led to it.
        report: Where the report is.
    """

    project: str
    version: str
    verdict: str
    before: str | None
    sentences: Sequence[str]
    report: str

    def title(self, before: str | None) -> str:
        """Say what changed."""
        return f"{self.project}: {self.verdict}" + (f" ({before} before)" if before else "")

    def body(self, before: str | None) -> str:
        """Say it at length."""
        change = f"{before} → {self.verdict}" if before else self.verdict
        shown = [f"- {text.translate(CALLS)}" for text in self.sentences[:SHOWN_SENTENCES]]
        if more := len(self.sentences) - len(shown):
            shown.append(f"- and {more} more")
        first = f"{self.project} version {self.version}: {change}"
        return "\n".join([first, *shown, f"Report: {self.report}"])


def split(text: str) -> list[str]:
    """Return the URLs in a text, each once, where spaces stand between them, or commas."""
    # a URL may hold commas itself, but none is followed by the scheme of another one
    urls = re.split(r"[\s,]+(?=[\w+.-]+://)|\s+", text.strip(" ,\t\n"))
    return list(dict.fromkeys(filter(None, urls)))


def digest(url: str) -> str:
    """Return what stands for a target where its URL must not be written down."""
    return hashlib.sha256(url.encode()).hexdigest()[:16]


def due(urls: Sequence[str], verdict: str, told: Mapping[str, str]) -> list[str]:
    """Return the targets that last heard of another verdict.

    Args:
        urls: All targets.
        verdict: The one of this run.
        told: The verdict that each target heard last, by its digest.
    """
    return [
        url
        for url in urls
        if (told[digest(url)] != verdict if digest(url) in told else verdict not in QUIET)
    ]


def tell(
    urls: Sequence[str], news: News, told: Mapping[str, str], seconds: float = SECONDS
) -> tuple[dict[str, str], list[str]]:
    """Tell the targets for whom a verdict is news.

    Args:
        urls: All targets.
        news: The verdict, and what led to it.
        told: The verdict that each target heard last, by its digest.
        seconds: How long to wait, at most, for all of them.

    Returns:
        What each target has heard by now, and a line for each that could not be reached: it keeps
        what it heard before, so that the next run tries again.
    """
    addressed = due(urls, news.verdict, told)
    # a first verdict that is no news is the one that later ones are compared with
    now = {digest(url): told.get(digest(url), news.verdict) for url in urls}
    problems: list[str] = []
    last = None if news.before == news.verdict else news.before
    deliveries = [Delivery(url, news, told.get(digest(url), last), seconds) for url in addressed]
    for delivery in deliveries:
        delivery.start()
    deadline = time.monotonic() + seconds
    for delivery in deliveries:
        delivery.join(max(0.0, deadline - time.monotonic()))
        key, problem = digest(delivery.url), delivery.problem
        if problem is None:
            now[key] = news.verdict
            continue
        place, scheme = urls.index(delivery.url) + 1, find_scheme(delivery.url)
        problems.append(f"{URLS}, target {place} ({scheme}): {problem}; the next run tries again")
        if key not in told:
            now.pop(key, None)
    return now, problems


class Delivery(threading.Thread):
    """One target being told; a daemon, so that no run waits for a target that hangs.

    Attributes:
        url: The target.
        problem: Why it has not been told; None once it has.
    """

    def __init__(self, url: str, news: News, before: str | None, seconds: float) -> None:
        super().__init__(daemon=True)
        self.url, self._news, self._before = url, news, before
        self.problem: str | None = f"no answer within {seconds:g} s"

    def run(self) -> None:
        """Tell the target."""
        self.problem = deliver(self.url, self._news, self._before)


def deliver(url: str, news: News, before: str | None) -> str | None:
    """Tell one target; return why it could not be told, or None."""
    import logging  # noqa: PLC0415 - beside the one below

    from apprise import (  # noqa: PLC0415 - 2 s, where there are targets
        Apprise,
        AppriseAsset,
        NotifyFormat,
        NotifyType,
    )

    # what it logs shows parts of the URL
    logging.getLogger("apprise").propagate = False
    # with a limit of its own it would use threads that Python waits for at the end
    target = Apprise(asset=AppriseAsset(service_timeout=0))
    if not target.add(url):
        return "Apprise knows no such target; its URL or the scheme is wrong"
    result = target.notify(
        body=news.body(before),
        title=news.title(before),
        # a target that shows HTML gets it escaped
        body_format=NotifyFormat.TEXT,
        notify_type=NotifyType(KINDS.get(news.verdict, "info")),
    )
    if result:
        return None
    reasons = [mask(entry.message, url) for entry in result.logs()]
    return reasons[-1].rstrip(".") if reasons else "was not reached"


def mask(text: str, url: str) -> str:
    """Return a text without any word that stands in a URL, whichever of them are secret."""
    rest = url.partition("://")[2] or url
    words = {*re.findall(r"\w+", rest), *re.findall(r"\w+", unquote(rest))}
    hidden = re.sub(r"\w+", lambda word: "****" if word[0] in words else word[0], text)
    return re.sub(r"\*{4}(\W{1,3}\*{4})+", "****", hidden)


def find_scheme(url: str) -> str:
    """Return what a URL begins with, which is no secret; a word without one may be a secret."""
    scheme, separator, _ = url.partition("://")
    return scheme if separator and re.fullmatch(r"[\w+.-]{1,30}", scheme) else "no URL"


def sentences(verdict: str, checks: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what the checks say that led to a verdict; those that failed come first."""
    chosen = [check for kind in ("fail", "warn") for check in checks if check["verdict"] == kind]
    if not chosen and verdict not in ("pass", "warn", "fail"):
        chosen = list(checks[:1])
    return list(dict.fromkeys(check["sentence"] for check in chosen))
