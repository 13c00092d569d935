"""llama.cpp's sampler chain for one sequence: sampling runs in C, one call per token."""

from __future__ import annotations

import ctypes

import numpy as np
from llama_cpp import llama_cpp as c

from cortex.engine.kv.tokens import Int32Array
from cortex.engine.llama.model import Vocab
from cortex.wire.inference import Sampling

__all__ = ["Sampler"]

_MIROSTAT_M = 100
"""Candidates that mirostat 1 estimates from: llama.cpp's own value (common/sampling.cpp)."""
_MOST_HISTORY = 8192
"""Tokens that penalties look back at most: -1 means the whole context to llama.cpp, which allocates an array for it."""


class Sampler:
    """Draws tokens and keeps the history for penalties; every field of `sampling` is set (`params.resolve`).

    The order is llama.cpp's (common/sampling.cpp, common_sampler_init): bias, penalties, DRY, top-n-sigma, top-k,
    typical, top-p, min-p, XTC, temperature, draw. Samplers that do nothing aren't added: each would cost a pass over
    the candidates.

    llama.cpp makes a chain part of its graphs once, ends the process at the second attempt, and from then on `sample`
    skips what the graph should have done. So a chain that was lent is never used again: a copy replaces it.
    """

    def __init__(self, sampling: Sampling, seed: int, vocab: Vocab) -> None:
        params = c.llama_sampler_chain_default_params()
        params.no_perf = True
        self._vocab = vocab
        self._chain = c.llama_sampler_chain_init(params)
        self._draws = False
        self._lent = self._closed = False
        self.greedy = (sampling.temperature or 0.0) <= 0.0
        self.history = _history_length(sampling)
        self._add_bias(sampling)
        self._add_penalties(sampling)
        if self.greedy:
            self._add(c.llama_sampler_init_greedy())
        elif sampling.mirostat:
            self._add_mirostat(sampling, seed)
        else:
            self._add_filters(sampling, seed)
            self._add(c.llama_sampler_init_dist(seed))
            self._draws = True

    def sample(self, context: int, row: int) -> int:
        """Draw from logits row `row` of `context`'s last decode, and add the token to the history."""
        return int(c.llama_sampler_sample(self._chain, context, row))

    def accept(self, token: int) -> None:
        """Add a token to the history that was not drawn."""
        c.llama_sampler_accept(self._chain, token)

    def replay(self, token: int) -> None:
        """Add a token that was drawn in another process, and use up the random number that it took there.

        The next draw is then the one that would have followed there. A draw from one candidate takes one number, too.
        """
        c.llama_sampler_accept(self._chain, token)
        if self._draws:
            only = c.llama_token_data(token, 0.0, 0.0)
            candidates = c.llama_token_data_array(ctypes.pointer(only), 1, -1, False)
            c.llama_sampler_apply(self._member(-1), ctypes.byref(candidates))

    def accept_prompt(self, tokens: Int32Array) -> None:
        """Add the end of the prompt to the history: penalties count it."""
        if self.history:
            for token in tokens[-self.history :].tolist():
                c.llama_sampler_accept(self._chain, token)

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the chain's samplers. Once lent, + before a name means on the device, ? that it does nothing."""
        count = c.llama_sampler_chain_n(self._chain)
        return tuple(c.llama_sampler_name(self._member(number)).decode() for number in range(count))

    def lend(self) -> int:
        """The chain, for a context that samples on its device; `sample` then returns what the device drew.

        The chain stays allocated until `take_back`, even if this sampler is closed before.
        """
        assert not self._lent
        self._lent = True
        chain: int = self._chain
        return chain

    def take_back(self) -> None:
        """No context has the chain any more: continue with a copy, history and random numbers included."""
        assert self._lent
        self._lent = False
        lent, self._chain = self._chain, None if self._closed else c.llama_sampler_clone(self._chain)
        c.llama_sampler_free(lent)

    def close(self) -> None:
        """Free the chain, or let `take_back` free it if it is lent."""
        self._closed = True
        if self._chain and not self._lent:
            c.llama_sampler_free(self._chain)
            self._chain = None

    def _member(self, number: int) -> int:
        """A handle of one sampler of the chain; -1 = the last."""
        if number < 0:
            number += c.llama_sampler_chain_n(self._chain)
        sampler: int = c.llama_sampler_chain_get(self._chain, number)
        return sampler

    def _add(self, sampler: int) -> None:
        c.llama_sampler_chain_add(self._chain, sampler)

    def _add_bias(self, s: Sampling) -> None:
        bias = {token: value for token, value in (s.logit_bias or {}).items() if 0 <= token < self._vocab.size}
        if s.ignore_eos:
            bias.update(dict.fromkeys(self._vocab.ends, -np.inf))
        if bias:
            array = (c.llama_logit_bias * len(bias))(*(c.llama_logit_bias(*item) for item in bias.items()))
            self._add(c.llama_sampler_init_logit_bias(self._vocab.size, len(bias), array))

    def _add_penalties(self, s: Sampling) -> None:
        if s.repeat_last_n and (s.repeat_penalty != 1.0 or s.frequency_penalty or s.presence_penalty):
            self._add(
                c.llama_sampler_init_penalties(
                    self._vocab.size, self.history, s.repeat_penalty, s.frequency_penalty, s.presence_penalty
                )
            )
        if s.dry_multiplier and s.dry_penalty_last_n:
            breakers = [text.encode() for text in s.dry_sequence_breakers or []]
            array = (ctypes.c_char_p * len(breakers))(*breakers)
            self._add(
                c.llama_sampler_init_dry(
                    self._vocab.handle,
                    s.dry_multiplier,
                    s.dry_base,
                    s.dry_allowed_length,
                    self.history,
                    array,
                    len(breakers),
                )
            )

    def _add_filters(self, s: Sampling, seed: int) -> None:
        if s.top_n_sigma is not None and s.top_n_sigma > 0:
            self._add(c.llama_sampler_init_top_n_sigma(s.top_n_sigma))
        if s.top_k is not None and s.top_k > 0:
            self._add(c.llama_sampler_init_top_k(s.top_k))
        if s.typical_p is not None and s.typical_p < 1.0:
            self._add(c.llama_sampler_init_typical(s.typical_p, 0))
        if s.top_p is not None and s.top_p < 1.0:
            self._add(c.llama_sampler_init_top_p(s.top_p, 0))
        if s.min_p is not None and s.min_p > 0.0:
            self._add(c.llama_sampler_init_min_p(s.min_p, 0))
        if s.xtc_probability:
            self._add(c.llama_sampler_init_xtc(s.xtc_probability, s.xtc_threshold, 0, seed))
        self._add(c.llama_sampler_init_temp_ext(s.temperature, s.dynatemp_range, s.dynatemp_exponent))

    def _add_mirostat(self, s: Sampling, seed: int) -> None:
        self._add(c.llama_sampler_init_temp(s.temperature))
        if s.mirostat == 1:
            self._add(
                c.llama_sampler_init_mirostat(self._vocab.size, seed, s.mirostat_tau, s.mirostat_eta, _MIROSTAT_M)
            )
        else:
            self._add(c.llama_sampler_init_mirostat_v2(seed, s.mirostat_tau, s.mirostat_eta))


def _history_length(s: Sampling) -> int:
    """Tokens that penalties look back."""
    lengths = [0]
    if s.repeat_penalty != 1.0 or s.frequency_penalty or s.presence_penalty:
        lengths.append(_bounded(s.repeat_last_n))
    if s.dry_multiplier:
        lengths.append(_bounded(s.dry_penalty_last_n))
    return max(lengths)


def _bounded(length: int | None) -> int:
    return _MOST_HISTORY if length is None or length < 0 else min(length, _MOST_HISTORY)
