// Asks the server, with the key if there is one.

let key = sessionStorage.getItem("key") ?? "";

export const currentKey = () => key;

/** The key for all requests from now on; it is forgotten with the tab. */
export function useKey(value) {
  key = value.trim();
  sessionStorage.setItem("key", key);
}

/** What the server says went wrong, with its status. */
export class Failure extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

/** The words of a failure, in any of the server's forms. */
function words(text) {
  try {
    const body = JSON.parse(text);
    const told = body.error?.message ?? body.message ?? body.error ?? body.details?.error;
    return typeof told === "string" ? told : text;
  } catch {
    return text;
  }
}

async function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (key) headers.authorization = `Bearer ${key}`;
  const response = await fetch(path, { ...options, headers, cache: "no-store" });
  if (response.ok || options.any) return response;
  const told = words(await response.text());
  throw new Failure(response.status, told || `the server says ${response.status}`);
}

const post = (body, signal) => ({
  method: "POST",
  headers: { "content-type": "application/json" },
  body: typeof body === "string" ? body : JSON.stringify(body),
  signal,
});

/** All models, page by page. */
export async function listModels() {
  const models = [];
  let token;
  do {
    const query = token ? `?next_page_token=${token}` : "";
    const page = await (await ask(`models${query}`)).json();
    models.push(...page.models);
    token = page.nextPageToken;
  } while (token);
  return models;
}

const path = (model) => [model.modelName, model.version].filter(Boolean).map(encodeURIComponent).join("/");

/** The description of one model. */
export async function describe(model) {
  const versions = await (await ask(`models/${path(model)}`)).json();
  return versions[0].models[0];
}

/** What /ping says, whatever its status. */
export async function ping() {
  const response = await ask("ping", { any: true });
  return { status: response.status, models: await response.json() };
}

export const metrics = async () => (await ask("metrics")).text();

/** A whole answer: JSON, a picture's address, or text. */
export async function predict(model, body, signal) {
  const response = await ask(`predictions/${path(model)}`, post(body, signal));
  const kind = response.headers.get("content-type") ?? "";
  if (kind.startsWith("image/")) return { picture: await picture(await response.blob()) };
  const text = await response.text();
  try {
    return { json: JSON.parse(text) };
  } catch {
    return { text };
  }
}

/** Pictures as the addresses of their data. */
export async function draw(body, signal) {
  const answer = await (await ask("v1/images/generations", post(body, signal))).json();
  return answer.data.map((one) => `data:image/png;base64,${one.b64_json}`);
}

const picture = (blob) =>
  new Promise((resolve) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.readAsDataURL(blob);
  });

/** The events of a stream, each parsed. */
export async function* stream(route, body, signal) {
  const response = await ask(route, post({ ...body, stream: true }, signal));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    rest += value ?? "";
    const events = rest.split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const data = event.replace(/^data: ?/, "");
      if (data === "[DONE]") return;
      const parsed = JSON.parse(data);
      if (parsed.error) throw new Failure(200, parsed.error.message ?? String(parsed.error));
      yield parsed;
    }
    if (done) return;
  }
}
