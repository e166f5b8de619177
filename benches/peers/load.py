"""What is asked of a running server, and the figures that come of it.

`single`: one stream at a time, a long prompt. `level`: a number of clients, each of which sends
its next request when the last is done. Prompts are words drawn at random, so no two begin alike
and caches of prefixes find nothing.
"""
import asyncio
import random
import statistics
import time

import wire
from machine import Quiet
from process import Failure

# One token each in most vocabularies, with the space before them.
WORDS = (
    "time year people way day man thing woman life child world school state family student "
    "group country problem hand part place case week company system program question work "
    "government number night point home water room mother area money story fact month lot "
    "right study book eye job word business issue side kind head house service friend father "
    "power hour game line end member law car city community name president team minute idea "
    "body information back parent face others level office door health person art war history "
    "party result change morning reason research girl guy moment air teacher force education"
).split()


def prompts(seed, count, tokens):
    """The same for every engine and run."""
    rng = random.Random(seed)
    return [" ".join(rng.choice(WORDS) for _ in range(tokens)) for _ in range(count)]


def quantile(values, share):
    values = sorted(values)
    at = (len(values) - 1) * share
    low = int(at)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (at - low)


class Client:
    """Speaks with one server in the way of one engine."""

    def __init__(self, engine, setting, server, timeout):
        self.engine, self.setting, self.server, self.timeout = engine, setting, server, timeout

    async def ask(self, prompt, tokens):
        request = self.engine.request(self.setting, prompt, tokens)
        return await wire.ask(self.server.port, self.engine.kind, request, self.timeout)

    async def first_answer(self, limit):
        """Seconds from exec to the first token that a client got; asks until there is one."""
        refusal = "nothing"
        while (now := time.perf_counter() - self.server.began) < limit:
            self.server.check()
            try:
                answer = self.ask("The capital of France is", 1)
                await asyncio.wait_for(answer, limit - now)
                return time.perf_counter() - self.server.began
            except (OSError, wire.Refused, asyncio.IncompleteReadError) as error:
                refusal = str(error)
            except asyncio.TimeoutError:
                break
            await asyncio.sleep(0.01)
        raise Failure(f"gave no answer within {limit:.0f} s; last: {refusal}; "
                      f"log: {self.server.last_words()}")

    async def single(self, seed, requests, prompt_tokens, new_tokens, limit):
        """Prefill and decode of one stream: medians of some requests, after one of warm-up. Those
        that would end after the limit are left out."""
        warm, *measured = prompts(seed, requests + 1, prompt_tokens)
        began = time.perf_counter()
        await asyncio.wait_for(self.ask(warm, new_tokens), limit)
        quiet, warmed, answers = Quiet(self.server.pid), time.perf_counter(), []
        for done, prompt in enumerate(measured):
            if done and (time.perf_counter() - warmed) / done > limit - (time.perf_counter() - began):
                break
            answers.append(await self.ask(prompt, new_tokens))
        foreign = quiet.foreign(time.perf_counter() - warmed)
        return {
            "prefill": statistics.median((a["prompt"] or prompt_tokens) / a["first"] for a in answers),
            "decode": statistics.median((a["tokens"] - 1) / a["rest"] for a in answers),
            "foreign": foreign, **counts(answers),
        }

    async def level(self, seed, streams, requests, prompt_tokens, new_tokens, limit):
        """Throughput and times under the load of so many streams."""
        waiting = prompts(seed, requests, prompt_tokens)
        quiet, began, answers = Quiet(self.server.pid), time.perf_counter(), []

        async def worker():
            while waiting:
                answers.append(await self.ask(waiting.pop(), new_tokens))

        workers = [asyncio.ensure_future(worker()) for _ in range(streams)]
        try:
            await asyncio.wait_for(asyncio.gather(*workers), limit)
        except asyncio.TimeoutError:
            raise Failure(f"{streams} streams took more than {limit:.0f} s") from None
        finally:
            for one in workers:
                one.cancel()
        wall = time.perf_counter() - began
        gaps = [gap for answer in answers for gap in answer["gaps"]]
        firsts = [answer["first"] for answer in answers]
        return {
            "rate": sum(answer["tokens"] for answer in answers) / wall, "wall": wall,
            "ttft_p50": quantile(firsts, 0.5), "ttft_p95": quantile(firsts, 0.95),
            "gap_p50": quantile(gaps, 0.5), "gap_p95": quantile(gaps, 0.95),
            "foreign": quiet.foreign(wall), **counts(answers),
        }


def counts(answers):
    """How far to trust the counting: tokens by the server's own count, and pieces that came."""
    prompts_seen = [answer["prompt"] for answer in answers if answer["prompt"]]
    return {
        "requests": len(answers),
        "tokens": statistics.mean(answer["tokens"] for answer in answers),
        "pieces": statistics.mean(answer["pieces"] for answer in answers),
        "counted": all(answer["counted"] for answer in answers),
        "prompt": statistics.mean(prompts_seen) if prompts_seen else None,
    }
