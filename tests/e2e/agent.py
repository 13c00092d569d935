"""A scripted model with tools and reasoning, in the markup of Qwen and Hermes models."""

from __future__ import annotations

from pathlib import Path

from tests.scripted import build_scripted

__all__ = ["ANSWER", "GREETING", "THOUGHT", "build_agent"]

THOUGHT = "I should ask."
ANSWER = "It is 21° in Łódź."
GREETING = "Hello there."

_TEMPLATE = """\
{%- if tools %}<|im_start|>system
You may call functions. <tools>
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}</tools>
Answer with <tool_call></tool_call> around {"name": ..., "arguments": ...}.<|im_end|>
{% endif %}
{%- for message in messages %}
{%- if message.role == 'tool' %}<|im_start|>user
<tool_response>
{{ message.content }}
</tool_response><|im_end|>
{% elif message.role == 'assistant' %}<|im_start|>assistant
{% if message.reasoning_content %}<think>
{{ message.reasoning_content }}
</think>
{% endif %}{{ message.content or '' }}
{%- for call in message.tool_calls or [] %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}<|im_end|>
{% else %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% if messages[-1].role == 'tool' %}<|answer|>{% elif tools %}<|call|>{% else %}<|greet|>{% endif %}
{%- endif %}"""


def build_agent(path: Path) -> Path:
    """With tools it reasons and calls `get_weather` for Łódź; with the result it answers; else it greets."""
    call = ["\n", '{"name": "get_weather", ', '"arguments": ', '{"city": "', "Łó", 'dź"', "}}", "\n"]
    return build_scripted(
        path,
        {
            "<|call|>": [
                "<think>",
                "\n",
                "I should",
                " ask.",
                "\n",
                "</think>",
                "\n",
                "<tool_call>",
                *call,
                "</tool_call>",
            ],
            "<|answer|>": ["It is", " 21°", " in ", "Łódź", "."],
            "<|greet|>": ["Hello", " there", "."],
        },
        control=["<|im_start|>", "<|im_end|>"],
        user_defined=["<think>", "</think>", "<tool_call>", "</tool_call>"],
        template=_TEMPLATE,
    )
