// The page: which models there are, how they are, and the one that is looked at.

import { Failure, currentKey, describe, listModels, metrics, ping, useKey } from "./api.js";
import { find, make, say } from "./dom.js";
import { History, tiles } from "./metrics.js";
import { playground } from "./playground.js";

/** Milliseconds from one look at the server to the next. */
const PAUSE = 2000;

const KINDS = { Healthy: "good", READY: "good", PENDING: "wait", UNLOADING: "wait", Unhealthy: "bad", FAILED: "bad" };

const history = new History();
let chosen;
let shown;

const label = (model) => (model.version ? `${model.modelName}:${model.version}` : model.modelName);

function pill(element, text, kind) {
  element.textContent = text;
  element.className = `pill ${kind ?? ""}`;
}

function list(models, health) {
  const rows = models.map((model) => {
    const status = health[label(model)]?.status ?? model.status;
    const dot = make("span", { className: `dot ${KINDS[status] ?? ""}` });
    const row = make("span", { className: "row" }, dot, make("span", {}, label(model)));
    const button = make("button", { type: "button" }, row, make("small", {}, health[label(model)]?.phase ?? status.toLowerCase()));
    button.ariaCurrent = String(label(model) === chosen);
    button.onclick = () => {
      chosen = label(model);
      look();
    };
    return make("li", {}, button);
  });
  const focused = [...find("models").querySelectorAll("button")].indexOf(document.activeElement);
  find("models").replaceChildren(...rows);
  find("models").querySelectorAll("button")[focused]?.focus();
  find("no-models").hidden = models.length > 0;
}

function loading(told) {
  const isLoading = told?.status === "PENDING";
  find("loading").hidden = !isLoading;
  if (!isLoading) return;
  const bar = find("progress");
  if (told.bytes_total) [bar.max, bar.value] = [told.bytes_total, told.bytes_done];
  else bar.removeAttribute("value");
  const left = told.eta_seconds === undefined ? "" : `, ${Math.ceil(told.eta_seconds)} s left`;
  find("eta").textContent = `${told.phase}${left}`;
}

function about(model) {
  const device = model.workerGroups[0].device.deviceType;
  const parts = [model.task ?? "your own code", device, `batches of ${model.batchSize}`, `queue of ${model.queueSize}`];
  return `${parts.join(" · ")} · ${model.modelUrl}`;
}

/** Shows one model; its playground is made anew only for another model or once its task is known. */
function show(model, described, told, scrape) {
  find("model").hidden = false;
  find("name").textContent = label(model);
  find("about").textContent = about(described);
  const status = told?.status ?? described.status;
  pill(find("phase"), status, KINDS[status]);
  say(find("cause"), told?.cause ?? described.cause);
  loading(told);
  const isText = described.task === "text-generation";
  const isThere = KINDS[status] === "good" || status === "Unhealthy";
  const measured = scrape.problem
    ? [make("p", { className: "note" }, scrape.problem)]
    : tiles(history, model, isText);
  find("tiles").replaceChildren(...(isThere ? measured : []));
  const kind = `${label(model)} ${described.task} ${isThere}`;
  if (kind === shown) return;
  shown = kind;
  find("playground").replaceChildren(...(isThere ? [playground(model, described.task)] : []));
}

/** The metrics, or why there are none. */
async function scraped() {
  try {
    history.add(await metrics());
    return {};
  } catch (problem) {
    return { problem: problem.message };
  }
}

function tell(status) {
  if (status === 200) pill(find("health"), "ready", "good");
  else if (status === 503 || status === 207) pill(find("health"), "loading", "wait");
  else pill(find("health"), "unhealthy", "bad");
}

async function look() {
  try {
    const [models, health, scrape] = await Promise.all([listModels(), ping(), scraped()]);
    find("key").classList.remove("wanted");
    tell(health.status);
    if (!models.some((model) => label(model) === chosen)) chosen = models[0] && label(models[0]);
    list(models, health.models);
    const model = models.find((one) => label(one) === chosen);
    if (model) show(model, await describe(model), health.models[chosen], scrape);
    else find("model").hidden = true;
  } catch (problem) {
    const asksForKey = problem instanceof Failure && problem.status === 401;
    find("key").classList.toggle("wanted", asksForKey);
    pill(find("health"), asksForKey ? "needs an API key" : "no answer", asksForKey ? "wait" : "bad");
  }
}

/** Looks again and again while somebody sees the page. */
async function watch() {
  if (!document.hidden) await look();
  setTimeout(watch, PAUSE);
}

find("key").value = currentKey();
find("key").onchange = (event) => {
  useKey(event.target.value);
  look();
};
find("key-form").onsubmit = (event) => {
  event.preventDefault();
  find("key").onchange({ target: find("key") });
};
watch();
