package io.markethistory;

import io.grpc.Context;
import io.grpc.Status;
import java.time.Duration;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;

/**
 * Counts the failures of one logical call: when it is made again, after what pause, and until when.
 */
final class Attempts {

  // INTERNAL is what a reset HTTP/2 stream becomes; CANCELLED was not us: that is seen to before.
  private static final Set<Status.Code> BROKEN =
      Set.of(
          Status.Code.UNAVAILABLE,
          Status.Code.INTERNAL,
          Status.Code.UNKNOWN,
          Status.Code.CANCELLED);
  // What the exchange refuses was tried again by the server already, as often as it is told to.
  private static final Set<String> TRIED_BY_SERVER =
      Set.of("EXCHANGE_UNAVAILABLE", "BAD_ANSWER", "RATE_LIMITED");
  private static final int ATTEMPTS_UNHEARD = 2;
  private static final int MOST_DOUBLINGS = 30;

  private final RetryPolicy policy;
  private int failures;
  private boolean heard;

  Attempts(RetryPolicy policy) {
    this.policy = policy;
  }

  /** The server is there. */
  void heard() {
    heard = true;
  }

  /** The server brought something new: failures count anew. */
  void progressed() {
    heard = true;
    failures = 0;
  }

  /** Waits until the next call may be made. Throws the error itself if there should be none. */
  void pauseAfter(MarketHistoryException error, Context.CancellableContext call) {
    if (call.isCancelled() || Thread.currentThread().isInterrupted()) {
      throw error;
    }
    pause(pauseBefore(error), error, call);
  }

  Duration pauseBefore(MarketHistoryException error) {
    failures += 1;
    // A server that never answered is more likely down than restarting: say so soon.
    var answers = heard || !error.reason().isEmpty();
    var allowed = answers ? policy.attempts() : Math.min(ATTEMPTS_UNHEARD, policy.attempts());
    var asked = error.retryAfter().orElse(Duration.ZERO);
    if (failures >= allowed || !mayHelp(error) || asked.compareTo(policy.most()) > 0) {
      throw error;
    }
    var doubled = policy.backoff().multipliedBy(1L << Math.min(failures - 1, MOST_DOUBLINGS));
    var longest = doubled.compareTo(policy.most()) < 0 ? doubled : policy.most();
    var nanos = (long) (longest.toNanos() * ThreadLocalRandom.current().nextDouble(0.5, 1.0));
    var jittered = Duration.ofNanos(nanos);
    return jittered.compareTo(asked) > 0 ? jittered : asked;
  }

  private static void pause(
      Duration length, MarketHistoryException error, Context.CancellableContext call) {
    var ended = new CountDownLatch(1);
    Context.CancellationListener listener = context -> ended.countDown();
    call.addListener(listener, Runnable::run);
    try {
      if (ended.await(length.toNanos(), TimeUnit.NANOSECONDS)) {
        throw error;
      }
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
      throw error;
    } finally {
      call.removeListener(listener);
    }
  }

  /**
   * Whether the server says that asking again may help or, if it said nothing, the stream just
   * broke.
   */
  private static boolean mayHelp(MarketHistoryException error) {
    if (!error.reason().isEmpty()) {
      return error.retryAfter().isPresent() && !TRIED_BY_SERVER.contains(error.reason());
    }
    return error instanceof IncompleteStreamException
        || (BROKEN.contains(error.code()) && !(error instanceof BadAnswerException));
  }
}
