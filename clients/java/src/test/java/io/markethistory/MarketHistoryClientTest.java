package io.markethistory;

import static io.markethistory.FakeHistory.DAY;
import static io.markethistory.FakeHistory.SERIES;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.grpc.Context;
import io.grpc.Status;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.arrow.vector.Float8Vector;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/**
 * The client against a server that plays scripts. What the golden cases check (tests/clients) is
 * not checked again. A client that is closed while a row is still in its memory throws, so each
 * test shows that nothing is left behind.
 */
@Timeout(300) // a bound on hangs
class MarketHistoryClientTest {

  private static final RetryPolicy QUICK =
      new RetryPolicy(3, Duration.ofMillis(1), Duration.ofSeconds(1));
  private static final RetryPolicy PATIENT =
      new RetryPolicy(3, Duration.ofHours(1), Duration.ofHours(1));

  private static MarketHistoryClient client(FakeHistory server) {
    return MarketHistoryClient.builder(server.target).retry(QUICK).build();
  }

  @Test
  void allRowsAreCollected() {
    try (var server = FakeHistory.answering(FakeHistory.messages(3, 2));
        var history = client(server);
        var rows = history.read(SERIES, DAY)) {
      assertEquals(5, rows.root().getRowCount());
      assertEquals(5, rows.summary().getRowCount());
      assertEquals(4.5, ((Float8Vector) rows.root().getVector("close")).get(4));
    }
  }

  @Test
  void moreRowsThanTheFirstLetExpectAreCollected() {
    for (var first : List.of(1, 2, 700, 1440)) {
      try (var server = FakeHistory.answering(FakeHistory.messages(first, 3, 70, 4000, 60_001));
          var history = client(server);
          var rows = history.read(SERIES, DAY)) {
        var closes = (Float8Vector) rows.root().getVector("close");
        assertEquals(first + 64_074, rows.root().getRowCount());
        for (var row = 0; row < rows.root().getRowCount(); row++) {
          assertEquals(row + 0.5, closes.get(row));
        }
      }
    }
  }

  @Test
  void messagesMayBeCompressed() {
    var messages = FakeHistory.messages(300, 200);
    try (var server =
            new FakeHistory(
                answer -> {
                  answer.setCompression("gzip");
                  messages.forEach(answer::onNext);
                  answer.onCompleted();
                });
        var history = client(server);
        var rows = history.read(SERIES, DAY)) {
      assertEquals(500, rows.root().getRowCount());
      assertEquals(499.5, ((Float8Vector) rows.root().getVector("close")).get(499));
    }
  }

  @Test
  void askingForTheRangeLeavesTheRowsThatAreLoaded() {
    try (var server = FakeHistory.answering(FakeHistory.messages(3));
        var history = client(server);
        var reader = history.readRange(SERIES, DAY)) {
      assertTrue(reader.loadNextBatch());
      assertTrue(reader.range().hasEnd());
      assertEquals(3, reader.getVectorSchemaRoot().getRowCount());
    }
  }

  @Test
  void batchesComeOneByOneAndTheSummaryAtTheEnd() {
    try (var server = FakeHistory.answering(FakeHistory.messages(3, 2));
        var history = client(server);
        var reader = history.readRange(SERIES, DAY)) {
      assertThrows(IllegalStateException.class, reader::summary);
      assertTrue(reader.loadNextBatch());
      assertEquals(3, reader.getVectorSchemaRoot().getRowCount());
      assertTrue(reader.loadNextBatch());
      assertEquals(2, reader.getVectorSchemaRoot().getRowCount());
      assertFalse(reader.loadNextBatch());
      assertTrue(reader.summary().getComplete());
      assertTrue(reader.bytesRead() > 0);
    }
  }

  @Test
  void otherRowsThanCountedAreRefused() {
    var wrong = FakeHistory.message(0, 3).toBuilder().setRowCount(4).build();
    try (var server = FakeHistory.answering(List.of(wrong));
        var history = client(server)) {
      var error = assertThrows(BadAnswerException.class, () -> history.read(SERIES, DAY));
      assertEquals("the server sent 3 rows in a message and counted 4", error.getMessage());
    }
  }

  @Test
  void noRowComesAfterAFailure() {
    var wrong = FakeHistory.message(1, 3).toBuilder().setRowCount(4).build();
    var messages = List.of(FakeHistory.message(0, 1), wrong, FakeHistory.message(4, 1));
    try (var server = FakeHistory.answering(messages);
        var history = client(server);
        var reader = history.readRange(SERIES, DAY)) {
      assertTrue(reader.loadNextBatch());
      var error = assertThrows(BadAnswerException.class, reader::loadNextBatch);
      assertSame(error, assertThrows(BadAnswerException.class, reader::loadNextBatch));
    }
  }

  @Test
  void aReaderThatIsClosedEarlyCancelsItsCall() throws InterruptedException {
    try (var server = new FakeHistory(answer -> answer.onNext(FakeHistory.message(0, 1)));
        var history = client(server)) {
      try (var reader = history.readRange(SERIES, DAY)) {
        assertTrue(reader.loadNextBatch());
      }
      assertEquals("readRange", server.cancelled.poll(30, TimeUnit.SECONDS));
    }
  }

  @Test
  void aReaderCanBeCancelledFromAnotherThread() {
    try (var server = new FakeHistory(answer -> answer.onNext(FakeHistory.message(0, 1)));
        var history = client(server);
        var reader = history.readRange(SERIES, DAY)) {
      assertTrue(reader.loadNextBatch());
      CompletableFuture.runAsync(reader::cancel);
      var error = assertThrows(MarketHistoryException.class, reader::loadNextBatch);
      assertEquals(Status.Code.CANCELLED, error.code());
    }
  }

  @Test
  void aDeadlineOfTheContextEndsAPauseBetweenAttempts() {
    var clock = Executors.newSingleThreadScheduledExecutor();
    try (var server =
            new FakeHistory(answer -> answer.onError(Status.UNAVAILABLE.asRuntimeException()));
        var history = MarketHistoryClient.builder(server.target).retry(PATIENT).build();
        var context = Context.current().withDeadlineAfter(2, TimeUnit.SECONDS, clock)) {
      context.run(
          () -> assertThrows(MarketHistoryException.class, () -> history.read(SERIES, DAY)));
    } finally {
      clock.shutdownNow();
    }
  }

  @Test
  void aReaderThatPausesStopsTheServer() throws InterruptedException {
    var sent = new AtomicInteger();
    var most = 1000;
    try (var server =
            new FakeHistory(
                answer ->
                    answer.setOnReadyHandler(
                        () -> {
                          while (answer.isReady() && sent.get() < most) {
                            answer.onNext(FakeHistory.message(sent.getAndIncrement(), 40_000));
                          }
                        }));
        var history = client(server);
        var reader = history.readRange(SERIES, DAY)) {
      assertTrue(reader.loadNextBatch());
      assertTrue(steady(sent) < 50, () -> sent + " messages went to a reader that took one");
    }
  }

  @Test
  void theTokenGoesWithEachCall() throws InterruptedException {
    try (var server = FakeHistory.answering(List.of());
        var history = MarketHistoryClient.builder(server.target).token("s3cret").build()) {
      history.coverage(SERIES, DAY);
      assertEquals("Bearer s3cret", server.authorizations.poll(30, TimeUnit.SECONDS));
    }
  }

  @Test
  void aTokenDoesNotGoToAnotherMachineWithoutTls() {
    var builder = MarketHistoryClient.builder("history.example:50051").token("s3cret");
    var error = assertThrows(IllegalArgumentException.class, builder::build);
    assertTrue(error.getMessage().startsWith("token: needs tls"));
    builder.tls().build().close();
    MarketHistoryClient.builder("[::1]:50051").token("s3cret").build().close();
  }

  @Test
  void aServerThatIsNotThereIsToldSoon() {
    var server = FakeHistory.answering(List.of());
    server.close();
    try (var history = client(server)) {
      var error = assertThrows(MarketHistoryException.class, () -> history.read(SERIES, DAY));
      assertEquals(Status.Code.UNAVAILABLE, error.code());
    }
  }

  @Test
  void argumentsThatCannotBeRightAreRefused() {
    try (var history = MarketHistoryClient.connect("127.0.0.1:1")) {
      assertThrows(IllegalArgumentException.class, () -> history.last(SERIES, 0));
      assertThrows(
          IllegalArgumentException.class,
          () -> Range.of("2024-01-02T00:00:00Z", "2024-01-01T00:00:00Z"));
      var tooFine = "2024-01-01T00:00:00.000000001Z";
      assertThrows(IllegalArgumentException.class, () -> Range.of(tooFine, "2024-01-02T00:00:00Z"));
    }
  }

  /** A counter's value once it has stood still for a while. */
  private static int steady(AtomicInteger count) throws InterruptedException {
    int before;
    do {
      before = count.get();
      Thread.sleep(300);
    } while (before == 0 || count.get() != before);
    return before;
  }
}
