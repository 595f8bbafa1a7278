/** Builds the requests of the contract from a caller's arguments. Throws RangeError for what cannot be right. */
import { create } from "@bufbuild/protobuf";
import {
  Compression,
  type EnsureRangeRequest,
  EnsureRangeRequestSchema,
  type ReadLastRequest,
  ReadLastRequestSchema,
  type ReadRangeRequest,
  ReadRangeRequestSchema,
} from "./gen/markethistory/v1/history_service_pb.js";
import { type Moment, type Range, toTimeRange, toTimestamp } from "./times.js";

/** What can be chosen for every call. */
export interface CallOptions {
  /** Ends the call, which then throws the signal's reason. `AbortSignal.timeout(ms)` bounds its time. */
  readonly signal?: AbortSignal;
}

/** What can be chosen for a read. */
export interface ReadOptions extends CallOptions {
  /** Columns to read, `ts` always comes; default all. */
  readonly columns?: readonly string[];
  /** Fetch first what the server does not have; default true. */
  readonly ensure?: boolean;
  /** Fail with reason INCOMPLETE if a span cannot be had; default false: the summary names it. */
  readonly requireComplete?: boolean;
  /** Of the rows on the wire; default none, the fastest on one machine. */
  readonly compression?: "none" | "lz4" | "zstd";
}

/** What can be chosen for a read of the last rows. */
export interface LastOptions extends ReadOptions {
  /** First instant after the rows; default now. */
  readonly end?: Moment;
}

/** What can be chosen for an ensure. */
export interface EnsureOptions extends CallOptions {
  /** Ask the exchange again for what is covered already; default false. */
  readonly refresh?: boolean;
  /** Tell the plan and stop: nothing is fetched; default false. */
  readonly planOnly?: boolean;
}

const COMPRESSIONS = { none: Compression.UNSPECIFIED, lz4: Compression.LZ4, zstd: Compression.ZSTD };
const MOST_LAST = 10_000_000;
const MOST_FEW = 1_000;

/** A request for the rows of a range. */
export function readRequest(series: string, range: Range, options: ReadOptions): ReadRangeRequest {
  return create(ReadRangeRequestSchema, {
    ...chosen(series, options),
    range: toTimeRange(range),
    compression: COMPRESSIONS[options.compression ?? "none"],
  });
}

/** A request for the last `count` rows before `end`. */
export function lastRequest(series: string, count: number, options: LastOptions): ReadRangeRequest {
  if (!Number.isInteger(count) || count < 1 || count > MOST_LAST) {
    throw new RangeError(`count: must be from 1 to ${MOST_LAST}, got ${count}`);
  }
  const range = options.end === undefined ? {} : { end: options.end };
  return { ...readRequest(series, range, options), last: BigInt(count) };
}

/** A request for the last `count` rows in one answer; undefined if a stream has to be asked for them. */
export function fewRequest(series: string, count: number, options: LastOptions): ReadLastRequest | undefined {
  if (count > MOST_FEW || (options.compression ?? "none") !== "none") {
    return undefined;
  }
  const end = options.end === undefined ? {} : { end: toTimestamp(options.end, "end") };
  return create(ReadLastRequestSchema, { ...chosen(series, options), ...end, count: BigInt(count) });
}

/** A request to cover a range. */
export function ensureRequest(series: string, range: Range, options: EnsureOptions): EnsureRangeRequest {
  const { refresh = false, planOnly = false } = options;
  return create(EnsureRangeRequestSchema, { series, range: toTimeRange(range), refresh, planOnly });
}

function chosen(series: string, { columns = [], ensure = true, requireComplete = false }: ReadOptions) {
  return { series, columns: [...columns], ensure, requireComplete };
}
