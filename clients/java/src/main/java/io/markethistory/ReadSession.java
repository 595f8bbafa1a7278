package io.markethistory;

import com.google.protobuf.Timestamp;
import io.markethistory.v1.ReadRangeRequest;
import io.markethistory.v1.ReadRangeResponse;
import io.markethistory.v1.ReadSummary;
import io.markethistory.v1.RowKey;
import io.markethistory.v1.TimeRange;
import java.util.Comparator;
import java.util.Deque;
import org.apache.arrow.vector.ipc.message.ArrowRecordBatch;
import org.apache.arrow.vector.types.pojo.ArrowType;
import org.apache.arrow.vector.types.pojo.Schema;

/**
 * One logical read over as many calls as it takes: what to ask next, what an answer means. No I/O.
 *
 * <p>The first message fixes the range; each message names the key of its last row. If a call
 * breaks, the next one asks for the same range after that key, so that rows are neither doubled nor
 * lost, and a moving end does not move. Only the summary ends a read: a stream that merely stops is
 * broken, whatever its status.
 *
 * <p>Promises: a row is handed on once; what does not fit (a key that does not ascend, a count that
 * differs, another schema) throws {@link BadAnswerException} instead of being handed on.
 */
final class ReadSession {

  private static final Comparator<RowKey> ORDER =
      Comparator.<RowKey>comparingLong(key -> key.getTs().getSeconds())
          .thenComparingInt(key -> key.getTs().getNanos())
          .thenComparingInt(RowKey::getSeq);

  private final ReadRangeRequest request;
  private ArrowMessages messages;
  private Schema schema;
  private TimeRange range;
  private RowKey lastKey;
  private RowKey resumedAfter;
  private ReadSummary summary;
  private long rowCount;
  private long callRows;

  ReadSession(ReadRangeRequest request) {
    this.request = request;
  }

  /** How the read ended; null until all rows are here. */
  ReadSummary summary() {
    return summary;
  }

  Schema schema() {
    return schema;
  }

  TimeRange range() {
    return range;
  }

  /** What to ask next: all of it at first, later what is left. */
  ReadRangeRequest next() {
    messages = new ArrowMessages();
    callRows = 0;
    resumedAfter = lastKey;
    if (range == null) {
      return request;
    }
    var rest = request.toBuilder().setRange(range);
    if (lastKey != null) {
      rest.setLast(0); // the resolved range begins at the first of the last N
      rest.setResumeAfter(lastKey);
    }
    return rest.build();
  }

  /** The rows of one frame, to be closed by the caller; keeps what else it says. */
  Deque<ArrowRecordBatch> receive(Frame frame, Attempts attempts) {
    attempts.heard();
    var message = frame.message();
    var batches = messages.read(frame.arrowIpc(), message.getRowCount());
    try {
      keepRange(message);
      keepSchema();
      if (message.getRowCount() > 0) {
        keepKey(message);
        attempts.progressed();
      }
      callRows += message.getRowCount();
      rowCount += message.getRowCount();
      if (message.hasSummary()) {
        keepSummary(message.getSummary());
      }
      return batches;
    } catch (BadAnswerException refused) {
      batches.forEach(ArrowRecordBatch::close);
      throw refused;
    }
  }

  /**
   * Checks the time of the first row after a resume, in microseconds; trades may share the time of
   * the row before.
   */
  void checkFirst(long time) {
    if (resumedAfter != null) {
      var last = micros(resumedAfter.getTs());
      if (time < last || (time == last && request.getSeries().startsWith("ohlcv:"))) {
        throw new BadAnswerException("the server sent rows that do not follow the rows before");
      }
      resumedAfter = null;
    }
  }

  /** The call ended well. Throws if the read did not. */
  void finish() {
    if (summary == null) {
      throw new IncompleteStreamException(
          "the stream of "
              + request.getSeries()
              + " ended after "
              + rowCount
              + " rows without its summary");
    }
  }

  private void keepRange(ReadRangeResponse message) {
    if (range == null) {
      if (!message.hasRange()) {
        throw new BadAnswerException("the server's first message does not state the range");
      }
      range = message.getRange();
    }
  }

  private void keepSchema() {
    if (schema == null) {
      schema = messages.schema();
    } else if (messages.schema() != null && !schema.equals(messages.schema())) {
      throw new BadAnswerException("the server changed the schema of a resumed stream");
    }
    if (schema != null && !(schema.getFields().get(0).getType() instanceof ArrowType.Timestamp)) {
      throw new BadAnswerException("the server sent rows whose first column is no time");
    }
  }

  private void keepKey(ReadRangeResponse message) {
    if (!message.hasLastKey()) {
      throw new BadAnswerException("the server sent rows without the key of the last");
    }
    if (lastKey != null && ORDER.compare(lastKey, message.getLastKey()) >= 0) {
      throw new BadAnswerException("the server sent rows that do not follow the rows before");
    }
    lastKey = message.getLastKey();
  }

  private void keepSummary(ReadSummary told) {
    if (told.getRowCount() != callRows) {
      var counted = " rows and counted " + told.getRowCount();
      throw new BadAnswerException("the server sent " + callRows + counted);
    }
    if (schema == null) {
      throw new BadAnswerException("the server sent no schema");
    }
    summary = told.toBuilder().setRowCount(rowCount).build();
  }

  static long micros(Timestamp time) {
    return time.getSeconds() * 1_000_000 + time.getNanos() / 1000;
  }
}
