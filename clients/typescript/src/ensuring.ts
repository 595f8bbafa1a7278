/**
 * One logical ensure over as many calls as it takes. No I/O.
 *
 * An ensure is idempotent: if its stream breaks, the same range is asked for again and only what is still missing is
 * fetched. Progress and result add up over the calls, so that counters never decrease.
 */
import { create } from "@bufbuild/protobuf";
import { BadAnswerError, IncompleteStreamError, type MarketHistoryError } from "./errors.js";
import {
  type EnsurePlan,
  type EnsureProgress,
  type EnsureRangeRequest,
  EnsureRangeRequestSchema,
  type EnsureRangeResponse,
  type EnsureResult,
} from "./gen/markethistory/v1/history_service_pb.js";
import { Attempts, type RetryPolicy } from "./retry.js";

/** What an ensure tells: the plan first, then progress at least once a second, the result last. */
export type EnsureEvent =
  | { readonly case: "plan"; readonly value: EnsurePlan }
  | { readonly case: "progress"; readonly value: EnsureProgress }
  | { readonly case: "result"; readonly value: EnsureResult };

interface Counters {
  readonly pages: bigint;
  readonly rows: bigint;
  readonly calls: bigint;
}

/** The state of one ensure; used like ReadSession. */
export class EnsureSession {
  done = false;
  readonly #request: EnsureRangeRequest;
  readonly #attempts: Attempts;
  #plan: EnsurePlan | undefined;
  #before: Counters = { pages: 0n, rows: 0n, calls: 0n };
  #now: Counters = this.#before;

  constructor(request: EnsureRangeRequest, policy: RetryPolicy) {
    this.#request = request;
    this.#attempts = new Attempts(policy);
  }

  /** What to ask next; a moving end is fixed by the first plan. */
  request(): EnsureRangeRequest {
    this.#before = this.#now;
    const range = this.#plan?.range;
    return range === undefined ? this.#request : create(EnsureRangeRequestSchema, { ...this.#request, range });
  }

  /** What the message tells the caller, if anything. */
  receive({ event }: EnsureRangeResponse): EnsureEvent[] {
    this.#attempts.heard();
    switch (event.case) {
      case "plan":
        return this.#planned(event.value);
      case "progress":
        return [{ case: "progress", value: this.#added(event.value) }];
      case "result":
        return [{ case: "result", value: this.#ended(event.value) }];
      default:
        return [];
    }
  }

  /** The call ended well. Throws IncompleteStreamError if the ensure did not. */
  finish(): void {
    if (!this.done) {
      throw new IncompleteStreamError(`the stream of ${this.#request.series} ended without its result`);
    }
  }

  /** Milliseconds to wait before the next call. Throws the error if there should be none. */
  failed(error: MarketHistoryError): number {
    return this.#attempts.pauseAfter(error);
  }

  #planned(plan: EnsurePlan): EnsureEvent[] {
    if (this.#plan !== undefined) {
      return [];
    }
    this.#plan = plan;
    this.done = this.#request.planOnly;
    return [{ case: "plan", value: plan }];
  }

  #added(told: EnsureProgress): EnsureProgress {
    if (this.#before.pages + told.pagesDone > this.#now.pages) {
      this.#attempts.progressed();
    }
    this.#now = {
      pages: this.#before.pages + told.pagesDone,
      rows: this.#before.rows + told.rowsDone,
      calls: this.#before.calls + told.callsDone,
    };
    return { ...told, pagesDone: this.#now.pages, rowsDone: this.#now.rows, callsDone: this.#now.calls };
  }

  #ended(result: EnsureResult): EnsureResult {
    if (this.#plan === undefined) {
      throw new BadAnswerError("the server sent a result without a plan");
    }
    this.done = true;
    return {
      ...result,
      pageCount: this.#before.pages + result.pageCount,
      rowCount: this.#before.rows + result.rowCount,
      callCount: this.#before.calls + result.callCount,
    };
  }
}
