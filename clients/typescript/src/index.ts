/**
 * Thin client of historyd: market history as Arrow tables over gRPC.
 *
 * @packageDocumentation
 */
export { timesOf } from "./batches.js";
export type { TlsOptions } from "./channel.js";
export { BatchStream, type ConnectOptions, connect, HistoryClient, type Rows } from "./client.js";
export type { EnsureEvent } from "./ensuring.js";
export { BadAnswerError, IncompleteStreamError, MarketHistoryError, type ReasonName } from "./errors.js";
export { type CoverageSpan, CoverageState } from "./gen/markethistory/v1/coverage_pb.js";
export { ErrorReason } from "./gen/markethistory/v1/error_reason_pb.js";
export type {
  EnsurePlan,
  EnsureProgress,
  EnsureResult,
  ReadSummary,
} from "./gen/markethistory/v1/history_service_pb.js";
export type { TimeRange } from "./gen/markethistory/v1/series_pb.js";
export type { CallOptions, EnsureOptions, LastOptions, ReadOptions } from "./requests.js";
export type { RetryPolicy } from "./retry.js";
export { type Moment, microsOf, type Range } from "./times.js";
