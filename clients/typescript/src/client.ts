/** The client: asks one server. */
import { type Client, createClient } from "@connectrpc/connect";
import { type RecordBatch, type Schema, Table, tableFromIPC } from "apache-arrow";
import { type Channel, openChannel, type TlsOptions } from "./channel.js";
import { registerCodecs } from "./codecs.js";
import { type EnsureEvent, EnsureSession } from "./ensuring.js";
import { BadAnswerError, errorOf, type MarketHistoryError } from "./errors.js";
import type { CoverageSpan } from "./gen/markethistory/v1/coverage_pb.js";
import {
  HistoryService,
  type ReadLastResponse,
  type ReadRangeRequest,
  type ReadSummary,
} from "./gen/markethistory/v1/history_service_pb.js";
import type { TimeRange } from "./gen/markethistory/v1/series_pb.js";
import { ReadSession } from "./reading.js";
import {
  type CallOptions,
  type EnsureOptions,
  ensureRequest,
  fewRequest,
  type LastOptions,
  lastRequest,
  type ReadOptions,
  readRequest,
} from "./requests.js";
import { Attempts, DEFAULT_RETRY, pause, type RetryPolicy } from "./retry.js";
import { type Range, toTimeRange } from "./times.js";

/** Where the server is and how it is asked. */
export interface ConnectOptions {
  /** `host:port`; default `127.0.0.1:50051`. */
  readonly target?: string;
  /** TLS with the system's certificates (true), or as told; default none. */
  readonly tls?: boolean | TlsOptions;
  /** Sent with each call, if the server asks for one. Needs `tls`, unless the server is on this machine. */
  readonly token?: string;
  /** How broken streams are resumed. */
  readonly retry?: Partial<RetryPolicy>;
}

/** Rows that were read whole, and how the read ended. */
export interface Rows {
  /** The rows in key order. */
  readonly table: Table;
  /** How the read ended; `complete` says whether a span is missing, `uncovered` which. */
  readonly summary: ReadSummary;
  /** The range as the server resolved it. */
  readonly range: TimeRange;
}

/**
 * A client of the server at `options.target`. Nothing is sent before the first call. Throws RangeError if a token would
 * go to another machine without TLS.
 */
export function connect(options: ConnectOptions = {}): HistoryClient {
  registerCodecs();
  const channel = openChannel(options.target ?? "127.0.0.1:50051", options.tls ?? false, options.token);
  return new HistoryClient(channel, { ...DEFAULT_RETRY, ...options.retry });
}

/**
 * Asks one server; `close` it when it is no longer needed.
 *
 * Every method throws MarketHistoryError for what goes wrong at the server or on the way, RangeError for arguments that
 * cannot be right, and the reason of its `signal` once that is aborted.
 */
export class HistoryClient {
  /** The generated client, for what is not wrapped here: `listSeries`, `listMarkets`. Its errors are ConnectErrors. */
  readonly service: Client<typeof HistoryService>;
  readonly #channel: Channel;
  readonly #retry: RetryPolicy;

  /** Use `connect`. */
  constructor(channel: Channel, retry: RetryPolicy) {
    this.#channel = channel;
    this.#retry = retry;
    this.service = createClient(HistoryService, channel.transport);
  }

  /** Closes the connection; calls under way fail. */
  close(): void {
    this.#channel.close();
  }

  /** Spans that tile the range, ascending, without holes. Never asks the exchange. Default: all of time up to now. */
  async coverage(series: string, range: Range = {}, options: CallOptions = {}): Promise<CoverageSpan[]> {
    const request = { series, range: toTimeRange(range) };
    try {
      return (await this.service.coverage(request, options)).spans;
    } catch (failure) {
      throw told(failure, options.signal);
    }
  }

  /** Makes a range covered: the plan, progress at least once a second, the result. Leaving the loop cancels it. */
  async *ensureRange(series: string, range: Range, options: EnsureOptions = {}): AsyncGenerator<EnsureEvent, void> {
    const session = new EnsureSession(ensureRequest(series, range, options), this.#retry);
    yield* run(session, (request, call) => this.service.ensureRange(request, call), options.signal);
  }

  /** The rows of a range as they come, in bounded memory. */
  readRange(series: string, range: Range, options: ReadOptions = {}): BatchStream {
    return this.#stream(readRequest(series, range, options), options.signal);
  }

  /** The rows of a range as one table, all of them or none. */
  async readTable(series: string, range: Range, options: ReadOptions = {}): Promise<Rows> {
    return collect(this.readRange(series, range, options));
  }

  /** The last `count` rows before `options.end` as they come. */
  lastBatches(series: string, count: number, options: LastOptions = {}): BatchStream {
    return this.#stream(lastRequest(series, count, options), options.signal);
  }

  /** The last `count` rows before `options.end` as one table, ascending; fewer if there are no more. */
  async last(series: string, count: number, options: LastOptions = {}): Promise<Rows> {
    const rows = this.lastBatches(series, count, options);
    const request = fewRequest(series, count, options);
    if (request === undefined) {
      return collect(rows);
    }
    const attempts = new Attempts(this.#retry);
    for (;;) {
      try {
        return rowsOf(await this.service.readLast(request, options));
      } catch (failure) {
        await pause(attempts.pauseAfter(told(failure, options.signal)), options.signal);
      }
    }
  }

  #stream(request: ReadRangeRequest, signal: AbortSignal | undefined): BatchStream {
    const session = new ReadSession(request, this.#retry);
    return new BatchStream(
      session,
      run(session, (rest, call) => this.service.readRange(rest, call), signal),
    );
  }
}

/** Record batches of a read, in key order, as they come. Leaving the loop early cancels the read. */
export class BatchStream implements AsyncIterableIterator<RecordBatch, void> {
  readonly #session: ReadSession;
  readonly #batches: AsyncGenerator<RecordBatch, void>;

  /** Use `HistoryClient.readRange`. */
  constructor(session: ReadSession, batches: AsyncGenerator<RecordBatch, void>) {
    this.#session = session;
    this.#batches = batches;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** The next batch. Throws if the stream broke for good: what was taken from it is incomplete then. */
  next(): Promise<IteratorResult<RecordBatch, void>> {
    return this.#batches.next();
  }

  /** Cancels the read. */
  return(): Promise<IteratorResult<RecordBatch, void>> {
    return this.#batches.return();
  }

  /** The rows' schema. Throws before the first batch was taken. */
  get schema(): Schema {
    return known(this.#session.schema, "the schema comes with the first batch");
  }

  /** The range as the server resolved it. Throws before the first batch was taken. */
  get range(): TimeRange {
    return known(this.#session.range, "the range comes with the first batch");
  }

  /** How the read ended. Throws before the stream is exhausted. */
  get summary(): ReadSummary {
    return known(this.#session.summary, "the summary comes at the end of the stream");
  }
}

interface Session<Request, Message, Item> {
  readonly done: boolean;
  request(): Request;
  receive(message: Message): Item[];
  finish(): void;
  failed(error: MarketHistoryError): number;
}

/** Makes calls until the session is done; each is cancelled when it is left. */
async function* run<Request, Message, Item>(
  session: Session<Request, Message, Item>,
  ask: (request: Request, call: { signal: AbortSignal }) => AsyncIterable<Message>,
  signal: AbortSignal | undefined,
): AsyncGenerator<Item, void> {
  while (!session.done) {
    const leaving = new AbortController();
    const call = { signal: signal === undefined ? leaving.signal : AbortSignal.any([signal, leaving.signal]) };
    try {
      for await (const message of ask(session.request(), call)) {
        yield* session.receive(message);
      }
      session.finish();
    } catch (failure) {
      if (!session.done) {
        await pause(session.failed(told(failure, signal)), signal);
      }
    } finally {
      leaving.abort();
    }
  }
}

/** The error for a failed call. Throws the signal's reason if it was the caller who ended it. */
function told(failure: unknown, signal: AbortSignal | undefined): MarketHistoryError {
  signal?.throwIfAborted();
  return errorOf(failure);
}

async function collect(stream: BatchStream): Promise<Rows> {
  const batches: RecordBatch[] = [];
  for await (const batch of stream) {
    batches.push(batch);
  }
  return { table: new Table(stream.schema, batches), summary: stream.summary, range: stream.range };
}

/** The rows of an answer. Throws BadAnswerError if it cannot be read, or lacks its range, its summary or some rows. */
function rowsOf(answer: ReadLastResponse): Rows {
  const table = decoded(answer.arrowIpc);
  const { summary, range } = answer;
  if (summary === undefined || range === undefined) {
    throw new BadAnswerError("the server's answer lacks its range or its summary");
  }
  if (BigInt(table.numRows) !== answer.rowCount || answer.rowCount !== summary.rowCount) {
    const counted = `${answer.rowCount} and ${summary.rowCount}`;
    throw new BadAnswerError(`the server sent ${table.numRows} rows and counted ${counted}`);
  }
  return { table, summary, range };
}

function decoded(arrowIpc: Uint8Array): Table {
  try {
    return tableFromIPC(arrowIpc);
  } catch (unreadable) {
    throw new BadAnswerError("the server sent an answer that cannot be read", unreadable);
  }
}

function known<Value>(value: Value | undefined, otherwise: string): Value {
  if (value === undefined) {
    throw new Error(otherwise);
  }
  return value;
}
