package io.markethistory;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayDeque;
import java.util.Deque;
import org.apache.arrow.flatbuf.Message;
import org.apache.arrow.flatbuf.MessageHeader;
import org.apache.arrow.memory.ArrowBuf;
import org.apache.arrow.vector.ipc.message.ArrowRecordBatch;
import org.apache.arrow.vector.ipc.message.MessageSerializer;
import org.apache.arrow.vector.types.pojo.Schema;

/**
 * Reads the Arrow bytes of messages, message by message: nothing is held beyond one of them, and
 * nothing is copied.
 *
 * <p>Never does: judge whether a stream is complete.
 */
final class ArrowMessages {

  private Schema schema;

  /** The rows' schema, null until a message brought it. */
  Schema schema() {
    return schema;
  }

  /**
   * The batches of one message, to be closed by the caller. They share its memory, which the caller
   * may release.
   *
   * @throws BadAnswerException if it cannot be read, or has other than {@code rowCount} rows
   */
  Deque<ArrowRecordBatch> read(ArrowBuf arrowIpc, long rowCount) {
    var batches = new ArrayDeque<ArrowRecordBatch>();
    try {
      readInto(batches, arrowIpc);
    } catch (IOException | RuntimeException unreadable) { // Arrow throws many kinds
      batches.forEach(ArrowRecordBatch::close);
      throw new BadAnswerException("the server sent a message that cannot be read", unreadable);
    }
    var rows = batches.stream().mapToLong(ArrowRecordBatch::getLength).sum();
    if (rows != rowCount) {
      batches.forEach(ArrowRecordBatch::close);
      var counted = " rows in a message and counted " + rowCount;
      throw new BadAnswerException("the server sent " + rows + counted);
    }
    return batches;
  }

  private void readInto(Deque<ArrowRecordBatch> batches, ArrowBuf arrowIpc) throws IOException {
    var bytes = arrowIpc.nioBuffer().order(ByteOrder.LITTLE_ENDIAN);
    for (var message = next(bytes); message != null; message = next(bytes)) {
      if (message.headerType() == MessageHeader.Schema) {
        schema = MessageSerializer.deserializeSchema(message);
      } else if (message.headerType() == MessageHeader.RecordBatch && schema != null) {
        batches.add(batch(message, body(message, bytes, arrowIpc)));
      } else {
        throw new IOException("an Arrow message that does not belong here");
      }
    }
  }

  /** The next message, without its body; null at the end-of-stream marker or of the bytes. */
  private static Message next(ByteBuffer bytes) {
    if (!bytes.hasRemaining()) {
      return null;
    }
    var size = bytes.getInt();
    if (size == MessageSerializer.IPC_CONTINUATION_TOKEN) {
      size = bytes.getInt();
    }
    if (size == 0) {
      return null;
    }
    var metadata = bytes.slice(bytes.position(), size).order(ByteOrder.LITTLE_ENDIAN);
    bytes.position(bytes.position() + size);
    return Message.getRootAsMessage(metadata);
  }

  private static ArrowBuf body(Message message, ByteBuffer bytes, ArrowBuf arrowIpc)
      throws IOException {
    var size = message.bodyLength();
    if (size < 0 || size > bytes.remaining()) {
      throw new IOException("an Arrow message that is cut short");
    }
    var body = arrowIpc.slice(bytes.position(), size);
    bytes.position(bytes.position() + (int) size);
    return body;
  }

  private static ArrowRecordBatch batch(Message message, ArrowBuf body) throws IOException {
    // Arrow releases what it is given, once the batch holds it.
    body.getReferenceManager().retain();
    try {
      return MessageSerializer.deserializeRecordBatch(message, body);
    } catch (IOException | RuntimeException unreadable) {
      body.getReferenceManager().release();
      throw unreadable;
    }
  }
}
