package io.markethistory;

import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.markethistory.v1.ErrorReason;
import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * A call failed at the server or on the way. What is wrong with an argument before anything is sent
 * is an {@link IllegalArgumentException}.
 */
public class MarketHistoryException extends RuntimeException {

  private static final long serialVersionUID = 1L;
  private static final String PREFIX = "ERROR_REASON_";

  /** The gRPC status. */
  private final Status.Code code;

  /** Why, in the contract's words; empty if the server did not answer itself. */
  private final String reason;

  /** What was wrong and with what value. */
  private final transient Map<String, String> metadata;

  /** How long to wait; null if asking again may not help, or nobody knows. */
  private final Duration retryAfter;

  MarketHistoryException(
      Status.Code code,
      String message,
      String reason,
      Map<String, String> metadata,
      Duration retryAfter,
      Throwable cause) {
    super(message, cause);
    this.code = code;
    this.reason = reason;
    this.metadata = Map.copyOf(metadata);
    this.retryAfter = retryAfter;
  }

  MarketHistoryException(Status.Code code, String message, Throwable cause) {
    this(code, message, "", Map.of(), null, cause);
  }

  /** What the status of a failed call says; the only place where one becomes our exception. */
  static MarketHistoryException of(StatusRuntimeException failure) {
    if (isUnreadable(failure)) {
      return new BadAnswerException("the server sent a message that cannot be read", failure);
    }
    var info = ErrorInfo.getDefaultInstance();
    Duration retryAfter = null;
    var status = StatusProto.fromThrowable(failure);
    try {
      for (var detail :
          status == null ? List.<com.google.protobuf.Any>of() : status.getDetailsList()) {
        if (detail.is(ErrorInfo.class)) {
          info = detail.unpack(ErrorInfo.class);
        } else if (detail.is(RetryInfo.class)) {
          var delay = detail.unpack(RetryInfo.class).getRetryDelay();
          retryAfter = Duration.ofSeconds(delay.getSeconds(), delay.getNanos());
        }
      }
    } catch (InvalidProtocolBufferException unreadable) {
      failure.addSuppressed(unreadable);
    }
    var code = failure.getStatus().getCode();
    var told = failure.getStatus().getDescription();
    var message = told == null ? code.name() : told;
    return new MarketHistoryException(
        code, message, info.getReason(), info.getMetadataMap(), retryAfter, failure);
  }

  /** Whether the call was ended here: its answer is no message. gRPC says CANCELLED then. */
  private static boolean isUnreadable(StatusRuntimeException failure) {
    for (var cause = failure.getCause(); cause != null; cause = cause.getCause()) {
      if (cause instanceof InvalidProtocolBufferException) {
        return true;
      }
    }
    return false;
  }

  /**
   * The gRPC status.
   *
   * @return its code
   */
  public Status.Code code() {
    return code;
  }

  /**
   * Why the call failed, in the contract's words.
   *
   * @return name of an ErrorReason without its prefix, such as {@code UNKNOWN_SYMBOL}; empty if the
   *     server did not answer itself
   */
  public String reason() {
    return reason;
  }

  /**
   * The same as a value of the contract.
   *
   * @return the reason; UNSPECIFIED if there is none, UNRECOGNIZED if the server is newer than this
   *     client
   */
  public ErrorReason errorReason() {
    if (reason.isEmpty()) {
      return ErrorReason.ERROR_REASON_UNSPECIFIED;
    }
    return Arrays.stream(ErrorReason.values())
        .filter(value -> value.name().equals(PREFIX + reason))
        .findFirst()
        .orElse(ErrorReason.UNRECOGNIZED);
  }

  /**
   * What was wrong and with what value, by the names that the contract's error_reason.proto gives.
   *
   * @return names and values
   */
  public Map<String, String> metadata() {
    return metadata == null ? Map.of() : metadata;
  }

  /**
   * The closest names that do exist, if the exchange or the symbol does not.
   *
   * @return the names; may be empty
   */
  public List<String> nearest() {
    var names = metadata().getOrDefault("nearest", "");
    return names.isEmpty() ? List.of() : List.of(names.split(","));
  }

  /**
   * After what time asking again may help.
   *
   * @return the time; empty if it may not, or nobody knows
   */
  public Optional<Duration> retryAfter() {
    return Optional.ofNullable(retryAfter);
  }
}
