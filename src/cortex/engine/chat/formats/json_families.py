"""Families whose calls have JSON arguments, as data: name and arguments in one object, or a name and then the object.

File names are chat templates in llama.cpp's models/templates; families without one follow the models' own templates.
"""

from __future__ import annotations

from cortex.engine.chat.formats.json_calls import JsonCalls
from cortex.engine.chat.formats.named_json import NamedJson

__all__ = [
    "APERTUS",
    "APRIEL",
    "COHERE",
    "COMMAND_R",
    "DEEPSEEK_R1",
    "DEEPSEEK_V31",
    "FIREFUNCTION",
    "FUNCTIONARY_31",
    "GIGACHAT",
    "GIGACHAT_31",
    "GRANITE",
    "HERMES",
    "INTERNLM",
    "KIMI_K2",
    "LONGCAT",
    "MINIMAX_M1",
    "MISTRAL_ARGS",
    "MISTRAL_ARRAY",
    "MISTRAL_CALL_ID",
    "NEMOTRON",
    "SOLAR",
    "XLAM",
]

# ---- name and arguments in one object

HERMES = JsonCalls(
    name="hermes", open="<tool_call>", close="</tool_call>", evidence=("<tool_call>", '"name"', '"arguments"')
)
"""`<tool_call>{"name": "f", "arguments": {…}}</tool_call>`, once per call; also what cortex teaches a model that has no
format of its own. NousResearch-Hermes-2-Pro and -3, Qwen-Qwen2.5, Qwen3-0.6B, QwQ, Bielik-11B-v3.0, MiMo-VL, Reka-Edge,
ibm-granite-granite-4.0 and -4.1."""

GRANITE = JsonCalls(name="granite", open="<|tool_call|>", array=True, evidence=("<|tool_call|>",))
"""ibm-granite-granite-3.3-2B-Instruct."""

NEMOTRON = JsonCalls(name="nemotron", open="<TOOLCALL>", close="</TOOLCALL>", array=True, evidence=("<TOOLCALL>",))
"""NVIDIA-Nemotron-Nano-v2."""

APRIEL = JsonCalls(name="apriel", open="<tool_calls>", close="</tool_calls>", array=True, evidence=("<tool_calls>[",))
"""Apriel-1.6-15b-Thinker-fixed, unsloth-Apriel-1.5."""

COHERE = JsonCalls(
    name="cohere",
    open="<|START_ACTION|>",
    close="<|END_ACTION|>",
    name_keys=("tool_name", "name"),
    argument_keys=("parameters", "arguments"),
    array=True,
    id_key="tool_call_id",
    id_first=True,
    wrappers=(("<|START_RESPONSE|>", "<|END_RESPONSE|>"), ("<|START_TEXT|>", "<|END_TEXT|>")),
    evidence=("<|START_ACTION|>",),
)
"""CohereForAI-c4ai-command-r7b-12-2024-tool_use, Cohere2MoE."""

COMMAND_R = JsonCalls(
    name="command_r",
    open="Action:",
    name_keys=("tool_name", "name"),
    argument_keys=("parameters", "arguments"),
    array=True,
    fenced=True,
    evidence=("Action:", '"tool_name"', '"parameters"'),
)
"""A fenced array after a heading: CohereForAI-c4ai-command-r-plus-tool_use."""

FIREFUNCTION = JsonCalls(name="firefunction", open="functools", array=True, evidence=("functools[",))
"""fireworks-ai-llama-3-firefunction-v2."""

GIGACHAT = JsonCalls(
    name="gigachat",
    open="<|message_sep|>\n\nfunction call<|role_sep|>",
    evidence=("function call<|role_sep|>",),
)
"""A message header: GigaChat3-10B-A1.8B."""

GIGACHAT_31 = JsonCalls(name="gigachat_31", open="<|function_call|>", evidence=("<|function_call|>",))
"""A token in place of the header: GigaChat3.1-10B-A1.8B."""

INTERNLM = JsonCalls(
    name="internlm",
    open="<|action_start|><|plugin|>",
    close="<|action_end|>",
    argument_keys=("parameters", "arguments"),
    evidence=("<|action_start|>", "<|plugin|>"),
)
"""InternLM 2.5 and 3 (also vLLM's tool parser `internlm`)."""

LONGCAT = JsonCalls(
    name="longcat", open="<longcat_tool_call>", close="</longcat_tool_call>", evidence=("<longcat_tool_call>",)
)
"""LongCat-Flash (also vLLM's tool parser `longcat`)."""

MINIMAX_M1 = JsonCalls(
    name="minimax_m1",
    open="<tool_calls>",
    close="</tool_calls>",
    lines=True,
    evidence=("<tool_calls>", '{"name": <tool-name>'),
)
"""One object per line: MiniMax-M1."""

MISTRAL_ARRAY = JsonCalls(name="mistral", open="[TOOL_CALLS]", array=True, id_key="id", evidence=("[TOOL_CALLS]",))
"""Tokenizers up to v7: mistralai-Mistral-Nemo-Instruct-2407. Clients get our ids in place of the model's nine
characters, here and below."""

XLAM = JsonCalls(name="xlam", open="[", bare=True, at_start=True, array=True, evidence=('[{"name": ', '"arguments"'))
"""Nothing but a JSON array as the whole answer: Salesforce's xLAM (also vLLM's tool parser `xlam`)."""

APERTUS = JsonCalls(
    name="apertus",
    open="<|tools_prefix|>",
    close="<|tools_suffix|>",
    array=True,
    name_is_key=True,
    evidence=("<|tools_prefix|>",),
)
"""`<|tools_prefix|>[{"f": {"k": "v"}}]<|tools_suffix|>`: Apertus-8B-Instruct."""

# ---- a name, then an object of arguments

DEEPSEEK_R1 = NamedJson(
    name="deepseek_r1",
    section_open="<｜tool▁calls▁begin｜>",
    section_close="<｜tool▁calls▁end｜>",
    call_open="<｜tool▁call▁begin｜>",
    name_prefix="function<｜tool▁sep｜>",
    name_end="\n",
    fence=("```json\n", "\n```"),
    call_close="<｜tool▁call▁end｜>",
    evidence=("<｜tool▁calls▁begin｜>", "```json"),
)
"""deepseek-ai-DeepSeek-R1-Distill-Llama-8B and -Qwen-32B, llama-cpp-deepseek-r1; DeepSeek V3."""

DEEPSEEK_V31 = NamedJson(
    name="deepseek_v31",
    section_open="<｜tool▁calls▁begin｜>",
    section_close="<｜tool▁calls▁end｜>",
    call_open="<｜tool▁call▁begin｜>",
    name_end="<｜tool▁sep｜>",
    call_close="<｜tool▁call▁end｜>",
    evidence=("<｜tool▁calls▁begin｜>", "<｜tool▁sep｜>"),
)
"""deepseek-ai-DeepSeek-V3.1."""

KIMI_K2 = NamedJson(
    name="kimi_k2",
    section_open="<|tool_calls_section_begin|>",
    section_close="<|tool_calls_section_end|>",
    call_open="<|tool_call_begin|>",
    name_prefix="functions.",
    own_ids=True,
    name_end="<|tool_call_argument_begin|>",
    call_close="<|tool_call_end|>",
    evidence=("<|tool_calls_section_begin|>", "<|tool_call_argument_begin|>"),
)
"""`<|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{…}<|tool_call_end|>` in a section: Kimi-K2-Instruct,
Kimi-K2-Thinking, moonshotai-Kimi-K2. The template reads the name from the id in the next turn, so clients get the id
unchanged."""

MISTRAL_CALL_ID = NamedJson(
    name="mistral_call_id",
    call_open="[TOOL_CALLS]",
    name_end="[ARGS]",
    id_open="[CALL_ID]",
    evidence=("[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"),
)
"""Tokenizers from v11 on: Mistral-Small-3.2-24B-Instruct-2506."""

MISTRAL_ARGS = NamedJson(
    name="mistral_args", call_open="[TOOL_CALLS]", name_end="[ARGS]", evidence=("[TOOL_CALLS]", "[ARGS]")
)
"""Tokenizers from v11 on, without ids: unsloth-mistral-Devstral-Small-2507 and
mistralai-Ministral-3-14B-Reasoning-2512."""

FUNCTIONARY_31 = NamedJson(
    name="functionary_31",
    call_open="<function=",
    name_end=">",
    call_close="</function>",
    evidence=("<function=", "</function>"),
)
"""Also Llama 3.1's custom functions: meetkai-functionary-medium-v3.1."""

SOLAR = NamedJson(
    name="solar",
    section_open="<|tool_calls|>",
    call_open="<|tool_call:begin|>",
    id_end="<|tool_call:name|>",
    name_end="<|tool_call:args|>",
    call_close="<|tool_call:end|>",
    evidence=("<|tool_call:begin|>", "<|tool_call:args|>"),
)
"""upstage-Solar-Open-100B."""
