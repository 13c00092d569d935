"""A request made ready for the engine: rendered, tokenised, checked. Runs beside the engine loop, not in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from cortex.engine.chat.types import Constraint, ConstraintSpec, Prepared
from cortex.engine.llama.model import Vocab
from cortex.engine.request.output import Job
from cortex.engine.sampling.params import resolve
from cortex.engine.vision.spans import PreparedPrompt
from cortex.errors import BadRequest, ContextLengthExceeded, UnsupportedValue
from cortex.wire.inference import InferenceRequest, OutputFormat, Sampling
from cortex.wire.prefix import prefix_hashes

__all__ = ["Chat", "Limits", "Preparer"]


class Chat(Protocol):
    """The part of `chat.model.ChatModel` that is needed here."""

    def prepare(self, request: InferenceRequest) -> Prepared: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """Tokens; `context` holds prompt and output together."""

    context: int
    input: int | None = None
    output: int | None = None


class Preparer:
    """Makes Jobs. `spec_for_format` and `compile` come from `engine.constraints`; `see` lays out prompts with images,
    where the model has a projector."""

    def __init__(
        self,
        vocab: Vocab,
        limits: Limits,
        *,
        chat: Chat | None,
        spec_for_format: Callable[[OutputFormat], ConstraintSpec | None],
        compile_constraint: Callable[[ConstraintSpec], Constraint],
        profile: Sampling,
        metadata: Sampling,
        see: Callable[[list[str | bytes]], PreparedPrompt] | None = None,
    ) -> None:
        self._vocab = vocab
        self._limits = limits
        self._chat = chat
        self._spec_for_format = spec_for_format
        self._compile = compile_constraint
        self._profile = profile
        self._metadata = metadata
        self._see = see

    def prepare(self, request: InferenceRequest) -> Job:
        """Raises BadRequest and its kin, naming what is wrong; the prompt is never cut."""
        self._check(request)
        job = self._raw(request) if request.prompt is not None else self._chatted(request)
        prompt = len(job.tokens)
        self._check_length(prompt)
        return replace(job, room=self._room(request, prompt), hashes=prefix_hashes(request))

    def _check(self, request: InferenceRequest) -> None:
        if request.replay and request.n > 1:
            raise BadRequest("a request with n > 1 can't be resumed", param="n")
        if request.echo and request.logprobs is not None and request.suffix is not None:
            raise UnsupportedValue("echo with logprobs and a suffix is not supported: leave one of them out")
        for token in [*request.replay, *(request.prompt if isinstance(request.prompt, list) else [])]:
            if not 0 <= token < self._vocab.size:
                raise BadRequest(
                    f"token {token} is not in the vocabulary (0 to {self._vocab.size - 1})", param="prompt"
                )

    def _check_length(self, prompt: int) -> None:
        if prompt > self._limits.context:
            raise ContextLengthExceeded(
                f"the prompt has {prompt} tokens, but the model's context holds {self._limits.context}; shorten it",
                param="messages",
            )
        if self._limits.input is not None and prompt > self._limits.input:
            raise ContextLengthExceeded(
                f"the prompt has {prompt} tokens, but at most {self._limits.input} are accepted; shorten it",
                param="messages",
            )

    def _room(self, request: InferenceRequest, prompt: int) -> int:
        """A prompt that fills the context exactly still gets the one token that its last position predicts."""
        rooms = [max(1, self._limits.context - prompt), request.max_output, self._limits.output]
        return min(room for room in rooms if room is not None)

    # ---- raw prompts

    def _raw(self, request: InferenceRequest) -> Job:
        spec = self._spec_for_format(request.format)
        prompt = request.prompt
        assert prompt is not None
        tokens = prompt if isinstance(prompt, list) else self._text_tokens(prompt, request.suffix)
        if not tokens:
            raise BadRequest("the prompt is empty", param="prompt")
        return Job(
            request=request,
            tokens=tokens,
            room=0,
            sampling=resolve(request.sampling, self._profile, self._metadata),
            constraints=self._constraints(spec, request.n),
            echo=self._echo(request) if request.echo and not request.replay else "",
            scored_from=self._scored_from(request, tokens),
        )

    def _text_tokens(self, prompt: str, suffix: str | None) -> list[int]:
        if suffix is None:
            return self._vocab.prompt_tokens(prompt)
        fim = self._vocab.fim
        if fim is None:
            raise UnsupportedValue("this model has no fill-in-the-middle tokens: it can't use suffix", param="suffix")
        before = self._vocab.tokenize(prompt, special=False)
        after = self._vocab.tokenize(suffix, special=False)
        tokens = [fim.prefix, *before, fim.suffix, *after, fim.middle]
        return [self._vocab.bos, *tokens] if self._vocab.add_bos and self._vocab.bos is not None else tokens

    def _echo(self, request: InferenceRequest) -> str:
        if isinstance(request.prompt, str):
            return request.prompt
        pieces = [self._vocab.piece(token) for token in request.prompt or []]
        return b"".join(pieces).decode("utf-8", "ignore")

    def _scored_from(self, request: InferenceRequest, tokens: list[int]) -> int | None:
        """The first token of the echo, if its tokens' probabilities are wanted: the BOS that we add isn't echoed."""
        if not request.echo or request.replay or request.logprobs is None:
            return None
        prompt, bos = request.prompt, self._vocab.bos
        if not isinstance(prompt, str) or bos is None or tokens[0] != bos:
            return 0
        return 0 if prompt.encode("utf-8", "surrogatepass").startswith(self._vocab.piece(bos)) else 1

    # ---- chats

    def _chatted(self, request: InferenceRequest) -> Job:
        if self._chat is None:
            raise UnsupportedValue("this model has no chat template: use /v1/completions, or set chat_template for it")
        prepared = self._chat.prepare(request)
        prompt = self._seen(prepared)
        return Job(
            request=request,
            tokens=prompt.tokens,
            room=0,
            sampling=resolve(request.sampling, self._profile, self._metadata),
            make_splitter=prepared.make_splitter,
            constraints=self._constraints(prepared.constraint, request.n),
            format_stops=prepared.stop,
            reasoning_budget=prepared.reasoning_budget,
            images=prompt.spans,
            pictures=prompt.pictures,
        )

    def _seen(self, prepared: Prepared) -> PreparedPrompt:
        if not prepared.parts:
            return PreparedPrompt(self._vocab.prompt_tokens(prepared.prompt))
        texts = [part for part in prepared.parts if isinstance(part, str)]
        if len(texts) == len(prepared.parts):
            return PreparedPrompt(self._vocab.prompt_tokens(*texts))
        assert self._see is not None, "the chat side refuses images where there is no projector"
        return self._see(prepared.parts)

    def _constraints(self, spec: ConstraintSpec | None, count: int) -> list[Constraint]:
        return [self._compile(spec) for _ in range(count)] if spec is not None else []
