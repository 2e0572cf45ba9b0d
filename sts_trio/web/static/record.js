// What is kept of a call, as the conversation that it was: its record, told as the server told the
// call's events while it lasted. Pure.

import { Log } from "./log.js";
import { Spans } from "./spans.js";
import { Story } from "./story.js";
import { wentOnInWords } from "./words.js";

/** As a conversation (conversation.js) of a call that is over; `record` is what /calls/SID tells. */
export class RecordedConversation {
  isOurs = false;
  line = null;
  log = new Log();
  story = new Story();
  spans = new Spans();

  constructor(record) {
    const { call, events } = record;
    const summary = call.summary ?? {};
    const start = call.answered_at ?? call.created_at;
    this.callSid = call.call_sid;
    this.isOver = call.ended_at !== null;
    this.record = record;
    this.facts = {
      ...call,
      phase: this.isOver ? "hung_up" : call.state,
      statistics: { ...summary, ...summary.statistics },
    };
    events.forEach((row, index) => {
      const at = Math.max(0, row.at - start);
      if (row.kind === "started" && !isFirst(row.body)) this.story.note(at, wentOnInWords(row.body));
      for (const [event, fields] of eventsOf(row, start, call.epoch)) {
        this.story.hear({ number: index + 1, at, event, fields });
        this.spans.hear({ at, event, fields });
        this.log.hear({ at, event, fields });
      }
    });
    if (this.isOver && this.story.end?.fields == null) {
      // Its process was gone before it could tell.
      const { ending, verdict, detail } = call;
      this.story.conclude(Math.max(0, call.ended_at - start), { ending, verdict, detail });
    }
    this.seconds = summary.seconds ?? this.story.end?.at ?? null;
    this.spans.until = Math.max(this.spans.until, this.seconds ?? 0);
    // Whatever a live call's feed may still tell is in there.
    this.story.last = Infinity;
  }

  hear() {
    return [];
  }

  get turns() {
    return this.spans.turns;
  }
}

/** How the names of the server's own events begin in a note. */
const OURS = "sts.";

/**
 * The events that a row was made of: [[event, fields]]. `start`: of the call, seconds since 1970;
 * `newest`: the epoch of its last stream.
 */
function eventsOf({ kind, epoch, body }, start, newest) {
  switch (kind) {
    case "started":
      return isFirst(body) ? [["call.started", pick(body, STARTED)]] : [];
    case "agent_dialled":
      return [["agent.welcomed", body]];
    case "user": {
      const times = { began: since(body.began, start), until: since(body.until, start) };
      return [["call.transcript", { role: "user", text: body.text, ...times }]];
    }
    case "agent":
      return [["call.transcript", { role: "agent", text: body.text }]];
    case "heard":
      return [["call.heard", { ...body, began: since(body.began, start) }]];
    case "function_asked":
      return [["function.called", body]];
    case "function_answered":
      return [["function.finished", withResult(body)]];
    case "function_run_by_agent":
      return [["function.run_by_agent", withResult(body)]];
    case "keys":
      return [["caller.dtmf", body]];
    case "agent_lost":
      return [["agent.lost", body]];
    case "handed_over":
      return [["agent.handed_over", body]];
    case "note":
      return Object.entries(body).map(([name, value]) =>
        name.startsWith(OURS)
          ? [name.slice(OURS.length), value]
          : ["call.noted", { name, value }],
      );
    case "ended": {
      // Of a stream that others went on without it tells no end of the call.
      if (newest && epoch !== undefined && epoch < newest) return [];
      const { statistics, ...fields } = body;
      return [["call.ended", { ...fields, ...statistics }]];
    }
    default:
      return []; // what makes the record, and what is told by `call` already
  }
}

function withResult({ content, ...fields }) {
  return content === undefined ? fields : { ...fields, result: content };
}

/** Whether a stream is the call's first, and none with which another server goes on. */
function isFirst({ how = "first" }) {
  return how === "first";
}

const STARTED = ["stream_sid", "from", "to", "direction", "agent"];

function pick(fields, names) {
  return Object.fromEntries(names.filter((name) => fields[name]).map((name) => [name, fields[name]]));
}

function since(at, start) {
  return typeof at === "number" ? at - start : null;
}
