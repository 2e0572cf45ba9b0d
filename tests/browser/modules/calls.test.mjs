import assert from "node:assert/strict";
import { test } from "node:test";

import { rowsElsewhere } from "../../../sts_trio/web/static/calls.js";

const call = {
  call_sid: "CA1",
  from: "+15005550001",
  to: "+15005550006",
  direction: "inbound",
  agent: "default",
  phase: "live",
  seconds: 61,
  process: "s-2",
  address: "10.0.0.2:5000",
  is_alive: true,
};

test("a call of another process says which one has it, and for how long", () => {
  const [row] = rowsElsewhere([call], 2);
  assert.equal(row.callSid, "CA1");
  assert.match(row.name, /\+15005550001/);
  assert.equal(row.stands, "at s-2, 1:03");
  assert.equal(row.isElsewhere, true);
});

test("of a process that is gone it is said", () => {
  assert.equal(rowsElsewhere([{ ...call, is_alive: false }], 0)[0].stands, "was at s-2, 1:01");
  const nameless = { ...call, is_alive: false, process: "" };
  assert.equal(rowsElsewhere([nameless], 0)[0].stands, "was at another process, 1:01");
});
