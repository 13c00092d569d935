"""What llama.cpp's log says of a planned context."""

from __future__ import annotations

from cortex.engine.tools.memory_plan import read_plan
from cortex.wire.reports import MemoryPlan


def test_a_plan_is_read_from_llama_cpps_log() -> None:
    lines = [
        "load_tensors:        CUDA0 model buffer size =     0.00 MiB",
        "llama_context:  CUDA_Host  output buffer size =    10.00 MiB",
        "llama_kv_cache:      CUDA0 KV buffer size =     0.00 MiB",
        "llama_kv_cache: size =   96.00 MiB ( 32768 cells,   3 layers, 101/1 seqs), K (f16):   48.00 MiB, V (f16): …",
        "llama_memory_recurrent: size =    4.00 MiB (     9 cells,  24 layers,  9 seqs 0 rs_seq), R (f32):    1.00 MiB",
        "sched_reserve:      CUDA0 compute buffer size =   514.50 MiB",
        "sched_reserve:  CUDA_Host compute buffer size =     2.00 MiB",
    ]
    mib = 1024 * 1024
    report = read_plan(lines)
    assert report == MemoryPlan({"CUDA0": 539492352, "CUDA_Host": 2 * mib}, cache=100 * mib, output=10 * mib)
