package io.markethistory;

import io.grpc.Context;
import io.grpc.StatusRuntimeException;
import io.markethistory.v1.ReadRangeRequest;
import io.markethistory.v1.ReadSummary;
import io.markethistory.v1.TimeRange;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.Iterator;
import java.util.function.Supplier;
import org.apache.arrow.compression.CommonsCompressionFactory;
import org.apache.arrow.memory.BufferAllocator;
import org.apache.arrow.vector.TimeStampVector;
import org.apache.arrow.vector.VectorSchemaRoot;
import org.apache.arrow.vector.ipc.ArrowReader;
import org.apache.arrow.vector.ipc.message.ArrowRecordBatch;
import org.apache.arrow.vector.types.pojo.Schema;

/**
 * Rows of a read as they come, batch by batch in key order, in bounded memory: an {@link
 * ArrowReader}, so whatever takes one takes this.
 *
 * <p>{@link #loadNextBatch()} puts the next rows into {@link #getVectorSchemaRoot()}, where they
 * stay until the next load. A broken stream is resumed after its last row; if it breaks for good,
 * {@code loadNextBatch} throws, and what was taken from it is incomplete. Used by one thread;
 * {@link #cancel()} may be called by any.
 */
public final class HistoryReader extends ArrowReader {

  private final Frames frames;
  private final ReadSession session;
  private final Attempts attempts;
  private final Context.CancellableContext call;
  private final Deque<ArrowRecordBatch> waiting = new ArrayDeque<>();
  private Iterator<Frame> answers;
  private MarketHistoryException failure;
  private long bytesRead;

  HistoryReader(
      Frames frames, ReadRangeRequest request, BufferAllocator allocator, RetryPolicy policy) {
    super(allocator, CommonsCompressionFactory.INSTANCE);
    this.frames = frames;
    this.session = new ReadSession(request);
    this.attempts = new Attempts(policy);
    this.call = Context.current().withCancellation();
  }

  /**
   * The rows last loaded; always the same root. Waits for the first message if none was loaded yet.
   *
   * @return the root, owned by this reader
   * @throws MarketHistoryException if the read fails
   */
  @Override
  public VectorSchemaRoot getVectorSchemaRoot() {
    try {
      return super.getVectorSchemaRoot();
    } catch (IOException impossible) {
      throw new UncheckedIOException(impossible);
    }
  }

  /**
   * Loads the next batch of at least one row.
   *
   * @return whether there was one; false: all rows were read, and {@link #summary()} tells how it
   *     ended
   * @throws MarketHistoryException if the read fails
   */
  @Override
  public boolean loadNextBatch() {
    return kept(this::load);
  }

  private boolean load() {
    prepare();
    while (waiting.isEmpty()) {
      if (session.summary() != null) {
        return false;
      }
      receive();
    }
    loadRecordBatch(waiting.remove());
    var times = (TimeStampVector) getVectorSchemaRoot().getVector(0);
    session.checkFirst(times.get(0));
    return true;
  }

  /** A read that has failed has failed: no row comes after that. */
  private <T> T kept(Supplier<T> work) {
    if (failure != null) {
      throw failure;
    }
    try {
      return work.get();
    } catch (MarketHistoryException error) {
      failure = error;
      cancel();
      throw error;
    }
  }

  /**
   * How the read ended.
   *
   * @return the summary, over all resumed calls
   * @throws IllegalStateException before all rows were read
   */
  public ReadSummary summary() {
    if (session.summary() == null) {
      throw new IllegalStateException("the summary comes at the end of the stream");
    }
    return session.summary();
  }

  /**
   * The range as the server resolved it. Waits for the first message if none was loaded yet.
   *
   * @return the range
   * @throws MarketHistoryException if the read fails
   */
  public TimeRange range() {
    getVectorSchemaRoot(); // waits; to prepare the next load would take away the rows of the last
    return session.range();
  }

  /**
   * Ends the read; a thread that waits for rows gets a {@link MarketHistoryException} of code
   * CANCELLED.
   */
  public void cancel() {
    call.cancel(null);
  }

  /** Cancels the read if it is under way, and frees the rows last loaded. */
  @Override
  public void close() {
    try {
      super.close();
    } catch (IOException impossible) {
      throw new UncheckedIOException(impossible);
    }
  }

  /**
   * Arrow bytes taken from the server so far.
   *
   * @return so many bytes
   */
  @Override
  public long bytesRead() {
    return bytesRead;
  }

  @Override
  protected void closeReadSource() {
    cancel();
    frames.close();
    waiting.forEach(ArrowRecordBatch::close);
    waiting.clear();
  }

  @Override
  protected Schema readSchema() {
    return kept(
        () -> {
          while (session.schema() == null) {
            receive();
          }
          return session.schema();
        });
  }

  private void prepare() {
    try {
      prepareLoadNextBatch();
    } catch (IOException impossible) {
      throw new UncheckedIOException(impossible);
    }
  }

  /** Takes the next message, of the call under way or of a new one. */
  private void receive() {
    try {
      if (answers == null) {
        answers = under(call, () -> frames.ask(session.next()));
      }
      if (!answers.hasNext()) {
        session.finish();
        return;
      }
      try (var frame = frames.taken(answers.next())) {
        bytesRead += frame.arrowIpc().readableBytes();
        waiting.addAll(session.receive(frame, attempts));
      }
    } catch (StatusRuntimeException failure) {
      retry(MarketHistoryException.of(failure));
    } catch (IncompleteStreamException cut) {
      retry(cut);
    }
  }

  private void retry(MarketHistoryException error) {
    answers = null;
    if (session.summary() == null) {
      attempts.pauseAfter(error, call);
    }
  }

  private static <T> T under(Context context, Supplier<T> work) {
    var before = context.attach();
    try {
      return work.get();
    } finally {
      context.detach(before);
    }
  }
}
