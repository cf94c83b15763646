// Draws again without taking what a person holds: the focus, and for what is polled also scroll, a marked text, a click in progress.

/**
 * Make an element look like a fresh one, which is used up. Only attributes, texts and structure are taken over: what is drawn again must have
 * no listeners of its own (links are fine).
 */
export function patch(old, fresh) {
  if (old.nodeName !== fresh.nodeName) return old.replaceWith(fresh);
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return undefined;
  }
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  const children = [...fresh.childNodes];
  children.forEach((child, at) => (old.childNodes[at] ? patch(old.childNodes[at], child) : old.append(child)));
  while (old.childNodes.length > children.length) old.lastChild.remove();
  return undefined;
}

const keyOf = (element) => element.getAttribute("href") ?? element.getAttribute("aria-label") ?? element.textContent;

/** Let `draw` put new elements into one. If the focus was there, the new link or control of the same meaning has it afterwards. */
export function keepFocus(root, draw) {
  const had = root.contains(document.activeElement) ? keyOf(document.activeElement) : null;
  draw();
  if (had === null || root.contains(document.activeElement)) return;
  [...root.querySelectorAll("a, button, input, select, [tabindex]")].find((element) => keyOf(element) === had)?.focus({ preventScroll: true });
}
