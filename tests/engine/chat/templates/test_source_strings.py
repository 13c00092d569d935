"""The strings in a template's code."""

from __future__ import annotations

from cortex.engine.chat.templates.source_strings import source_strings


def test_only_strings_of_the_code_are_found() -> None:
    source = """It's {{ 'a b ' }} and "text" {% if x == "c/d" %}'{% endif %}{# 'no' #}"""
    assert source_strings(source) == {"a b", "c/d"}
