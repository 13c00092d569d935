"""Makes a request ready for the engine: rendered, tokenised, checked. Runs in the worker's preparing thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from cortex.engine.chat.types import Constraint, ConstraintSpec, Prepared
from cortex.engine.llama.model import Vocab
from cortex.engine.request.output import PreparedRequest
from cortex.engine.sampling.params import resolve
from cortex.engine.vision.spans import PreparedPrompt
from cortex.errors import BadRequest, ContextLengthExceeded, UnsupportedValue
from cortex.wire.inference import InferenceRequest, OutputFormat, Sampling
from cortex.wire.prefix import prefix_hashes

__all__ = ["Chat", "Preparer", "TokenLimits"]


class Chat(Protocol):
    """The part of `chat.model.ChatModel` that is needed here."""

    def prepare(self, request: InferenceRequest) -> Prepared: ...


@dataclass(frozen=True, slots=True)
class TokenLimits:
    """In tokens, None = unlimited; `context` holds prompt and output together."""

    context: int
    input: int | None = None
    output: int | None = None


class Preparer:
    """For one model. `spec_for_format` and `compile_constraint` come from `grammar.compiler`; `profile` and `metadata`
    are the sampling defaults of the operator and of the GGUF. `lay_out` makes tokens of a prompt with images, where the
    model has a projector."""

    def __init__(
        self,
        vocab: Vocab,
        limits: TokenLimits,
        *,
        chat: Chat | None,
        spec_for_format: Callable[[OutputFormat], ConstraintSpec | None],
        compile_constraint: Callable[[ConstraintSpec], Constraint],
        profile: Sampling,
        metadata: Sampling,
        lay_out: Callable[[list[str | bytes]], PreparedPrompt] | None = None,
    ) -> None:
        self._vocab = vocab
        self._limits = limits
        self._chat = chat
        self._spec_for_format = spec_for_format
        self._compile = compile_constraint
        self._profile = profile
        self._metadata = metadata
        self._lay_out = lay_out

    def prepare(self, request: InferenceRequest) -> PreparedRequest:
        """Render, tokenise and check `request`. The prompt is never cut.

        Raises BadRequest or a subclass, naming the parameter at fault: ContextLengthExceeded, UnsupportedValue,
        InvalidSchema.
        """
        self._check(request)
        prepared = self._raw(request) if request.prompt is not None else self._chatted(request)
        prompt = len(prepared.tokens)
        self._check_length(prompt)
        return replace(prepared, room=self._room(request, prompt), hashes=prefix_hashes(request))

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
        """Tokens that may be generated. A prompt that fills the context exactly still gets one: its last position's."""
        rooms = [max(1, self._limits.context - prompt), request.max_output, self._limits.output]
        return min(room for room in rooms if room is not None)

    # ---- raw prompts

    def _raw(self, request: InferenceRequest) -> PreparedRequest:
        spec = self._spec_for_format(request.format)
        prompt = request.prompt
        assert prompt is not None
        tokens = prompt if isinstance(prompt, list) else self._text_tokens(prompt, request.suffix)
        if not tokens:
            raise BadRequest("the prompt is empty", param="prompt")
        return PreparedRequest(
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
        """The first token of the echo, if its log-probabilities are wanted: a BOS that was added isn't echoed."""
        if not request.echo or request.replay or request.logprobs is None:
            return None
        prompt, bos = request.prompt, self._vocab.bos
        if not isinstance(prompt, str) or bos is None or tokens[0] != bos:
            return 0
        return 0 if prompt.encode("utf-8", "surrogatepass").startswith(self._vocab.piece(bos)) else 1

    # ---- chats

    def _chatted(self, request: InferenceRequest) -> PreparedRequest:
        if self._chat is None:
            raise UnsupportedValue("this model has no chat template: use /v1/completions, or set chat_template for it")
        prepared = self._chat.prepare(request)
        prompt = self._tokenised(prepared)
        return PreparedRequest(
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

    def _tokenised(self, prepared: Prepared) -> PreparedPrompt:
        if not prepared.parts:
            return PreparedPrompt(self._vocab.prompt_tokens(prepared.prompt))
        texts = [part for part in prepared.parts if isinstance(part, str)]
        if len(texts) == len(prepared.parts):
            return PreparedPrompt(self._vocab.prompt_tokens(*texts))
        assert self._lay_out is not None, "engine.chat refuses images for a model without a projector"
        return self._lay_out(prepared.parts)

    def _constraints(self, spec: ConstraintSpec | None, count: int) -> list[Constraint]:
        return [self._compile(spec) for _ in range(count)] if spec is not None else []
