// Package markethistory reads market history from a historyd server as Arrow record batches.
//
//	client, err := markethistory.Connect("127.0.0.1:50051")
//	if err != nil {
//		return err
//	}
//	defer client.Close()
//	table, err := client.ReadTable(ctx, "ohlcv:binance:BTC/USDT:1m", markethistory.Range{Start: from, End: to}, markethistory.ReadOptions{})
//
// Rows are returned completely or not at all: a stream that breaks is resumed after the last row that came, without
// doubling or losing one; a stream that ends without the server's summary is an error ([ErrStreamCut]). Ranges are
// half-open, times are exact to the microsecond. Bars have the columns ts (timestamp[us, UTC]), open, high, low, close
// and volume (float64); trades ts, seq (int32), id, price, amount and side.
//
// A [Client] may be used from several goroutines; a [Reader] by one at a time. Nothing about series, coverage or quotas
// is computed here, the server does that.
package markethistory

// Version of this client, and of the server that it was released with.
const Version = "0.1.0"
