package io.markethistory;

import com.google.protobuf.Timestamp;
import io.markethistory.v1.TimeRange;
import java.time.Instant;

/**
 * A span of time, half-open: {@code start} belongs to it, {@code end} does not.
 *
 * @param start first instant; null: the beginning of time
 * @param end first instant after the range; null: now, fixed by the server when the call begins
 */
public record Range(Instant start, Instant end) {

  private static final int NANOS_PER_MICRO = 1000;

  /**
   * Checks the range.
   *
   * @param start first instant, or null
   * @param end first instant after the range, or null
   * @throws IllegalArgumentException if it ends before it begins, or an instant is finer than a
   *     microsecond
   */
  public Range {
    check(start, "start");
    check(end, "end");
    if (start != null && end != null && !start.isBefore(end)) {
      throw new IllegalArgumentException("end: " + end + " must be later than start " + start);
    }
  }

  /**
   * The range between two instants.
   *
   * @param start first instant, inclusive
   * @param end first instant after the range
   * @return the range
   */
  public static Range of(Instant start, Instant end) {
    return new Range(start, end);
  }

  /**
   * The range between two instants in ISO 8601, such as {@code 2024-01-01T00:00:00Z}.
   *
   * @param start first instant, inclusive
   * @param end first instant after the range
   * @return the range
   * @throws java.time.format.DateTimeParseException if one cannot be read
   */
  public static Range of(String start, String end) {
    return new Range(Instant.parse(start), Instant.parse(end));
  }

  /**
   * The range from an instant to now.
   *
   * @param start first instant, inclusive
   * @return the range
   */
  public static Range since(Instant start) {
    return new Range(start, null);
  }

  /**
   * All of time up to now.
   *
   * @return the range
   */
  public static Range all() {
    return new Range(null, null);
  }

  TimeRange toMessage() {
    var message = TimeRange.newBuilder();
    if (start != null) {
      message.setStart(timestamp(start));
    }
    if (end != null) {
      message.setEnd(timestamp(end));
    }
    return message.build();
  }

  static Timestamp timestamp(Instant instant) {
    return Timestamp.newBuilder()
        .setSeconds(instant.getEpochSecond())
        .setNanos(instant.getNano())
        .build();
  }

  private static void check(Instant instant, String name) {
    if (instant != null && instant.getNano() % NANOS_PER_MICRO != 0) {
      throw new IllegalArgumentException(name + ": " + instant + " is finer than a microsecond");
    }
  }
}
