"""A thin HTTP server in front of libraries that have none: OpenVINO GenAI, CTranslate2, ONNX
Runtime GenAI. Streams /v1/completions, one event a token, greedy, exactly max_tokens long.

    python shim.py openvino|ctranslate2|onnxruntime FOLDER --tokenizer tokenizer.json --port N

One thread computes. With OpenVINO it steps a batch that requests join and leave; the two others
answer one request after the other. Text is not made: an event holds the id of its token, so that
the library is charged with as little as can be. Runs with the interpreter that has the library.
"""
import argparse
import json
import queue
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class OpenVino:
    """Its continuous batching, which is what OpenVINO's model server runs too."""

    def __init__(self, args):
        import openvino_genai as genai
        from openvino import Tensor
        self.genai, self.tensor = genai, Tensor
        scheduler = genai.SchedulerConfig()
        scheduler.max_num_seqs = args.sequences
        scheduler.max_num_batched_tokens = args.batched
        scheduler.dynamic_split_fuse = True
        scheduler.enable_prefix_caching = False
        scheduler.cache_size = args.cache
        properties = {"INFERENCE_NUM_THREADS": args.threads}
        if args.precision:
            properties["INFERENCE_PRECISION_HINT"] = args.precision
        self.pipe = genai.ContinuousBatchingPipeline(args.folder, scheduler, "CPU", properties)
        self.running = []

    def run(self, waiting):
        import numpy
        number = 0
        while True:
            while not self.running or not waiting.empty():
                ids, tokens, put = waiting.get()
                config = self.genai.GenerationConfig()
                config.max_new_tokens = config.min_new_tokens = tokens
                config.ignore_eos, config.do_sample = True, False
                handle = self.pipe.add_request(number, self.tensor(numpy.array([ids], numpy.int64)), config)
                self.running.append((handle, [tokens], put))
                number += 1
            self.pipe.step()
            for handle, left, put in self.running:
                while handle.can_read():
                    for output in handle.read().values():
                        for token in output.generated_ids:
                            left[0] -= 1
                            put(token)
                if left[0] <= 0:
                    put(None)
            self.running = [entry for entry in self.running if entry[1][0] > 0]


class CTranslate2:
    def __init__(self, args):
        import ctranslate2
        self.generator = ctranslate2.Generator(
            args.folder, compute_type=args.compute, intra_threads=args.threads)
        self.word = args.vocabulary.id_to_token

    def run(self, waiting):
        while True:
            ids, tokens, put = waiting.get()
            prompt = [self.word(token) for token in ids]
            for step in self.generator.generate_tokens(
                    prompt, max_length=tokens, min_length=tokens, sampling_topk=1):
                put(step.token_id)
            put(None)


class OnnxRuntime:
    def __init__(self, args):
        import onnxruntime_genai as genai
        self.genai = genai
        config = genai.Config(args.folder)
        config.overlay(json.dumps({"model": {"decoder": {"session_options": {
            "intra_op_num_threads": args.threads}}}}))
        self.model = genai.Model(config)

    def run(self, waiting):
        import numpy
        while True:
            ids, tokens, put = waiting.get()
            params = self.genai.GeneratorParams(self.model)
            length = len(ids) + tokens
            params.set_search_options(do_sample=False, max_length=length, min_length=length)
            generator = self.genai.Generator(self.model, params)
            generator.append_tokens(numpy.array(ids, numpy.int32))
            for _ in range(tokens):
                generator.generate_next_token()
                put(int(generator.get_next_tokens()[0]))
            put(None)


ENGINES = {"openvino": OpenVino, "ctranslate2": CTranslate2, "onnxruntime": OnnxRuntime}


class Handler(BaseHTTPRequestHandler):
    # A chunk a token must not wait for the acknowledgement of the one before.
    disable_nagle_algorithm, protocol_version = True, "HTTP/1.1"

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        ids = self.server.vocabulary.encode(request["prompt"]).ids
        tokens, answer = request["max_tokens"], queue.SimpleQueue()
        self.server.waiting.put((ids, tokens, answer.put))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        count = 0
        while (token := answer.get()) is not None:
            count += 1
            self.event({"choices": [{"index": 0, "text": f" {token}", "finish_reason": None}]})
        usage = {"prompt_tokens": len(ids), "completion_tokens": count}
        self.event({"choices": [], "usage": usage})

    def event(self, message):
        self.wfile.write(b"data: " + json.dumps(message).encode() + b"\n\n")

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads, request_queue_size = True, 128


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("folder")
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sequences", type=int, default=32)
    parser.add_argument("--batched", type=int, default=512, help="tokens of a step")
    parser.add_argument("--cache", type=int, default=1, help="GiB of keys and values")
    parser.add_argument("--precision", help="what OpenVINO computes in; unset: what it chooses")
    parser.add_argument("--compute", default="default", help="what CTranslate2 computes in")
    return parser.parse_args()


def main():
    args = arguments()
    from tokenizers import Tokenizer
    args.vocabulary = Tokenizer.from_file(args.tokenizer)
    engine, waiting = ENGINES[args.engine](args), queue.Queue()
    server = Server(("127.0.0.1", args.port), Handler)
    server.vocabulary, server.waiting = args.vocabulary, waiting
    threading.Thread(target=server.serve_forever, daemon=True).start()
    # In the main thread, so that a failure ends the process and is seen.
    engine.run(waiting)


if __name__ == "__main__":
    main()
