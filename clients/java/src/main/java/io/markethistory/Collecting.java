package io.markethistory;

import io.markethistory.v1.ReadLastResponse;
import org.apache.arrow.memory.BufferAllocator;
import org.apache.arrow.vector.VectorLoader;
import org.apache.arrow.vector.VectorSchemaRoot;
import org.apache.arrow.vector.ipc.message.ArrowRecordBatch;
import org.apache.arrow.vector.types.pojo.Schema;
import org.apache.arrow.vector.util.VectorSchemaRootAppender;

/** Puts all rows of a read into one root; what goes wrong leaves nothing behind. */
final class Collecting {

  private Collecting() {}

  /** All rows of a reader, which is closed. */
  static Rows collect(HistoryReader reader, BufferAllocator allocator) {
    try (reader) {
      var batch = reader.getVectorSchemaRoot();
      var all = empty(batch.getSchema(), allocator);
      try {
        while (reader.loadNextBatch()) {
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
    var messages = new ArrowMessages(allocator);
    var batches = messages.read(answer.getArrowIpc(), answer.getRowCount());
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

  /** A root that can be appended to: texts want memory from the start. */
  private static VectorSchemaRoot empty(Schema schema, BufferAllocator allocator) {
    var root = VectorSchemaRoot.create(schema, allocator);
    root.allocateNew();
    return root;
  }
}
