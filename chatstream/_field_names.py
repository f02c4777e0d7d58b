"""The names of request fields that servers know, and the names of options, each with the place where it belongs.

Both are what people write as ``stream(…, name=value)``. The second table has what is an option in another library.
"""

from __future__ import annotations

import re
from functools import lru_cache

# OpenAI's reference of Chat Completions, then what other servers add to it, each name once.
_FIELDS = """
audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens metadata
modalities model moderation n parallel_tool_calls prediction presence_penalty prompt_cache_key
prompt_cache_retention reasoning_effort response_format safety_identifier seed service_tier stop store stream
stream_options temperature tool_choice tools top_logprobs top_p user verbosity web_search_options

add_generation_prompt add_special_tokens allowed_token_ids bad_words best_of cache_salt chat_template
chat_template_kwargs continue_final_message documents echo guided_choice guided_decoding_backend guided_grammar
guided_json guided_regex guided_whitespace_pattern ignore_eos include_reasoning include_stop_str_in_output
kv_transfer_params length_penalty logits_processors min_p min_tokens mm_processor_kwargs priority prompt_logprobs
repetition_penalty request_id return_token_ids return_tokens_as_token_ids skip_special_tokens
spaces_between_special_tokens stop_token_ids structural_tag structured_outputs thinking_token_budget top_k
truncate_prompt_tokens use_beam_search vllm_xargs

cache_prompt dry_allowed_length dry_base dry_multiplier dry_penalty_last_n dry_sequence_breakers
dynatemp_exponent dynatemp_range grammar id_slot json_schema lora min_keep mirostat mirostat_eta mirostat_lr
mirostat_target mirostat_tau n_discard n_indent n_keep n_predict n_probs parse_tool_calls post_sampling_probs
reasoning_budget reasoning_format repeat_last_n repeat_penalty return_progress return_tokens samplers
t_max_predict_ms thinking_forced_open timings_per_token top_n_sigma typical_p xtc_probability xtc_threshold

format keep_alive num_ctx options think ttl

models plugins provider reasoning route session_id top_a trace transforms usage

cached_content citation_options clear_thinking compound_custom context_length_exceeded_behavior data_sources
deferred disable_reasoning disable_search disable_tool_validation do_sample enable_search enable_thinking
enhancements extra_content media_response nvext perf_metrics_in_response prefix prompt_mode prompt_truncate_len
random_seed raw_output return_images return_related_questions safe_prompt safety_model search_after_date_filter
search_before_date_filter search_domain_filter search_mode search_parameters search_recency_filter
search_settings speculation tags thinking thinking_budget tool_stream translation_options
"""
KNOWN = frozenset(_FIELDS.split())
ALWAYS_STREAMED = "answers are always streamed: leave out stream, and use .collect() for the complete answer"

# What is not a request field: options of this library, openai-python, requests, httpx, LiteLLM, by where they belong.
_PLACES = {
    'create a client for your server, Client(base_url="https://…/v1", api_key="…")': (
        "base_url api_base azure_endpoint endpoint host openai_api_base url websocket_base_url"
    ),
    'pass the key to a client, Client(api_key="…"), or put it into the environment variable of its provider': (
        "api_key admin_api_key api_token azure_ad_async_token_provider azure_ad_token azure_ad_token_provider bearer "
        "bearer_token credentials key openai_api_key password secret token workload_identity"
    ),
    "deadline=… limits the whole call, stream_idle_timeout=… the time between two events (both in seconds)": (
        "timeout idle_timeout read_timeout request_timeout stream_chunk_timeout stream_timeout time_limit timeouts "
        "total_timeout"
    ),
    "retries are settings of the provider, Client(Provider(…, request_max_retries=…, stream_max_retries=…))": (
        "backoff backoff_factor max_retries max_retry_delay num_retries retries retry retry_count retry_delay "
        "retry_policy retry_strategy"
    ),
    "headers of one call are extra_headers={…}, those of all calls Provider(…, http_headers={…})": (
        "headers custom_headers default_headers http_headers set_default_headers user_agent"
    ),
    'it is a header, Provider(…, http_headers={"OpenAI-Organization": …, "OpenAI-Project": …})': (
        "organization openai_organization organization_id project"
    ),
    "parameters of the URL belong to the provider, Provider(…, query_params={…})": (
        "extra_query api_version default_query openai_api_version params set_default_query"
    ),
    "proxies, certificates and the like belong to a requests.Session, Client(session=…)": (
        "http_client allow_redirects auth ca_bundle cert cookies event_hooks follow_redirects hooks http1 http2 "
        "http_async_client http_proxy http_socket_options https_proxy local_address max_redirects mounts openai_proxy "
        "proxies proxy shared_session socket_options ssl_context ssl_verify transport trust_env uds verify verify_ssl"
    ),
    "fields are keyword arguments of the call, and others are sent with extra_body={…}": (
        "data _extra_kwargs json model_kwargs"
    ),
    "it is the client whose method stream is called, client.stream(…)": "client async_client root_client",
    "a rate limit belongs to the client, Client(limiter=Limiter(…))": "rate_limit rate_limiter rpm tpm",
    "the schema of an answer is response_format=…": (
        "output_schema output_type response_model response_schema text_format"
    ),
    "instructions are part of the prompt, Prompt(instructions, input)": (
        "instructions system system_instruction system_message system_prompt"
    ),
    'the conversation is the prompt, stream([Message("user", "…"), …]) or stream(messages=[…])': (
        "chat_history conversation history input memory message query question"
    ),
    'images and files are parts of a message, Message("user", ["What is this?", InputImage(url)])': (
        "attachments file files image image_url image_urls images"
    ),
    "the name of the model is model=…": (
        "azure_deployment deployment deployment_id deployment_name engine model_id model_name"
    ),
    "there are no callbacks, so loop over the stream: for event in client.stream(…)": (
        "callback callbacks event_handler on_chunk on_complete on_done on_end on_error on_event on_finish on_text "
        "on_token stream_callback"
    ),
    "it belongs to chatstream.map_prompts(client, prompts, concurrency=…, executor=…, out=…)": (
        "concurrency executor max_concurrency max_workers n_jobs num_workers ordered out progress prompts "
        "resume workers"
    ),
    "chatstream.fallback([client, …]) tries several clients in order": "fallback fallbacks",
    "answers are always streamed: leave it out, and use .collect() for the complete answer": "streaming",
    'it is an argument of Client("groq") or of chatstream.stream(…, provider="groq")': (
        "provider api_type custom_llm_provider"
    ),
    "chatstream has no such option, so leave it out": (
        "_enforce_credentials _strict_response_validation data_residency default_encoding webhook_secret"
    ),
    "log lines go to the logger named chatstream": "debug logger verbose",
}
PLACE_OF = {name: place for place, names in _PLACES.items() for name in names.split()}

# How other names of a key or of an address end, as in groq_api_key or OLLAMA_BASE_URL: sent to the wrong server, a key
# is no secret any more, and neither is a prompt that was meant for the server at that address.
_ENDINGS = re.compile(
    "(?P<api_key>(api|access|secret|private)key|(access|api|auth|hf|id|refresh|session)token|secret|password|passwd|"
    "authorization)$|(?P<base_url>(base|api|server)url|apibase|(api|azure)endpoint)$"
)


def option_by_ending(name: str) -> str | None:
    """``api_key`` or ``base_url``, if a name ends as the other names of a key or of an address do."""
    found = _ENDINGS.search(letters_of(name))
    return found and found.lastgroup


@lru_cache(512)
def typo_of(name: str, known: frozenset[str], shortest: int = 4) -> str | None:
    """The known name, of at least so many letters, that ``name`` is one typo away from; None if it is itself known.

    A typo is a letter too many, missing or wrong, two letters swapped, or words joined in another way.
    """
    if name in known:
        return None
    near = [each for each in sorted(known) if len(each) >= shortest and _is_typo(letters_of(name), letters_of(each))]
    return min(near, key=lambda each: letters_of(each) != letters_of(name), default=None)


def letters_of(name: str) -> str:
    """The letters of a name: ``api_key``, ``apiKey`` and ``API-Key`` are one."""
    return name.lower().replace("_", "").replace("-", "")


def _is_typo(one: str, other: str) -> bool:
    shorter = min(len(one), len(other))
    same = next((at for at in range(shorter) if one[at] != other[at]), shorter)
    one, other = one[same:], other[same:]
    swapped = one[1::-1] + one[2:] == other
    too_many = same > 0 and one[1:] == other  # "context" is no typo of "on_text"
    return swapped or too_many or one[1:] == other[1:] or one == other[1:]
