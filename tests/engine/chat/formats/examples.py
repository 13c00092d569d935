# ruff: noqa: E501 - answers are as the models write them
"""One answer per family and shape, as the models write it, and what it means.

Each is (family, text, segments): reasoning and text as they are, calls with their arguments as Python values.
"""

from __future__ import annotations

from typing import Any

from cortex.wire.inference import Tool

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
EDIT = {
    "type": "object",
    "properties": {
        "path": {"type": "string"},
        "text": {"type": "string"},
        "line": {"type": "integer"},
        "flags": {"type": "array", "items": {"type": "string"}},
        "options": {"type": "object"},
        "force": {"type": "boolean"},
    },
    "required": ["path"],
}
TOOLS = [
    Tool(name="f", parameters={"type": "object", "properties": {"arg1": {"type": "integer"}}}),
    Tool(name="f2", parameters={"type": "object"}),
    Tool(name="get_time", parameters=CITY),
    Tool(name="edit", parameters=EDIT),
    Tool(name="none", parameters={"type": "object", "properties": {}}),
]


def call(name: str, **arguments: Any) -> tuple[str, str, Any]:
    return ("call", name, arguments)


def text(shown: str) -> tuple[str, str]:
    return ("text", shown)


def thought(shown: str) -> tuple[str, str]:
    return ("reasoning", shown)


ONE = call("f", arg1=1)

EXAMPLES: list[tuple[str, str, list[tuple[Any, ...]]]] = [
    ("hermes", '<tool_call>\n{"name": "f", "arguments": {"arg1": 1}}</tool_call>', [ONE]),
    ("hermes", "Hello, world!\nWhat's up?", [text("Hello, world!\nWhat's up?")]),
    ("hermes", "<think>I'm\nthinking</think>\n\nHello", [thought("I'm\nthinking"), text("Hello")]),
    (
        "hermes",
        (
            'Both:\n<tool_call>\n{"name": "f", "arguments": {"arg1": 1}}\n</tool_call>\n'
            '<tool_call>\n{"name": "none", "arguments": {}}\n</tool_call>'
        ),
        [text("Both:"), ONE, call("none")],
    ),
    (
        "hermes",
        (
            '<think>so</think><tool_call>{"name": "edit", "arguments": {"path": "ü \\"q\\".txt", "options": {"a": [1, null]}}}'
            "</tool_call>"
        ),
        [thought("so"), call("edit", path='ü "q".txt', options={"a": [1, None]})],
    ),
    ("hermes", '<tool_call>{"arguments": {"arg1": 1}, "name": "f"}</tool_call>', [ONE]),
    ("hermes", '<tool_call>{"name": "f2", "arguments": {}}</tool_call>', [call("f2")]),
    (
        "qwen3_coder",
        "<tool_call>\n<function=f>\n<parameter=arg1>\n1\n</parameter>\n</function>\n</tool_call>",
        [ONE],
    ),
    (
        "qwen3_coder",
        "Let me call it.\n<function=f>\n<parameter=arg1>\n1\n</parameter>\n</function>\n</tool_call>",
        [text("Let me call it."), ONE],
    ),
    (
        "qwen3_coder",
        (
            "<think>Plan\n<tool_call>\n<function=edit>\n<parameter=path>\na.xml\n</parameter>\n<parameter=text>\n"
            '<a>\n\t</parameter> "x"\n</a>\n\n</parameter>\n<parameter=line>\n12\n</parameter>\n<parameter=flags>\n'
            '["a", "b"]\n</parameter>\n<parameter=force>\ntrue\n</parameter>\n</function>\n</tool_call>\n'
            "<tool_call>\n<function=none>\n</function>\n</tool_call>"
        ),
        [
            thought("Plan"),
            call("edit", path="a.xml", text='<a>\n\t</parameter> "x"\n</a>\n', line=12, flags=["a", "b"], force=True),
            call("none"),
        ],
    ),
    (
        "seed",
        "<seed:tool_call>\n<function=f>\n<parameter=arg1>1</parameter>\n</function>\n</seed:tool_call>",
        [ONE],
    ),
    ("mistral", '[TOOL_CALLS][{"name": "f", "arguments": {"arg1": 1}, "id": "123456789"}]', [ONE]),
    (
        "mistral",
        '[TOOL_CALLS][{"name": "f", "arguments": {"arg1": 1}, "id": "a"}, {"name": "none", "arguments": {}, "id": "b"}]',
        [ONE, call("none")],
    ),
    ("mistral_call_id", '[TOOL_CALLS]f[CALL_ID]123456789[ARGS]{"arg1": 1}', [ONE]),
    (
        "mistral_call_id",
        '[TOOL_CALLS]f[CALL_ID]000000001[ARGS]{"arg1": 1}[TOOL_CALLS]none[CALL_ID]000000002[ARGS]{}',
        [ONE, call("none")],
    ),
    ("mistral_args", 'Hello[TOOL_CALLS]f[ARGS]{"arg1": 1}', [text("Hello"), ONE]),
    ("llama3", '{"name": "f", "parameters": {"arg1": 1}}', [ONE]),
    ("llama3", '\n{"type": "function", "name": "f", "parameters": {"arg1": 1}}', [ONE]),
    ("llama3", '{"answer": 42}', [text('{"answer": 42}')]),
    ("llama3", '<|python_tag|>get_time.call(city="Rome")', [call("get_time", city="Rome")]),
    ("llama3", 'Like this: {"name": "f"}', [text('Like this: {"name": "f"}')]),
    ("pythonic", "[f(arg1=1), none()]", [ONE, call("none")]),
    (
        "pythonic",
        "[edit(path=\"a,b)\", flags=['x', \"y\"], options={'k': True, 'n': null}, force=false)]",
        [call("edit", path="a,b)", flags=["x", "y"], options={"k": True, "n": None}, force=False)],
    ),
    ("pythonic", "[1, 2] is a list", [text("[1, 2] is a list")]),
    ("lfm2", "<think>hm</think><|tool_call_start|>[f(arg1=1)]<|tool_call_end|>", [thought("hm"), ONE]),
    (
        "lfm2",
        "<|tool_call_start|>[edit(path='C:\\uploads \\ it's\n\"new\", b=', flags=['it's', 'b'], line=1)]<|tool_call_end|>",
        [call("edit", path='C:\\uploads \\ it\'s\n"new", b=', flags=["it's", "b"], line=1)],
    ),
    (
        "lfm2",
        r"<|tool_call_start|>[edit(path='it\'s \n', text='')]<|tool_call_end|>",
        [call("edit", path="it's \n", text="")],
    ),
    ("olmo3", "<function_calls>\nf(arg1=1)\nnone()\n</function_calls>", [ONE, call("none")]),
    (
        "deepseek_r1",
        (
            "<think>hm</think><｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n"
            '{"arg1": 1}```<｜tool▁call▁end｜><｜tool▁calls▁end｜>'
        ),
        [thought("hm"), ONE],
    ),
    (
        "deepseek_r1",
        (
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n"
            '{"arg1": 1}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>none\n```json\n{}\n```'
            "<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
        ),
        [ONE, call("none")],
    ),
    (
        "deepseek_v31",
        (
            '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_time<｜tool▁sep｜>{"city": "XYZCITY"}<｜tool▁call▁end｜>'
            "<｜tool▁calls▁end｜>"
        ),
        [call("get_time", city="XYZCITY")],
    ),
    (
        "dsml",
        (
            '<｜DSML｜function_calls>\n<｜DSML｜invoke name="edit">\n<｜DSML｜parameter name="path" string="true">12'
            '</｜DSML｜parameter>\n<｜DSML｜parameter name="line" string="false">1</｜DSML｜parameter>\n</｜DSML｜invoke>\n'
            "</｜DSML｜function_calls>"
        ),
        [call("edit", path="12", line=1)],
    ),
    (
        "dsml_calls",
        (
            '<think>t</think>\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name="f2">\n<｜DSML｜parameter name="k" string="false">'
            '{"a": 1}</｜DSML｜parameter>\n</｜DSML｜invoke>\n<｜DSML｜invoke name="none">\n</｜DSML｜invoke>\n'
            "</｜DSML｜tool_calls>"
        ),
        [thought("t"), call("f2", k={"a": 1}), call("none")],
    ),
    (
        "harmony",
        "<|channel|>analysis<|message|>I'm\nthinking<|end|><|start|>assistant<|channel|>final<|message|>Hello, world!",
        [thought("I'm\nthinking"), text("Hello, world!")],
    ),
    ("harmony", "<|channel|>commentary<|message|>Hello", [text("Hello")]),
    ("harmony", ' to=functions.f<|channel|>analysis<|message|>{"arg1": 1}', [ONE]),
    ("harmony", '<|channel|>commentary to=functions.f <|constrain|>json<|message|>{"arg1": 1}<|call|>', [ONE]),
    (
        "harmony",
        (
            "<|channel|>analysis<|message|>Hm<|end|><|start|>assistant to=functions.f<|channel|>analysis<|message|>"
            '{"arg1": 1}'
        ),
        [thought("Hm"), ONE],
    ),
    (
        "harmony",
        (
            "<|channel|>commentary to=assistant<|channel|>analysis<|message|>Hm<|end|><|start|>assistant<|channel|>final"
            "<|message|>Hello"
        ),
        [thought("Hm"), text("Hello")],
    ),
    (
        "harmony",
        (
            "<|channel|>analysis<|message|>Hm<|end|><|start|>assistant<|channel|>commentary<|message|>I will call it."
            '<|end|><|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{"arg1": 1}'
        ),
        [thought("Hm"), text("I will call it."), ONE],
    ),
    (
        "atem",
        " to=self<|message|>I'm\nthinking<|eom|><|start|>assistant to=user<|message|>Hello, world!",
        [thought("I'm\nthinking"), text("Hello, world!")],
    ),
    (
        "atem",
        (
            " to=user<|message|>I will call it.<|eom|><|start|>assistant to=f<|message|><atem:function_calls>\n"
            '<atem:invoke name="f">\n<atem:parameter name="arg1">1</atem:parameter>\n</atem:invoke>\n'
            "</atem:function_calls><|eom|><|start|>assistant to=none<|message|><atem:function_calls>\n"
            '<atem:invoke name="none">\n</atem:invoke>\n</atem:function_calls>'
        ),
        [text("I will call it."), ONE, call("none")],
    ),
    (
        "atem",
        ' to=user<|message|>Like so:\n<atem:function_calls>\n<atem:invoke name="none">\n</atem:invoke>',
        [text('Like so:\n<atem:function_calls>\n<atem:invoke name="none">\n</atem:invoke>')],
    ),
    (
        "atem",
        (
            " to=self<|message|>Perhaps <atem:function_calls> here<|eom|>"
            "<|start|>assistant to=nobody<|message|>What's up?<|eot|>"
        ),
        [thought("Perhaps <atem:function_calls> here"), text("What's up?")],
    ),
    (
        "glm",
        "<tool_call>f\n<arg_key>arg1</arg_key>\n<arg_value>1</arg_value>\n</tool_call>",
        [ONE],
    ),
    ("glm", "<tool_call>f<arg_key>arg1</arg_key><arg_value>1</arg_value></tool_call>", [ONE]),
    (
        "glm",
        (
            "<think>x</think>\n<tool_call>get_time\n<arg_key>city</arg_key>\n<arg_value>7</arg_value>\n</tool_call>\n"
            "<tool_call>none</tool_call>"
        ),
        [thought("x"), call("get_time", city="7"), call("none")],
    ),
    (
        "hy3",
        (
            "<tool_calls:opensource>\n<tool_call:opensource>f<tool_sep:opensource>\n<arg_key:opensource>arg1"
            "</arg_key:opensource>\n<arg_value:opensource>1</arg_value:opensource>\n</tool_call:opensource>\n"
            "</tool_calls:opensource>"
        ),
        [ONE],
    ),
    (
        "kimi_k2",
        (
            "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>"
            '{"arg1": 1}<|tool_call_end|><|tool_call_begin|>functions.none:1<|tool_call_argument_begin|>{}'
            "<|tool_call_end|><|tool_calls_section_end|>"
        ),
        [ONE, call("none")],
    ),
    (
        "kimi_k3",
        (
            "<|open|>response<|sep|>Hello<|close|>response<|sep|><|open|>tools<|sep|>"
            '<|open|>call tool="f" index="1"<|sep|><|open|>argument key="arg1" type="number"<|sep|>1<|close|>argument<|sep|>'
            "<|close|>call<|sep|><|close|>tools<|sep|><|close|>message<|sep|>"
        ),
        [text("Hello"), ONE],
    ),
    (
        "minimax_m1",
        '<tool_calls>\n{"name": "f", "arguments": {"arg1": 1}}\n{"name": "none", "arguments": {}}\n</tool_calls>',
        [ONE, call("none")],
    ),
    (
        "minimax_m2",
        (
            '<think>t\n</think>\n\n<minimax:tool_call>\n<invoke name="f">\n<parameter name="arg1">1</parameter>\n</invoke>\n'
            '<invoke name="none">\n</invoke>\n</minimax:tool_call>'
        ),
        [thought("t"), ONE, call("none")],
    ),
    (
        "minimax_m3",
        (
            ']<]minimax[>[<tool_call>\n]<]minimax[>[<invoke name="get_time">]<]minimax[>[<city>Tokyo]<]minimax[>[</city>'
            "]<]minimax[>[</invoke>\n]<]minimax[>[</tool_call>"
        ),
        [call("get_time", city="Tokyo")],
    ),
    (
        "minimax_m3",
        (
            ']<]minimax[>[<tool_call>\n]<]minimax[>[<invoke name="edit">]<]minimax[>[<path>a]<]minimax[>[</path>'
            "]<]minimax[>[<options>]<]minimax[>[<deep>]<]minimax[>[<list>]<]minimax[>[<item>1]<]minimax[>[</item>"
            "]<]minimax[>[<item>x]<]minimax[>[</item>]<]minimax[>[</list>]<]minimax[>[</deep>]<]minimax[>[</options>"
            "]<]minimax[>[<flags>]<]minimax[>[</flags>]<]minimax[>[</invoke>\n]<]minimax[>[</tool_call>"
        ),
        [call("edit", path="a", options={"deep": {"list": [1, "x"]}}, flags=[])],
    ),
    ("gemma4", "<|tool_call>call:f{arg1:42}<tool_call|>", [call("f", arg1=42)]),
    (
        "gemma4",
        (
            'Hi<|tool_call>call:edit{path:<|"|>a "b" c<|"|>,flags:[<|"|>x<|"|>,<|"|>y<|"|>],options:{k:true,n:{}}}<tool_call|>'
            "<|tool_call>call:none{}<tool_call|>"
        ),
        [text("Hi"), call("edit", path='a "b" c', flags=["x", "y"], options={"k": True, "n": {}}), call("none")],
    ),
    (
        "function_gemma",
        "<start_function_call>call:get_time{city:<escape>São Paulo<escape>}<end_function_call>",
        [call("get_time", city="São Paulo")],
    ),
    ("internlm", '<|action_start|><|plugin|>\n{"name": "f", "parameters": {"arg1": 1}}<|action_end|>', [ONE]),
    ("longcat", '<longcat_tool_call>\n{"name": "f", "arguments": {"arg1": 1}}\n</longcat_tool_call>', [ONE]),
    ("xlam", '[{"name": "f", "arguments": {"arg1": 1}}, {"name": "none", "arguments": {}}]', [ONE, call("none")]),
    ("xlam", '[{"a": 1}]', [text('[{"a": 1}]')]),
    ("granite", '<|tool_call|>[{"name": "f", "arguments": {"arg1": 1}}]', [ONE]),
    ("functionary_31", '<function=f>{"arg1": 1}</function>', [ONE]),
    ("functionary_32", 'f\n{"arg1": 1}', [ONE]),
    ("functionary_32", "all\nHello, world!\n>>> 1 + 1\n2", [text("Hello, world!\n>>> 1 + 1\n2")]),
    ("functionary_32", 'all\nHello>>>f\n{"arg1": 1}>>>none\n{}', [text("Hello"), ONE, call("none")]),
    (
        "cohere",
        '<|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "f", "parameters": {"arg1": 1}}\n]<|END_ACTION|>',
        [ONE],
    ),
    ("cohere", "<|START_RESPONSE|>Hello<|END_RESPONSE|>", [text("Hello")]),
    ("command_r", 'Action:\n```json\n[{"tool_name": "f", "parameters": {"arg1": 1}}]\n```', [ONE]),
    ("nemotron", '<TOOLCALL>[{"name": "f", "arguments": {"arg1": 1}}]</TOOLCALL>', [ONE]),
    ("apertus", '<|tools_prefix|>[{"f": {"arg1": 1}}, {"none": {}}]<|tools_suffix|>', [ONE, call("none")]),
    ("apriel", '<tool_calls>[{"name": "f", "arguments": {"arg1": 1}}]</tool_calls>', [ONE]),
    (
        "gigachat",
        'Hello<|message_sep|>\n\nfunction call<|role_sep|>\n{"name": "f", "arguments": {"arg1": 1}}',
        [text("Hello"), ONE],
    ),
    ("gigachat_31", '<|function_call|>{"name": "f", "arguments": {"arg1": 1}}', [ONE]),
    (
        "minicpm5",
        '<function name="get_time"><param name="city">print(\'x\')</param></function>',
        [call("get_time", city="print('x')")],
    ),
    (
        "minicpm5",
        '<function name="get_time"><param name="city"><![CDATA[<a>]]></param></function>',
        [call("get_time", city="<a>")],
    ),
    ("minicpm5", '<function name="none"></function>', [call("none")]),
    ("firefunction", ' functools[{"name": "f", "arguments": {"arg1": 1}}]', [ONE]),
    (
        "solar",
        '<|tool_calls|><|tool_call:begin|>id1<|tool_call:name|>f<|tool_call:args|>{"arg1": 1}<|tool_call:end|>',
        [ONE],
    ),
]
