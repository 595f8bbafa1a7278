package io.markethistory;

import io.grpc.ChannelCredentials;
import io.grpc.Context;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.StatusRuntimeException;
import io.grpc.TlsChannelCredentials;
import io.grpc.stub.MetadataUtils;
import io.markethistory.v1.Compression;
import io.markethistory.v1.CoverageRequest;
import io.markethistory.v1.CoverageSpan;
import io.markethistory.v1.EnsurePlan;
import io.markethistory.v1.EnsureRangeRequest;
import io.markethistory.v1.EnsureRangeResponse;
import io.markethistory.v1.EnsureResult;
import io.markethistory.v1.HistoryServiceGrpc;
import io.markethistory.v1.HistoryServiceGrpc.HistoryServiceBlockingStub;
import io.markethistory.v1.ReadLastRequest;
import io.markethistory.v1.ReadLastResponse;
import io.markethistory.v1.ReadRangeRequest;
import java.time.Instant;
import java.util.List;
import java.util.Objects;
import java.util.function.Consumer;
import java.util.function.Supplier;
import java.util.regex.Pattern;
import org.apache.arrow.memory.BufferAllocator;
import org.apache.arrow.memory.RootAllocator;

/**
 * Asks one server for market history. Safe for use by several threads; to be closed when it is no
 * longer needed.
 *
 * <p>Every method throws {@link MarketHistoryException} for what goes wrong at the server or on the
 * way, {@link IllegalArgumentException} for arguments that cannot be right. Calls belong to the
 * gRPC {@link Context} in which they are made: if that is cancelled or its deadline passes, they
 * end.
 */
public final class MarketHistoryClient implements AutoCloseable {

  // The request bounds the chunks to 3 MiB; a single row that is larger comes alone.
  private static final int MOST_MESSAGE_BYTES = 64 << 20;
  private static final Pattern LOOPBACK =
      Pattern.compile("(localhost|127(\\.\\d+){3}|\\[::1])(:\\d+)?");
  private static final int MOST_FEW = 1_000;
  private static final int MOST_LAST = 10_000_000;
  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

  private final ManagedChannel channel;
  private final HistoryServiceBlockingStub service;
  private final RetryPolicy retry;
  private final BufferAllocator allocator;

  private MarketHistoryClient(Builder builder) {
    channel =
        Grpc.newChannelBuilder(builder.target, builder.credentials)
            .maxInboundMessageSize(MOST_MESSAGE_BYTES)
            .build();
    service =
        HistoryServiceGrpc.newBlockingStub(channel)
            .withInterceptors(MetadataUtils.newAttachHeadersInterceptor(builder.headers));
    retry = builder.retry;
    allocator = new RootAllocator();
  }

  /**
   * A client of the server at a target, without TLS and token. Nothing is sent before the first
   * call.
   *
   * @param target {@code host:port}
   * @return the client
   */
  public static MarketHistoryClient connect(String target) {
    return builder(target).build();
  }

  /**
   * A client with more choices.
   *
   * @param target {@code host:port}
   * @return what makes the client
   */
  public static Builder builder(String target) {
    return new Builder(target);
  }

  /**
   * What is known about a range. Never asks the exchange.
   *
   * @param series such as {@code ohlcv:binance:BTC/USDT:1m}
   * @param range the range
   * @return spans that tile it, ascending, without holes
   */
  public List<CoverageSpan> coverage(String series, Range range) {
    var request =
        CoverageRequest.newBuilder().setSeries(series).setRange(range.toMessage()).build();
    return translated(() -> service.coverage(request)).getSpansList();
  }

  /**
   * What {@link #ensureRange} would do. Nothing is fetched.
   *
   * @param series such as {@code ohlcv:binance:BTC/USDT:1m}
   * @param range the range
   * @return the plan
   */
  public EnsurePlan plan(String series, Range range) {
    var request = ensureRequest(series, range).setPlanOnly(true).build();
    return ensure(request, event -> {}).plan();
  }

  /**
   * Makes a range covered: fetches what the server does not have.
   *
   * @param series such as {@code ohlcv:binance:BTC/USDT:1m}
   * @param range the range
   * @param listener told of the plan first, of progress at least once a second, of the result last;
   *     what it throws ends the call
   * @return what was done
   */
  public EnsureResult ensureRange(
      String series, Range range, Consumer<EnsureRangeResponse> listener) {
    return ensure(ensureRequest(series, range).build(), listener).result();
  }

  /**
   * Asks the exchange again for what is covered already: its newest answer replaces the old one.
   *
   * @param series such as {@code ohlcv:binance:BTC/USDT:1m}
   * @param range the range
   * @param listener as in {@link #ensureRange}
   * @return what was done
   */
  public EnsureResult refreshRange(
      String series, Range range, Consumer<EnsureRangeResponse> listener) {
    return ensure(ensureRequest(series, range).setRefresh(true).build(), listener).result();
  }

  /**
   * The rows of a range as they come, in bounded memory.
   *
   * @param series such as {@code ohlcv:binance:BTC/USDT:1m}
   * @param range the range
   * @param options what else can be chosen
   * @return the rows, to be closed
   */
  public HistoryReader readRange(String series, Range range, ReadOptions options) {
    return reader(options.readRange(series, range));
  }

  /**
   * The rows of a range as they come, with the usual options.
   *
   * @param series such as {@code ohlcv:binance:BTC/USDT:1m}
   * @param range the range
   * @return the rows, to be closed
   */
  public HistoryReader readRange(String series, Range range) {
    return readRange(series, range, ReadOptions.DEFAULTS);
  }

  /**
   * The rows of a range, all of them or none.
   *
   * @param series such as {@code ohlcv:binance:BTC/USDT:1m}
   * @param range the range
   * @param options what else can be chosen
   * @return the rows, to be closed
   */
  public Rows read(String series, Range range, ReadOptions options) {
    return Collecting.collect(readRange(series, range, options), allocator);
  }

  /**
   * The rows of a range, all of them or none, with the usual options.
   *
   * @param series such as {@code ohlcv:binance:BTC/USDT:1m}
   * @param range the range
   * @return the rows, to be closed
   */
  public Rows read(String series, Range range) {
    return read(series, range, ReadOptions.DEFAULTS);
  }

  /**
   * The last rows before an instant, ascending; fewer than asked for if there are no more.
   *
   * @param series such as {@code ohlcv:binance:BTC/USDT:1m}
   * @param count how many, from 1 to 10,000,000
   * @param end first instant after the rows; null: now
   * @param options what else can be chosen
   * @return the rows, to be closed
   */
  public Rows last(String series, int count, Instant end, ReadOptions options) {
    if (count < 1 || count > MOST_LAST) {
      throw new IllegalArgumentException("count: must be from 1 to 10,000,000, got " + count);
    }
    var range = new Range(null, end);
    if (count <= MOST_FEW && options.compression() == Compression.COMPRESSION_UNSPECIFIED) {
      return Collecting.rowsOf(readLast(options.readLast(series, count, end)), allocator);
    }
    var request = options.readRange(series, range).toBuilder().setLast(count).build();
    return Collecting.collect(reader(request), allocator);
  }

  /**
   * The last rows before now, with the usual options.
   *
   * @param series such as {@code ohlcv:binance:BTC/USDT:1m}
   * @param count how many, from 1 to 10,000,000
   * @return the rows, to be closed
   */
  public Rows last(String series, int count) {
    return last(series, count, null, ReadOptions.DEFAULTS);
  }

  /**
   * The generated stub, for what is not wrapped here: listSeries, listMarkets. It throws {@link
   * StatusRuntimeException}s.
   *
   * @return the stub, with this client's token
   */
  public HistoryServiceBlockingStub service() {
    return service;
  }

  /** Closes the connection; calls under way fail. Readers and rows are to be closed before. */
  @Override
  public void close() {
    channel.shutdownNow();
    allocator.close();
  }

  private HistoryReader reader(ReadRangeRequest request) {
    return new HistoryReader(new Frames(service, allocator), request, allocator, retry);
  }

  private ReadLastResponse readLast(ReadLastRequest request) {
    var attempts = new Attempts(retry);
    try (var call = Context.current().withCancellation()) {
      while (true) {
        try {
          return translated(() -> service.readLast(request));
        } catch (MarketHistoryException error) {
          attempts.pauseAfter(error, call);
        }
      }
    }
  }

  private EnsureSession ensure(EnsureRangeRequest request, Consumer<EnsureRangeResponse> listener) {
    var session = new EnsureSession(request);
    var attempts = new Attempts(retry);
    while (!session.done()) {
      try (var call = Context.current().withCancellation()) {
        try {
          ensureOnce(session, attempts, call, listener);
        } catch (MarketHistoryException error) {
          if (!session.done()) {
            attempts.pauseAfter(error, call);
          }
        }
      }
    }
    return session;
  }

  private void ensureOnce(
      EnsureSession session,
      Attempts attempts,
      Context call,
      Consumer<EnsureRangeResponse> listener) {
    var before = call.attach();
    try {
      var answers = translated(() -> service.ensureRange(session.next()));
      while (translated(answers::hasNext)) {
        session.receive(answers.next(), attempts).ifPresent(listener);
      }
      session.finish();
    } finally {
      call.detach(before);
    }
  }

  private static EnsureRangeRequest.Builder ensureRequest(String series, Range range) {
    return EnsureRangeRequest.newBuilder().setSeries(series).setRange(range.toMessage());
  }

  private static <T> T translated(Supplier<T> call) {
    try {
      return call.get();
    } catch (StatusRuntimeException failure) {
      throw MarketHistoryException.of(failure);
    }
  }

  /** Makes a client. */
  public static final class Builder {

    private final String target;
    private final Metadata headers = new Metadata();
    private ChannelCredentials credentials = InsecureChannelCredentials.create();
    private RetryPolicy retry = RetryPolicy.DEFAULT;

    private Builder(String target) {
      this.target = Objects.requireNonNull(target);
    }

    /**
     * Asks with TLS, trusting the system's certificates.
     *
     * @return this
     */
    public Builder tls() {
      return tls(TlsChannelCredentials.create());
    }

    /**
     * Asks with TLS as told.
     *
     * @param chosen such as {@link TlsChannelCredentials} with a trust manager or a key of one's
     *     own
     * @return this
     */
    public Builder tls(ChannelCredentials chosen) {
      credentials = chosen;
      return this;
    }

    /**
     * Sends a token with each call, if the server asks for one. It needs TLS, unless the server is
     * on this machine.
     *
     * @param token the token
     * @return this
     */
    public Builder token(String token) {
      headers.put(AUTHORIZATION, "Bearer " + token);
      return this;
    }

    /**
     * Resumes broken streams otherwise than {@link RetryPolicy#DEFAULT}.
     *
     * @param policy how
     * @return this
     */
    public Builder retry(RetryPolicy policy) {
      retry = policy;
      return this;
    }

    /**
     * Makes the client. Nothing is sent before the first call.
     *
     * @return the client
     * @throws IllegalArgumentException if a token would go to another machine without TLS
     */
    public MarketHistoryClient build() {
      if (headers.containsKey(AUTHORIZATION)
          && credentials instanceof InsecureChannelCredentials
          && !LOOPBACK.matcher(target).matches()) {
        throw new IllegalArgumentException(
            "token: needs tls, unless the server is on this machine: anybody on the way could read"
                + " it");
      }
      return new MarketHistoryClient(this);
    }
  }
}
