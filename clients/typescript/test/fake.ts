/** A HistoryService that plays a script, on a real HTTP/2 server: the peer of the tests. */
import { once } from "node:events";
import { createServer, type Http2Server } from "node:http2";
import type { AddressInfo } from "node:net";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { ConnectRouter, ServiceImpl } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import {
  Field,
  Float64,
  makeData,
  RecordBatch,
  RecordBatchStreamWriter,
  Schema,
  Struct,
  TimestampMicrosecond,
} from "apache-arrow";
import { HistoryService, ReadRangeResponseSchema } from "../src/v1.js";

export const SERIES = "ohlcv:binance:BTC/USDT:1m";
export const DAY = { start: "2024-01-01", end: "2024-01-02" } as const;
const START_MS = Date.UTC(2024, 0, 1);
const MINUTE = 60_000_000n;
const END_OF_STREAM_BYTES = 8;

type Message = MessageInitShape<typeof ReadRangeResponseSchema>;

const SCHEMA = new Schema([
  new Field("ts", new TimestampMicrosecond("UTC"), false),
  new Field("close", new Float64(), true),
]);

/** So many one-minute bars from the `first` minute of the day; times end in 7 microseconds, which get() would lose. */
export function bars(count: number, first = 0): RecordBatch {
  const minute = (row: number) => BigInt(START_MS) * 1000n + BigInt(first + row) * MINUTE + 7n;
  const times = BigInt64Array.from({ length: count }, (_, row) => minute(row));
  const closes = Float64Array.from({ length: count }, (_, row) => first + row + 0.5);
  const children = [
    makeData({ type: new TimestampMicrosecond("UTC"), data: times }),
    makeData({ type: new Float64(), data: closes }),
  ];
  return new RecordBatch(SCHEMA, makeData({ type: new Struct(SCHEMA.fields), length: count, children }));
}

/** The messages of one whole read: the range with the first, the summary with the last. */
export function messages(...batches: RecordBatch[]): Message[] {
  const rows = batches.reduce((sum, batch) => sum + batch.numRows, 0);
  let before = 0;
  const told = batches.map((batch, index): Message => {
    before += batch.numRows;
    return {
      rowCount: BigInt(batch.numRows),
      lastKey: { ts: { ...timestampFromMs(START_MS + (before - 1) * 60_000), nanos: 7000 } },
      arrowIpc: encoded(batch, index === 0),
    };
  });
  Object.assign(told[0] ?? {}, { range: { start: timestampFromMs(START_MS), end: timestampFromMs(START_MS * 2) } });
  Object.assign(told.at(-1) ?? {}, { summary: { rowCount: BigInt(rows), complete: true } });
  return told;
}

/** The bytes of a batch, with the schema before it or without. */
function encoded(batch: RecordBatch, withSchema: boolean): Uint8Array {
  const stream = RecordBatchStreamWriter.writeAll([batch]).toUint8Array(true);
  const whole = stream.subarray(0, stream.length - END_OF_STREAM_BYTES);
  const schemaBytes = 8 + new DataView(whole.buffer, whole.byteOffset).getInt32(4, true);
  return withSchema ? whole : whole.subarray(schemaBytes);
}

export function response(message: Message) {
  return create(ReadRangeResponseSchema, message);
}

/** A server on a free port of the loopback: its target, and what closes it. */
export async function serving(implementation: Partial<ServiceImpl<typeof HistoryService>>): Promise<Serving> {
  const routes = (router: ConnectRouter) => router.service(HistoryService, implementation);
  const server = createServer(connectNodeAdapter({ routes }));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return new Serving(server);
}

export class Serving {
  readonly target: string;
  readonly #server: Http2Server;

  constructor(server: Http2Server) {
    this.#server = server;
    this.target = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  close(): void {
    this.#server.close();
  }
}
