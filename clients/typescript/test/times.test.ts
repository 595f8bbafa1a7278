/** Moments as people give them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { toMicros, toTimeRange, toTimestamp } from "../src/times.js";

const MIDNIGHT = 1_704_067_200_000_000n;

for (const [moment, micros] of [
  ["2024-01-01", MIDNIGHT],
  ["2024-01-01T00:00Z", MIDNIGHT],
  ["2024-01-01T00:00:00.000007Z", MIDNIGHT + 7n],
  ["2024-01-01T02:00:00+02:00", MIDNIGHT],
  ["2024-01-01t00:00:00.5000000z", MIDNIGHT + 500_000n],
  ["1969-12-31T23:59:59.999999Z", -1n],
  [new Date(1_704_067_200_000), MIDNIGHT],
  [42n, 42n],
] as const) {
  test(`${moment} is ${micros} microseconds`, () => assert.equal(toMicros(moment, "start"), micros));
}

for (const [moment, why] of [
  ["2024-01-01T00:00:00", "no ISO 8601 time with a zone"],
  ["2024-02-30", "no ISO 8601"],
  ["yesterday", "no ISO 8601"],
  ["2024-01-01T25:00:00Z", "no ISO 8601"],
  ["2024-01-01T00:00:00.0000001Z", "finer than a microsecond"],
  [new Date(Number.NaN), "invalid"],
] as const) {
  test(`${String(moment)} is refused, and the argument is named`, () => {
    assert.throws(() => toMicros(moment, "end"), new RegExp(`^RangeError: end: .*${why}`));
  });
}

test("times before 1970 have nanoseconds that count up", () => {
  assert.deepEqual({ ...toTimestamp(-1n, "start") }, { ...toTimestamp(0n, "start"), seconds: -1n, nanos: 999_999_000 });
});

test("a range that ends before it begins is refused", () => {
  assert.throws(() => toTimeRange({ start: 2n, end: 2n }), /end: 2 must be later than start 2/);
});
