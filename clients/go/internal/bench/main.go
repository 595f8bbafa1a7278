// Command bench answers the benchmark of the clients; tests/clients/README.md says how.
//
//	bench history TARGET SERIES START END
//	bench flight TARGET TICKET
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	markethistory "github.com/markethistory/markethistory/clients/go"
)

func main() {
	log.SetFlags(0)
	peers := map[string]func([]string) (func() (int64, error), error){"history": history, "flight": flightPeer}
	read, err := peers[os.Args[1]](os.Args[2:])
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("ready")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		began := time.Now()
		rows, err := read()
		if err != nil {
			log.Fatal(err)
		}
		line, _ := json.Marshal(map[string]any{"rows": rows, "seconds": time.Since(began).Seconds()})
		fmt.Println(string(line))
	}
}

func history(arguments []string) (func() (int64, error), error) {
	client, err := markethistory.Connect(arguments[0])
	if err != nil {
		return nil, err
	}
	var window markethistory.Range
	if window.Start, err = time.Parse(time.RFC3339, arguments[2]); err != nil {
		return nil, err
	}
	if window.End, err = time.Parse(time.RFC3339, arguments[3]); err != nil {
		return nil, err
	}
	return func() (int64, error) {
		table, err := client.ReadTable(context.Background(), arguments[1], window, markethistory.ReadOptions{})
		if err != nil {
			return 0, err
		}
		defer table.Release()
		return table.NumRows(), nil
	}, nil
}

// flightPeer is arrow-go's own client, as its documentation shows it.
func flightPeer(arguments []string) (func() (int64, error), error) {
	client, err := flight.NewClientWithMiddleware(arguments[0], nil, nil, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	return func() (int64, error) {
		stream, err := client.DoGet(context.Background(), &flight.Ticket{Ticket: []byte(arguments[1])})
		if err != nil {
			return 0, err
		}
		reader, err := flight.NewRecordReader(stream)
		if err != nil {
			return 0, err
		}
		defer reader.Release()
		var batches []arrow.RecordBatch
		for reader.Next() {
			batch := reader.RecordBatch()
			batch.Retain()
			batches = append(batches, batch)
		}
		table := array.NewTableFromRecords(reader.Schema(), batches)
		defer table.Release()
		for _, batch := range batches {
			batch.Release()
		}
		return table.NumRows(), reader.Err()
	}, nil
}
