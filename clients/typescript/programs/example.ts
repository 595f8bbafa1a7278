import { connect, timesOf } from "markethistory";

const history = connect({ target: process.argv[2] ?? "127.0.0.1:50051" });
const series = "ohlcv:binance:BTC/USDT:1m";
const { table, summary } = await history.readTable(series, { start: "2024-01-01", end: "2024-01-02" });
console.log(table.getChild("close")?.get(0), timesOf(table)[0], summary.complete);
const stream = history.readRange(series, { start: "2024-01-01", end: "2024-01-02" });
let rows = 0;
for await (const batch of stream) rows += batch.numRows;
console.log(`${rows} rows`);
history.close();
