package io.markethistory;

import io.grpc.Status;

/** The server sent what the contract does not allow, or what cannot be read. */
public final class BadAnswerException extends MarketHistoryException {

  private static final long serialVersionUID = 1L;

  BadAnswerException(String message, Throwable cause) {
    super(Status.Code.INTERNAL, message, cause);
  }

  BadAnswerException(String message) {
    this(message, null);
  }
}
