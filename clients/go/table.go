package markethistory

import (
	"bytes"
	"context"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/markethistory/markethistory/clients/go/historyv1"
)

// mostFew is how many rows ReadLast gives at most.
const mostFew = 1000

// Table is all rows of a read, with its summary. Release it.
type Table struct {
	arrow.Table
	Summary Summary
}

// ReadTable reads the rows of a range into a table, completely or not at all. A few last rows come in one answer, in less
// time than a stream takes.
func (c *Client) ReadTable(ctx context.Context, series string, window Range, options ReadOptions) (*Table, error) {
	if options.Last > 0 && options.Last <= mostFew && options.Compression == Uncompressed && options.MaxChunkBytes == 0 {
		return c.few(ctx, series, window, options)
	}
	reader, err := c.Read(ctx, series, window, options)
	if err != nil {
		return nil, err
	}
	defer reader.Release()
	var batches []arrow.RecordBatch
	defer func() { release(batches) }()
	for reader.Next() {
		batch := reader.RecordBatch()
		batch.Retain()
		batches = append(batches, batch)
	}
	if reader.Err() != nil {
		return nil, reader.Err()
	}
	return &Table{array.NewTableFromRecords(reader.Schema(), batches), *reader.Summary()}, nil
}

// few reads by ReadLast. A call that breaks is made again from the start.
func (c *Client) few(ctx context.Context, series string, window Range, options ReadOptions) (*Table, error) {
	request := &historyv1.ReadLastRequest{
		Series:          series,
		Count:           options.Last,
		End:             timestamp(window.End),
		Columns:         options.Columns,
		Ensure:          !options.StoredOnly,
		RequireComplete: options.RequireComplete,
	}
	tries := attempts{policy: c.retry}
	for {
		answer, err := c.service.ReadLast(ctx, request)
		if err == nil {
			return tableOf(answer)
		}
		if hopeless := tries.again(ctx, errorOf(ctx, err)); hopeless != nil {
			return nil, hopeless
		}
	}
}

func tableOf(answer *historyv1.ReadLastResponse) (*Table, error) {
	if answer.GetRange() == nil || answer.GetSummary() == nil {
		return nil, badAnswer("the server's answer lacks its range or its summary")
	}
	reader, err := ipc.NewReader(bytes.NewReader(answer.GetArrowIpc()))
	if err != nil {
		return nil, badAnswer("the server sent rows that cannot be read: %v", err)
	}
	defer reader.Release()
	var batches []arrow.RecordBatch
	defer func() { release(batches) }()
	rows := int64(0)
	for reader.Next() {
		batch := reader.RecordBatch()
		batch.Retain()
		batches = append(batches, batch)
		rows += batch.NumRows()
	}
	if reader.Err() != nil {
		return nil, badAnswer("the server sent rows that cannot be read: %v", reader.Err())
	}
	if rows != answer.GetRowCount() || rows != answer.GetSummary().GetRowCount() {
		return nil, badAnswer("the server sent %d rows and counted %d and %d", rows, answer.GetRowCount(), answer.GetSummary().GetRowCount())
	}
	return &Table{array.NewTableFromRecords(reader.Schema(), batches), *summaryOf(answer.GetSummary(), answer.GetRange(), rows)}, nil
}
