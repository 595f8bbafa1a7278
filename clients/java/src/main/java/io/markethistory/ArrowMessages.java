package io.markethistory;

import com.google.protobuf.ByteString;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.ReadableByteChannel;
import java.util.ArrayDeque;
import java.util.Deque;
import org.apache.arrow.flatbuf.MessageHeader;
import org.apache.arrow.memory.BufferAllocator;
import org.apache.arrow.util.AutoCloseables;
import org.apache.arrow.vector.ipc.ReadChannel;
import org.apache.arrow.vector.ipc.message.ArrowRecordBatch;
import org.apache.arrow.vector.ipc.message.MessageSerializer;
import org.apache.arrow.vector.types.pojo.Schema;

/**
 * Reads the Arrow bytes of messages, message by message: nothing is held beyond one of them.
 *
 * <p>Never does: judge whether a stream is complete.
 */
final class ArrowMessages {

  private final BufferAllocator allocator;
  private Schema schema;

  ArrowMessages(BufferAllocator allocator) {
    this.allocator = allocator;
  }

  /** The rows' schema, null until a message brought it. */
  Schema schema() {
    return schema;
  }

  /**
   * The batches of one message, to be closed by the caller.
   *
   * @throws BadAnswerException if it cannot be read, or has other than {@code rowCount} rows
   */
  Deque<ArrowRecordBatch> read(ByteString arrowIpc, long rowCount) {
    var batches = new ArrayDeque<ArrowRecordBatch>();
    try {
      readInto(batches, arrowIpc);
      var rows = batches.stream().mapToLong(ArrowRecordBatch::getLength).sum();
      if (rows != rowCount) {
        var counted = " rows in a message and counted " + rowCount;
        throw new BadAnswerException("the server sent " + rows + counted);
      }
      return batches;
    } catch (IOException | IllegalArgumentException | IndexOutOfBoundsException unreadable) {
      AutoCloseables.closeNoChecked(() -> AutoCloseables.close(batches));
      throw new BadAnswerException("the server sent a message that cannot be read", unreadable);
    } catch (RuntimeException refused) {
      AutoCloseables.closeNoChecked(() -> AutoCloseables.close(batches));
      throw refused;
    }
  }

  private void readInto(Deque<ArrowRecordBatch> batches, ByteString arrowIpc) throws IOException {
    var channel = new ReadChannel(new BytesChannel(arrowIpc.asReadOnlyByteBuffer()));
    // Null at the end-of-stream marker, or where the bytes end.
    for (var next = MessageSerializer.readMessage(channel);
        next != null;
        next = MessageSerializer.readMessage(channel)) {
      var message = next.getMessage();
      if (message.headerType() == MessageHeader.Schema) {
        schema = MessageSerializer.deserializeSchema(message);
      } else if (message.headerType() == MessageHeader.RecordBatch && schema != null) {
        var body = MessageSerializer.readMessageBody(channel, message.bodyLength(), allocator);
        batches.add(MessageSerializer.deserializeRecordBatch(message, body));
      } else {
        throw new IOException("an Arrow message that does not belong here");
      }
    }
  }

  /** Bytes as a channel, which copies them once: straight to where Arrow wants them. */
  private record BytesChannel(ByteBuffer bytes) implements ReadableByteChannel {

    @Override
    public int read(ByteBuffer target) {
      if (!bytes.hasRemaining()) {
        return -1;
      }
      var size = Math.min(bytes.remaining(), target.remaining());
      target.put(bytes.slice(bytes.position(), size));
      bytes.position(bytes.position() + size);
      return size;
    }

    @Override
    public boolean isOpen() {
      return true;
    }

    @Override
    public void close() {
      // There is nothing to close.
    }
  }
}
