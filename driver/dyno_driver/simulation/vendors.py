"""How each vendor's JSON differs from OpenAI's. Pure."""

from .wire import Envelope, Json, Reply, Usage, Wire, error_kind


class SambaNova(Wire):
    """SambaNova, as Metis: `created` is a float, deltas name their channel, `usage` has the server's timings."""

    def headers(self, reply: Reply) -> tuple[tuple[str, str], ...]:
        return (("x-request-id", reply.envelope.reply_id),)

    def created(self, unix_s: float) -> int | float:
        return unix_s

    def delta(self, text: str | None, *, reasoning: bool) -> Json:
        if text is None:
            return {}
        return {"channel": "analysis" if reasoning else "final", **super().delta(text, reasoning=reasoning)}

    def wrap_chunk(self, envelope: Envelope, choices: list[Json]) -> Json:
        return {**super().wrap_chunk(envelope, choices), "system_fingerprint": "fastcoe"}

    def usage(self, usage: Usage, envelope: Envelope) -> Json:
        rest = usage.output_tokens - 1
        return {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.total_tokens,
            "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
            "prompt_tokens_details": {"cached_tokens": 0},
            "time_to_first_token": usage.ttft_s,
            "total_latency": usage.latency_s,
            "start_time": envelope.created_unix_s,
            "end_time": envelope.created_unix_s + usage.latency_s,
            "completion_tokens_per_sec": _rate(usage.output_tokens, usage.latency_s),
            "completion_tokens_after_first_per_sec": _rate(rest, usage.latency_s - usage.ttft_s),
            "completion_tokens_after_first_per_sec_first_ten": _rate(rest, usage.latency_s - usage.ttft_s),
            "total_tokens_per_sec": _rate(usage.total_tokens, usage.latency_s),
            "acceptance_rate": 1.0,
            "is_last_response": True,
        }

    def error(self, status: int, message: str, request_id: str) -> Json:
        return {**super().error(status, message, request_id), "request_id": request_id}


class Vllm(Wire):
    """vLLM counts reasoning tokens among the others; `usage` comes in a chunk of its own without choices."""

    reasoning_field = "reasoning_content"

    def headers(self, _reply: Reply) -> tuple[tuple[str, str], ...]:
        return ()

    def complete_choice(self, choice: Json) -> Json:
        return {**choice, "stop_reason": None}

    def usage(self, usage: Usage, _envelope: Envelope) -> Json:
        return {
            "prompt_tokens": usage.prompt_tokens,
            "total_tokens": usage.total_tokens,
            "completion_tokens": usage.output_tokens,
            "prompt_tokens_details": None,
        }

    def error(self, status: int, message: str, _request_id: str) -> Json:
        kind = "BadRequestError" if status == 400 else error_kind(status)
        return {"error": {"message": message, "type": kind, "param": None, "code": status}}


class SophiaVllm(Vllm):
    """vLLM behind ALCF's gateway, which adds two fields to a body that isn't streamed."""

    def body(self, reply: Reply) -> Json:
        usage = reply.usage
        return {
            **super().body(reply),
            "response_time": usage.latency_s,
            "throughput_tokens_per_second": _rate(usage.total_tokens, usage.latency_s),
        }


class Cerebras(Wire):
    """Cerebras adds `time_info` to the body and to the last chunk. That chunk always has the usage too."""

    def headers(self, reply: Reply) -> tuple[tuple[str, str], ...]:
        return (
            ("x-request-id", reply.envelope.reply_id),
            ("x-ratelimit-limit-requests-day", "14400"),
            ("x-ratelimit-remaining-requests-day", "14399"),
            ("x-ratelimit-reset-requests-day", "3600.0"),
            ("x-ratelimit-limit-tokens-minute", "1000000"),
            ("x-ratelimit-remaining-tokens-minute", "999000"),
            ("x-ratelimit-reset-tokens-minute", "30.0"),
        )

    def final_chunks(self, reply: Reply, *, include_usage: bool) -> list[Json]:
        del include_usage  # Cerebras always sends it
        last = self.chunk(reply.envelope, finish_reason=reply.finish_reason)
        usage = self.usage(reply.usage, reply.envelope)
        return [{**last, "usage": usage, "time_info": _time_info(reply)}]

    def usage(self, usage: Usage, _envelope: Envelope) -> Json:
        return {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.total_tokens,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        }

    def body(self, reply: Reply) -> Json:
        return {**super().body(reply), "time_info": _time_info(reply)}

    def error(self, status: int, message: str, _request_id: str) -> Json:
        return {"message": message, "type": error_kind(status), "param": None, "code": None}


class LlamaCpp(Wire):
    """llama.cpp's own server adds `timings`, in milliseconds, to the body and to the last chunk."""

    reasoning_field = "reasoning_content"

    def headers(self, _reply: Reply) -> tuple[tuple[str, str], ...]:
        return ()

    def final_chunks(self, reply: Reply, *, include_usage: bool) -> list[Json]:
        chunks = super().final_chunks(reply, include_usage=include_usage)
        chunks[-1]["timings"] = _timings(reply.usage)
        return chunks

    def usage(self, usage: Usage, _envelope: Envelope) -> Json:
        return {
            "completion_tokens": usage.output_tokens,
            "prompt_tokens": usage.prompt_tokens,
            "total_tokens": usage.total_tokens,
        }

    def body(self, reply: Reply) -> Json:
        return {**super().body(reply), "timings": _timings(reply.usage)}

    def error(self, status: int, message: str, _request_id: str) -> Json:
        return {"error": {"code": status, "message": message, "type": error_kind(status)}}


def _time_info(reply: Reply) -> Json:
    """Cerebras' times in seconds. `queue_time` is 0, since the simulator doesn't split the fixed part."""
    usage = reply.usage
    return {
        "queue_time": 0.0,
        "prompt_time": usage.fixed_s,
        "completion_time": usage.decode_s,
        "total_time": usage.latency_s,
        "created": reply.envelope.created_unix_s,
    }


def _timings(usage: Usage) -> Json:
    prompt_ms, predicted_ms = usage.fixed_s * 1000, usage.decode_s * 1000
    return {
        "prompt_n": usage.prompt_tokens,
        "prompt_ms": prompt_ms,
        "prompt_per_token_ms": prompt_ms / max(usage.prompt_tokens, 1),
        "prompt_per_second": _rate(usage.prompt_tokens, usage.fixed_s),
        "predicted_n": usage.output_tokens,
        "predicted_ms": predicted_ms,
        "predicted_per_token_ms": predicted_ms / max(usage.output_tokens, 1),
        "predicted_per_second": _rate(usage.output_tokens, usage.decode_s),
    }


def _rate(tokens: int, seconds: float) -> float:
    """Tokens per second; 0.0 if no time passed, as the servers do."""
    return tokens / seconds if seconds > 0 else 0.0
