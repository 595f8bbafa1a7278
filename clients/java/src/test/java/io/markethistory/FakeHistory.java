package io.markethistory;

import com.google.protobuf.ByteString;
import com.google.protobuf.Timestamp;
import io.grpc.BindableService;
import io.grpc.Context;
import io.grpc.Grpc;
import io.grpc.InsecureServerCredentials;
import io.grpc.Metadata;
import io.grpc.Server;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.stub.ServerCallStreamObserver;
import io.grpc.stub.StreamObserver;
import io.markethistory.v1.CoverageRequest;
import io.markethistory.v1.CoverageResponse;
import io.markethistory.v1.HistoryServiceGrpc.HistoryServiceImplBase;
import io.markethistory.v1.ReadRangeRequest;
import io.markethistory.v1.ReadRangeResponse;
import io.markethistory.v1.ReadSummary;
import io.markethistory.v1.RowKey;
import io.markethistory.v1.TimeRange;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.channels.Channels;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.function.Consumer;
import org.apache.arrow.memory.RootAllocator;
import org.apache.arrow.vector.Float8Vector;
import org.apache.arrow.vector.TimeStampMicroTZVector;
import org.apache.arrow.vector.VectorSchemaRoot;
import org.apache.arrow.vector.VectorUnloader;
import org.apache.arrow.vector.ipc.WriteChannel;
import org.apache.arrow.vector.ipc.message.MessageSerializer;
import org.apache.arrow.vector.types.FloatingPointPrecision;
import org.apache.arrow.vector.types.TimeUnit;
import org.apache.arrow.vector.types.pojo.ArrowType;
import org.apache.arrow.vector.types.pojo.Field;
import org.apache.arrow.vector.types.pojo.FieldType;
import org.apache.arrow.vector.types.pojo.Schema;

/** A HistoryService that plays a script, on a real server: the peer of the tests. */
final class FakeHistory extends HistoryServiceImplBase implements AutoCloseable {

  static final String SERIES = "ohlcv:binance:BTC/USDT:1m";
  static final Range DAY = Range.of("2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z");
  private static final long START_S = 1_704_067_200;
  private static final Schema SCHEMA =
      new Schema(
          List.of(
              new Field(
                  "ts",
                  FieldType.notNullable(new ArrowType.Timestamp(TimeUnit.MICROSECOND, "UTC")),
                  null),
              Field.nullable("close", new ArrowType.FloatingPoint(FloatingPointPrecision.DOUBLE))));

  /** Which calls were cancelled, and the authorization that each call carried. */
  final BlockingQueue<String> cancelled = new LinkedBlockingQueue<>();

  final BlockingQueue<String> authorizations = new LinkedBlockingQueue<>();

  private final Consumer<ServerCallStreamObserver<ReadRangeResponse>> script;
  private final Server server;

  /** Where it listens, or did. */
  final String target;

  FakeHistory(Consumer<ServerCallStreamObserver<ReadRangeResponse>> script) {
    this.script = script;
    try {
      server =
          Grpc.newServerBuilderForPort(0, InsecureServerCredentials.create())
              .addService((BindableService) this)
              .intercept(new Noting())
              .build()
              .start();
    } catch (IOException impossible) {
      throw new UncheckedIOException(impossible);
    }
    target = "127.0.0.1:" + server.getPort();
  }

  /** A server whose reads answer with these messages. */
  static FakeHistory answering(List<ReadRangeResponse> messages) {
    return new FakeHistory(
        answer -> {
          messages.forEach(answer::onNext);
          answer.onCompleted();
        });
  }

  @Override
  public void readRange(ReadRangeRequest request, StreamObserver<ReadRangeResponse> answer) {
    Context.current().addListener(context -> cancelled.add("readRange"), Runnable::run);
    script.accept((ServerCallStreamObserver<ReadRangeResponse>) answer);
  }

  @Override
  public void coverage(CoverageRequest request, StreamObserver<CoverageResponse> answer) {
    answer.onNext(CoverageResponse.getDefaultInstance());
    answer.onCompleted();
  }

  @Override
  public void close() {
    server.shutdownNow();
  }

  /** The messages of one whole read, of so many one-minute bars each. */
  static List<ReadRangeResponse> messages(int... counts) {
    var messages = new ArrayList<ReadRangeResponse>();
    var first = 0;
    for (var count : counts) {
      messages.add(message(first, count));
      first += count;
    }
    var last = messages.size() - 1;
    var summary = ReadSummary.newBuilder().setRowCount(first).setComplete(true);
    messages.set(last, messages.get(last).toBuilder().setSummary(summary).build());
    return messages;
  }

  /**
   * Bars from the {@code first} minute of the day; the first message has the range and the schema.
   */
  static ReadRangeResponse message(int first, int count) {
    var message =
        ReadRangeResponse.newBuilder()
            .setRowCount(count)
            .setLastKey(RowKey.newBuilder().setTs(time(first + count - 1)))
            .setArrowIpc(encoded(first, count));
    if (first == 0) {
      message.setRange(TimeRange.newBuilder().setStart(time(0)).setEnd(time(1440)));
    }
    return message.build();
  }

  private static Timestamp time(int minute) {
    return Timestamp.newBuilder().setSeconds(START_S + minute * 60L).build();
  }

  private static ByteString encoded(int first, int count) {
    var bytes = new ByteArrayOutputStream();
    try (var allocator = new RootAllocator();
        var root = VectorSchemaRoot.create(SCHEMA, allocator)) {
      var times = (TimeStampMicroTZVector) root.getVector("ts");
      var closes = (Float8Vector) root.getVector("close");
      for (var row = 0; row < count; row++) {
        times.setSafe(row, (START_S + (first + row) * 60L) * 1_000_000);
        closes.setSafe(row, first + row + 0.5);
      }
      root.setRowCount(count);
      var channel = new WriteChannel(Channels.newChannel(bytes));
      if (first == 0) {
        MessageSerializer.serialize(channel, SCHEMA);
      }
      try (var batch = new VectorUnloader(root).getRecordBatch()) {
        MessageSerializer.serialize(channel, batch);
      }
    } catch (IOException impossible) {
      throw new UncheckedIOException(impossible);
    }
    return ByteString.copyFrom(bytes.toByteArray());
  }

  private final class Noting implements ServerInterceptor {
    @Override
    public <Q, A> ServerCall.Listener<Q> interceptCall(
        ServerCall<Q, A> call, Metadata headers, ServerCallHandler<Q, A> next) {
      var key = Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
      authorizations.add(String.valueOf(headers.get(key)));
      return next.startCall(call, headers);
    }
  }
}
