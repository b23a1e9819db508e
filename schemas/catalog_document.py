"""The text of a catalogue, YAML or JSON, to plain dicts, lists, texts, whole numbers, booleans and nulls; and back.

Owns the bounds of the text: bytes, nesting, one document. The parser's events are read one by one, so that nothing is
built that the bounds forbid: anchors and aliases (a bomb unfolds 300 bytes to gigabytes), tags, merge keys, a key
twice. Scalars follow YAML 1.2's core schema: `NO` and `on` are text, and so is a time.

Refuses with the line it stands on: CatalogRefused. A number with a point becomes a float here, which the schema then
refuses by its path: money and quantities are decimal text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import yaml

from schemas.errors import InvalidInput
from schemas.limits import CATALOG_MAX_BYTES

MAX_BYTES: Final = CATALOG_MAX_BYTES
"""A catalogue, as text."""

MAX_DEPTH: Final = 16
"""Nesting of mappings and sequences; prices[].tiers[].up_to needs five."""

MAX_DIGITS: Final = 40
"""Digits of a whole number written without quotes."""

MAX_FAULTS: Final = 500
"""Faults listed of one catalogue: two thousand prices that all contradict one another need no two million lines."""

_SHOWN_CHARACTERS: Final = 60
"""Of a key or tag in a fault: both may be as long as the text."""

_NULL: Final = frozenset(("", "~", "null", "Null", "NULL"))
_TRUE: Final = frozenset(("true", "True", "TRUE"))
_FALSE: Final = frozenset(("false", "False", "FALSE"))
_WHOLE: Final = re.compile(r"[-+]?[0-9]+")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")

# JSON writes a character beyond 16 bits as two escapes, the one thing in it that YAML refuses.
_PAIR: Final = re.compile(r"(?<!\\)\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})", re.IGNORECASE)
_PAIR_OFFSET: Final = (0xD800 << 10) + 0xDC00 - 0x10000

# libyaml's parser where the wheel has it (all that we support do); the pure one reads the same events.
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER: Final[type[yaml.SafeDumper]] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class Fault(NamedTuple):
    """One thing that is wrong: where (`prices[3].tiers[1].up_to`, empty for the whole) and what."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" if self.path else self.reason


class CatalogRefused(InvalidInput):
    """A catalogue with faults; nothing of it is taken. `faults` has every one of them, up to MAX_FAULTS."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        if len(faults) > MAX_FAULTS:
            more = Fault("", f"there are more than {MAX_FAULTS} faults; the rest is not listed")
            faults = (*faults[:MAX_FAULTS], more)
        self.faults = tuple(faults)
        super().__init__("bad_catalog", "; ".join(str(fault) for fault in self.faults))


def read(text: str | bytes) -> Any:
    """The document as plain values. Errors: CatalogRefused."""
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if len(raw) > MAX_BYTES:
        raise _refused(f"the catalogue has {len(raw)} bytes, more than {MAX_BYTES}")
    try:
        decoded = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _refused(f"the catalogue is not UTF-8 at byte {error.start}") from None
    if decoded.lstrip()[:1] == "{":
        decoded = _PAIR.sub(lambda pair: chr((int(pair[1], 16) << 10) + int(pair[2], 16) - _PAIR_OFFSET), decoded)
    try:
        return _build(decoded)
    except yaml.YAMLError as error:
        raise _refused(f"the catalogue is not YAML: {_one_line(error)}") from None


def _refused(reason: str, path: str = "") -> CatalogRefused:
    return CatalogRefused((Fault(path, reason),))


def _one_line(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
    return where + " ".join(str(problem).split())


def shortened(text: str) -> str:
    """Text of a catalogue as a fault shows it."""
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def path_of(parts: Sequence[str | int]) -> str:
    """Keys and indices as people write them: `prices[3].match.model`."""
    path = ""
    for part in parts:
        shown = shortened(str(part))
        path += f"[{shown}]" if isinstance(part, int) else f".{shown}" if path else shown
    return path


class _Open:
    """A mapping or sequence whose end has not come yet."""

    __slots__ = ("key", "keyed", "value")

    def __init__(self, value: dict[str, Any] | list[Any]) -> None:
        self.value = value
        self.key: str | None = None
        self.keyed = False


def _build(text: str) -> Any:
    stack: list[_Open] = []
    documents = 0
    whole: Any = None
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise _refused(f"a second document begins{_line(event)}; a catalogue is one")
        elif isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _refused(f"anchors and aliases are not taken{_line(event)}", _path(stack))
        elif isinstance(event, yaml.ScalarEvent):
            whole = _place(stack, event, _scalar(event, stack))
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            if event.tag is not None:
                raise _refused(f"the tag {shortened(event.tag)} is not taken{_line(event)}", _path(stack))
            if len(stack) >= MAX_DEPTH:
                raise _refused(f"it nests deeper than {MAX_DEPTH}{_line(event)}", _path(stack))
            opened: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
            whole = _place(stack, event, opened)
            stack.append(_Open(opened))
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            whole = stack.pop().value
    return whole


def _place(stack: list[_Open], event: yaml.Event, value: Any) -> Any:
    """Puts a value into what is open: as element, as key, or as the value of the key before it."""
    if not stack:
        return value
    inside = stack[-1]
    if isinstance(inside.value, list):
        inside.value.append(value)
    elif not inside.keyed:
        key = event.value if isinstance(event, yaml.ScalarEvent) else None
        if not key or not isinstance(key, str):
            raise _refused(f"a key is no text{_line(event)}", _path(stack))
        if key in inside.value:
            raise _refused(f"it stands twice{_line(event)}", path_of((*_parts(stack), key)))
        if key == "<<":
            raise _refused(f"merge keys are not taken{_line(event)}", _path(stack))
        inside.key, inside.keyed = key, True
    elif inside.key is not None:
        inside.value[inside.key] = value
        inside.keyed = False
    return value


def _scalar(event: yaml.ScalarEvent, stack: list[_Open]) -> str | int | float | bool | None:
    text: str = event.value
    if event.tag is not None:
        raise _refused(f"the tag {shortened(event.tag)} is not taken{_line(event)}", _path(stack))
    if not event.implicit[0]:
        return text
    if len(text) > MAX_DIGITS and _WHOLE.fullmatch(text):
        raise _refused(f"a number has more than {MAX_DIGITS} digits{_line(event)}", _path(stack))
    return _plain(text)


def _plain(text: str) -> str | int | float | bool | None:
    """What a scalar without quotes is."""
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _WHOLE.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


class _Writer(_DUMPER):  # type: ignore[misc, valid-type]  # of a class that is chosen above
    """Writes what `read` reads back: no aliases, and quotes around text that would be something else without."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def text(self, text: str) -> yaml.ScalarNode:
        style = None if isinstance(_plain(text), str) else '"'
        node: yaml.ScalarNode = self.represent_scalar("tag:yaml.org,2002:str", text, style=style)
        return node


_Writer.add_representer(str, _Writer.text)


def write(document: Any) -> str:
    """A document as YAML; `read` of it is the same document."""
    return yaml.dump(document, Dumper=_Writer, sort_keys=False, allow_unicode=True, width=120)


def _parts(stack: list[_Open]) -> list[str | int]:
    """Where the parser stands: in the innermost list at the element to come, in the others at the one just placed."""
    parts: list[str | int] = []
    for opened in stack:
        if isinstance(opened.value, list):
            parts.append(len(opened.value) - (opened is not stack[-1]))
        elif opened.key is not None and (opened.keyed or opened is not stack[-1]):
            parts.append(opened.key)
    return parts


def _path(stack: list[_Open]) -> str:
    return path_of(_parts(stack))


def _line(event: yaml.Event) -> str:
    mark = event.start_mark
    return f" (line {mark.line + 1})" if mark is not None else ""
