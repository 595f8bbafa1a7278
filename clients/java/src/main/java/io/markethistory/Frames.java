package io.markethistory;

import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.stub.ClientCalls;
import io.markethistory.v1.HistoryServiceGrpc;
import io.markethistory.v1.HistoryServiceGrpc.HistoryServiceBlockingStub;
import io.markethistory.v1.ReadRangeRequest;
import java.io.IOException;
import java.io.InputStream;
import java.util.Iterator;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import org.apache.arrow.memory.BufferAllocator;

/**
 * The frames of one reader on their way to it.
 *
 * <p>gRPC parses in a thread of its own: some frames ahead of the reader, and still while it is
 * closed. A frame belongs to this until it is taken, so that none is left behind.
 */
final class Frames implements MethodDescriptor.Marshaller<Frame>, AutoCloseable {

  private final HistoryServiceBlockingStub service;
  private final BufferAllocator allocator;
  private final Queue<Frame> waiting = new ConcurrentLinkedQueue<>();
  private boolean closed;

  Frames(HistoryServiceBlockingStub service, BufferAllocator allocator) {
    this.service = service;
    this.allocator = allocator;
  }

  /** The stub's call, except that its answers are frames, each of which is to be {@link #taken}. */
  Iterator<Frame> ask(ReadRangeRequest request) {
    var method = HistoryServiceGrpc.getReadRangeMethod();
    return ClientCalls.blockingServerStreamingCall(
        service.getChannel(),
        method.toBuilder(method.getRequestMarshaller(), this).build(),
        service.getCallOptions(),
        request);
  }

  /** The frame, to be closed by the caller from now on. */
  Frame taken(Frame frame) {
    if (!waiting.removeIf(other -> other == frame)) {
      throw new IllegalStateException("the reader is closed");
    }
    return frame;
  }

  @Override
  public synchronized Frame parse(InputStream stream) {
    if (closed) {
      throw Status.CANCELLED.withDescription("the reader is closed").asRuntimeException();
    }
    try {
      var frame = FrameParser.parse(stream, allocator);
      waiting.add(frame);
      return frame;
    } catch (IOException unreadable) {
      throw Status.INTERNAL
          .withDescription("the server sent a message that cannot be read")
          .withCause(unreadable)
          .asRuntimeException();
    }
  }

  @Override
  public InputStream stream(Frame frame) {
    throw new UnsupportedOperationException("frames are read only");
  }

  /**
   * Frees what was not taken, waiting for what is being parsed; refuses what is parsed from now on.
   */
  @Override
  public synchronized void close() {
    closed = true;
    for (var frame = waiting.poll(); frame != null; frame = waiting.poll()) {
      frame.close();
    }
  }
}
