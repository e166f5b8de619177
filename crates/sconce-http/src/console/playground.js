// Lets one try a model: texts as they are written, pictures, and whatever else a task answers.

import { draw, predict, stream } from "./api.js";
import { make, number } from "./dom.js";

const EXAMPLES = {
  "text-classification": { inputs: "I love this candle." },
  "token-classification": { inputs: "Ada Lovelace lives in London." },
  "question-answering": { inputs: { question: "Where does Ada live?", context: "Ada lives in London." } },
  "zero-shot-classification": {
    inputs: "Ada likes London.",
    parameters: { candidate_labels: ["travel", "food"] },
  },
  "fill-mask": { inputs: "Paris is the [MASK] of France." },
  "feature-extraction": { inputs: ["London"] },
  "text-embedding": { inputs: ["London", "Paris"] },
  "sentence-similarity": { inputs: { source_sentence: "London", sentences: ["Paris", "bread"] } },
  "text-ranking": { query: "capital of France", texts: ["London", "Paris"] },
  summarization: { inputs: "The tower is 324 metres tall, about the same height as an 81-storey building." },
  translation: { inputs: "The candle burns." },
  "text2text-generation": { inputs: "Which tower is the tallest?" },
  conversational: { inputs: { text: "Which tower is the tallest?" } },
};

/** The playground of a model for a task; no task is known of a user's own code. */
export function playground(model, task) {
  if (task === "text-generation") return texts(model);
  if (task === "text-to-image") return pictures(model);
  return anything(model, task);
}

function field(label, properties) {
  const input = make("input", properties);
  return { input, element: make("label", {}, label, input) };
}

/** Frame, fields, output and the two buttons of every playground; `run` gets the output and a signal. */
function panel(title, tabs, areas, fields, run) {
  const output = make("div", { className: "output" }, make("p", { className: "hint" }, "Nothing yet."));
  output.setAttribute("aria-live", "polite");
  const told = make("div", { className: "told" });
  const go = make("button", { className: "primary", type: "submit" }, "Run");
  const stop = make("button", { type: "button", disabled: true }, "Stop");
  let running;
  stop.onclick = () => running?.abort();
  const submit = async () => {
    if (running) return;
    running = new AbortController();
    [go.disabled, stop.disabled] = [true, false];
    const began = performance.now();
    told.textContent = "…";
    try {
      const note = await run(output, running.signal, told);
      told.textContent = note ?? `${number(performance.now() - began)} ms`;
    } catch (problem) {
      const isStopped = problem.name === "AbortError";
      told.textContent = isStopped ? "stopped" : "";
      if (!isStopped) output.append(make("p", { className: "failure" }, problem.message));
    } finally {
      running = undefined;
      [go.disabled, stop.disabled] = [false, true];
    }
  };
  const form = make("form", {},
    ...areas,
    make("div", { className: "fields" }, ...fields, make("div", { className: "go" }, stop, go)));
  form.onsubmit = (event) => {
    event.preventDefault();
    submit();
  };
  form.onkeydown = (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submit();
  };
  const head = make("div", { className: "label" }, title, tabs);
  return make("div", { className: "panel" }, head, form, output, told);
}

function texts(model) {
  const prompt = make("textarea", {
    placeholder: "The capital of France is", ariaLabel: "Prompt", rows: 2, name: "prompt",
  });
  const most = field("Most tokens", { type: "number", min: 1, value: 128, name: "tokens" });
  const heat = field("Temperature", { type: "number", min: 0, max: 2, step: 0.1, value: 0.7 });
  const seed = field("Seed", { type: "number", placeholder: "random" });
  const turns = [];
  const modes = ["Completion", "Chat"].map((name) => make("button", { type: "button" }, name));
  let mode = modes[0];
  const choose = (chosen) => {
    mode = chosen;
    for (const button of modes) button.ariaPressed = String(button === chosen);
    prompt.placeholder = chosen === modes[1] ? "Say something" : "The capital of France is";
    turns.length = 0;
  };
  for (const button of modes) button.onclick = () => choose(button);
  choose(mode);
  const options = () => ({
    model: model.modelName,
    max_tokens: Number(most.input.value) || 128,
    temperature: Number(heat.input.value),
    ...(seed.input.value && { seed: Number(seed.input.value) }),
  });
  const complete = (output, signal, told) => {
    const text = make("div", { className: "text" }, make("span", { className: "prompt" }, prompt.value));
    output.replaceChildren(text);
    const events = stream("v1/completions", { ...options(), prompt: prompt.value }, signal);
    return follow(events, (choice) => choice.text, text, output, told);
  };
  const chat = async (output, signal, told) => {
    const asked = { role: "user", content: prompt.value };
    if (!turns.length) output.replaceChildren();
    const turn = (who, text = "") => {
      const element = make("div", { className: "text" }, text);
      output.append(make("div", { className: "turn" }, make("b", {}, who), element));
      return element;
    };
    turn("You", asked.content);
    prompt.value = "";
    const answer = turn(model.modelName);
    const body = { ...options(), messages: [...turns, asked] };
    const events = stream("v1/chat/completions", body, signal);
    const note = await follow(events, (choice) => choice.delta?.content, answer, output, told);
    turns.push(asked, { role: "assistant", content: answer.textContent });
    return note;
  };
  const run = (...with_) => (mode === modes[1] ? chat : complete)(...with_);
  const tabs = make("span", { className: "tabs" }, ...modes);
  return panel("Playground", tabs, [prompt], [most.element, heat.element, seed.element], run);
}

/** Writes what a stream says; what to tell of it at the end. */
async function follow(events, words, element, output, told) {
  const began = performance.now();
  let [first, tokens] = [undefined, 0];
  const note = () => {
    const seconds = (performance.now() - first) / 1000;
    const rate = tokens > 1 && seconds > 0 ? `, ${number((tokens - 1) / seconds)} per s` : "";
    return `${tokens} tokens${rate}; the first after ${number(first - began)} ms`;
  };
  for await (const event of events) {
    const text = event.choices?.[0] && words(event.choices[0]);
    if (text === undefined || text === null) continue;
    first ??= performance.now();
    tokens += 1;
    element.append(tokens === 1 && !element.textContent ? text.trimStart() : text);
    output.scrollTop = output.scrollHeight;
    told.textContent = note();
  }
  return first ? note() : "no tokens";
}

function pictures(model) {
  const prompt = make("textarea", {
    placeholder: "a candle in its sconce, oil painting", ariaLabel: "Prompt", rows: 2,
  });
  const size = field("Size", { placeholder: "the model's", size: 10, pattern: "\\d+x\\d+", title: "as 512x512" });
  const steps = field("Steps", { type: "number", min: 1, value: 20 });
  const count = field("Pictures", { type: "number", min: 1, max: 10, value: 1 });
  const seed = field("Seed", { type: "number", placeholder: "random" });
  const run = async (output, signal) => {
    output.replaceChildren(make("p", { className: "hint" }, "Denoising …"));
    const body = {
      model: model.modelName,
      prompt: prompt.value,
      n: Number(count.input.value) || 1,
      num_inference_steps: Number(steps.input.value) || 20,
      ...(size.input.value && { size: size.input.value }),
      ...(seed.input.value && { seed: Number(seed.input.value) }),
    };
    try {
      const made = await draw(body, signal);
      const images = made.map((src) => make("img", { src, alt: prompt.value }));
      output.replaceChildren(make("div", { className: "pictures" }, ...images));
    } catch (problem) {
      output.replaceChildren();
      throw problem;
    }
  };
  const fields = [size.element, steps.element, count.element, seed.element];
  return panel("Playground", undefined, [prompt], fields, run);
}

function anything(model, task) {
  const example = EXAMPLES[task] ?? { inputs: "hello" };
  const body = make("textarea", {
    className: "code", value: JSON.stringify(example, null, 2), ariaLabel: "Request", rows: 5, spellcheck: false,
  });
  const run = async (output, signal) => {
    output.replaceChildren();
    const answer = await predict(model, body.value, signal);
    if (answer.picture) return void output.replaceChildren(make("img", { src: answer.picture, alt: "the answer" }));
    if (answer.text !== undefined) return void output.replaceChildren(make("pre", {}, answer.text));
    const raw = make("pre", {}, JSON.stringify(answer.json, null, 2));
    const scores = scored(answer.json);
    output.replaceChildren(...(scores.length
      ? [...scores.map(score), make("details", {}, make("summary", {}, "As JSON"), raw)]
      : [raw]));
  };
  return panel("Playground", undefined, [body], [], run);
}

/** Names with scores, wherever an answer of a task has such. */
function scored(json) {
  if (Array.isArray(json) && json.every((one) => typeof one === "number") && json.length < 50) {
    return json.map((value, at) => [`${at + 1}`, value]);
  }
  if (Array.isArray(json?.labels) && Array.isArray(json?.scores)) {
    return json.labels.map((label, at) => [label, json.scores[at]]);
  }
  const flat = Array.isArray(json) ? json.flat() : [json];
  const name = (one) => one?.word ?? one?.token_str ?? one?.answer ?? one?.label;
  if (!flat.length || !flat.every((one) => typeof one?.score === "number" && name(one) !== undefined)) return [];
  return flat.map((one) => {
    const kind = one.word !== undefined ? ` (${one.entity_group ?? one.entity})` : "";
    return [`${name(one)}${kind}`, one.score];
  });
}

function score([name, value]) {
  const filled = make("i");
  filled.style.width = `${Math.round(100 * Math.min(1, Math.max(0, value)))}%`;
  return make("div", { className: "score" },
    make("span", { title: name }, name),
    make("div", { className: "bar" }, filled),
    make("em", {}, value.toFixed(3)));
}
