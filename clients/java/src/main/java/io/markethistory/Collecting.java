package io.markethistory;

import io.markethistory.v1.ReadLastResponse;
import io.markethistory.v1.TimeRange;
import java.util.Deque;
import java.util.List;
import org.apache.arrow.memory.BufferAllocator;
import org.apache.arrow.vector.BaseFixedWidthVector;
import org.apache.arrow.vector.TimeStampVector;
import org.apache.arrow.vector.VectorLoader;
import org.apache.arrow.vector.VectorSchemaRoot;
import org.apache.arrow.vector.ipc.message.ArrowFieldNode;
import org.apache.arrow.vector.ipc.message.ArrowRecordBatch;
import org.apache.arrow.vector.types.pojo.Schema;
import org.apache.arrow.vector.util.VectorSchemaRootAppender;

/** Puts all rows of a read into one root; what goes wrong leaves nothing behind. */
final class Collecting {

  private static final long MOST_RESERVED_ROWS = 1 << 21; // 16 MiB a column

  private Collecting() {}

  /** All rows of a reader, which is closed. */
  static Rows collect(HistoryReader reader, BufferAllocator allocator) {
    try (reader) {
      var batch = reader.getVectorSchemaRoot();
      var all = empty(batch.getSchema(), allocator);
      try {
        while (reader.loadNextBatch()) {
          if (all.getRowCount() == 0) {
            reserve(all, expectedRows(batch, reader.range()));
          }
          VectorSchemaRootAppender.append(all, batch);
        }
        return new Rows(all, reader.summary(), reader.range());
      } catch (RuntimeException failure) {
        all.close();
        throw failure;
      }
    }
  }

  /** The rows of an answer that has them all. */
  static Rows rowsOf(ReadLastResponse answer, BufferAllocator allocator) {
    if (!answer.hasRange() || !answer.hasSummary()) {
      throw new BadAnswerException("the server's answer lacks its range or its summary");
    }
    if (answer.getRowCount() != answer.getSummary().getRowCount()) {
      var counted = " rows and counted " + answer.getSummary().getRowCount();
      throw new BadAnswerException("the server sent " + answer.getRowCount() + counted);
    }
    var messages = new ArrowMessages();
    var batches = read(messages, answer, allocator);
    try {
      if (messages.schema() == null) {
        throw new BadAnswerException("the server sent no schema");
      }
      var all = empty(messages.schema(), allocator);
      try (var part = VectorSchemaRoot.create(messages.schema(), allocator)) {
        var loader = new VectorLoader(part);
        for (var batch : batches) {
          loader.load(batch);
          VectorSchemaRootAppender.append(all, part);
        }
        return new Rows(all, answer.getSummary(), answer.getRange());
      } catch (RuntimeException failure) {
        all.close();
        throw failure;
      }
    } finally {
      batches.forEach(ArrowRecordBatch::close);
    }
  }

  /** How many rows come if they go on as densely as they begin, within bounds: a guess. */
  private static long expectedRows(VectorSchemaRoot first, TimeRange range) {
    var rows = first.getRowCount();
    var start = ReadSession.micros(range.getStart());
    var whole = ReadSession.micros(range.getEnd()) - start;
    var part = TimeStampVector.get(first.getVector(0).getDataBuffer(), rows - 1) - start;
    var expected = part > 0 ? (double) rows * whole / part : rows;
    return (long) Math.max(rows, Math.min(expected, MOST_RESERVED_ROWS));
  }

  /**
   * Gives memory for so many rows to a root without any. One that grows copies its rows each time,
   * and writes zeros over what it gained; what is reserved and not written to takes no memory.
   */
  private static void reserve(VectorSchemaRoot root, long rows) {
    var bytes = (rows + Byte.SIZE - 1) / Byte.SIZE;
    for (var vector : root.getFieldVectors()) {
      if (vector instanceof BaseFixedWidthVector fixed && fixed.getTypeWidth() > 0) {
        var allocator = fixed.getAllocator();
        try (var validity = allocator.buffer(bytes);
            var values = allocator.buffer(bytes * Byte.SIZE * fixed.getTypeWidth())) {
          fixed.loadFieldBuffers(new ArrowFieldNode(0, 0), List.of(validity, values));
        }
      }
    }
  }

  private static Deque<ArrowRecordBatch> read(
      ArrowMessages messages, ReadLastResponse answer, BufferAllocator allocator) {
    var bytes = answer.getArrowIpc();
    try (var arrowIpc = allocator.buffer(bytes.size())) {
      arrowIpc.writeBytes(bytes.toByteArray());
      return messages.read(arrowIpc, answer.getRowCount());
    }
  }

  /** A root that can be appended to: texts want memory from the start. */
  private static VectorSchemaRoot empty(Schema schema, BufferAllocator allocator) {
    var root = VectorSchemaRoot.create(schema, allocator);
    root.allocateNew();
    return root;
  }
}
