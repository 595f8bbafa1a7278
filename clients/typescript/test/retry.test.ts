/** When a broken call is made again. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Code } from "@connectrpc/connect";
import { BadAnswerError, IncompleteStreamError, MarketHistoryError } from "../src/errors.js";
import { Attempts } from "../src/retry.js";

const POLICY = { attempts: 3, backoffMs: 100, mostMs: 1000 };
const BROKEN = new MarketHistoryError("broken", { code: Code.Unavailable });

function heard(policy = POLICY): Attempts {
  const attempts = new Attempts(policy);
  attempts.heard();
  return attempts;
}

test("pauses double, within their bound, with a jitter of a half", () => {
  const attempts = heard({ attempts: 9, backoffMs: 100, mostMs: 300 });
  for (const longest of [100, 200, 300, 300]) {
    const pause = attempts.pauseAfter(BROKEN);
    assert.ok(pause >= longest / 2 && pause <= longest, `${pause} of ${longest}`);
  }
});

test("failures in a row end it, and rows that came begin the count anew", () => {
  const attempts = heard();
  attempts.pauseAfter(BROKEN);
  attempts.pauseAfter(BROKEN);
  attempts.progressed();
  attempts.pauseAfter(BROKEN);
  attempts.pauseAfter(BROKEN);
  assert.throws(() => attempts.pauseAfter(BROKEN), BROKEN);
});

test("a server that never answered is tried twice", () => {
  const attempts = new Attempts(POLICY);
  attempts.pauseAfter(BROKEN);
  assert.throws(() => attempts.pauseAfter(BROKEN), BROKEN);
});

test("a pause that the server asks for is kept, and a longer one than allowed is not waited for", () => {
  const told = (retryAfterMs: number) =>
    new MarketHistoryError("stopping", { code: Code.Unavailable, reason: "SHUTTING_DOWN", retryAfterMs });
  assert.equal(heard().pauseAfter(told(700)), 700);
  assert.throws(() => heard().pauseAfter(told(1001)), /stopping/);
});

test("only what may help is tried again", () => {
  heard().pauseAfter(new IncompleteStreamError("cut"));
  const hopeless = [
    new BadAnswerError("unreadable"),
    new MarketHistoryError("no", { code: Code.InvalidArgument }),
    new MarketHistoryError("full", { code: Code.Unavailable, reason: "STORE_UNAVAILABLE" }),
    new MarketHistoryError("spent", { code: Code.ResourceExhausted, reason: "RATE_LIMITED", retryAfterMs: 1 }),
  ];
  for (const error of hopeless) assert.throws(() => heard().pauseAfter(error), error);
});
