"""Which public bug of which client or server is answered by which test.

Every line is a promise: the bug's public reports, and the test (`file::function`, under tests/) that would fail if
cortex had it.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
ANTHROPIC = "dialects/test_interop_anthropic.py"
ANTHROPIC_PARSE = "dialects/anthropic/test_messages.py"
RESPONSES = "dialects/test_interop_responses.py"
RESPONSES_PARSE = "dialects/openai/responses/test_request.py"
RESPONSES_ITEMS = "dialects/openai/responses/test_conversation.py"
RESPONSES_TOOLS = "dialects/openai/responses/test_tools.py"
CHAT = "dialects/test_interop_chat.py"
SPLITTER = "engine/chat/splitting/test_splitter.py"
NORMALISE = "engine/chat/templates/test_history.py"
KEEPALIVE = "serving/exchange/test_keepalive.py"
SERVING_ERRORS = "serving/http/test_errors.py"

PROMISES: list[tuple[str, str]] = [
    # Anthropic messages
    ("ollama#17101", f"{ANTHROPIC}::test_every_change_of_channel_opens_a_block_of_its_own_index"),
    ("litellm#32357 litellm#33224", f"{ANTHROPIC}::test_the_first_block_is_of_the_kind_of_the_first_delta"),
    ("litellm#32357 litellm#26853", f"{ANTHROPIC}::test_there_is_exactly_one_message_start"),
    ("litellm#25212", f"{ANTHROPIC}::test_the_delta_that_switches_blocks_is_not_lost"),
    ("codebuddy2api#11 ik_llama.cpp#1524", f"{ANTHROPIC}::test_text_is_closed_before_a_tool_is_opened"),
    ("claude-code#40260 CLIProxyAPI#1700", f"{ANTHROPIC}::test_usage_is_told_at_the_start_and_at_the_end"),
    ("gt_ai_gateway#14 free-claude-code#43", f"{ANTHROPIC}::test_no_done_marker_ends_a_stream"),
    (
        "claude-code#77698 claude-code#63469",
        f"{ANTHROPIC_PARSE}::test_a_system_message_in_the_middle_stays_where_it_is",
    ),
    ("Rapid-MLX#975 CLIProxyAPI#3625", f"{NORMALISE}::test_a_late_system_message_stays_in_its_place_as_a_reminder"),
    ("llama.cpp#21793 vllm#36829", f"{ANTHROPIC_PARSE}::test_the_changing_word_of_the_billing_header_is_fixed"),
    ("claude-code#21612 claude-code#11678 9router#1468", f"{ANTHROPIC_PARSE}::test_fields_we_do_not_know_are_ignored"),
    (
        "litellm#13252 ai-gateway#1360 CLIProxyAPI#679",
        f"{ANTHROPIC_PARSE}::test_counting_asks_for_the_very_prompt_that_would_be_answered",
    ),
    ("ollama#15727", f"{ANTHROPIC_PARSE}::test_images_are_kept_in_messages_and_in_tool_results"),
    ("9router#2780", f"{ANTHROPIC}::test_an_answer_that_is_not_streamed_has_anthropics_shape"),
    ("9router#2780", f"{ANTHROPIC}::test_an_error_body_has_anthropics_shape_and_says_what_claude_code_looks_for"),
    ("9router#2780", f"{SERVING_ERRORS}::test_errors_on_anthropic_routes_wear_anthropics_envelope"),
    ("litellm#26554 opencode#24087", f"{ANTHROPIC}::test_a_block_is_never_empty"),
    ("litellm#26554", f"{ANTHROPIC_PARSE}::test_blank_text_and_unknown_blocks_are_dropped"),
    (
        "zed: ResponseContent::ToolUse",
        f"{ANTHROPIC}::test_a_tool_starts_with_an_empty_input_and_gets_braces_even_without_arguments",
    ),
    ("llama.cpp: blocks closed late", f"{ANTHROPIC}::test_blocks_are_closed_in_sequence_not_all_at_the_end"),
    ("llama.cpp: stop_sequence lost", f"{ANTHROPIC}::test_the_stop_sequence_is_reported"),
    ("llama.cpp: message_start late", f"{ANTHROPIC}::test_message_start_does_not_wait_for_a_token"),
    ("llama.cpp: bare error object", f"{ANTHROPIC}::test_an_error_in_mid_stream_wears_its_envelope"),
    # Counts, in every dialect
    ("zed#63137 zed#63314 agentgateway#3597", f"{RESPONSES}::test_no_count_is_ever_null_and_no_usage_is_empty"),
    ("zed#63137", f"{ANTHROPIC}::test_no_count_is_ever_null"),
    ("zed#42893", f"{CHAT}::test_no_count_is_ever_null_and_no_usage_is_empty"),
    ("opencode#39061", f"{CHAT}::test_every_chunk_has_its_identity_the_usage_chunk_too"),
    # Chat completions
    ("ollama#15457 vercel/ai#14277 hermes-agent#3468", f"{CHAT}::test_parallel_calls_have_indexes_of_their_own"),
    ("plexus#691 litellm#37792", f"{CHAT}::test_name_and_id_of_a_call_are_told_once"),
    ("mlx-vlm#990 vllm#9209 litellm#12862", f"{CHAT}::test_the_finish_reason_says_when_calls_are_to_be_run"),
    ("zed#54804", f"{CHAT}::test_a_completion_has_an_id_streamed_and_not"),
    ("rig#1656", f"{CHAT}::test_an_answer_of_thought_alone_still_has_a_message"),
    # Responses
    ("llama.cpp#24115 llama.cpp#27751", f"{RESPONSES_ITEMS}::test_reasoning_comes_back_by_what_is_left_of_it"),
    ("llama.cpp#24115", f"{RESPONSES_ITEMS}::test_reasoning_with_nothing_left_is_no_thought"),
    ("claude-code-router#1783", f"{RESPONSES}::test_reasoning_is_told_as_a_summary_and_never_as_content"),
    ("llama.cpp#20156 llama.cpp#22389", f"{RESPONSES_TOOLS}::test_hosted_tools_are_skipped"),
    ("codex#36942 omlx#3371 ollama#17618", f"{RESPONSES_TOOLS}::test_namespaces_are_flattened"),
    ("codex#36942", f"{RESPONSES}::test_a_namespaced_call_leaves_split_in_two_again"),
    ("opencodex#3204", f"{RESPONSES_PARSE}::test_fields_we_do_not_know_are_ignored"),
    (
        "ds4#745 copilot-api#242 9router#1371",
        f"{RESPONSES}::test_a_free_form_call_is_a_custom_tool_call_with_its_raw_text",
    ),
    ("llama.cpp#23465", f"{RESPONSES_ITEMS}::test_an_output_may_be_a_list_with_images"),
    ("codex#41340 CLIProxyAPI#1407", f"{RESPONSES}::test_a_stream_ends_in_one_final_response"),
    ("codex#38831", f"{RESPONSES}::test_a_cut_answer_is_incomplete_and_says_why"),
    ("codex#36180", f"{RESPONSES_PARSE}::test_nothing_said_of_the_length_means_the_rest_of_the_context"),
    ("codex#41095", f"{RESPONSES_PARSE}::test_a_missing_model_is_the_default_one"),
    ("zed#63825", f"{RESPONSES}::test_an_error_in_mid_stream_is_a_typed_failed_response"),
    ("codex#22205 codex#35758", "dialects/openai/test_models.py::test_codex_finds_its_models_key"),
    # Silence
    (
        "llama.cpp#23994 llama.cpp#25241 ds4#222",
        f"{KEEPALIVE}::test_a_long_prefill_is_bridged_in_each_dialects_own_way",
    ),
    ("codex: idle timer", f"{RESPONSES}::test_silence_is_filled_with_a_real_event_that_changes_nothing"),
    ("mlx-lm#362", f"{CHAT}::test_silence_is_filled_with_comments_that_no_parser_sees"),
    ("tale#3396", f"{KEEPALIVE}::test_headers_are_sent_when_the_first_event_is_late"),
    ("tale#3396", "serving/exchange/test_disconnect.py::test_a_closed_connection_cancels_the_request"),
    # Markup in the output
    ("imp#509", f"{SPLITTER}::test_reasoning_that_is_never_closed_is_all_reasoning"),
    ("vllm#39055 vllm#46042", f"{SPLITTER}::test_a_tool_call_in_open_reasoning_closes_it"),
    ("llama.cpp#27661 lmstudio-bug-tracker#1592", f"{SPLITTER}::test_only_the_first_close_counts"),
    ("lmstudio-bug-tracker#1592", f"{SPLITTER}::test_a_mention_in_the_answer_does_not_open_reasoning"),
    ("omlx#3048", f"{SPLITTER}::test_a_mention_of_a_tool_marker_leaves_reasoning_open"),
    (
        "vllm#38864",
        "engine/request/test_output.py::test_a_stop_string_that_is_watched_for_lets_no_marker_through",
    ),
    ("vllm#39697", f"{SPLITTER}::test_the_tokens_that_end_reasoning_by_force_end_it"),
    ("rig#1656", f"{SPLITTER}::test_reasoning_alone_leaves_no_empty_text_segment"),
]


@pytest.mark.parametrize(("reports", "promise"), PROMISES)
def test_every_promise_is_kept_by_a_test(reports: str, promise: str) -> None:
    file, _, function = promise.partition("::")
    assert re.search(rf"def {function}\(", (TESTS / file).read_text()), f"{reports}: {promise} is gone"
