/** When a broken call is made again, after what pause, and until when. */
import { setTimeout as sleep } from "node:timers/promises";
import { Code } from "@connectrpc/connect";
import { BadAnswerError, IncompleteStreamError, type MarketHistoryError } from "./errors.js";

/** How often and how patiently a broken stream is resumed. */
export interface RetryPolicy {
  /** Calls in a row that may fail without bringing anything new; 1: never resume. */
  readonly attempts: number;
  /** Longest pause before the second of them, in milliseconds; doubles with each further one. */
  readonly backoffMs: number;
  /** Longest pause at all. A server that asks for a longer one gets none: its error is thrown. */
  readonly mostMs: number;
}

export const DEFAULT_RETRY: RetryPolicy = { attempts: 6, backoffMs: 200, mostMs: 30_000 };

const BROKEN: ReadonlySet<Code> = new Set([
  Code.Unavailable,
  Code.Internal, // what a reset HTTP/2 stream becomes
  Code.Unknown,
  Code.Canceled, // by the server or something in between: nobody here did it
  Code.Aborted, // a connection reset
]);
// What the exchange refuses was tried again by the server already, as often as it is told to.
const TRIED_BY_SERVER: ReadonlySet<string> = new Set(["EXCHANGE_UNAVAILABLE", "BAD_ANSWER", "RATE_LIMITED"]);

/** Counts the failures of one logical call. */
export class Attempts {
  readonly #policy: RetryPolicy;
  #failures = 0;
  #heard = false;

  constructor(policy: RetryPolicy) {
    this.#policy = policy;
  }

  /** The server is there. */
  heard(): void {
    this.#heard = true;
  }

  /** The server brought something new: failures count anew. */
  progressed(): void {
    this.#heard = true;
    this.#failures = 0;
  }

  /** Milliseconds to wait before the next attempt. Throws the error itself if there should be none. */
  pauseAfter(error: MarketHistoryError): number {
    this.#failures += 1;
    // A server that never answered is more likely down than restarting: say so soon.
    const allowed = this.#heard || error.reason !== "" ? this.#policy.attempts : Math.min(2, this.#policy.attempts);
    const asked = error.retryAfterMs ?? 0;
    if (this.#failures >= allowed || !mayHelp(error) || asked > this.#policy.mostMs) {
      throw error;
    }
    const backoff = Math.min(this.#policy.backoffMs * 2 ** (this.#failures - 1), this.#policy.mostMs);
    return Math.max(backoff * (0.5 + Math.random() / 2), asked);
  }
}

/** Waits; throws the signal's reason as soon as it is aborted. */
export async function pause(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  try {
    await sleep(milliseconds, undefined, signal === undefined ? {} : { signal });
  } catch (aborted) {
    signal?.throwIfAborted();
    throw aborted;
  }
}

/** Whether the server says that asking again may help or, if it said nothing, the stream just broke. */
function mayHelp(error: MarketHistoryError): boolean {
  if (error.reason !== "") {
    return error.retryAfterMs !== undefined && !TRIED_BY_SERVER.has(error.reason);
  }
  return error instanceof IncompleteStreamError || (BROKEN.has(error.code) && !(error instanceof BadAnswerError));
}
