"""One model's chat templates and formats: prepares requests for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from msgspec.structs import replace as replace_fields

from cortex.engine.chat.detection.capabilities import detect_capabilities
from cortex.engine.chat.detection.detect import DetectedFormats, detect_formats
from cortex.engine.chat.detection.probe_renderer import ProbeRenderer
from cortex.engine.chat.detection.reasoning import KNOWN_REASONING, reasoning_by_name
from cortex.engine.chat.formats.base import ToolFormat
from cortex.engine.chat.formats.families import FAMILIES, family_by_name
from cortex.engine.chat.formats.json_families import HERMES
from cortex.engine.chat.splitting.markers import MarkerTable, special_tokens_in
from cortex.engine.chat.splitting.splitter import MessageSplitter, SplitPlan
from cortex.engine.chat.templates.image_markers import collect_images, prompt_parts
from cortex.engine.chat.templates.literal_text import (
    NO_SPELLINGS,
    SpecialSpellings,
    cut_at_breaks,
    shielded,
    special_spellings,
)
from cortex.engine.chat.templates.prompt_renderer import PromptRenderer
from cortex.engine.chat.templates.reasoning_effort import reasoning_disabled
from cortex.engine.chat.templates.template import FALLBACK, ChatTemplate
from cortex.engine.chat.templates.tool_instructions import with_tool_instructions
from cortex.engine.chat.tool_grammar import after_reasoning, tool_constraint
from cortex.engine.chat.types import ConstraintSpec, Prepared
from cortex.engine.chat.vocabulary import Vocabulary
from cortex.engine.grammar.compiler import spec_for_format
from cortex.engine.grammar.schema_repair import readable
from cortex.errors import BadRequest
from cortex.wire.inference import Grammar, InferenceRequest, Text, Tool
from cortex.wire.worker import ProbeReport

__all__ = ["ChatModel"]


@dataclass(frozen=True, slots=True)
class ChatModel:
    """Turns chat requests into prompts, grammars and splitters. Made once per loaded model; `prepare` changes nothing.

    `with_tools` renders requests with tools (a GGUF may have a template of its own for them), `default` all others.
    """

    default: PromptRenderer
    with_tools: PromptRenderer
    detected: DetectedFormats
    vocabulary: Vocabulary
    markers: MarkerTable
    special: SpecialSpellings
    vision: bool = False

    @classmethod
    def from_gguf(
        cls,
        template: str | None,
        named: Mapping[str, str],
        vocab: Vocabulary,
        *,
        override: str | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
        reasoning_format: str | None = None,
        tool_format: str | None = None,
        special_tokens_in_content: bool = False,
        vision: bool = False,
    ) -> ChatModel:
        """Detect the formats of a GGUF from its `template`, its `named` variants and its vocabulary.

        `override` replaces all templates; `reasoning_format` and `tool_format` ("none" or a format's name) replace what
        is detected; `template_kwargs` are the profile's template variables. `special_tokens_in_content`: text in
        messages that spells a special token becomes that token. Raises ModelLoadFailed if a template
        doesn't compile, BadRequest if a format is unknown.
        """
        sources = _sources(template, named, override)
        kwargs = template_kwargs or {}
        renderers = {name: _renderer(_compiled(text, vocab), kwargs) for name, text in sources.items()}
        default = renderers["default"]
        with_tools = renderers.get("tool_use", default)
        probes = ProbeRenderer(with_tools.template, with_tools.capabilities, vocab)
        detected = detect_formats(probes, list(sources.values()), vocab)
        _override_formats(detected, reasoning_format, tool_format)
        markers = MarkerTable(vocab, detected.reasoning, detected.tool_format or HERMES)
        own = [*markers.spellings, *special_tokens_in(*sources.values())]
        special = NO_SPELLINGS if special_tokens_in_content else special_spellings(vocab, own)
        return cls(default, with_tools, detected, vocab, markers, special, vision)

    @property
    def supports_tools(self) -> bool:
        """Whether the model has a tool-call format of its own (`tool_choice: required` works with any model)."""
        return self.detected.tool_format is not None

    @property
    def supports_reasoning(self) -> bool:
        """Whether the markers of the model's reasoning are known."""
        return self.detected.reasoning is not None

    def prepare(self, request: InferenceRequest) -> Prepared:
        """Render `request`. Raises BadRequest if it can't be rendered, InvalidSchema if a schema makes no grammar."""
        images = self._images(request)
        offered = _offered(request, [] if request.tool_choice.mode == "none" else request.tools)
        written = shielded(request, self.special, self._reasoning_markers)
        tools = [] if request.tool_choice.mode == "none" else written.tools
        renderer = self.with_tools if tools else self.default
        capabilities, detected = renderer.capabilities, self.detected
        has_format = detected.tool_format is not None
        shown = with_tool_instructions(written, tools, capabilities, has_format=has_format, example=detected.example)
        prompt = renderer.prompt(shown, [_readable(tool) for tool in tools] if capabilities.tools else [])
        prompt = self._close_unwanted_reasoning(prompt, request)
        plan = self._plan(prompt, offered, begun=_continued_text(request))
        constraint = self._constraint(request, offered, plan, prompt)
        plan = replace(plan, constraint_start=constraint.start if constraint else None)
        pieces = cut_at_breaks(prompt)
        return Prepared(
            prompt="".join(pieces),
            make_splitter=lambda choice: MessageSplitter(plan, choice),
            constraint=constraint,
            stop=self._end_strings,
            parts=_parts(prompt, images) if images or len(pieces) > 1 else [],
            reasoning_budget=self._budget(request),
        )

    def _plan(self, prompt: str, offered: Sequence[Tool], *, begun: str) -> SplitPlan:
        """`begun`: the beginning of the answer, which the client wrote."""
        reasoning = self.detected.reasoning
        starts_in_reasoning = reasoning is not None and (
            prompt.rstrip().endswith(reasoning.open)
            or (begun.lstrip().startswith(reasoning.open) and reasoning.close not in begun)
        )
        return SplitPlan(self.markers, reasoning, self._tool_format, tuple(offered), starts_in_reasoning)

    @property
    def end_tokens(self) -> frozenset[int]:
        """Tokens that end a turn beside those that the vocabulary says do."""
        end = self.detected.turn_end
        return frozenset() if end is None or end.token is None else frozenset({end.token})

    @property
    def _end_strings(self) -> list[str]:
        end = self.detected.turn_end
        return [] if end is None or end.token is not None else [end.text]

    @property
    def _reasoning_markers(self) -> list[str]:
        reasoning = self.detected.reasoning
        return [reasoning.open, reasoning.close] if reasoning is not None else []

    @property
    def _tool_format(self) -> ToolFormat:
        """The model's own format, or the one that `with_tool_instructions` teaches it."""
        return self.detected.tool_format or HERMES

    def _close_unwanted_reasoning(self, prompt: str, request: InferenceRequest) -> str:
        """`prompt` with reasoning closed that the template opened although the request turns it off."""
        reasoning = self.detected.reasoning
        if reasoning is None or not reasoning_disabled(request.reasoning):
            return prompt
        if not prompt.rstrip().endswith(reasoning.open):
            return prompt
        return f"{prompt.rstrip()}\n\n{reasoning.close}{reasoning.next}{reasoning.answer}\n\n"

    def _budget(self, request: InferenceRequest) -> int | None:
        if self.detected.reasoning is None:
            return None
        return 0 if reasoning_disabled(request.reasoning) else request.reasoning.budget

    def _constraint(
        self, request: InferenceRequest, offered: Sequence[Tool], plan: SplitPlan, prompt: str
    ) -> ConstraintSpec | None:
        """The grammar for the output, if any. Raises InvalidSchema, or BadRequest for a grammar together with tools."""
        is_closed = plan.reasoning is not None and prompt.rstrip().endswith(plan.reasoning.close)
        reasoning = None if is_closed or reasoning_disabled(request.reasoning) else plan.reasoning
        answer = spec_for_format(request.format, self.vocabulary)
        if answer is not None and offered and isinstance(request.format, Grammar):
            raise BadRequest("a grammar can't be combined with tools; send one of them", param="grammar")
        if not offered:
            wrappers = self._tool_format.wrappers
            return answer and after_reasoning(answer, self.markers, reasoning, plan.starts_in_reasoning, wrappers)
        return tool_constraint(
            self.markers,
            self._tool_format,
            offered,
            request.tool_choice,
            parallel=request.parallel,
            reasoning=reasoning,
            starts_in_reasoning=plan.starts_in_reasoning,
            answer=answer,
        )

    def report(self, model: str) -> ProbeReport:
        """What was detected, for people; `model` is the name to show."""
        found = self.detected
        return ProbeReport(
            model=model,
            reasoning_format=found.reasoning.name if found.reasoning else None,
            tool_format=found.tool_format.name if found.tool_format else None,
            evidence=list(found.evidence),
            template=_capability_texts(self.with_tools),
            self_test=found.self_test,
        )

    def _images(self, request: InferenceRequest) -> list[bytes]:
        images = collect_images(request.messages)
        if images and not self.vision:
            raise BadRequest(f"model {request.model!r} takes no images; send text only", param="messages")
        return images


def _parts(prompt: str, images: Sequence[bytes]) -> list[str | bytes]:
    """The prompt's texts, cut at break marks, and its images."""
    parts = prompt_parts(prompt, images) if images else [prompt]
    return [piece for part in parts for piece in ([part] if isinstance(part, bytes) else cut_at_breaks(part))]


def _sources(template: str | None, named: Mapping[str, str], override: str | None) -> dict[str, str]:
    if override is not None:
        return {"default": override}
    return {**named, "default": template or named.get("default") or next(iter(named.values()), FALLBACK)}


def _renderer(template: ChatTemplate, defaults: Mapping[str, Any]) -> PromptRenderer:
    return PromptRenderer(template, detect_capabilities(template), dict(defaults))


def _compiled(source: str, vocabulary: Vocabulary) -> ChatTemplate:
    return ChatTemplate(source, bos=_piece(vocabulary, vocabulary.bos), eos=_piece(vocabulary, vocabulary.eos))


def _piece(vocabulary: Vocabulary, token: int | None) -> str:
    return "" if token is None else vocabulary.piece(token).decode("utf-8", "replace")


def _override_formats(detected: DetectedFormats, reasoning: str | None, tool_format: str | None) -> None:
    if reasoning is not None:
        detected.reasoning = None if reasoning == "none" else reasoning_by_name(reasoning)
        _require(reasoning, detected.reasoning, "reasoning_format", [known.name for known in KNOWN_REASONING])
        detected.evidence.append(f"reasoning: the profile says {reasoning}")
    if tool_format is not None:
        detected.tool_format = None if tool_format == "none" else family_by_name(tool_format)
        _require(tool_format, detected.tool_format, "tool_format", [family.name for family in FAMILIES])
        detected.evidence.append(f"tools: the profile says {tool_format}")


def _require(name: str, found: object, key: str, known: Sequence[str]) -> None:
    if found is None and name != "none":
        raise BadRequest(f"{key}: {name!r} is not known; known are none, {', '.join(known)}", param=key)


def _offered(request: InferenceRequest, tools: Sequence[Tool]) -> list[Tool]:
    """The tools that may be called. Raises BadRequest if the choice names one, or requires any, that was not sent."""
    only = request.tool_choice.only if request.tool_choice.mode != "none" else []
    for name in only:
        if all(tool.name != name for tool in tools):
            raise BadRequest(f"tool_choice names {name!r}, which is not in tools", param="tool_choice")
    if request.tool_choice.mode == "required" and not tools:
        raise BadRequest("tool_choice is required but there are no tools", param="tool_choice")
    return [tool for tool in tools if not only or tool.name in only]


def _continued_text(request: InferenceRequest) -> str:
    """The text of the final message, if the model is to continue it."""
    if not request.continue_final or not request.messages:
        return ""
    return "".join(part.text for part in request.messages[-1].parts if isinstance(part, Text))


def _readable(tool: Tool) -> Tool:
    """`tool` as templates can show it: some iterate over `required` or `properties`, whatever a client sends there."""
    parameters = readable(tool.parameters, annotations=True)
    return tool if parameters == tool.parameters else replace_fields(tool, parameters=parameters)


def _capability_texts(renderer: PromptRenderer) -> dict[str, str]:
    capabilities = renderer.capabilities
    return {name: str(getattr(capabilities, name)) for name in capabilities.__dataclass_fields__}
