"""The OpenAPI document, held to its word: whatever the API answers has the status, media type and shape that it says."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import jsonschema_rs


class Documented:
    """Judges answers by the document. Answers of routes that it does not have are 404 or 405, and not judged."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        # Of two routes that match, the one with more words of its own is meant.
        self._routes = sorted(
            ((re.compile(_pattern(path)), path) for path in document["paths"]), key=lambda route: route[1].count("{")
        )
        self._validators: dict[tuple[str, str, str], Any] = {}

    def judge(self, answer: httpx.Response) -> None:
        """Fails where an answer is not what the document says."""
        request = answer.request
        place = request.url.raw_path.decode().partition("?")[0]
        template = next((path for pattern, path in self._routes if pattern.fullmatch(place)), None)
        operation = self._document["paths"].get(template, {}).get(request.method.lower())
        if operation is None:
            assert answer.status_code in (404, 405, 401), (request.method, place, answer.status_code)
            return
        assert template is not None
        said = f"{request.method} {template}: {answer.status_code} {answer.text[:500]}"
        documented = operation["responses"].get(str(answer.status_code))
        assert documented is not None, f"not documented: {said}"
        media_type = answer.headers.get("content-type", "").partition(";")[0]
        content = documented.get("content", {})
        if not content:
            return
        assert media_type in content, f"{media_type} is not documented: {said}"
        if not media_type.endswith("json"):
            return
        key = (request.method, template, str(answer.status_code))
        if key not in self._validators:
            schema = {**content[media_type].get("schema", {}), "components": self._document["components"]}
            self._validators[key] = jsonschema_rs.validator_for(schema)
        fault = next(self._validators[key].iter_errors(json.loads(answer.text)), None)
        assert fault is None, f"{fault.message if fault else ''} at {fault.instance_path if fault else ''}: {said}"


def _pattern(path: str) -> str:
    parts = re.split(r"(\{\w+\})", path)
    return "".join(
        (".+" if part == "{source}" or path.startswith("/v1/explain") else "[^/]+")
        if part.startswith("{")
        else re.escape(part)
        for part in parts
    )
