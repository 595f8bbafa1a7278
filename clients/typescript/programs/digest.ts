/** The digests by which clients of all languages are compared; tests/clients/README.md defines them. */
import { createHash } from "node:crypto";
import { type Data, DataType, type RecordBatch, type Table, type Utf8 } from "apache-arrow";

/** The digest of rows, from the memory of their columns. */
export function rowsDigest(batches: readonly RecordBatch[]): string {
  const sha = createHash("sha256");
  for (const batch of batches) {
    const columns = batch.data.children.map(writer);
    for (let row = 0; row < batch.numRows; row += 1) {
      for (const write of columns) {
        sha.update(write(row));
      }
    }
  }
  return sha.digest("hex");
}

/** The digest of a table. */
export function tableDigest(table: Table): string {
  return rowsDigest(table.batches);
}

/** One line of a span or an event: start, end, state, rows. */
export type Line = readonly [bigint, bigint, string, bigint];

/** The digest of spans or events. */
export function linesDigest(lines: readonly Line[]): string {
  return textDigest(lines.map((line) => `${line.join(" ")}\n`).join(""));
}

/** The digest of an error that the server gave a reason for. */
export function errorDigest(
  reason: string,
  metadata: Readonly<Record<string, string>>,
  retryAfterMs: number | undefined,
): string {
  const told = Object.keys(metadata)
    .sort()
    .map((key) => `${key}=${metadata[key]}\n`);
  const pause = retryAfterMs === undefined ? "-" : String(Math.round(retryAfterMs));
  return textDigest(`${reason}\n${told.join("")}retry_after_ms=${pause}\n`);
}

function textDigest(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

/** The bytes of a column's value at a row. */
function writer(column: Data): (row: number) => Uint8Array {
  const bytesOf = valueWriter(column);
  const absent = Uint8Array.of(0);
  return (row) => (column.getValid(row) ? bytesOf(row) : absent);
}

function valueWriter(column: Data): (row: number) => Uint8Array {
  const { type, values } = column;
  if (DataType.isTimestamp(type)) {
    return fixed(8, (view, row) => view.setBigInt64(1, (values as BigInt64Array)[row] ?? 0n, true));
  }
  if (DataType.isFloat(type)) {
    return fixed(8, (view, row) => view.setFloat64(1, (values as Float64Array)[row] ?? 0, true));
  }
  if (DataType.isInt(type)) {
    return fixed(4, (view, row) => view.setInt32(1, (values as Int32Array)[row] ?? 0, true));
  }
  if (DataType.isUtf8(type)) {
    return (row) => text(column as Data<Utf8>, row);
  }
  throw new TypeError(`no digest of ${type}`);
}

function fixed(size: number, set: (view: DataView, row: number) => void): (row: number) => Uint8Array {
  const bytes = new Uint8Array(1 + size);
  const view = new DataView(bytes.buffer);
  bytes[0] = 1;
  return (row) => {
    set(view, row);
    return bytes;
  };
}

function text(column: Data<Utf8>, row: number): Uint8Array {
  const { values, valueOffsets } = column;
  const utf8 = values.subarray(valueOffsets[row], valueOffsets[row + 1]);
  const bytes = new Uint8Array(5 + utf8.length);
  bytes[0] = 1;
  new DataView(bytes.buffer).setUint32(1, utf8.length, true);
  bytes.set(utf8, 5);
  return bytes;
}
