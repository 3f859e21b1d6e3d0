"""Mends what a strict reader refuses in OTLP: texts that UTF-8 can't hold, and names of older versions. Pure.

One such text would cost its whole batch. Protobuf's reader refuses it, so the message is read as if its texts were
bytes, and mended in that form.
"""

import json
import re
from functools import cache
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.resource.v1 import resource_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

MENDED: Final = "texts that UTF-8 can't hold were mended with U+FFFD"

_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_OLD_SPANS: Final = 1000  # the field `instrumentation_library_spans` of ResourceSpans; its messages are ScopeSpans
_LENGTH_DELIMITED: Final = 2


def json_document(body: bytes) -> tuple[Any, bool]:
    """The JSON document, and whether a text in it had to be mended. Raises ValueError or RecursionError."""
    try:
        text, mended = body.decode(), False
    except UnicodeDecodeError:
        text, mended = body.decode("utf-8", "replace"), True
    document = json.loads(text)
    if _SURROGATE.search(body) is None:
        return document, mended
    # Pairs are put together; a lone one becomes U+FFFD.
    plain = json.dumps(document, ensure_ascii=False)
    whole = plain.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return (document, mended) if whole == plain else (json.loads(whole), True)


def with_scopes(of_resource: dict[str, Any]) -> list[Any]:
    """The spans of a resource by scope. OTLP before 0.16 called these `instrumentationLibrarySpans`."""
    older = [
        {**each, "scope": each.get("instrumentationLibrary") or each.get("scope") or {}}
        for each in of_resource.get("instrumentationLibrarySpans") or ()
    ]
    return [*(of_resource.get("scopeSpans") or ()), *older]


def take_older_spans(message: trace_service_pb2.ExportTraceServiceRequest) -> None:
    """Move spans from the field that OTLP before 0.16 had to the one of today."""
    for of_resource in message.resource_spans:
        unknown = UnknownFieldSet(of_resource)
        for field in [unknown[position] for position in range(len(unknown))]:
            if field.field_number == _OLD_SPANS and field.wire_type == _LENGTH_DELIMITED:
                of_resource.scope_spans.add().MergeFromString(field.data)


def mended_message(body: bytes) -> trace_service_pb2.ExportTraceServiceRequest:
    """The message, with texts mended. Raises DecodeError where it isn't one."""
    loose = _loose_class()()
    loose.ParseFromString(body)
    _mend(loose)
    return trace_service_pb2.ExportTraceServiceRequest.FromString(loose.SerializeToString())


@cache
def _loose_class() -> type[Message]:
    """ExportTraceServiceRequest with bytes in the place of texts: on the wire they are the same."""
    pool = descriptor_pool.DescriptorPool()
    for module in (common_pb2, resource_pb2, trace_pb2, trace_service_pb2):
        file = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        for kind in file.message_type:
            _loosen(kind)
        pool.Add(file)
    name = trace_service_pb2.ExportTraceServiceRequest.DESCRIPTOR.full_name
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def _loosen(kind: descriptor_pb2.DescriptorProto) -> None:
    for field in kind.field:
        if field.type == descriptor_pb2.FieldDescriptorProto.TYPE_STRING:
            field.type = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
            field.options.deprecated = True  # marks it as a text; nothing else reads the mark
        elif field.HasField("options"):
            field.options.deprecated = False
    for nested in kind.nested_type:
        _loosen(nested)


def _mend(message: Message) -> None:
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for each in value if field.is_repeated else (value,):
                _mend(each)
        elif field.type == FieldDescriptor.TYPE_BYTES and field.GetOptions().deprecated:
            if field.is_repeated:
                value[:] = [_mended(each) for each in value]
            else:
                setattr(message, field.name, _mended(value))


def _mended(text: bytes) -> bytes:
    return text.decode("utf-8", "replace").encode()
