/** Answers the benchmark of the clients: `bench history TARGET SERIES START END`; tests/clients/README.md says how. */
import { createInterface } from "node:readline";
import { connect } from "markethistory";

const [peer = "", target = "", series = "", start = "", end = ""] = process.argv.slice(2);
if (peer !== "history") {
  throw new Error(`no client of ${peer} here: there is no Arrow Flight client for Node`);
}
const history = connect({ target });
console.log("ready");
for await (const _ of createInterface(process.stdin)) {
  const began = performance.now();
  const { table } = await history.readTable(series, { start, end });
  console.log(JSON.stringify({ rows: table.numRows, seconds: (performance.now() - began) / 1000 }));
}
history.close();
