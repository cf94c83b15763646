// Draws again what is polled, in place: nodes stay where they are, so focus, scroll, a marked text and a click in progress survive.

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
