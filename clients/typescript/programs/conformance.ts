/** Runs the cases that every client runs: `conformance TARGET CASES`; see tests/clients/README.md. */
import { readFileSync } from "node:fs";
import { Code } from "@connectrpc/connect";
import type { RecordBatch } from "apache-arrow";
import {
  BadAnswerError,
  type CoverageSpan,
  CoverageState,
  connect,
  type EnsureEvent,
  type HistoryClient,
  IncompleteStreamError,
  MarketHistoryError,
  microsOf,
  type Range,
  type TimeRange,
} from "markethistory";
import { errorDigest, type Line, linesDigest, rowsDigest, tableDigest } from "./digest.js";

interface Case {
  readonly name: string;
  readonly series: string;
  readonly call: "read" | "last" | "coverage" | "ensure";
  readonly start: string | null;
  readonly end: string | null;
  readonly last: number | null;
  readonly columns: string[] | null;
  readonly compression: "none" | "lz4" | "zstd";
}

interface Outcome {
  readonly rows: number;
  readonly digest: string | null;
  readonly error: string | null;
  readonly message?: string;
}

const QUICK = { attempts: 3, backoffMs: 10, mostMs: 10_000 };
const CALLS = { read, last, coverage, ensure };

async function main(target: string, path: string): Promise<void> {
  const cases = JSON.parse(readFileSync(path, "utf8")) as Case[];
  const { CONFORMANCE_CA: authority, CONFORMANCE_TOKEN: token } = process.env;
  const tls = authority === undefined ? false : { ca: readFileSync(authority) };
  const history = connect({ target, tls, retry: QUICK, ...(token === undefined ? {} : { token }) });
  for (const one of cases) {
    console.log(JSON.stringify({ case: one.name, ...(await outcomeOf(history, one)) }));
  }
  history.close();
}

async function outcomeOf(history: HistoryClient, one: Case): Promise<Outcome> {
  try {
    return await CALLS[one.call](history, one);
  } catch (error) {
    if (error instanceof MarketHistoryError) {
      return failed(error);
    }
    throw error;
  }
}

function failed(error: MarketHistoryError): Outcome {
  if (error instanceof IncompleteStreamError) {
    return { rows: 0, digest: null, error: "STREAM_CUT", message: error.message };
  }
  if (error instanceof BadAnswerError) {
    return { rows: 0, digest: null, error: "CONTRACT_BROKEN", message: error.message };
  }
  const { reason, metadata, retryAfterMs, message } = error;
  const digest = reason === "" ? null : errorDigest(reason, metadata, retryAfterMs);
  return { rows: 0, digest, error: reason || Code[error.code].toUpperCase(), message };
}

async function read(history: HistoryClient, one: Case): Promise<Outcome> {
  const streamed: RecordBatch[] = [];
  for await (const batch of history.readRange(one.series, rangeOf(one), optionsOf(one))) {
    streamed.push(batch);
  }
  const digest = rowsDigest(streamed);
  const { table } = await history.readTable(one.series, rangeOf(one), optionsOf(one));
  const same = tableDigest(table) === digest;
  return same ? { rows: table.numRows, digest, error: null } : { rows: 0, digest: null, error: "TABLE_DIFFERS" };
}

async function last(history: HistoryClient, one: Case): Promise<Outcome> {
  const options = { ...optionsOf(one), ...(one.end === null ? {} : { end: one.end }) };
  const { table } = await history.last(one.series, one.last ?? 0, options);
  return { rows: table.numRows, digest: tableDigest(table), error: null };
}

async function coverage(history: HistoryClient, one: Case): Promise<Outcome> {
  const lines = spanLines(await history.coverage(one.series, rangeOf(one)));
  return { rows: lines.reduce((sum, line) => sum + Number(line[3]), 0), digest: linesDigest(lines), error: null };
}

async function ensure(history: HistoryClient, one: Case): Promise<Outcome> {
  const lines: Line[] = [];
  let rows = 0;
  let planned: TimeRange | undefined;
  for await (const event of history.ensureRange(one.series, rangeOf(one))) {
    if (event.case === "plan") {
      planned = event.value.range;
    } else if (event.case === "result") {
      rows = Number(event.value.rowCount);
    }
    lines.push(...eventLines(event, planned));
  }
  return { rows, digest: linesDigest(lines), error: null };
}

function eventLines(event: EnsureEvent, planned: TimeRange | undefined): Line[] {
  switch (event.case) {
    case "plan":
      return [line(event.value.range, "PLAN", event.value.pageCount)];
    case "progress":
      return [line(event.value.page, "PROGRESS", event.value.rowsDone)];
    case "result":
      return [line(planned, "RESULT", event.value.rowCount), ...spanLines(event.value.uncovered)];
  }
}

function spanLines(spans: readonly CoverageSpan[]): Line[] {
  return spans.map((span) => line(span.range, CoverageState[span.state], span.rowCount));
}

function line(range: TimeRange | undefined, state: string, rows: bigint): Line {
  return [range?.start ? microsOf(range.start) : 0n, range?.end ? microsOf(range.end) : 0n, state, rows];
}

function rangeOf({ start, end }: Case): Range {
  return { ...(start === null ? {} : { start }), ...(end === null ? {} : { end }) };
}

function optionsOf({ columns, compression }: Case) {
  return { compression, ensure: false, ...(columns === null ? {} : { columns }) };
}

const [target = "", path = ""] = process.argv.slice(2);
await main(target, path);
