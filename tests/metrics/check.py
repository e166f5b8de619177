"""Reads metrics with the parser of Prometheus' own client, and fails on what it does not take or what is not there.

    check.py URL...

Names of vLLM are those of its 0.11 behind `vllm:`, here behind `sconce_`; those of DJL Serving are of its 0.36.
"""
import sys
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

# Of vLLM, as families and their types.
VLLM = {
    "num_requests_running": "gauge",
    "num_requests_waiting": "gauge",
    "prefix_cache_queries": "counter",
    "prefix_cache_hits": "counter",
    "num_preemptions": "counter",
    "prompt_tokens": "counter",
    "generation_tokens": "counter",
    "iteration_tokens_total": "histogram",
    "time_to_first_token_seconds": "histogram",
    "inter_token_latency_seconds": "histogram",
    "e2e_request_latency_seconds": "histogram",
    "request_queue_time_seconds": "histogram",
    "request_prefill_time_seconds": "histogram",
    "request_decode_time_seconds": "histogram",
    "request_prompt_tokens": "histogram",
    "request_generation_tokens": "histogram",
}
OWN = {
    "step_batch_size": "histogram",
    "kv_cache_usage_ratio": "gauge",
    "saturation": "gauge",
    "requests": "counter",
}
DJL = {
    "DJLServingStart": "counter",
    "Response_2XX": "counter",
    "Response_4XX": "counter",
    "Response_5XX": "counter",
    "ServerError": "counter",
    "WlmError": "counter",
    "QueueTime": "histogram",
    "RequestLatency": "histogram",
    "LoadModel": "gauge",
}


def families_of(url):
    with urllib.request.urlopen(url) as answer:
        kind = answer.headers["content-type"]
        assert kind.startswith("text/plain; version=0.0.4"), kind
        text = answer.read().decode()
    families = {}
    for family in text_string_to_metric_families(text):
        assert family.name not in families, f"{family.name} is there twice"
        assert family.type != "unknown" and family.documentation, f"{family.name} has no type or no help"
        families[family.name] = family
    return families


def check_histogram(family):
    """Counts grow with the limits, and the last is that of all."""
    series = {}
    for sample in family.samples:
        labels = dict(sample.labels)
        limit = labels.pop("le", None)
        one = series.setdefault(tuple(sorted(labels.items())), {"buckets": []})
        kind = sample.name.removeprefix(family.name)
        if kind == "_bucket":
            one["buckets"].append((float(limit), sample.value))
        else:
            one[kind] = sample.value
    assert series, family.name
    for labels, one in series.items():
        limits, counts = zip(*one["buckets"])
        assert list(limits) == sorted(set(limits)) and limits[-1] == float("inf"), (family.name, labels, limits)
        assert list(counts) == sorted(counts) and counts[-1] == one["_count"], (family.name, labels, counts)
        assert one["_sum"] >= 0, (family.name, labels)


def main(urls):
    for url in urls:
        families = families_of(url)
        wanted = {f"sconce_{name}": kind for name, kind in (VLLM | OWN).items()} | DJL
        for name, kind in wanted.items():
            assert name in families, f"{url} lacks {name}"
            assert families[name].type == kind, (name, families[name].type)
        for family in families.values():
            if family.type == "histogram":
                check_histogram(family)
        samples = sum(len(family.samples) for family in families.values())
        print(f"{url}: {len(families)} families, {samples} samples")


if __name__ == "__main__":
    main(sys.argv[1:])
