package io.markethistory;

import io.markethistory.v1.Compression;
import io.markethistory.v1.ReadLastRequest;
import io.markethistory.v1.ReadRangeRequest;
import java.time.Instant;
import java.util.List;

/**
 * What can be chosen for a read; immutable.
 *
 * @param columns columns to read, {@code ts} always comes; empty: all
 * @param ensure whether to fetch first what the server does not have
 * @param requireComplete whether to fail with reason INCOMPLETE if a span cannot be had; else the
 *     summary names it
 * @param compression of the rows on the wire
 */
public record ReadOptions(
    List<String> columns, boolean ensure, boolean requireComplete, Compression compression) {

  /** All columns, fetched first if they are missing, not compressed: the fastest on one machine. */
  public static final ReadOptions DEFAULTS =
      new ReadOptions(List.of(), true, false, Compression.COMPRESSION_UNSPECIFIED);

  /**
   * Copies the columns, so that the options stay as they are.
   *
   * @param columns columns to read
   * @param ensure whether to fetch first
   * @param requireComplete whether to fail if a span cannot be had
   * @param compression of the rows on the wire
   */
  public ReadOptions {
    columns = List.copyOf(columns);
  }

  /**
   * The same for some columns only.
   *
   * @param names their names, as the contract has them; {@code ts} always comes
   * @return new options
   */
  public ReadOptions withColumns(String... names) {
    return new ReadOptions(List.of(names), ensure, requireComplete, compression);
  }

  /**
   * The same with or without fetching what the server does not have.
   *
   * @param fetch whether to fetch
   * @return new options
   */
  public ReadOptions withEnsure(boolean fetch) {
    return new ReadOptions(columns, fetch, requireComplete, compression);
  }

  /**
   * The same with or without failing if a span cannot be had.
   *
   * @param required whether to fail
   * @return new options
   */
  public ReadOptions withRequireComplete(boolean required) {
    return new ReadOptions(columns, ensure, required, compression);
  }

  /**
   * The same with another compression.
   *
   * @param chosen how rows are compressed on the wire
   * @return new options
   */
  public ReadOptions withCompression(Compression chosen) {
    return new ReadOptions(columns, ensure, requireComplete, chosen);
  }

  ReadRangeRequest readRange(String series, Range range) {
    return ReadRangeRequest.newBuilder()
        .setSeries(series)
        .setRange(range.toMessage())
        .addAllColumns(columns)
        .setEnsure(ensure)
        .setRequireComplete(requireComplete)
        .setCompression(compression)
        .build();
  }

  ReadLastRequest readLast(String series, int count, Instant end) {
    var request =
        ReadLastRequest.newBuilder()
            .setSeries(series)
            .setCount(count)
            .addAllColumns(columns)
            .setEnsure(ensure)
            .setRequireComplete(requireComplete);
    if (end != null) {
      request.setEnd(Range.timestamp(end));
    }
    return request.build();
  }
}
