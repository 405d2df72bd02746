"""Teaches schemathesis the bodies of this API: NDJSON, and bodies that are compressed as
their Content-Encoding says."""

import gzip
import json

import schemathesis
import zstandard
from hypothesis import strategies as st


def encoded(case, body):
    coding = (case.headers or {}).get("Content-Encoding")
    if coding in ("gzip", "x-gzip"):
        return gzip.compress(body)
    if coding == "zstd":
        return zstandard.compress(body)
    return body


@schemathesis.serializer("application/json")
def as_json(ctx, value):
    return encoded(ctx.case, value if isinstance(value, bytes) else json.dumps(value).encode())


@schemathesis.serializer("application/x-ndjson")
def as_lines(ctx, value):
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogatepass")
    elif not isinstance(value, bytes):  # an invalid type, which must not become a valid line
        value = json.dumps([value]).encode()
    return encoded(ctx.case, value)


NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda v: st.lists(v, max_size=5) | st.dictionaries(TEXT, v, max_size=5),
)
LINES = st.lists(st.dictionaries(TEXT, VALUES, max_size=5).map(json.dumps) | st.just(""), min_size=1, max_size=20)

schemathesis.openapi.format("ndjson", LINES.filter(any).map("\n".join))
