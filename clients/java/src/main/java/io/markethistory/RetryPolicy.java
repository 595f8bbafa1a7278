package io.markethistory;

import java.time.Duration;

/**
 * How often and how patiently a broken stream is resumed.
 *
 * @param attempts calls in a row that may fail without bringing anything new; 1: never resume
 * @param backoff longest pause before the second of them; doubles with each further one
 * @param most longest pause at all; a server that asks for a longer one gets none: its error is
 *     thrown
 */
public record RetryPolicy(int attempts, Duration backoff, Duration most) {

  /** Six attempts, 200 ms to begin with, at most 30 s. */
  public static final RetryPolicy DEFAULT =
      new RetryPolicy(6, Duration.ofMillis(200), Duration.ofSeconds(30));

  /**
   * Checks the policy.
   *
   * @param attempts at least 1
   * @param backoff not negative
   * @param most not negative
   * @throws IllegalArgumentException if there is no attempt, or a pause is negative
   */
  public RetryPolicy {
    if (attempts < 1 || backoff.isNegative() || most.isNegative()) {
      throw new IllegalArgumentException("attempts must be at least 1, pauses not negative");
    }
  }
}
