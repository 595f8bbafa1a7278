// Reads a series through the Flight door with Go's stock Arrow Flight client and nothing of ours.
//
//	flight_go HOST:PORT COMMAND
//
// Plans the command, reads every endpoint, and writes the rows as one Arrow IPC stream to stdout and the metadata of
// the last message to stderr. If the read does not end well it says why on stderr and exits with 1.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

func main() {
	if err := read(context.Background(), os.Args[1], []byte(os.Args[2]), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func read(ctx context.Context, target string, command []byte, out io.Writer) error {
	insecureChannel := grpc.WithTransportCredentials(insecure.NewCredentials())
	client, err := flight.NewClientWithMiddleware(target, nil, nil, insecureChannel)
	if err != nil {
		return err
	}
	defer client.Close()
	descriptor := &flight.FlightDescriptor{Type: flight.DescriptorCMD, Cmd: command}
	info, err := client.GetFlightInfo(ctx, descriptor)
	if err != nil {
		return err
	}
	schema, err := flight.DeserializeSchema(info.Schema, nil)
	if err != nil {
		return err
	}
	writer := ipc.NewWriter(out, ipc.WithSchema(schema))
	for _, endpoint := range info.Endpoint {
		if err := copyRows(ctx, client, endpoint.Ticket, writer); err != nil {
			return err
		}
	}
	return writer.Close()
}

func copyRows(ctx context.Context, client flight.Client, ticket *flight.Ticket, writer *ipc.Writer) error {
	stream, err := client.DoGet(ctx, ticket)
	if err != nil {
		return err
	}
	reader, err := flight.NewRecordReader(stream)
	if err != nil {
		return err
	}
	defer reader.Release()
	var metadata []byte
	for {
		batch, err := reader.Read()
		if errors.Is(err, io.EOF) {
			fmt.Fprintf(os.Stderr, "%s\n", metadata)
			return nil
		}
		if err != nil {
			return err
		}
		metadata = reader.LatestAppMetadata()
		if err := writer.Write(batch); err != nil {
			return err
		}
	}
}
