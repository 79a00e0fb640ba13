"""Writes verdicts as JUnit XML, which every CI system shows."""

from __future__ import annotations

from typing import Final
from xml.etree import ElementTree as ET  # written here, never parsed

from .compare.comparison import Comparison
from .compare.text import advice, change, headline, interval

_TAGS: Final = {"worse": "failure", "cannot tell": "skipped"}


def junit(found: Comparison, *, undecided_fails: bool = False) -> bytes:
    """
    One test case a judged metric.

    *worse* is a failure; *cannot tell* is skipped with its reason, never passed
    over in silence, or a failure on request.

    Args:
        found: the comparison.
        undecided_fails: whether *cannot tell* is a failure.
    """
    words = [row.judged.word for row in found.rows]
    tags = _TAGS | ({"cannot tell": "failure"} if undecided_fails else {})
    counts = {
        tag: str(sum(tags.get(word) == tag for word in words)) for tag in ("failure", "skipped")
    }
    suite = ET.Element(
        "testsuite",
        name="joulemark compare",
        tests=str(len(words)),
        failures=counts["failure"],
        skipped=counts["skipped"],
        errors="0",
    )
    for row in found.rows:
        case = ET.SubElement(suite, "testcase", classname="joulemark", name=row.key)
        text = (
            f"{row.judged.word}: {change(row.judged.effect)} "
            f"({interval(row.judged.effect)}); {advice(row.judged)}"
        )
        tag = tags.get(row.judged.word)
        if tag is not None:
            ET.SubElement(case, tag, message=text)
        ET.SubElement(case, "system-out").text = text
    ET.SubElement(suite, "system-out").text = headline(found)
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    data: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return data + b"\n"
