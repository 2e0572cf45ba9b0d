// What happens in the calls, as the server tells it.

import { here } from "./address.js";

// Milliseconds. Whoever is refused again and again asks less and less often.
const RETRY = 3000;
const LONGEST_RETRY = 60_000;

/**
 * Follows the server's events for as long as the page lives. Tells its `listener`:
 *
 * happened(event)   {number, call_sid, at, event, fields}, named as in the log
 * missed()          some before the next were lost, as this page was too slow
 * following(isSo)   whether the server can be heard; false until it can, and whenever it cannot
 */
export function follow(listener, last = "", retry = RETRY) {
  const source = new EventSource(here(last === "" ? "events" : `events?after=${last}`));
  source.onopen = () => {
    retry = RETRY;
    listener.following(true);
  };
  source.onerror = () => {
    listener.following(false);
    // A refusal ends it for good, be it only a proxy's while the server starts anew.
    if (source.readyState === EventSource.CLOSED) {
      setTimeout(follow, retry, listener, last, Math.min(2 * retry, LONGEST_RETRY));
    }
  };
  source.onmessage = ({ data, lastEventId }) => {
    last = lastEventId;
    listener.happened({ number: Number(last.split("-")[1]), ...JSON.parse(data) });
  };
  source.addEventListener("missed", () => listener.missed());
}
