"""Reads what the bodies and SSE events of each API say, with one reader for each API. Pure.

A reader takes bytes, fills a `Content`, and returns flags.
"""

from .apis import APIS, OPENAI, Api, may_ask_usage, provider_of
from .content import ANSWER, DONE, EVENT, OUTPUT, REASONING, Content, Reader
from .request import RequestBody, read_request, skim_request
from .retry_after import read_retry_after, seconds_said, skim_refusal
from .skim import Skim

__all__ = [
    "ANSWER",
    "APIS",
    "DONE",
    "EVENT",
    "OPENAI",
    "OUTPUT",
    "REASONING",
    "Api",
    "Content",
    "Reader",
    "RequestBody",
    "Skim",
    "may_ask_usage",
    "provider_of",
    "read_request",
    "read_retry_after",
    "seconds_said",
    "skim_refusal",
    "skim_request",
]
