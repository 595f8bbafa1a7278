package io.markethistory.programs;

import io.markethistory.MarketHistoryClient;
import io.markethistory.Range;

/** The example of the README: {@code example TARGET}. */
public final class Example {
  public static void main(String[] args) {
    var day = Range.of("2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z");
    try (var history = MarketHistoryClient.connect(args[0]);
        var rows = history.readRange("ohlcv:binance:BTC/USDT:1m", day)) {
      var batch = rows.getVectorSchemaRoot(); // an Arrow VectorSchemaRoot
      var count = 0;
      while (rows.loadNextBatch()) {
        count += batch.getRowCount(); // batch.getVector("close") has the rows just loaded
      }
      System.out.println("complete: " + rows.summary().getComplete());
      System.out.println(count + " rows");
    }
  }
}
