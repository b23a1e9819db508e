"""The law of times that are scanned: each is what it is when it is read alone."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

from hypothesis import example, given
from hypothesis import strategies as st

from schemas.errors import InvalidInput
from schemas.period import parse_time
from schemas.plain_scan import scan
from tests.fakes.digests import ends

USUAL = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)

moments = st.datetimes(*map(datetime.fromisoformat, ("1969-12-30", "2400-03-02")), timezones=st.just(UTC))
milliseconds = moments.map(lambda moment: moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03}Z")
spoiled = st.tuples(milliseconds, st.integers(0, 23), st.sampled_from("0123456789-:.TZz +é٣")).map(
    lambda parts: parts[0][: parts[1]] + parts[2] + parts[0][parts[1] + 1 :]
)


def alone(text: str) -> int | None:
    try:
        return parse_time(text)
    except InvalidInput:
        return None


def record(text: str) -> bytes:
    data = {"session_id": "s", "model": "m", "input_tokens": 1, "output_tokens": 1}
    envelope = {"specversion": "1.0", "id": "1", "source": "s", "type": "session.tokens_used", "subject": "c"}
    return json.dumps({**envelope, "time": text, "data": data}, ensure_ascii=False).encode("utf-8", "surrogatepass")


@given(
    st.lists(st.one_of(milliseconds, spoiled)),
    st.lists(st.one_of(moments.map(datetime.isoformat), st.text()), max_size=1),
)
@example(
    ["2024-02-29T23:59:59.999Z", "2100-02-29T00:00:00.000Z", "2000-02-29T00:00:00.000Z", "2026-04-31T00:00:00.000Z"], []
)
@example(
    ["2026-13-01T00:00:00.000Z", "2026-00-01T00:00:00.000Z", "2026-01-00T24:00:00.000Z", "2026-01-01T00:60:60.000Z"], []
)
def test_times_that_are_scanned_are_those_read_alone(alike: list[str], other: list[str]) -> None:
    """All of one spelling or not, well written or not; what one is refused for costs no other. None that is well
    written, to the millisecond, takes the general way."""
    texts = alike + other
    scanned = scan(*ends([record(text) for text in texts]))
    for row, text in enumerate(texts):
        if scanned.plain[row]:
            assert scanned.times[row] == alone(text)
        else:
            assert alone(text) is None or not USUAL.fullmatch(text)
