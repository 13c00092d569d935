"""Vectors and ranks: whole inputs packed into batches, several requests together."""

from __future__ import annotations

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
from cortex.errors import (
    BadRequest,
    ContextLengthExceeded,
    CortexError,
    DeadlineExceeded,
    Draining,
    InternalError,
    UnsupportedValue,
)
from cortex.wire.events import Embedded, Event, Finished, Scored, Started, Timings, Usage, failed
from cortex.wire.inference import EmbeddingRequest, InferenceRequest, Request, RerankRequest
from cortex.wire.worker import Emission, EngineModelStats, RequestStats

__all__ = ["EmbeddingEngine", "EmbeddingPreparer", "VectorJob"]

_RANK_POOLING = 4


@dataclass(frozen=True, slots=True)
class VectorJob:
    """A request's inputs as tokens."""

    request: EmbeddingRequest | RerankRequest
    inputs: list[list[int]]

    @property
    def prompt_tokens(self) -> int:
        return sum(len(tokens) for tokens in self.inputs)


class EmbeddingPreparer:
    """`length`: tokens that one input may have; `rank`: whether the model scores pairs instead of making vectors;
    `template`: the file's own prompt for a pair, with `{query}` and `{document}` in it
    (`tokenizer.chat_template.rerank`, as llama.cpp's converter writes it for Qwen3-Reranker)."""

    def __init__(self, model: str, vocab: Vocab, length: int, *, rank: bool, template: str | None = None) -> None:
        self._model = model
        self._vocab = vocab
        self._length = length
        self._rank = rank
        self._template = template if rank else None
        self._special = NO_SPELLINGS
        if self._template is not None:
            self._special = special_spellings(vocab, special_tokens_in(self._template))

    def prepare(self, request: Request) -> VectorJob:
        """Raises BadRequest and its kin; an input is never cut."""
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
        return VectorJob(request, inputs)

    def _served(self) -> str:
        return "rerank" if self._rank else "embeddings"

    def _tokens(self, item: str | list[int]) -> list[int]:
        return item if isinstance(item, list) else self._vocab.tokenize(item, special=False, add_special=True)

    def _pair(self, query: str, document: str) -> list[int]:
        """The pair as the file's template says; else [BOS] query [EOS] [SEP] document [EOS], as llama.cpp's rerank
        models are trained (`format_prompt_rerank` in tools/server/server-common.cpp)."""
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
                f"input {number} has {len(tokens)} tokens, but the model takes {self._length}; shorten or split it",
                param="input",
            )
        for token in tokens:
            if not 0 <= token < self._vocab.size:
                raise BadRequest(f"token {token} of input {number} is not in the vocabulary", param="input")


@dataclass(slots=True, eq=False)
class _Active:
    job: VectorJob
    arrival_s: float
    started_s: float = 0.0
    left: int = 0


@dataclass(frozen=True, slots=True)
class _Item:
    owner: _Active
    index: int
    tokens: list[int]


class EmbeddingEngine:
    """First come, first served; one batch per step."""

    def __init__(
        self, model: str, weights: Model, context: Context, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.model = model
        self.ranks = context.pooling == _RANK_POOLING
        self._context = context
        self._width = 1 if self.ranks else weights.embedding_width
        self._clock = clock
        self._queue: deque[_Item] = deque()
        self._active: dict[str, _Active] = {}
        self._spoken: dict[str, list[Event]] = {}
        self._requests = self._prompt_tokens = self._steps = self._canaries = 0
        self._canary_token = weights.vocab.bos or 0

    @property
    def busy(self) -> bool:
        return bool(self._queue or self._spoken)

    def submit(self, job: VectorJob, arrival_s: float) -> None:
        active = _Active(job, arrival_s, left=len(job.inputs))
        self._active[job.request.id] = active
        self._queue.extend(_Item(active, index, tokens) for index, tokens in enumerate(job.inputs))
        self._requests += 1
        if not job.inputs:
            self._begin(active)
            self._finish(active)

    def cancel(self, request_id: str) -> None:
        self._spoken.pop(request_id, None)
        if active := self._active.pop(request_id, None):
            self._forget(active)

    def abort_prefill_of(self, request_id: str) -> None:
        """Inputs are short: the batch that runs may as well end."""

    def step(self) -> list[Emission]:
        self._expire()
        if items := self._next_batch():
            for item in items:
                self._begin(item.owner)
            self._compute(items)
        return self._take_spoken()

    def _take_spoken(self) -> list[Emission]:
        spoken, self._spoken = self._spoken, {}
        return [Emission(request_id, events) for request_id, events in spoken.items()]

    def _compute(self, items: list[_Item]) -> None:
        """A batch that llama.cpp refuses fails its requests; a fatal error leaves this as DecodeFailed."""
        try:
            self._context.decode_inputs([item.tokens for item in items])
        except (DecodeFailed, NoCells) as error:
            if isinstance(error, DecodeFailed) and error.fatal:
                raise
            for owner in {id(item.owner): item.owner for item in items}.values():
                self._fail(owner, InternalError(f"llama.cpp refused the batch: {error}"))
            return
        self._steps += 1
        for number, item in enumerate(items):
            self._deliver(item, number)

    def _next_batch(self) -> list[_Item]:
        items: list[_Item] = []
        tokens = 0
        while self._queue and len(items) < self._context.shape.slots:
            tokens += len(self._queue[0].tokens)
            if tokens > self._context.shape.batch:
                break
            items.append(self._queue.popleft())
        return items

    def _begin(self, active: _Active) -> None:
        if not active.started_s:
            active.started_s = self._clock()
            self._prompt_tokens += active.job.prompt_tokens
            self._say(active, Started(active.job.prompt_tokens))

    def _deliver(self, item: _Item, number: int) -> None:
        pooled = self._context.pooled(number, self._width)
        if self.ranks:
            self._say(item.owner, Scored(item.index, float(pooled[0])))
        else:
            norm = float(np.linalg.norm(pooled)) or 1.0
            self._say(item.owner, Embedded(item.index, (pooled / norm).astype("<f4").tobytes()))
        item.owner.left -= 1
        if not item.owner.left:
            self._finish(item.owner)

    def _finish(self, active: _Active) -> None:
        now = self._clock()
        timings = Timings(queue_s=active.started_s - active.arrival_s, prefill_s=now - active.started_s)
        self._say(active, Finished(Usage(active.job.prompt_tokens), timings))
        del self._active[active.job.request.id]

    def _expire(self) -> None:
        now = self._clock()
        for active in list(self._active.values()):
            limit = active.job.request.deadline_s
            if limit is not None and now >= active.arrival_s + limit:
                self._fail(active, DeadlineExceeded(f"not finished within {limit:g} s"))

    def _fail(self, active: _Active, error: CortexError) -> None:
        self._forget(active)
        del self._active[active.job.request.id]
        self._say(active, failed(error))

    def _forget(self, active: _Active) -> None:
        self._queue = deque(item for item in self._queue if item.owner is not active)

    def _say(self, active: _Active, event: Event) -> None:
        self._spoken.setdefault(active.job.request.id, []).append(event)

    def canary(self) -> None:
        self._context.decode_inputs([[self._canary_token]])
        self._canaries += 1

    def save_state(self, _directory: Path) -> tuple[int, int]:
        """Vectors keep no state."""
        return 0, 0

    def restore_state(self, _directory: Path) -> tuple[int, int]:
        return 0, 0

    def stats(self) -> EngineModelStats:
        return EngineModelStats(
            model=self.model,
            kv_cells=self._context.cells,
            running=len(self._active),
            prompt_tokens=self._prompt_tokens,
            requests=self._requests,
            steps=self._steps,
            canaries=self._canaries,
            requests_running=[
                RequestStats(id=name, state="prefill", prompt_tokens=active.job.prompt_tokens)
                for name, active in self._active.items()
            ],
        )

    def close(self) -> list[Emission]:
        for active in list(self._active.values()):
            self._fail(active, Draining(f"{self.model} was unloaded", retry_after=1))
        self._context.close()
        return self._take_spoken()
