package io.markethistory;

import io.grpc.Status;

/**
 * A stream ended before its summary or result, and asking for the rest did not help. What it
 * brought is incomplete.
 */
public final class IncompleteStreamException extends MarketHistoryException {

  private static final long serialVersionUID = 1L;

  IncompleteStreamException(String message) {
    super(Status.Code.DATA_LOSS, message, null);
  }
}
