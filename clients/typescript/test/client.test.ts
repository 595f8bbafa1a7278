/** The client against a server that plays scripts. What the golden cases check (tests/clients) is not checked again. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { after, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, type ServiceImpl } from "@connectrpc/connect";
import { type ConnectOptions, connect, type HistoryClient, MarketHistoryError, timesOf } from "../src/index.js";
import { type HistoryService, RowKeySchema } from "../src/v1.js";
import { bars, DAY, messages, response, SERIES, serving } from "./fake.js";

const opened: { close(): void }[] = [];
after(() => {
  for (const one of opened.reverse()) one.close();
});

async function client(
  implementation: Partial<ServiceImpl<typeof HistoryService>>,
  options: ConnectOptions = {},
): Promise<HistoryClient> {
  const server = await serving(implementation);
  const history = connect({ target: server.target, retry: { backoffMs: 1 }, ...options });
  opened.push(server, history);
  return history;
}

/** A service whose reads answer with these batches. */
function reads(...batches: ReturnType<typeof bars>[]): Partial<ServiceImpl<typeof HistoryService>> {
  return {
    async *readRange() {
      yield* messages(...batches).map(response);
    },
  };
}

test("a table has all rows, and times are exact to the microsecond", async () => {
  const history = await client(reads(bars(3), bars(2, 3)));
  const { table, summary } = await history.readTable(SERIES, DAY);
  assert.equal(table.numRows, 5);
  assert.equal(summary.rowCount, 5n);
  assert.equal(timesOf(table)[4], BigInt(Date.UTC(2024, 0, 1, 0, 4)) * 1000n + 7n);
  assert.deepEqual([...(table.getChild("close") ?? [])], [0.5, 1.5, 2.5, 3.5, 4.5]);
});

test("what a stream knows only later cannot be asked for before", async () => {
  const stream = (await client(reads(bars(3)))).readRange(SERIES, DAY);
  assert.throws(() => stream.schema, /comes with the first batch/);
  assert.throws(() => stream.summary, /comes at the end/);
  for await (const batch of stream) assert.equal(batch.numRows, 3);
  assert.equal(stream.summary.complete, true);
});

test("a message that holds other rows than it counts is refused", async () => {
  const history = await client({
    async *readRange() {
      const [only] = messages(bars(3));
      yield response({ ...only, rowCount: 4n });
    },
  });
  await assert.rejects(history.readTable(SERIES, DAY), /sent 3 rows in a message and counted 4/);
});

test("leaving the loop cancels the read at the server", async () => {
  const { ended, implementation } = endless();
  const history = await client(implementation);
  for await (const batch of history.readRange(SERIES, DAY)) {
    assert.equal(batch.numRows, 1);
    break;
  }
  await ended;
});

test("an aborted signal ends the read with its own reason", async () => {
  const { ended, implementation } = endless();
  const history = await client(implementation);
  const stop = new AbortController();
  const reading = (async () => {
    for await (const _ of history.readRange(SERIES, DAY, { signal: stop.signal })) stop.abort(new Error("enough"));
  })();
  await assert.rejects(reading, /^Error: enough$/);
  await ended;
});

test("a signal that is aborted during a pause between attempts ends the call at once", async () => {
  const stop = new AbortController();
  const history = await client(
    {
      async *readRange() {
        setImmediate(() => stop.abort(new Error("enough")));
        throw new ConnectError("away", Code.Unavailable);
      },
    },
    { retry: { backoffMs: 1e8, mostMs: 1e8 } },
  );
  await assert.rejects(history.readTable(SERIES, DAY, { signal: stop.signal }), /^Error: enough$/);
});

test("a reader that pauses stops the server", async () => {
  let sent = 0;
  const most = 1000;
  const history = await client({
    async *readRange() {
      const [first] = messages(bars(60_000));
      for (; sent < most; sent += 1) yield response({ ...first, lastKey: key(sent), summary: undefined });
    },
  });
  const stream = history.readRange(SERIES, DAY);
  await stream.next();
  const settled = await steady(() => sent);
  assert.ok(settled < 50, `${settled} of ${most} messages were sent to a reader that took one`);
  await stream.return();
});

test("the token goes with each call", async () => {
  const seen: (string | null)[] = [];
  const implementation: Partial<ServiceImpl<typeof HistoryService>> = {
    coverage(_, { requestHeader }) {
      seen.push(requestHeader.get("authorization"));
      return {};
    },
  };
  const history = await client(implementation, { token: "s3cret" });
  await history.coverage(SERIES);
  assert.deepEqual(seen, ["Bearer s3cret"]);
});

test("a token does not go to another machine without TLS", () => {
  assert.throws(() => connect({ target: "history.example:50051", token: "s3cret" }), /^RangeError: token: needs tls/);
  for (const target of ["localhost:1", "127.0.0.1:1", "[::1]:1"]) connect({ target, token: "s3cret" }).close();
  connect({ target: "history.example:50051", token: "s3cret", tls: true }).close();
});

test("a server that is not there is told soon, as an error of ours", async () => {
  const server = await serving({});
  server.close();
  const history = connect({ target: server.target, retry: { backoffMs: 1 } });
  opened.push(history);
  const isAway = (error: unknown) => error instanceof MarketHistoryError && error.code === Code.Unavailable;
  await assert.rejects(history.readTable(SERIES, DAY), isAway);
  await assert.rejects(history.coverage(SERIES), isAway);
});

test("arguments that cannot be right are refused before anything is sent", async () => {
  const history = connect({ target: "127.0.0.1:1" });
  opened.push(history);
  assert.throws(() => history.readRange(SERIES, { start: "2024-01-02", end: "2024-01-01" }), RangeError);
  await assert.rejects(history.last(SERIES, 0), /count: must be from 1 to 10000000, got 0/);
});

/** A read that sends a row at a time and never ends by itself; `ended` resolves when the server is told to stop. */
function endless() {
  let told: () => void = () => undefined;
  const ended = new Promise<void>((resolve) => {
    told = resolve;
  });
  const implementation: Partial<ServiceImpl<typeof HistoryService>> = {
    async *readRange(_, { signal }) {
      signal.addEventListener("abort", told);
      const [first] = messages(bars(1));
      yield response({ ...first, summary: undefined });
      await once(signal, "abort");
    },
  };
  return { ended, implementation };
}

function key(second: number) {
  return create(RowKeySchema, { ts: { seconds: BigInt(second), nanos: 0 } });
}

/** A counter's value once it has stood still for a while. */
async function steady(count: () => number): Promise<number> {
  for (;;) {
    const before = count();
    await new Promise((resolve) => setTimeout(resolve, 300));
    if (before > 0 && count() === before) return before;
  }
}
