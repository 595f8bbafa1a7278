/** Everything that can go wrong in a call, for programs; and the only place where a gRPC status becomes an error. */
import { BinaryReader } from "@bufbuild/protobuf/wire";
import { Code, ConnectError } from "@connectrpc/connect";
import type { ErrorReason } from "./gen/markethistory/v1/error_reason_pb.js";

/** Name of a value of the contract's `ErrorReason`; a server newer than this client may say others. */
export type ReasonName = keyof typeof ErrorReason | (string & {});

/** What an error says beside its message. */
export interface ErrorFacts {
  readonly code: Code;
  readonly reason?: ReasonName;
  readonly metadata?: Readonly<Record<string, string>>;
  readonly retryAfterMs?: number | undefined;
  readonly cause?: unknown;
}

/** A call failed at the server or on the way. Arguments that cannot be right throw RangeError before anything is sent. */
export class MarketHistoryError extends Error {
  override readonly name: string = "MarketHistoryError";
  /** The gRPC status. */
  readonly code: Code;
  /** Why, in the contract's words, such as `UNKNOWN_SYMBOL`; empty if the server did not answer itself. */
  readonly reason: ReasonName;
  /** What was wrong and with what value, by the names that the contract's error_reason.proto gives. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Milliseconds after which asking again may help; undefined if it may not, or nobody knows. */
  readonly retryAfterMs: number | undefined;

  constructor(message: string, facts: ErrorFacts) {
    super(message, { cause: facts.cause });
    this.code = facts.code;
    this.reason = facts.reason ?? "";
    this.metadata = facts.metadata ?? {};
    this.retryAfterMs = facts.retryAfterMs;
  }

  /** The closest names that do exist, if the exchange or the symbol does not. */
  get nearest(): string[] {
    return (this.metadata.nearest ?? "").split(",").filter((name) => name !== "");
  }
}

/** A stream ended before its summary or result, and asking for the rest did not help. What it brought is incomplete. */
export class IncompleteStreamError extends MarketHistoryError {
  override readonly name = "IncompleteStreamError";

  constructor(message: string) {
    super(message, { code: Code.DataLoss });
  }
}

/** The server sent what the contract does not allow, or what cannot be read. */
export class BadAnswerError extends MarketHistoryError {
  override readonly name = "BadAnswerError";

  constructor(message: string, cause?: unknown) {
    super(message, { code: Code.Internal, cause });
  }
}

/** How Connect begins to say that bytes are no message. It is a status of its own, without a cause. */
const UNPARSABLE = "parse binary: ";

/** Our error for whatever a call threw. */
export function errorOf(failure: unknown): MarketHistoryError {
  if (failure instanceof MarketHistoryError) {
    return failure;
  }
  const status = ConnectError.from(failure);
  if (status.code === Code.Internal && status.rawMessage.startsWith(UNPARSABLE)) {
    return new BadAnswerError("the server sent a message that cannot be read", failure);
  }
  const facts: { -readonly [Key in keyof ErrorFacts]: ErrorFacts[Key] } = { code: status.code, cause: failure };
  for (const detail of status.details) {
    if ("type" in detail && detail.type === "google.rpc.ErrorInfo") {
      Object.assign(facts, readErrorInfo(detail.value));
    } else if ("type" in detail && detail.type === "google.rpc.RetryInfo") {
      facts.retryAfterMs = readRetryInfo(detail.value);
    }
  }
  return new MarketHistoryError(status.rawMessage, facts);
}

// The two details have been as they are since 2020, and no package of Google's that has them is small: so their fields
// are read by number.

function readErrorInfo(bytes: Uint8Array): { reason: string; metadata: Record<string, string> } {
  const info = { reason: "", metadata: {} as Record<string, string> };
  readFields(bytes, (field, reader) => {
    if (field === 1) {
      info.reason = reader.string();
    } else if (field === 3) {
      const [key, value] = readEntry(reader.bytes());
      info.metadata[key] = value;
    } else {
      return false;
    }
    return true;
  });
  return info;
}

function readEntry(bytes: Uint8Array): [string, string] {
  const entry: [string, string] = ["", ""];
  readFields(bytes, (field, reader) => {
    if (field !== 1 && field !== 2) {
      return false;
    }
    entry[field - 1] = reader.string();
    return true;
  });
  return entry;
}

function readRetryInfo(bytes: Uint8Array): number {
  let milliseconds = 0;
  readFields(bytes, (field, reader) => {
    if (field !== 1) {
      return false;
    }
    readFields(reader.bytes(), (part, duration) => {
      if (part === 1) {
        milliseconds += Number(duration.int64()) * 1000;
      } else if (part === 2) {
        milliseconds += duration.int32() / 1e6;
      } else {
        return false;
      }
      return true;
    });
    return true;
  });
  return milliseconds;
}

/** Walks the fields of a message; `read` says whether it took the field. */
function readFields(bytes: Uint8Array, read: (field: number, reader: BinaryReader) => boolean): void {
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (!read(field, reader)) {
      reader.skip(wireType, field);
    }
  }
}
