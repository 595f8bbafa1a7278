package io.markethistory.programs;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.protobuf.Timestamp;
import io.grpc.TlsChannelCredentials;
import io.markethistory.BadAnswerException;
import io.markethistory.IncompleteStreamException;
import io.markethistory.MarketHistoryClient;
import io.markethistory.MarketHistoryException;
import io.markethistory.Range;
import io.markethistory.ReadOptions;
import io.markethistory.RetryPolicy;
import io.markethistory.programs.Digest.Line;
import io.markethistory.v1.Compression;
import io.markethistory.v1.CoverageSpan;
import io.markethistory.v1.EnsureRangeResponse;
import io.markethistory.v1.TimeRange;
import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;

/**
 * Runs the cases that every client runs: {@code conformance TARGET CASES}; see
 * tests/clients/README.md.
 */
public final class Conformance {

  private record Case(
      String name,
      String series,
      String call,
      String start,
      String end,
      Integer last,
      List<String> columns,
      String compression) {

    Range range() {
      return new Range(instant(start), instant(end));
    }

    ReadOptions options() {
      var chosen = "none".equals(compression) ? "UNSPECIFIED" : compression.toUpperCase();
      return ReadOptions.DEFAULTS
          .withEnsure(false)
          .withColumns(columns == null ? new String[0] : columns.toArray(String[]::new))
          .withCompression(Compression.valueOf("COMPRESSION_" + chosen));
    }

    static Instant instant(String text) {
      return text == null ? null : Instant.parse(text);
    }
  }

  private record Outcome(long rows, String digest, String error, String message) {
    Outcome(long rows, String digest) {
      this(rows, digest, null, null);
    }
  }

  private static final RetryPolicy QUICK =
      new RetryPolicy(3, Duration.ofMillis(10), Duration.ofSeconds(10));

  private final MarketHistoryClient history;

  private Conformance(MarketHistoryClient history) {
    this.history = history;
  }

  /**
   * Runs all cases.
   *
   * @param args the target and the file of the cases
   * @throws IOException if the file cannot be read
   */
  public static void main(String[] args) throws IOException {
    var cases = new Gson().fromJson(Files.readString(Path.of(args[1])), Case[].class);
    var json = new GsonBuilder().serializeNulls().create();
    try (var history = connected(args[0])) {
      for (var one : cases) {
        var told = json.toJsonTree(new Conformance(history).outcome(one)).getAsJsonObject();
        told.addProperty("case", one.name);
        System.out.println(json.toJson(told));
      }
    }
  }

  private static MarketHistoryClient connected(String target) throws IOException {
    var builder = MarketHistoryClient.builder(target).retry(QUICK);
    var authority = System.getenv("CONFORMANCE_CA");
    if (authority != null) {
      var trusting = TlsChannelCredentials.newBuilder().trustManager(new File(authority));
      builder.tls(trusting.build());
    }
    var token = System.getenv("CONFORMANCE_TOKEN");
    return token == null ? builder.build() : builder.token(token).build();
  }

  private Outcome outcome(Case one) {
    try {
      return switch (one.call) {
        case "read" -> read(one);
        case "last" -> last(one);
        case "coverage" -> coverage(one);
        default -> ensure(one);
      };
    } catch (IncompleteStreamException cut) {
      return new Outcome(0, null, "STREAM_CUT", cut.getMessage());
    } catch (BadAnswerException broken) {
      return new Outcome(0, null, "CONTRACT_BROKEN", broken.getMessage());
    } catch (MarketHistoryException error) {
      return failed(error);
    }
  }

  private static Outcome failed(MarketHistoryException error) {
    if (error.reason().isEmpty()) {
      return new Outcome(0, null, error.code().name(), error.getMessage());
    }
    var pause = error.retryAfter().map(Duration::toMillis);
    var digest = Digest.ofError(error.reason(), error.metadata(), pause);
    return new Outcome(0, digest, error.reason(), error.getMessage());
  }

  private Outcome read(Case one) {
    var streamed = new Digest();
    try (var reader = history.readRange(one.series, one.range(), one.options())) {
      while (reader.loadNextBatch()) {
        streamed.add(reader.getVectorSchemaRoot());
      }
    }
    var digest = streamed.hex();
    try (var rows = history.read(one.series, one.range(), one.options())) {
      var collected = new Digest();
      collected.add(rows.root());
      return collected.hex().equals(digest)
          ? new Outcome(rows.root().getRowCount(), digest)
          : new Outcome(0, null, "TABLE_DIFFERS", null);
    }
  }

  private Outcome last(Case one) {
    try (var rows = history.last(one.series, one.last, Case.instant(one.end), one.options())) {
      var digest = new Digest();
      digest.add(rows.root());
      return new Outcome(rows.root().getRowCount(), digest.hex());
    }
  }

  private Outcome coverage(Case one) {
    var lines = history.coverage(one.series, one.range()).stream().map(Conformance::line).toList();
    return new Outcome(lines.stream().mapToLong(Line::rows).sum(), Digest.ofLines(lines));
  }

  private Outcome ensure(Case one) {
    var events = new ArrayList<EnsureRangeResponse>();
    var result = history.ensureRange(one.series, one.range(), events::add);
    var planned = events.get(0).getPlan().getRange();
    var lines = new ArrayList<Line>();
    events.forEach(event -> lines.add(line(event, planned)));
    result.getUncoveredList().forEach(span -> lines.add(line(span)));
    return new Outcome(result.getRowCount(), Digest.ofLines(lines));
  }

  private static Line line(EnsureRangeResponse event, TimeRange planned) {
    return switch (event.getEventCase()) {
      case PLAN -> line(planned, "PLAN", event.getPlan().getPageCount());
      case PROGRESS ->
          line(event.getProgress().getPage(), "PROGRESS", event.getProgress().getRowsDone());
      default -> line(planned, "RESULT", event.getResult().getRowCount());
    };
  }

  private static Line line(CoverageSpan span) {
    var state = span.getState().name().replace("COVERAGE_STATE_", "");
    return line(span.getRange(), state, span.getRowCount());
  }

  private static Line line(TimeRange range, String state, long rows) {
    return new Line(micros(range.getStart()), micros(range.getEnd()), state, rows);
  }

  private static long micros(Timestamp time) {
    return time.getSeconds() * 1_000_000 + time.getNanos() / 1000;
  }
}
