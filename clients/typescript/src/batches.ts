/**
 * Turns the Arrow bytes of messages into record batches, message by message: nothing is held beyond one of them.
 *
 * Never does: judge whether a stream is complete (reading.ts does).
 */
import { type RecordBatch, RecordBatchReader, type Schema, type Table } from "apache-arrow";
import { BadAnswerError } from "./errors.js";

const CONTINUATION = 0xffffffff;
const PREFIX_BYTES = 8;

/** Reads one stream of a call; it keeps the schema between messages. */
export class BatchDecoder {
  /** The rows' schema, once a message brought it. */
  schema: Schema | undefined;
  // Encapsulated, so that each message can be read as a small Arrow stream of its own.
  #schemaMessage: Uint8Array | undefined;

  /** The batches of one message's `arrow_ipc`. Throws BadAnswerError if it cannot be read or has other than `rowCount` rows. */
  decode(arrowIpc: Uint8Array, rowCount: bigint): RecordBatch[] {
    const batches = arrowIpc.length === 0 ? [] : this.#batches(arrowIpc);
    const rows = batches.reduce((sum, batch) => sum + batch.numRows, 0);
    if (BigInt(rows) !== rowCount) {
      throw new BadAnswerError(`the server sent ${rows} rows in a message and counted ${rowCount}`);
    }
    return batches;
  }

  #batches(arrowIpc: Uint8Array): RecordBatch[] {
    try {
      const source = this.#schemaMessage === undefined ? arrowIpc : [this.#schemaMessage, arrowIpc];
      const reader = RecordBatchReader.from(source).open();
      if (this.#schemaMessage === undefined) {
        this.schema = reader.schema; // gone when the reader has come to the end
        this.#schemaMessage = firstMessage(arrowIpc);
      }
      return [...reader].filter((batch) => batch.numRows > 0);
    } catch (unreadable) {
      throw new BadAnswerError("the server sent a message that cannot be read", unreadable);
    }
  }
}

/** The first encapsulated message of an Arrow stream, copied: continuation mark, length, metadata; a schema has no body. */
function firstMessage(arrowIpc: Uint8Array): Uint8Array {
  const view = new DataView(arrowIpc.buffer, arrowIpc.byteOffset, arrowIpc.byteLength);
  if (view.getUint32(0, true) !== CONTINUATION) {
    throw new RangeError("no encapsulated Arrow message");
  }
  return arrowIpc.slice(0, PREFIX_BYTES + view.getInt32(4, true));
}

/**
 * Times of rows as microseconds since 1970, exact. (Arrow's own `get` gives milliseconds.)
 *
 * A batch's times are a view of its memory, a table's of several batches are copied.
 */
export function timesOf(rows: RecordBatch | Table): BigInt64Array {
  const parts = (rows.getChild("ts")?.data ?? []).map((data) => data.values as BigInt64Array);
  if (parts.length === 1) {
    return parts[0] as BigInt64Array;
  }
  const times = new BigInt64Array(parts.reduce((sum, part) => sum + part.length, 0));
  let position = 0;
  for (const part of parts) {
    times.set(part, position);
    position += part.length;
  }
  return times;
}
