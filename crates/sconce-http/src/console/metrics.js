// Reads the text of /metrics, and makes of two readings what happened between them.

import { make, number } from "./dom.js";

/** Seconds that charts look back. */
const WINDOW = 120;

/** Samples as [name, labels, value]. */
export function parse(text) {
  const samples = [];
  for (const line of text.split("\n")) {
    if (!line || line.startsWith("#")) continue;
    const [, name, , labels = "", value] = line.match(/^([^{ ]+)({(.*)})? (\S+)/) ?? [];
    if (!name) continue;
    const pairs = [...labels.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)];
    samples.push([name, Object.fromEntries(pairs.map(([, key, text]) => [key, text])), Number(value)]);
  }
  return samples;
}

/** The samples of a model: values by name, and buckets of histograms by name. */
function ofModel(samples, model) {
  const values = {};
  const buckets = {};
  for (const [name, labels, value] of samples) {
    const isOther = labels.model_name !== model.modelName || labels.version !== (model.version ?? "");
    if (!name.startsWith("sconce_") || isOther) continue;
    const short = name.slice("sconce_".length);
    if (labels.le) (buckets[short] ??= []).push([Number(labels.le.replace("+Inf", "Infinity")), value]);
    else values[short] = (values[short] ?? 0) + value;
  }
  return { values, buckets };
}

/** The value below which a share of what came between two readings lies. */
export function quantile(before, now, share) {
  if (!now?.length) return NaN;
  const counts = now.map(([limit, count], at) => [limit, count - (before?.[at]?.[1] ?? 0)]);
  const all = counts.at(-1)[1];
  if (all === 0) return NaN;
  let [low, below] = [0, 0];
  for (const [limit, count] of counts) {
    if (count >= share * all) {
      if (limit === Infinity) return low;
      return low + ((limit - low) * (share * all - below)) / (count - below);
    }
    [low, below] = [limit, count];
  }
  return NaN;
}

/** Readings of all models, the last ones of each. */
export class History {
  #readings = [];

  add(text) {
    const at = performance.now() / 1000;
    this.#readings.push({ at, samples: parse(text) });
    while (this.#readings[0].at < at - WINDOW) this.#readings.shift();
  }

  /** How a counter of a model grew, per second, from reading to reading. */
  rates(model, name) {
    const values = this.#readings.map(({ at, samples }) => [at, ofModel(samples, model).values[name] ?? 0]);
    return values.slice(1).map(([at, value], index) => {
      const [before, was] = values[index];
      return Math.max(0, (value - was) / (at - before));
    });
  }

  /** The last reading of a model, and the first that is kept. */
  ends(model) {
    if (!this.#readings.length) return undefined;
    const of = (reading) => ofModel(reading.samples, model);
    return { first: of(this.#readings[0]), last: of(this.#readings.at(-1)) };
  }
}

function spark(values) {
  const namespace = "http://www.w3.org/2000/svg";
  const picture = document.createElementNS(namespace, "svg");
  picture.setAttribute("viewBox", "0 0 100 26");
  picture.setAttribute("preserveAspectRatio", "none");
  const most = Math.max(...values, 1e-9);
  const step = 100 / Math.max(values.length - 1, 1);
  const line = document.createElementNS(namespace, "polyline");
  const points = values.map((value, at) => `${(at * step).toFixed(1)},${(25 - (24 * value) / most).toFixed(1)}`);
  line.setAttribute("points", points.join(" "));
  picture.append(line);
  return picture;
}

function tile(label, value, unit, below) {
  const told = make("strong", {}, value, make("small", {}, unit));
  return make("div", { className: "tile" }, make("span", { className: "label" }, label), told, below);
}

function share(label, value) {
  const filled = make("i");
  filled.style.width = `${Math.round(100 * (value || 0))}%`;
  return tile(label, number(100 * value), "%", make("div", { className: "bar" }, filled));
}

/** What a model is doing, as tiles. */
export function tiles(history, model, isText) {
  const ends = history.ends(model);
  if (!ends) return [];
  const { first, last } = ends;
  const { values } = last;
  const rates = (name) => history.rates(model, name);
  const recent = (all) => all.slice(-3).reduce((sum, value) => sum + value, 0) / Math.max(1, Math.min(3, all.length));
  const millis = (label, name, part) => {
    const seconds = quantile(first.buckets[name], last.buckets[name], part);
    const all = quantile(undefined, last.buckets[name], part);
    return tile(label, number(1000 * (Number.isNaN(seconds) ? all : seconds)), "ms");
  };
  const tokens = rates("generation_tokens_total");
  const requests = rates("requests_total");
  const shown = [
    share("Saturation", values.saturation),
    tile("Running", number(values.num_requests_running), `+ ${number(values.num_requests_waiting)} waiting`),
    tile("Requests", number(recent(requests)), "per s", spark(requests)),
  ];
  if (isText) {
    shown.push(
      tile("Tokens", number(recent(tokens)), "per s", spark(tokens)),
      millis("First token, p95", "time_to_first_token_seconds_bucket", 0.95),
      millis("Inter-token, p50", "inter_token_latency_seconds_bucket", 0.5),
    );
  } else {
    shown.push(millis("Latency, p95", "e2e_request_latency_seconds_bucket", 0.95));
  }
  if ("kv_cache_usage_ratio" in values) shown.push(share("KV cache", values.kv_cache_usage_ratio));
  const hits = values.prefix_cache_hits_total / values.prefix_cache_queries_total;
  if (hits > 0) shown.push(share("Prefix hits", hits));
  return shown;
}
