"""Embeddings and rerank scores: whole inputs packed into batches, those of several requests together."""

from __future__ import annotations

import logging
import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cortex.engine.chat.splitting.markers import special_tokens_in
from cortex.engine.chat.templates.literal_text import NO_SPELLINGS, cut_at_breaks, special_spellings
from cortex.engine.llama.context import Context, DecodeFailed, NoCells
from cortex.engine.llama.model import Model, Vocab
from cortex.engine.request.outbox import EventOutbox
from cortex.errors import (
    BadRequest,
    ContextLengthExceeded,
    CortexError,
    DeadlineExceeded,
    Draining,
    InternalError,
    UnsupportedValue,
)
from cortex.wire.events import Embedded, Finished, Scored, Started, Timings, Usage, failed
from cortex.wire.inference import EmbeddingRequest, InferenceRequest, Request, RerankRequest
from cortex.wire.worker import Emission, EngineModelStats, RequestStats

__all__ = ["EmbeddingEngine", "EmbeddingPreparer", "PreparedInputs"]

logger = logging.getLogger(__name__)

_RANK_POOLING = 4
"""llama.h, LLAMA_POOLING_TYPE_RANK."""


@dataclass(frozen=True, slots=True)
class PreparedInputs:
    """A request's inputs as tokens."""

    request: EmbeddingRequest | RerankRequest
    inputs: list[list[int]]

    @property
    def prompt_tokens(self) -> int:
        return sum(len(tokens) for tokens in self.inputs)


class EmbeddingPreparer:
    """For one model, in any one thread. `length`: tokens that one input may have; `rank`: whether the model scores
    pairs of query and document instead of making vectors; `template`: the file's own prompt for a pair, with `{query}`
    and `{document}` in it (`tokenizer.chat_template.rerank`, as llama.cpp's converter writes it for Qwen3-Reranker)."""

    def __init__(self, model: str, vocab: Vocab, length: int, *, rank: bool, template: str | None = None) -> None:
        self._model = model
        self._vocab = vocab
        self._length = length
        self._rank = rank
        self._template = template if rank else None
        self._special = NO_SPELLINGS
        if self._template is not None:
            self._special = special_spellings(vocab, special_tokens_in(self._template))

    def prepare(self, request: Request) -> PreparedInputs:
        """Tokenise and check `request`; an input is never cut.

        Raises BadRequest, ContextLengthExceeded for an input that is too long, UnsupportedValue for a request of
        another kind than the model serves.
        """
        match request:
            case EmbeddingRequest() if not self._rank:
                inputs = [self._tokens(item) for item in request.inputs]
            case RerankRequest() if self._rank:
                inputs = [self._pair(request.query, document) for document in request.documents]
            case InferenceRequest():
                raise UnsupportedValue(f"{self._model} makes no text: it serves {self._served()} only", param="model")
            case _:
                raise UnsupportedValue(f"{self._model} serves {self._served()} only", param="model")
        for number, tokens in enumerate(inputs):
            self._check(number, tokens)
        return PreparedInputs(request, inputs)

    def _served(self) -> str:
        return "rerank" if self._rank else "embeddings"

    def _tokens(self, item: str | list[int]) -> list[int]:
        return item if isinstance(item, list) else self._vocab.tokenize(item, special=False, add_special=True)

    def _pair(self, query: str, document: str) -> list[int]:
        """The pair as the file's template says; else [BOS] query [EOS] [SEP] document [EOS] (llama.cpp:
        tools/server/server-common.cpp, format_prompt_rerank)."""
        vocab = self._vocab
        if self._template is not None:
            texts = {"{query}": self._special.broken(query), "{document}": self._special.broken(document)}
            prompt = re.sub(r"\{query\}|\{document\}", lambda found: texts[found[0]], self._template)
            return vocab.tokenize_pieces(*cut_at_breaks(prompt))
        head = [vocab.bos] if vocab.add_bos else []
        tail = [vocab.eos] if vocab.eos is not None else []
        between = [*tail, *([vocab.separator] if vocab.separator is not None else [])]
        body = [*vocab.tokenize(query, special=False), *between, *vocab.tokenize(document, special=False)]
        return [token for token in [*head, *body, *tail] if token is not None]

    def _check(self, number: int, tokens: list[int]) -> None:
        if not tokens:
            raise BadRequest(f"input {number} is empty", param="input")
        if len(tokens) > self._length:
            raise ContextLengthExceeded(
                f"input {number} has {len(tokens)} tokens, but the model's maximum context length is {self._length} "
                "tokens; shorten or split it",
                param="input",
            )
        for token in tokens:
            if not 0 <= token < self._vocab.size:
                raise BadRequest(f"token {token} of input {number} is not in the vocabulary", param="input")


@dataclass(slots=True, eq=False)
class _RequestState:
    """`remaining`: inputs that have no result yet. Times are the engine clock's seconds; 0 = not started."""

    prepared: PreparedInputs
    arrival_s: float
    started_s: float = 0.0
    remaining: int = 0

    @property
    def id(self) -> str:
        return self.prepared.request.id


@dataclass(frozen=True, slots=True)
class _Input:
    """Input number `index` of `request`."""

    request: _RequestState
    index: int
    tokens: list[int]


class EmbeddingEngine:
    """First come, first served; one batch per step. Runs in the worker's loop thread; `clock` is monotonic seconds."""

    def __init__(
        self, model: str, weights: Model, context: Context, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.model = model
        self.ranks = context.pooling == _RANK_POOLING
        self._context = context
        self._width = 1 if self.ranks else weights.embedding_width
        self._clock = clock
        self._queue: deque[_Input] = deque()
        self._requests: dict[str, _RequestState] = {}
        self._outbox = EventOutbox()
        self._submitted = self._prompt_tokens = self._steps = self._canaries = 0
        self._canary_token = weights.vocab.bos or 0

    @property
    def busy(self) -> bool:
        return bool(self._queue or self._outbox)

    def submit(self, prepared: PreparedInputs, arrival_s: float) -> None:
        """Take a request; all its events come out of `step()`."""
        request = _RequestState(prepared, arrival_s, remaining=len(prepared.inputs))
        self._requests[request.id] = request
        self._queue.extend(_Input(request, index, tokens) for index, tokens in enumerate(prepared.inputs))
        self._submitted += 1
        if not prepared.inputs:
            self._start(request)
            self._finish(request)

    def cancel(self, request_id: str) -> None:
        """Drop a request without a terminal event. An unknown id is a late cancel of a request that has ended."""
        self._outbox.drop(request_id)
        if request := self._requests.pop(request_id, None):
            self._dequeue(request)

    def abort_prefill_of(self, request_id: str) -> None:
        """Does nothing: inputs are short, so the running batch is left to end."""

    def step(self) -> list[Emission]:
        """Compute one batch; the events of all requests since the last step. Raises DecodeFailed if it is fatal."""
        self._fail_expired()
        if inputs := self._next_batch():
            for one in inputs:
                self._start(one.request)
            self._compute(inputs)
        return self._outbox.take()

    def _next_batch(self) -> list[_Input]:
        inputs: list[_Input] = []
        tokens = 0
        while self._queue and len(inputs) < self._context.shape.slots:
            tokens += len(self._queue[0].tokens)
            if tokens > self._context.shape.batch:
                break
            inputs.append(self._queue.popleft())
        return inputs

    def _compute(self, inputs: list[_Input]) -> None:
        """A batch that llama.cpp refuses fails its requests; a fatal DecodeFailed is raised."""
        try:
            self._context.decode_inputs([one.tokens for one in inputs])
        except (DecodeFailed, NoCells) as error:
            if isinstance(error, DecodeFailed) and error.fatal:
                raise
            for request in {id(one.request): one.request for one in inputs}.values():
                self._fail(request, InternalError(f"llama.cpp refused the batch: {error}"))
            return
        self._steps += 1
        for number, one in enumerate(inputs):
            try:
                if one.request.id in self._requests:
                    self._add_result(one, number)
            except Exception as error:
                logger.exception("request failed unexpectedly id=%s", one.request.id)
                self._fail(one.request, InternalError(f"{type(error).__name__}: {error}"))

    def _add_result(self, one: _Input, number: int) -> None:
        """Send the result of `one`, which was input `number` of the batch: a score, or a float32 vector of norm 1."""
        pooled = self._context.pooled(number, self._width)
        if self.ranks:
            self._outbox.add(one.request.id, Scored(one.index, float(pooled[0])))
        else:
            norm = float(np.linalg.norm(pooled)) or 1.0
            self._outbox.add(one.request.id, Embedded(one.index, (pooled / norm).astype("<f4").tobytes()))
        one.request.remaining -= 1
        if not one.request.remaining:
            self._finish(one.request)

    def _start(self, request: _RequestState) -> None:
        if not request.started_s:
            request.started_s = self._clock()
            self._prompt_tokens += request.prepared.prompt_tokens
            self._outbox.add(request.id, Started(request.prepared.prompt_tokens))

    def _finish(self, request: _RequestState) -> None:
        now = self._clock()
        timings = Timings(queue_s=request.started_s - request.arrival_s, prefill_s=now - request.started_s)
        self._outbox.add(request.id, Finished(Usage(request.prepared.prompt_tokens), timings))
        del self._requests[request.id]

    def _fail_expired(self) -> None:
        now = self._clock()
        for request in list(self._requests.values()):
            limit = request.prepared.request.deadline_s
            if limit is not None and now >= request.arrival_s + limit:
                self._fail(request, DeadlineExceeded(f"not finished within {limit:g} s"))

    def _fail(self, request: _RequestState, error: CortexError) -> None:
        self._dequeue(request)
        del self._requests[request.id]
        self._outbox.add(request.id, failed(error))

    def _dequeue(self, request: _RequestState) -> None:
        self._queue = deque(one for one in self._queue if one.request is not request)

    def canary(self) -> None:
        """Prove that the model can decode: one token."""
        self._context.decode_inputs([[self._canary_token]])
        self._canaries += 1

    def save_state(self, _directory: Path) -> tuple[int, int]:
        """Nothing: no prefix outlives its batch."""
        return 0, 0

    def restore_state(self, _directory: Path) -> tuple[int, int]:
        return 0, 0

    def stats(self) -> EngineModelStats:
        return EngineModelStats(
            model=self.model,
            kv_cells=self._context.cells,
            running=len(self._requests),
            prompt_tokens=self._prompt_tokens,
            requests=self._submitted,
            steps=self._steps,
            canaries=self._canaries,
            requests_running=[
                RequestStats(id=name, state="prefill", prompt_tokens=request.prepared.prompt_tokens)
                for name, request in self._requests.items()
            ],
        )

    def reset(self, error: CortexError) -> list[Emission]:
        """Fail every request, after an exception that belongs to none."""
        for request in list(self._requests.values()):
            self._fail(request, error)
        return self._outbox.take()

    def check_integrity(self) -> None:
        """Raise AssertionError if inputs of ended requests are left. Called by tests."""
        assert all(one.request.id in self._requests for one in self._queue), "an input of an ended request"

    def close(self) -> list[Emission]:
        """Fail the requests that are left, free the context; the last events. The weights belong to the loader."""
        for request in list(self._requests.values()):
            self._fail(request, Draining(f"{self.model} was unloaded", retry_after=1))
        self._context.close()
        return self._outbox.take()
