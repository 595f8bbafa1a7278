package io.markethistory;

import io.markethistory.v1.ReadSummary;
import io.markethistory.v1.TimeRange;
import org.apache.arrow.vector.VectorSchemaRoot;

/**
 * Rows that were read whole, and how the read ended. To be closed, as the rows are in memory that
 * Java does not collect.
 *
 * @param root the rows, in key order
 * @param summary how the read ended: {@code getComplete} says whether a span is missing, {@code
 *     getUncoveredList} which
 * @param range the range as the server resolved it
 */
public record Rows(VectorSchemaRoot root, ReadSummary summary, TimeRange range)
    implements AutoCloseable {

  /** Frees the rows. */
  @Override
  public void close() {
    root.close();
  }
}
