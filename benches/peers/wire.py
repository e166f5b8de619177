"""One streamed request over HTTP, in the form that a server takes it, and when its tokens came.

  completions   POST /v1/completions       {"prompt", ...}             server-sent events
  chat          POST /v1/chat/completions  {"messages": [...], ...}    server-sent events
  invocations   POST /invocations          {"inputs", "parameters"}    a JSON object a line

All ask for exactly so many greedy tokens, end-of-text ignored.
"""
import asyncio
import json
import sys
import time

PATHS = {
    "completions": "/v1/completions",
    "chat": "/v1/chat/completions",
    "invocations": "/invocations",
}


class Refused(Exception):
    """An answer that holds an error, or not what was asked for."""


def body(kind, prompt, tokens, extra):
    """The request; `extra` is laid over it, where None takes a field out."""
    if kind == "invocations":
        request = {
            "inputs": prompt,
            "parameters": {"max_new_tokens": tokens, "min_new_tokens": tokens,
                           "ignore_eos_token": True, "do_sample": False, "details": True},
            "stream": True,
        }
    else:
        request = {
            "model": "default", "max_tokens": tokens, "min_tokens": tokens, "ignore_eos": True,
            "temperature": 0, "stream": True, "stream_options": {"include_usage": True},
        }
        if kind == "chat":
            request["messages"] = [{"role": "user", "content": prompt}]
        else:
            request["prompt"] = prompt
    request |= extra
    return {key: value for key, value in request.items() if value is not None}


async def ask(port, kind, request, timeout):
    """Sends the request; tells when pieces came and what the server counted."""
    began, stamps, counted, prompt = time.perf_counter(), [], None, None
    async for now, line in lines(port, PATHS[kind], request, timeout):
        piece, answered, asked = read(kind, line)
        if piece:
            stamps.append(now)
        counted, prompt = answered or counted, asked or prompt
    if not stamps:
        raise Refused("the answer holds no token")
    wanted = request.get("max_tokens") or request["parameters"]["max_new_tokens"]
    tokens = counted or len(stamps)
    if tokens != wanted:
        raise Refused(f"{tokens} tokens came instead of {wanted}")
    return {
        "first": stamps[0] - began,
        "rest": stamps[-1] - stamps[0],
        "gaps": [after - before for before, after in zip(stamps, stamps[1:])],
        "tokens": tokens, "pieces": len(stamps), "counted": counted is not None, "prompt": prompt,
    }


async def lines(port, path, request, timeout):
    """Posts JSON; yields (arrival, line) for each line of the answer."""
    raw = json.dumps(request).encode()
    reader, writer = await asyncio.wait_for(
        asyncio.open_connection("127.0.0.1", port, limit=1 << 24), timeout)
    try:
        writer.write((f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: */*\r\n"
                      "Content-Type: application/json\r\nConnection: close\r\n"
                      f"Content-Length: {len(raw)}\r\n\r\n").encode() + raw)
        status = (await asyncio.wait_for(reader.readline(), timeout)).split()
        if len(status) < 2:
            raise ConnectionResetError("the server hung up")
        headers = {}
        while line := (await asyncio.wait_for(reader.readline(), timeout)).decode().strip():
            key, _, value = line.partition(":")
            headers[key.lower()] = value.strip()
        pending = b""
        async for data in pieces(reader, headers, timeout):
            now = time.perf_counter()
            if status[1] != b"200":
                raise Refused(f"status {status[1].decode()}: {data[:300].decode(errors='replace')}")
            *whole, pending = (pending + data).split(b"\n")
            for line in whole:
                yield now, line.strip()
        if status[1] != b"200":
            raise Refused(f"status {status[1].decode()}")
        yield time.perf_counter(), pending.strip()
    finally:
        writer.close()


async def pieces(reader, headers, timeout):
    """The body as it arrives."""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        while size := int((await asyncio.wait_for(reader.readline(), timeout)).split(b";")[0], 16):
            yield (await asyncio.wait_for(reader.readexactly(size + 2), timeout))[:-2]
        return
    left = int(headers.get("content-length", sys.maxsize))
    while left and (data := await asyncio.wait_for(reader.read(min(left, 65536)), timeout)):
        left -= len(data)
        yield data


def read(kind, line):
    """One line of a stream: whether it holds a token, and counts of answer and prompt if told."""
    if line.startswith(b"data:"):
        line = line[5:].strip()
    if not line.startswith(b"{"):
        return False, None, None
    message = json.loads(line)
    if message.get("error") or message.get("code", 200) not in (200, None):
        raise Refused(f"the server says {line[:300].decode(errors='replace')}")
    if kind == "invocations":
        details = message.get("details") or {}
        return bool(message.get("token")), details.get("generated_tokens"), details.get("input_length")
    usage = message.get("usage") or {}
    return (any(map(holds_token, message.get("choices") or [])),
            usage.get("completion_tokens"), usage.get("prompt_tokens"))


def holds_token(choice):
    """An empty piece counts as well: half of a character. The first of a chat, which only says
    who speaks, and the last, which only says why it ends, do not."""
    delta = choice.get("delta")
    if delta is None:
        return "text" in choice and not (choice.get("finish_reason") and not choice["text"])
    if "role" in delta:
        return bool(delta.get("content"))
    return delta.get("content") is not None and not (choice.get("finish_reason") and not delta["content"])
