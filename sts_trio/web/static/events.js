// What happens in the calls, as the server tells it.

import { here } from "./address.js";

const RETRY = 3000; // milliseconds

/**
 * Follows the server's events for as long as the page lives. Tells its `listener`:
 *
 * happened(entry)   {call_sid, at, event, fields}, named as in the log
 * missed(count)     so many before the next were lost, as this page was too slow
 * following(isSo)   whether the server can be heard; false until it can, and whenever it cannot
 */
export function follow(listener, last = "") {
  const source = new EventSource(here(last === "" ? "events" : `events?after=${last}`));
  source.onopen = () => listener.following(true);
  source.onerror = () => {
    listener.following(false);
    // A refusal ends it for good, be it only a proxy's while the server starts anew.
    if (source.readyState === EventSource.CLOSED) setTimeout(follow, RETRY, listener, last);
  };
  source.onmessage = ({ data, lastEventId }) => {
    last = lastEventId;
    listener.happened(JSON.parse(data));
  };
  source.addEventListener("missed", ({ data }) => listener.missed(Number(data)));
}
