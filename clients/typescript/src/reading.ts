/**
 * One logical read over as many calls as it takes: what to ask next, what an answer means. No I/O.
 *
 * The first message fixes the range; each message names the key of its last row. If a call breaks, the next one asks
 * for the same range after that key, so that rows are neither doubled nor lost, and a moving end does not move. Only the
 * summary ends a read: a stream that merely stops is broken, whatever its status.
 *
 * Promises: a row is handed on once; what does not fit (a key that does not ascend, a count that differs, another
 * schema) throws BadAnswerError instead of being handed on.
 */
import { create } from "@bufbuild/protobuf";
import type { RecordBatch, Schema } from "apache-arrow";
import { BatchDecoder, timesOf } from "./batches.js";
import { BadAnswerError, IncompleteStreamError, type MarketHistoryError } from "./errors.js";
import {
  type ReadRangeRequest,
  ReadRangeRequestSchema,
  type ReadRangeResponse,
  type ReadSummary,
  type RowKey,
} from "./gen/markethistory/v1/history_service_pb.js";
import type { TimeRange } from "./gen/markethistory/v1/series_pb.js";
import { Attempts, type RetryPolicy } from "./retry.js";
import { microsOf } from "./times.js";

/** The state of one read; its owner makes the calls: `request()`, then `receive` each message, then `finish()`. */
export class ReadSession {
  schema: Schema | undefined;
  summary: ReadSummary | undefined;
  range: TimeRange | undefined;
  readonly #request: ReadRangeRequest;
  readonly #attempts: Attempts;
  #decoder = new BatchDecoder();
  #lastKey: RowKey | undefined;
  #rowCount = 0n;
  #callRows = 0n;

  constructor(request: ReadRangeRequest, policy: RetryPolicy) {
    this.#request = request;
    this.#attempts = new Attempts(policy);
  }

  /** Whether all rows and the summary are here. */
  get done(): boolean {
    return this.summary !== undefined;
  }

  /** What to ask next: all of it at first, later what is left. */
  request(): ReadRangeRequest {
    this.#decoder = new BatchDecoder();
    this.#callRows = 0n;
    if (this.range === undefined) {
      return this.#request;
    }
    const rest = create(ReadRangeRequestSchema, { ...this.#request, range: this.range });
    if (this.#lastKey !== undefined) {
      rest.last = 0n; // the resolved range begins at the first of the last N
      rest.resumeAfter = this.#lastKey;
    }
    return rest;
  }

  /** The rows of one message; keeps what else it says. */
  receive(message: ReadRangeResponse): RecordBatch[] {
    const batches = this.#decoder.decode(message.arrowIpc, message.rowCount);
    this.#keepRange(message);
    this.#keepSchema();
    if (batches[0] !== undefined) {
      this.#keepKey(message, batches[0]);
    }
    this.#callRows += message.rowCount;
    this.#rowCount += message.rowCount;
    if (message.summary !== undefined) {
      this.#keepSummary(message.summary);
    }
    return batches;
  }

  /** The call ended well. Throws IncompleteStreamError if the read did not. */
  finish(): void {
    if (!this.done) {
      const rows = `${this.#rowCount} rows`;
      throw new IncompleteStreamError(`the stream of ${this.#request.series} ended after ${rows} without its summary`);
    }
  }

  /** Milliseconds to wait before the next call. Throws the error if there should be none. */
  failed(error: MarketHistoryError): number {
    return this.#attempts.pauseAfter(error);
  }

  #keepRange(message: ReadRangeResponse): void {
    this.#attempts.heard();
    if (this.range === undefined) {
      if (message.range === undefined) {
        throw new BadAnswerError("the server's first message does not state the range");
      }
      this.range = message.range;
    }
  }

  #keepSchema(): void {
    const found = this.#decoder.schema;
    if (this.schema === undefined) {
      this.schema = found;
    } else if (found !== undefined && found !== this.schema && String(found) !== String(this.schema)) {
      throw new BadAnswerError("the server changed the schema of a resumed stream");
    }
  }

  #keepKey(message: ReadRangeResponse, first: RecordBatch): void {
    const before = this.#lastKey;
    const key = message.lastKey;
    if (key?.ts === undefined) {
      throw new BadAnswerError("the server sent rows without the key of the last");
    }
    const resumed = this.#callRows === 0n;
    if (before !== undefined && (!ascends(before, key) || (resumed && !this.#follows(first, before)))) {
      throw new BadAnswerError("the server sent rows that do not follow the rows before");
    }
    this.#lastKey = key;
    this.#attempts.progressed();
  }

  /** Whether a resumed stream begins after the key; trades may share its time. */
  #follows(batch: RecordBatch, key: RowKey): boolean {
    const first = timesOf(batch)[0] ?? 0n;
    const last = timeOf(key);
    return first > last || (first === last && !this.#request.series.startsWith("ohlcv:"));
  }

  #keepSummary(summary: ReadSummary): void {
    if (summary.rowCount !== this.#callRows) {
      throw new BadAnswerError(`the server sent ${this.#callRows} rows and counted ${summary.rowCount}`);
    }
    this.summary = { ...summary, rowCount: this.#rowCount };
  }
}

function timeOf(key: RowKey): bigint {
  return key.ts === undefined ? 0n : microsOf(key.ts);
}

function ascends(before: RowKey, key: RowKey): boolean {
  const difference = timeOf(key) - timeOf(before);
  return difference > 0n || (difference === 0n && key.seq > before.seq);
}
