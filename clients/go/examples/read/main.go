// Command read reads a day of bars, which the server fetches first if it does not have them.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	markethistory "github.com/markethistory/markethistory/clients/go"
)

func main() {
	client, err := markethistory.Connect(os.Args[1]) // such as 127.0.0.1:50051
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	day := markethistory.Range{Start: time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC), End: time.Date(2024, 1, 2, 0, 0, 0, 0, time.UTC)}
	table, err := client.ReadTable(context.Background(), "ohlcv:binance:BTC/USDT:1m", day, markethistory.ReadOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer table.Release()
	fmt.Println(table.NumRows(), "rows")
}
