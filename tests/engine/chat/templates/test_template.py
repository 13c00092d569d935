from __future__ import annotations

from datetime import UTC, datetime

import pytest

from cortex.engine.chat.templates.template import FALLBACK, ChatTemplate, TemplateRejected


def render(source: str, **variables: object) -> str:
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    return ChatTemplate(source, bos="<s>", eos="</s>", now=lambda: now).render(variables)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ x|tojson }}", '{"b": "é<&\'", "a": [1, null, true]}'),
        ("{{ x|tojson(ensure_ascii=true) }}", '{"b": "\\u00e9<&\'", "a": [1, null, true]}'),
        ("{{ x|tojson(sort_keys=true, separators=(',', ':')) }}", '{"a":[1,null,true],"b":"é<&\'"}'),
        ("{{ x|tojson(indent=1) }}", '{\n "b": "é<&\'",\n "a": [\n  1,\n  null,\n  true\n ]\n}'),
        ("{{ missing|tojson }}", "null"),
        ("{{ '{\"a\": 1}'|from_json|length }}", "1"),
        ("{{ strftime_now('%d %b %Y') }}", "02 Jan 2026"),
        ("{{ bos_token ~ eos_token }}", "<s></s>"),
        ("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        ("{% for i in range(3) %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endfor %}", "02"),
        ("a{% generation %}b{% endgeneration %}c", "abc"),
        ("{% if true %}\n  a\n{% endif %}\nb", "  a\nb"),
        ("{% set q = [] %}{% set _ = q.append('a') %}{% set _ = q.append('b') %}{{ q.pop(0) }}", "a"),
        ("{{ 'a b'.split(' ')|join('-') }}{{ ' x '.strip() }}{{ 'ab'.startswith('a') }}", "a-bxTrue"),
        ("{{ 'a\nb'|indent(2) }}{{ 'aXa'|replace('a', 'b') }}", "a\n  bbXb"),
        ("{% set ns = namespace(n=1) %}{% set ns.n = ns.n + 1 %}{{ ns.n }}", "2"),
        ("{% macro m(a) %}<{{ a }}>{% endmacro %}{{ m('x') }}", "<x>"),
        ("{{ [1, 2, 3]|sum }}{{ 2.6|round|int }}{{ 'x' * 3 }}", "63xxx"),
        ("{{ '{:.2f}'.format(1.234) }} {{ '%05d' % 42 }}", "1.23 00042"),
        ("{{ datetime }}", "Jan 02 2026 03:04:05 GMT"),
        ("{{ functions }}", "[]"),
    ],
)
def test_templates_find_what_transformers_gives_them(source: str, expected: str) -> None:
    assert render(source, x={"b": "é<&'", "a": [1, None, True]}) == expected


def test_the_templates_own_refusal_reaches_the_caller() -> None:
    with pytest.raises(TemplateRejected, match="refuses these messages: roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}")


@pytest.mark.parametrize(
    "source", ["{{ x.y.z }}", "{{ 1 / 0 }}", "{{ none + 1 }}", "{{ x[0].y() }}", "{{ 'a'|int + [] }}"]
)
def test_whatever_fails_while_rendering_is_the_requests_fault(source: str) -> None:
    with pytest.raises(TemplateRejected) as caught:
        render(source)
    assert caught.value.status == 400


def test_the_fallback_is_chatml() -> None:
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]
    expected = "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n"
    assert render(FALLBACK, messages=messages, add_generation_prompt=True) == expected
