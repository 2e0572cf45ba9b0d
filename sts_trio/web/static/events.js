// What happens in the calls, as the server tells it.

import { here } from "./address.js";

/**
 * Follows the server's events for as long as the page lives. Tells its `listener`:
 *
 * happened(entry)   {call_sid, at, event, fields}, named as in the log
 * missed(count)     so many before the next were lost, as this page was too slow
 * following(isSo)   whether the server can be heard; false until it can, and whenever it cannot
 */
export function follow(listener) {
  const source = new EventSource(here("events"));
  source.onopen = () => listener.following(true);
  source.onerror = () => listener.following(false);
  source.onmessage = ({ data }) => listener.happened(JSON.parse(data));
  source.addEventListener("missed", ({ data }) => listener.missed(Number(data)));
}
