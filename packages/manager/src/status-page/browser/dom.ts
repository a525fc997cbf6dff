/** Elements made and changed without markup in strings, and only where something is different. */

type Child = Node | string;
export type Attributes = Readonly<Record<string, string | number>>;

function fill<E extends Element>(element: E, attributes: Attributes, children: readonly Child[]): E {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

export function html<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  return fill(document.createElement(tag), attributes, children);
}

export function svg<K extends keyof SVGElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): SVGElementTagNameMap[K] {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

/** The element with this id; the page's HTML has it. */
export function byId<E extends HTMLElement = HTMLElement>(id: string): E {
  const element = document.getElementById(id);
  if (element === null) throw new Error(`the page has no element ${id}`);
  return element as E;
}

/** Leaves the text alone when it is the same: assistive software would read it again. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

export function show(element: HTMLElement, isShown: boolean): void {
  element.hidden = !isShown;
}

const drawn = new WeakMap<Element, string>();

/** Replaces the children when what they are made from has changed, so that focus and selection stay where they are. */
export function redraw(element: Element, source: unknown, make: () => Child[]): void {
  const key = JSON.stringify(source);
  if (drawn.get(element) === key) return;
  drawn.set(element, key);
  element.replaceChildren(...make());
}

/** Content that scrolls for itself, reached and scrolled with the keyboard too. */
export function scrolling(label: string, content: HTMLElement): HTMLElement {
  return html("div", { class: "scroll", role: "group", "aria-label": label, tabindex: 0 }, content);
}

/** A table with headings for its columns, and the first cell of each row as the row's heading. */
export function table(
  caption: string,
  headings: readonly string[],
  rows: readonly (readonly string[])[],
): HTMLTableElement {
  const head = html("tr", {}, ...headings.map((text) => html("th", { scope: "col" }, text)));
  const body = rows.map(([first = "", ...rest]) =>
    html("tr", {}, html("th", { scope: "row" }, first), ...rest.map((text) => html("td", {}, text))),
  );
  return html(
    "table",
    {},
    html("caption", { class: "visually-hidden" }, caption),
    html("thead", {}, head),
    html("tbody", {}, ...body),
  );
}
