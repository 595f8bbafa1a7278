/**
 * Moments as people give them -> instants that leave no doubt.
 *
 * Refused: strings without a time zone (whose midnight?), numbers (of what unit?), anything finer than microseconds.
 */
import { create } from "@bufbuild/protobuf";
import { type Timestamp, TimestampSchema } from "@bufbuild/protobuf/wkt";
import { type TimeRange, TimeRangeSchema } from "./gen/markethistory/v1/series_pb.js";

/**
 * A moment: a `Date`, an ISO 8601 string with an offset or `Z`, a date such as `2024-01-01` (midnight UTC), or
 * microseconds since 1970 as a bigint, which is what the rows have.
 */
export type Moment = Date | string | bigint;

/** A range, half-open: `start` belongs to it, `end` does not. An absent end is now. */
export interface Range {
  readonly start?: Moment;
  readonly end?: Moment;
}

const MICROS_PER_SECOND = 1_000_000n;
const ISO = /^(\d{4}-\d{2}-\d{2})(?:[Tt ](\d{2}:\d{2}(?::\d{2})?)(?:[.,](\d+))?([Zz]|[+-]\d{2}:?\d{2}))?$/;

/** Microseconds since 1970. Throws RangeError, naming the argument, if the moment cannot be read. */
export function toMicros(moment: Moment, name: string): bigint {
  if (typeof moment === "bigint") {
    return moment;
  }
  return moment instanceof Date ? fromDate(moment, name) : fromText(moment, name);
}

/** A time for a request. Throws as `toMicros`. */
export function toTimestamp(moment: Moment, name: string): Timestamp {
  const micros = toMicros(moment, name);
  const rest = ((micros % MICROS_PER_SECOND) + MICROS_PER_SECOND) % MICROS_PER_SECOND;
  return create(TimestampSchema, { seconds: (micros - rest) / MICROS_PER_SECOND, nanos: Number(rest) * 1000 });
}

/** A range for a request; what is absent stays absent. Throws RangeError also if it ends before it begins. */
export function toTimeRange(range: Range): TimeRange {
  const { start, end } = range;
  if (start !== undefined && end !== undefined && toMicros(start, "start") >= toMicros(end, "end")) {
    throw new RangeError(`end: ${show(end)} must be later than start ${show(start)}`);
  }
  const message = create(TimeRangeSchema);
  if (start !== undefined) {
    message.start = toTimestamp(start, "start");
  }
  if (end !== undefined) {
    message.end = toTimestamp(end, "end");
  }
  return message;
}

/** Microseconds since 1970 of a time that the server sent. */
export function microsOf(time: Timestamp): bigint {
  return time.seconds * MICROS_PER_SECOND + BigInt(Math.trunc(time.nanos / 1000));
}

function fromDate(date: Date, name: string): bigint {
  if (Number.isNaN(date.getTime())) {
    throw new RangeError(`${name}: the date is invalid`);
  }
  return BigInt(date.getTime()) * 1000n;
}

function fromText(text: string, name: string): bigint {
  const [, day, time, fraction = "", offset] = ISO.exec(text) ?? [];
  const milliseconds = Date.parse(time === undefined ? `${day}T00:00:00Z` : `${day}T${time}${offset?.toUpperCase()}`);
  if (day === undefined || Number.isNaN(milliseconds) || !isDay(day)) {
    throw new RangeError(`${name}: "${text}" is no ISO 8601 time with a zone, such as "2024-01-01T00:00:00Z"`);
  }
  if (/[1-9]/.test(fraction.slice(6))) {
    throw new RangeError(`${name}: "${text}" is finer than a microsecond`);
  }
  return BigInt(milliseconds) * 1000n + BigInt(fraction.slice(0, 6).padEnd(6, "0"));
}

/** Whether the calendar has the day; `Date` would count on from the end of the month. */
function isDay(day: string): boolean {
  const date = new Date(`${day}T00:00:00Z`);
  return !Number.isNaN(date.getTime()) && date.toISOString().startsWith(day);
}

function show(moment: Moment): string {
  return moment instanceof Date ? moment.toISOString() : String(moment);
}
