"""Resources: what tools answer, under an address."""

from __future__ import annotations

import base64
import logging
import secrets
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import mcp_types as types
import orjson
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from snowledger_queue import InvalidEventError, StateError

from ._contexts import ContextQuery
from ._errors import ServerError, TimeLimitError, UnexpectedError, told
from ._get_context import DEFAULT_BYTES
from ._get_result import ARTIFACT_PREFIX, standing
from ._templates import catalogue

if TYPE_CHECKING:
    from ._contexts import Contexts
    from ._identity import Identity
    from ._queries import Queries

log = logging.getLogger(__name__)

LEGACY_NOT_FOUND = -32002
"""What servers answer up to 2025-11-25; later versions have retired the number for invalid params (-32602)."""

_MAX_SHOWN = 300
"""Characters of an unknown address that its error repeats."""

CONTEXT_PREFIX = "snowledger://context/"
TICKET_PREFIX = "snowledger://tickets/"
CATALOGUE = "snowledger://templates"

_JSON = "application/json"
_PARQUET = "application/vnd.apache.parquet"

TEMPLATES = types.ListResourceTemplatesResult(
    resource_templates=[
        types.ResourceTemplate(
            name="context",
            title="Context of a customer",
            uri_template=f"{CONTEXT_PREFIX}{{customer}}",
            description="What get_context answers about the customer, with the default size.",
            mime_type=_JSON,
        ),
        types.ResourceTemplate(
            name="ticket",
            title="A query",
            uri_template=f"{TICKET_PREFIX}{{ticket_id}}",
            description="What get_result answers without waiting.",
            mime_type=_JSON,
        ),
        types.ResourceTemplate(
            name="artifact",
            title="The whole result of a query",
            uri_template=f"{ARTIFACT_PREFIX}{{ticket_id}}",
            description="What it holds and where the file is, as JSON; and the Parquet file itself up to 1 MiB.",
        ),
    ]
)


class Resources:
    """What an identity may read."""

    def __init__(self, contexts: Contexts, queries: Queries) -> None:
        self._contexts = contexts
        self._queries = queries
        self._catalogue = catalogue(queries.templates).decode()

    def listing(self, identity: Identity) -> types.ListResourcesResult:
        """What has one address; tickets and artifacts follow ``TEMPLATES``."""
        return types.ListResourcesResult(
            resources=[
                types.Resource(
                    name="query templates",
                    uri=CATALOGUE,
                    description="What submit_query can run: of each template what it answers, and its parameters.",
                    mime_type=_JSON,
                ),
                *(
                    types.Resource(
                        name=f"context of {customer}",
                        uri=CONTEXT_PREFIX + quote(customer, safe=""),
                        description="Insights that hold now, queries, activity counts and recent events.",
                        mime_type=_JSON,
                    )
                    for customer in identity.customers
                ),
            ]
        )

    async def read(self, identity: Identity, uri: str, protocol_version: str) -> types.ReadResourceResult:
        """The resource at the address.

        Raises:
            MCPError: not found, for any address that is nobody's or not the identity's, all alike; or an internal
                error, when it cannot be read now.
        """
        code = types.INVALID_PARAMS if protocol_version in MODERN_PROTOCOL_VERSIONS else LEGACY_NOT_FOUND
        try:
            contents = await self._contents(identity, uri)
        except TimeLimitError as error:
            log.error("reading a resource: %s", error)  # noqa: TRY400 - where it was says nothing
            raise MCPError(code=types.INTERNAL_ERROR, message=str(error)) from None
        except (ServerError, InvalidEventError, UnicodeDecodeError):
            contents = None
        except StateError as error:
            log.warning("a resource is unavailable: %s", error)
            raise MCPError(code=types.INTERNAL_ERROR, message=told(error)) from None
        except Exception:
            reference = secrets.token_hex(4)
            log.exception("reading a resource failed, reference %s", reference)
            raise MCPError(code=types.INTERNAL_ERROR, message=str(UnexpectedError(reference))) from None
        if contents is None:
            raise MCPError(code, "resource not found or not allowed", {"uri": uri[:_MAX_SHOWN]})
        return types.ReadResourceResult(contents=contents)

    async def _contents(
        self, identity: Identity, uri: str
    ) -> list[types.TextResourceContents | types.BlobResourceContents] | None:
        """None for an address of no kind; raises what the tools raise."""
        if uri == CATALOGUE:
            return [_text(uri, self._catalogue)]
        if uri.startswith(CONTEXT_PREFIX):
            customer = identity.customer_for(unquote(uri.removeprefix(CONTEXT_PREFIX), errors="strict"))
            allowed = identity.allowed_with(customer)
            answer = await self._contexts.get(ContextQuery(customer, DEFAULT_BYTES, allowed=allowed))
            return [_text(uri, answer.content.decode())]
        if uri.startswith(TICKET_PREFIX):
            ticket = await self._queries.get(identity, uri.removeprefix(TICKET_PREFIX))
            return [_text(uri, orjson.dumps(standing(ticket)).decode())]
        if uri.startswith(ARTIFACT_PREFIX):
            return await self._artifact(identity, uri)
        return None

    async def _artifact(
        self, identity: Identity, uri: str
    ) -> list[types.TextResourceContents | types.BlobResourceContents]:
        artifact = await self._queries.artifact(identity, uri.removeprefix(ARTIFACT_PREFIX))
        about = {
            **standing(artifact.ticket),
            "mime_type": _PARQUET,
            "file": str(artifact.path),
        }
        contents: list[types.TextResourceContents | types.BlobResourceContents] = [
            _text(uri, orjson.dumps(about).decode())
        ]
        if artifact.content is not None:
            blob = base64.b64encode(artifact.content).decode()
            contents.append(types.BlobResourceContents(uri=uri, mime_type=_PARQUET, blob=blob))
        return contents


def _text(uri: str, text: str) -> types.TextResourceContents:
    return types.TextResourceContents(uri=uri, mime_type=_JSON, text=text)
