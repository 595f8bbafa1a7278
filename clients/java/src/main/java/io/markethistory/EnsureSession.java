package io.markethistory;

import io.markethistory.v1.EnsurePlan;
import io.markethistory.v1.EnsureProgress;
import io.markethistory.v1.EnsureRangeRequest;
import io.markethistory.v1.EnsureRangeResponse;
import io.markethistory.v1.EnsureResult;
import java.util.Optional;

/**
 * One logical ensure over as many calls as it takes. No I/O.
 *
 * <p>An ensure is idempotent: if its stream breaks, the same range is asked for again and only what
 * is still missing is fetched. Progress and result add up over the calls, so that counters never
 * decrease.
 */
final class EnsureSession {

  private record Counters(long pages, long rows, long calls) {}

  private final EnsureRangeRequest request;
  private EnsurePlan plan;
  private EnsureResult result;
  private Counters before = new Counters(0, 0, 0);
  private Counters now = before;

  EnsureSession(EnsureRangeRequest request) {
    this.request = request;
  }

  EnsurePlan plan() {
    return plan;
  }

  EnsureResult result() {
    return result;
  }

  boolean done() {
    return request.getPlanOnly() ? plan != null : result != null;
  }

  /** What to ask next; a moving end is fixed by the first plan. */
  EnsureRangeRequest next() {
    before = now;
    return plan == null ? request : request.toBuilder().setRange(plan.getRange()).build();
  }

  /** What the message tells the caller, if anything. */
  Optional<EnsureRangeResponse> receive(EnsureRangeResponse message, Attempts attempts) {
    attempts.heard();
    var told = message.toBuilder();
    switch (message.getEventCase()) {
      case PLAN -> {
        if (plan != null) {
          return Optional.empty();
        }
        plan = message.getPlan();
      }
      case PROGRESS -> told.setProgress(add(message.getProgress(), attempts));
      case RESULT -> told.setResult(end(message.getResult()));
      default -> {
        return Optional.empty();
      }
    }
    return Optional.of(told.build());
  }

  /** The call ended well. Throws if the ensure did not. */
  void finish() {
    if (!done()) {
      throw new IncompleteStreamException(
          "the stream of " + request.getSeries() + " ended without its result");
    }
  }

  private EnsureProgress add(EnsureProgress told, Attempts attempts) {
    if (before.pages + told.getPagesDone() > now.pages) {
      attempts.progressed();
    }
    now =
        new Counters(
            before.pages + told.getPagesDone(),
            before.rows + told.getRowsDone(),
            before.calls + told.getCallsDone());
    return told.toBuilder()
        .setPagesDone(now.pages)
        .setRowsDone(now.rows)
        .setCallsDone(now.calls)
        .build();
  }

  private EnsureResult end(EnsureResult told) {
    if (plan == null) {
      throw new BadAnswerException("the server sent a result without a plan");
    }
    result =
        told.toBuilder()
            .setPageCount(before.pages + told.getPageCount())
            .setRowCount(before.rows + told.getRowCount())
            .setCallCount(before.calls + told.getCallCount())
            .build();
    return result;
  }
}
