"""Handlers that use every way of reading an Input and of writing an Output."""

import datetime

from djl_python import Input, Output


def handle(inputs: Input):
    if inputs.is_empty():
        return None
    outputs = Output()
    kind = inputs.get_property("content-type")
    if kind:
        outputs.add_property("content-type", kind)
    if inputs.is_batch():
        for i, item in enumerate(inputs.get_batches()):
            outputs.add(item.get_as_bytes(), key="data", batch_index=i)
    else:
        outputs.add(inputs.get_as_bytes(), key="data")
    return outputs


def batch_properties(inputs: Input):
    outputs = Output()
    for i, item in enumerate(inputs.get_batches()):
        outputs.add({
            "size": inputs.get_batch_size(),
            "names": sorted(item.get_properties()),
            "keys": item.get_content().get_keys(),
        }, batch_index=i)
    return outputs


def seen(inputs: Input):
    names = [n for n in inputs.get_properties() if n not in ("model_dir", "input_formatter")]
    return Output().add({
        "properties": {n: str(inputs.get_property(n.upper())) for n in sorted(names)},
        "keys": inputs.get_content().get_keys(),
        "function": inputs.get_function_name(),
        "batch": [inputs.is_batch(), inputs.get_batch_size()],
        "has": [inputs.contains_key("data"), inputs.contains_key("nothing")],
    })


def values(inputs: Input):
    return Output().add({
        "bytes": len(inputs.get_as_bytes("a")),
        "text": inputs.get_as_string("text"),
        "json": inputs.get_as_json("json"),
        "csv": inputs.get_as_csv("csv"),
        "first": inputs.get_as_string(),
    })


def data(inputs: Input):
    return Output().add_as_json(inputs.get_data())


def missing(inputs: Input):
    return Output().add(inputs.get_as_bytes("not there"))


def fails(inputs: Input):
    raise ValueError("cannot do \"this\": äöü €")


def short_of_memory(inputs: Input):
    raise MemoryError("16 GiB")


def short_of_gpu_memory(inputs: Input):
    raise RuntimeError("CUDA error: out of memory")


def no_output(inputs: Input):
    return None


def wrong_type(inputs: Input):
    return {"a": 1}


def own_error(inputs: Input):
    return Output().error("not today", code=418, message="teapot")


def coded(inputs: Input):
    return Output(code=202, message="Accepted").set_message("later").add_property("x-n", 7)


def kinds(inputs: Input):
    outputs = Output().add("text ü", key="t").add(b"\x00\xff", key="b").add(bytearray(b"ba"))
    outputs.add([1, 2.5, None, True], key="j")
    outputs.add({"t": datetime.datetime(2024, 2, 29, 12, 30), "ü": "€"}, key="d")
    return outputs.add_as_json("quoted", key="s")


def not_json(inputs: Input):
    return Output().add({"x": float("nan")})


def stream(inputs: Input):
    return Output().add_property("content-type", "application/jsonlines").add_stream_content(
        iter(["a", {"b": [1]}, "ü"]))


def raw_stream(inputs: Input):

    def parts():
        yield "text"
        yield b"\x00\x01"
        yield bytearray(b"ba")
        yield {"j": 1}

    return Output().add_stream_content(parts(), None)


def formatted_stream(inputs: Input):
    return Output().add_stream_content(iter([1, 2]), lambda item: f"<{item}>")


def empty_stream(inputs: Input):
    return Output().add_stream_content(iter([]), None)


def broken_stream(inputs: Input):

    def parts():
        yield "a"
        raise ValueError("half way")

    return Output().add_stream_content(parts(), None)


def payload(inputs: Input):
    return Output().add(Output.binary_encode({"data": "x", "last": True, "n": 3}), key="data")


def arrays(inputs: Input):
    import numpy as np

    got = inputs.get_as_numpy()
    return Output().add_as_numpy([got[0] * 2, np.arange(3, dtype="int64")], key="data")


def archive(inputs: Input):
    return Output().add({"sums": [float(a.sum()) for a in inputs.get_as_npz()]})
