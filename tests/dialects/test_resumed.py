"""An answer that was moved to another neuron says so in its usage, in every dialect; the others are as they were."""

from __future__ import annotations

import pytest

from cortex.wire.events import ChoiceFinished, Finished, Started, TextDelta, Usage
from tests.dialects.adapters import DIALECTS
from tests.dialects.harness import Dialect, collect, stream
from tests.dialects.scripts import Script


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
@pytest.mark.parametrize("resumed", [0, 2])
def test_usage_tells_that_the_answer_was_begun_elsewhere(dialect: Dialect, resumed: int) -> None:
    end = Finished(Usage(5, 0, 3, resumed=resumed), resumed=resumed)
    script = Script("moved", ((Started(5), TextDelta("hi"), ChoiceFinished("stop"), end),))
    for answer in (stream(dialect, script), collect(dialect, script)):
        assert (b'"resumed":2' in answer) is bool(resumed)
