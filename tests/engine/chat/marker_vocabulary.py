"""A small tokenizer for chat tests: markers are single tokens, everything else is bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["END_MARKERS", "CoarseVocabulary", "MarkerVocabulary", "markers_in"]

_MARKER = re.compile(r"<[^<>\s{}'\"=]{1,64}>|\[/?[A-Z_]{3,32}\]|◁[^▷\s]{1,32}▷|\][<~e][^\]\[]{1,16}\[>?\[?")


# Tokens that end generation in the GGUFs of the templates that write them.
END_MARKERS = (
    "</s>", "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|endoftext|>", "<|eot|>", "<|call|>",
    "<|return|>", "<|calls|>", "<|END_OF_TURN_TOKEN|>", "<|end_of_msg|>", "<｜end▁of▁sentence｜>",
    "<｜hy_eos:opensource｜>", "<SPECIAL_12>", "<|tool_response>", "<turn|>", "<end_of_turn>", "<seed:eos>", "[e~[",
)  # fmt: skip


def markers_in(source: str) -> list[str]:
    """What looks like a special token in a chat template."""
    return sorted(set(_MARKER.findall(source)))


class MarkerVocabulary:
    """Implements `Vocabulary`: ids below 256 are bytes, then come the markers; `ends` end generation."""

    def __init__(
        self, markers: Iterable[str] = (), *, ends: Iterable[str] = END_MARKERS, control: Iterable[str] = ()
    ) -> None:
        self._texts = ["<s>", "</s>", *dict.fromkeys([*markers, *ends])]
        self._ids = {text: 256 + number for number, text in enumerate(self._texts)}
        self._ends = {self._ids[text] for text in ends}
        self._control = {self._ids[text] for text in ("<s>", "</s>", *control)}
        self._pattern = re.compile("|".join(re.escape(text) for text in sorted(self._texts, key=len, reverse=True)))

    @property
    def size(self) -> int:
        return 256 + len(self._texts)

    @property
    def bos(self) -> int | None:
        return self._ids["<s>"]

    @property
    def eos(self) -> int | None:
        return self._ids["</s>"]

    def tokenize(self, text: str, *, special: bool = True, add_special: bool = False) -> list[int]:
        tokens = [self._ids["<s>"]] if add_special else []
        position = 0
        for found in self._pattern.finditer(text) if special else ():
            tokens += text[position : found.start()].encode()
            tokens.append(self._ids[found[0]])
            position = found.end()
        return [*tokens, *text[position:].encode()]

    def piece(self, token: int) -> bytes:
        return bytes([token]) if token < 256 else self._texts[token - 256].encode()

    def is_control(self, token: int) -> bool:
        return token in self._control

    def is_end(self, token: int) -> bool:
        return token in self._ends


class CoarseVocabulary(MarkerVocabulary):
    """The other extreme: everything between two markers is one long token (and one for its first byte)."""

    def __init__(self, markers: Iterable[str] = (), *, ends: Iterable[str] = END_MARKERS) -> None:
        super().__init__(markers, ends=ends)
        self._ids_of_runs: dict[bytes, int] = {}

    def tokenize(self, text: str, *, special: bool = True, add_special: bool = False) -> list[int]:
        fine = super().tokenize(text, special=special, add_special=add_special)
        coarse: list[int] = []
        run = b""
        for token in fine:
            if token < 256:
                run += bytes([token])
                continue
            coarse += [*self._run(run), token]
            run = b""
        return coarse + self._run(run)

    def _run(self, run: bytes) -> list[int]:
        """Two tokens, so that nothing but a marker is a single one."""
        if len(run) < 2:
            return [*run]
        self._ids_of_runs.setdefault(run[1:], len(self._ids_of_runs))
        return [run[0], super().size + self._ids_of_runs[run[1:]]]

    def piece(self, token: int) -> bytes:
        known = super().size
        return list(self._ids_of_runs)[token - known] if token >= known else super().piece(token)
