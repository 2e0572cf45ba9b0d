// The page's elements, found and made.

export function byId(id) {
  return document.getElementById(id);
}

/** An element of that kind, with text or elements in it. */
export function make(tag, properties = {}, ...content) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...content);
  return element;
}

/** Minutes and seconds. */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

/** Makes a button do nothing, but keeps the focus that it may have. */
export function disable(button, isOff) {
  button.ariaDisabled = String(isOff);
}

export function isDisabled(button) {
  return button.disabled || button.ariaDisabled === "true";
}
