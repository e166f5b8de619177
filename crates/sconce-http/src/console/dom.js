// Makes elements. Texts are only ever set as texts, so that nothing a model says becomes markup.

export const find = (id) => document.getElementById(id);

/** An element with these properties and children; those that are missing are left out. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== undefined && child !== null));
  return element;
}

/** Shows an element with that text, or hides it. */
export function say(element, text) {
  element.textContent = text ?? "";
  element.hidden = !text;
}

/** A number as people read it. */
export function number(value) {
  if (!Number.isFinite(value)) return "–";
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  return value.toLocaleString("en", { maximumFractionDigits: digits });
}
