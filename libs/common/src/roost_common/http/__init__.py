"""HTTP: the application every service has, problem details, identity, pages.

Errors leave as ``application/problem+json`` (RFC 9457) with a stable ``code``; every answer
carries the correlation id under which the logs of all services can be found.
"""

from roost_common.http.app import CORRELATION_HEADER, create_app
from roost_common.http.identity import Admin, Caller, administrator, identity, keys_from
from roost_common.http.models import ApiModel, IdempotencyKey, NoId
from roost_common.http.paging import (
    Page,
    PageQuery,
    Paging,
    encode_cursor,
    page_query,
)
from roost_common.http.problems import MAX_BODY_BYTES, PROBLEM_TYPE, ProblemDetails, problem

__all__ = [
    "CORRELATION_HEADER",
    "MAX_BODY_BYTES",
    "PROBLEM_TYPE",
    "Admin",
    "ApiModel",
    "Caller",
    "IdempotencyKey",
    "NoId",
    "Page",
    "PageQuery",
    "Paging",
    "ProblemDetails",
    "administrator",
    "create_app",
    "encode_cursor",
    "identity",
    "keys_from",
    "page_query",
    "problem",
]
