package io.markethistory;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.grpc.Status;
import io.markethistory.v1.ErrorReason;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

/** When a broken call is made again. */
class AttemptsTest {

  private static final RetryPolicy POLICY =
      new RetryPolicy(3, Duration.ofMillis(100), Duration.ofSeconds(1));
  private static final MarketHistoryException BROKEN =
      new MarketHistoryException(Status.Code.UNAVAILABLE, "broken", null);

  private static Attempts heard(RetryPolicy policy) {
    var attempts = new Attempts(policy);
    attempts.heard();
    return attempts;
  }

  private static MarketHistoryException told(String reason, Duration retryAfter) {
    return new MarketHistoryException(
        Status.Code.UNAVAILABLE, reason, reason, Map.of(), retryAfter, null);
  }

  @Test
  void pausesDoubleWithinTheirBound() {
    var attempts = heard(new RetryPolicy(9, Duration.ofMillis(100), Duration.ofMillis(300)));
    for (var longest : List.of(100, 200, 300, 300)) {
      var pause = attempts.pauseBefore(BROKEN).toMillis();
      assertTrue(pause >= longest / 2 - 1 && pause <= longest, pause + " of " + longest);
    }
  }

  @Test
  void failuresInARowEndItAndRowsBeginTheCountAnew() {
    var attempts = heard(POLICY);
    attempts.pauseBefore(BROKEN);
    attempts.pauseBefore(BROKEN);
    attempts.progressed();
    attempts.pauseBefore(BROKEN);
    attempts.pauseBefore(BROKEN);
    assertSame(BROKEN, assertThrows(RuntimeException.class, () -> attempts.pauseBefore(BROKEN)));
  }

  @Test
  void aServerThatNeverAnsweredIsTriedTwice() {
    var attempts = new Attempts(POLICY);
    attempts.pauseBefore(BROKEN);
    assertThrows(MarketHistoryException.class, () -> attempts.pauseBefore(BROKEN));
  }

  @Test
  void aPauseThatTheServerAsksForIsKeptUnlessItIsTooLong() {
    var asked = Duration.ofMillis(700);
    assertEquals(asked, heard(POLICY).pauseBefore(told("SHUTTING_DOWN", asked)));
    var tooLong = told("SHUTTING_DOWN", Duration.ofMillis(1001));
    assertThrows(MarketHistoryException.class, () -> heard(POLICY).pauseBefore(tooLong));
  }

  @Test
  void onlyWhatMayHelpIsTriedAgain() {
    heard(POLICY).pauseBefore(new IncompleteStreamException("cut"));
    var hopeless =
        List.of(
            new BadAnswerException("unreadable"),
            new MarketHistoryException(Status.Code.INVALID_ARGUMENT, "no", null),
            told("STORE_UNAVAILABLE", null),
            told("RATE_LIMITED", Duration.ofMillis(1)));
    for (var error : hopeless) {
      assertThrows(MarketHistoryException.class, () -> heard(POLICY).pauseBefore(error));
    }
  }

  @Test
  void reasonsOfNewerServersAreNotLost() {
    assertEquals(
        ErrorReason.ERROR_REASON_STORE_UNAVAILABLE, told("STORE_UNAVAILABLE", null).errorReason());
    assertEquals(ErrorReason.UNRECOGNIZED, told("NEVER_HEARD_OF", null).errorReason());
    assertEquals("NEVER_HEARD_OF", told("NEVER_HEARD_OF", null).reason());
    assertEquals(ErrorReason.ERROR_REASON_UNSPECIFIED, BROKEN.errorReason());
  }
}
