"""One model's chat side: its templates, what they take, and the formats it speaks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cortex.engine.chat.detection.probe import Findings, probe_model
from cortex.engine.chat.detection.probe_renderer import Rendition
from cortex.engine.chat.detection.reasoning import KNOWN, reasoning_by_name
from cortex.engine.chat.formats import FAMILIES, ToolFormat, by_name
from cortex.engine.chat.formats.hermes import HERMES
from cortex.engine.chat.splitting.markers import MarkerTable
from cortex.engine.chat.splitting.splitter import MessageSplitter, SplitPlan
from cortex.engine.chat.templates.image_markers import collect_images, prompt_parts
from cortex.engine.chat.templates.prompt_renderer import PromptRenderer
from cortex.engine.chat.templates.reasoning_effort import thinks_not
from cortex.engine.chat.templates.template import FALLBACK, ChatTemplate
from cortex.engine.chat.templates.tool_instructions import with_instruction
from cortex.engine.chat.tool_grammar import after_reasoning, tool_constraint
from cortex.engine.chat.types import ConstraintSpec, Prepared
from cortex.engine.chat.vocabulary import Vocabulary
from cortex.engine.grammar.compiler import spec_for_format
from cortex.errors import BadRequest
from cortex.wire.inference import Grammar, InferenceRequest, Tool
from cortex.wire.worker import ProbeReport

__all__ = ["ChatModel"]


@dataclass(frozen=True, slots=True)
class ChatModel:
    """Turns chat requests into prompts and splitters. Made once per load; `prepare` is pure and may be called often."""

    default: PromptRenderer
    with_tools: PromptRenderer
    findings: Findings
    vocabulary: Vocabulary
    markers: MarkerTable
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
        vision: bool = False,
    ) -> ChatModel:
        """Probe a GGUF's `template` and its `named` variants.

        `override` replaces them all, `reasoning_format` and `tool_format` ("none" or a format's name) what the probe
        finds. Raises ModelLoadFailed if a template doesn't compile, BadRequest if a format is unknown.
        """
        sources = _sources(template, named, override)
        kwargs = template_kwargs or {}
        prompters = {name: PromptRenderer.probed(_compiled(text, vocab), kwargs) for name, text in sources.items()}
        default = prompters["default"]
        with_tools = prompters.get("tool_use", default)
        rendition = Rendition(with_tools.template, with_tools.takes, vocab)
        findings = probe_model(rendition, list(sources.values()), vocab)
        _override_formats(findings, reasoning_format, tool_format)
        markers = MarkerTable(vocab, findings.reasoning, findings.tool_format or HERMES)
        return cls(default, with_tools, findings, vocab, markers, vision)

    @property
    def supports_tools(self) -> bool:
        """Whether the model has a tool-call format of its own (any model can be made to call with `required`)."""
        return self.findings.tool_format is not None

    @property
    def supports_reasoning(self) -> bool:
        return self.findings.reasoning is not None

    def prepare(self, request: InferenceRequest) -> Prepared:
        """Render `request` and say how its output is to be split. Raises BadRequest where it can't be rendered."""
        images = self._images(request)
        tools = [] if request.tool_choice.mode == "none" else request.tools
        offered = _offered(request, tools)
        prompter = self.with_tools if tools else self.default
        shown = with_instruction(request, tools, prompter.takes, self.findings)
        prompt = self._without_thinking(prompter.prompt(shown, tools if prompter.takes.tools else []), request)
        plan = self._plan(prompt, offered)
        constraint = self._constraint(request, offered, plan, prompt)
        plan = replace(plan, constraint_start=constraint.start if constraint else None)
        return Prepared(
            prompt=prompt,
            make_splitter=lambda choice: MessageSplitter(plan, choice),
            constraint=constraint,
            parts=prompt_parts(prompt, images) if images else [],
            reasoning_budget=self._budget(request),
        )

    def _plan(self, prompt: str, offered: Sequence[Tool]) -> SplitPlan:
        reasoning = self.findings.reasoning
        thinking = reasoning is not None and prompt.rstrip().endswith(reasoning.open)
        return SplitPlan(self.markers, reasoning, self._form, tuple(offered), thinking)

    @property
    def _form(self) -> ToolFormat:
        return self.findings.tool_format or HERMES

    def _without_thinking(self, prompt: str, request: InferenceRequest) -> str:
        """`prompt` with the thinking closed that the template opens although the request wants none."""
        reasoning = self.findings.reasoning
        if reasoning is None or not thinks_not(request.reasoning) or not prompt.rstrip().endswith(reasoning.open):
            return prompt
        return f"{prompt.rstrip()}\n\n{reasoning.close}{reasoning.next}{reasoning.answer}\n\n"

    def _budget(self, request: InferenceRequest) -> int | None:
        if self.findings.reasoning is None:
            return None
        return 0 if thinks_not(request.reasoning) else request.reasoning.budget

    def _constraint(
        self, request: InferenceRequest, offered: Sequence[Tool], plan: SplitPlan, prompt: str
    ) -> ConstraintSpec | None:
        """The grammar for the output. Raises InvalidSchema, or BadRequest for a grammar beside tools."""
        closed = plan.reasoning is not None and prompt.rstrip().endswith(plan.reasoning.close)
        reasoning = None if closed or thinks_not(request.reasoning) else plan.reasoning
        thinking = plan.starts_in_reasoning
        answer = spec_for_format(request.format)
        if answer is not None and offered and isinstance(request.format, Grammar):
            raise BadRequest("a grammar can't be combined with tools; send one of them", param="grammar")
        if not offered:
            return answer and after_reasoning(answer, self.markers, reasoning, thinking)
        return tool_constraint(
            self.markers,
            self._form,
            offered,
            request.tool_choice,
            parallel=request.parallel,
            reasoning=reasoning,
            starts_in_reasoning=thinking,
            answer=answer,
        )

    def report(self, model: str) -> ProbeReport:
        """What the probe found, for people."""
        found = self.findings
        return ProbeReport(
            model=model,
            reasoning_format=found.reasoning.name if found.reasoning else None,
            tool_format=found.tool_format.name if found.tool_format else None,
            evidence=list(found.evidence),
            template=_described(self.with_tools),
            self_test=found.self_test,
        )

    def _images(self, request: InferenceRequest) -> list[bytes]:
        images = collect_images(request.messages)
        if images and not self.vision:
            raise BadRequest(f"model {request.model!r} takes no images; send text only", param="messages")
        return images


def _sources(template: str | None, named: Mapping[str, str], override: str | None) -> dict[str, str]:
    if override is not None:
        return {"default": override}
    return {**named, "default": template or named.get("default") or next(iter(named.values()), FALLBACK)}


def _compiled(source: str, vocabulary: Vocabulary) -> ChatTemplate:
    return ChatTemplate(source, bos=_piece(vocabulary, vocabulary.bos), eos=_piece(vocabulary, vocabulary.eos))


def _piece(vocabulary: Vocabulary, token: int | None) -> str:
    return "" if token is None else vocabulary.piece(token).decode("utf-8", "replace")


def _override_formats(findings: Findings, reasoning: str | None, tool_format: str | None) -> None:
    if reasoning is not None:
        findings.reasoning = None if reasoning == "none" else reasoning_by_name(reasoning)
        _require(reasoning, findings.reasoning, "reasoning_format", [form.name for form in KNOWN])
        findings.evidence.append(f"reasoning: the profile says {reasoning}")
    if tool_format is not None:
        findings.tool_format = None if tool_format == "none" else by_name(tool_format)
        _require(tool_format, findings.tool_format, "tool_format", [form.name for form in FAMILIES])
        findings.evidence.append(f"tools: the profile says {tool_format}")


def _require(name: str, found: object, key: str, known: Sequence[str]) -> None:
    if found is None and name != "none":
        raise BadRequest(f"{key}: {name!r} is not known; known are none, {', '.join(known)}", param=key)


def _offered(request: InferenceRequest, tools: Sequence[Tool]) -> list[Tool]:
    """The tools that may be called. Raises BadRequest if the choice names one that isn't there."""
    only = request.tool_choice.only if request.tool_choice.mode != "none" else []
    for name in only:
        if all(tool.name != name for tool in tools):
            raise BadRequest(f"tool_choice names {name!r}, which is not in tools", param="tool_choice")
    if request.tool_choice.mode == "required" and not tools:
        raise BadRequest("tool_choice is required but there are no tools", param="tool_choice")
    return [tool for tool in tools if not only or tool.name in only]


def _described(prompter: PromptRenderer) -> dict[str, str]:
    takes = prompter.takes
    return {name: str(getattr(takes, name)) for name in takes.__dataclass_fields__}
