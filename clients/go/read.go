package markethistory

import (
	"context"
	"errors"
	"io"
	"sync/atomic"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"google.golang.org/grpc"

	"github.com/markethistory/markethistory/clients/go/historyv1"
)

// ReadOptions say what can be chosen for a read. The zero value reads all columns of the range, fetching first what the
// server does not have.
type ReadOptions struct {
	// Last, if not 0, asks for the last so many rows before the range's End; its Start does not count.
	Last int64
	// Columns to read; ts always comes. Default: all.
	Columns []string
	// StoredOnly reads what is stored, without asking the exchange for what is missing.
	StoredOnly bool
	// RequireComplete fails with the reason INCOMPLETE if a span of the range cannot be had. Without it the summary
	// names the spans.
	RequireComplete bool
	// Compression of the rows on the wire.
	Compression Compression
	// MaxChunkBytes bounds one message's Arrow bytes, from 65,536 to 3,145,728. Default 1 MiB.
	MaxChunkBytes int64
}

// Reader gives the rows of a read as they come, in key order and in bounded memory. It is an [array.RecordReader].
//
// If Next returned false and Err is nil, all rows came and Summary tells how the read ended; else what was read is
// incomplete. Release, or the end of the context, cancels a read that is under way.
type Reader struct {
	references atomic.Int64
	ctx        context.Context
	cancel     context.CancelFunc
	client     *Client
	session    readSession
	stream     grpc.ClientStream
	current    arrow.RecordBatch
	waiting    []arrow.RecordBatch
	err        error
}

var _ array.RecordReader = (*Reader)(nil)

// Read begins to read the rows of a range. It returns when the first rows came, or the news that there are none.
func (c *Client) Read(ctx context.Context, series string, window Range, options ReadOptions) (*Reader, error) {
	request := &historyv1.ReadRangeRequest{
		Series:          series,
		Range:           window.message(),
		Last:            options.Last,
		Columns:         options.Columns,
		Ensure:          !options.StoredOnly,
		RequireComplete: options.RequireComplete,
		Compression:     historyv1.Compression(options.Compression),
		MaxChunkBytes:   options.MaxChunkBytes,
	}
	if options.Last != 0 {
		request.Range.Start = nil
	}
	reader := &Reader{client: c, session: readSession{request: request, attempts: attempts{policy: c.retry}}}
	reader.references.Store(1)
	reader.ctx, reader.cancel = context.WithCancel(ctx)
	for reader.session.schema == nil && reader.session.summary == nil && reader.err == nil {
		reader.advance()
	}
	if reader.err == nil && reader.session.schema == nil {
		reader.err = badAnswer("the server sent a summary without a schema")
	}
	if reader.err != nil {
		err := reader.err
		reader.Release()
		return nil, err
	}
	return reader, nil
}

// Retain adds a reference.
func (r *Reader) Retain() { r.references.Add(1) }

// Release drops a reference; the last one cancels the read if it is under way.
func (r *Reader) Release() {
	if r.references.Add(-1) != 0 {
		return
	}
	r.cancel()
	r.drop()
	release(r.waiting)
	r.waiting = nil
	r.session.release()
}

// Schema of the rows.
func (r *Reader) Schema() *arrow.Schema { return r.session.schema }

// Summary tells how the read ended. Nil before it did.
func (r *Reader) Summary() *Summary {
	if r.err != nil || len(r.waiting) > 0 {
		return nil
	}
	return r.session.summary
}

// Err is the [*Error] that ended the read; nil if it ended well or is under way.
func (r *Reader) Err() error { return r.err }

// RecordBatch is the current batch, valid until the next call of Next unless it is retained.
func (r *Reader) RecordBatch() arrow.RecordBatch { return r.current }

// Record is RecordBatch.
//
// Deprecated: Use [Reader.RecordBatch].
func (r *Reader) Record() arrow.RecordBatch { return r.current }

// Next goes to the next batch. It returns false at the end of the rows, or where the read failed.
func (r *Reader) Next() bool {
	r.drop()
	for len(r.waiting) == 0 {
		if r.err != nil || r.session.summary != nil {
			return false
		}
		r.advance()
	}
	r.current, r.waiting = r.waiting[0], r.waiting[1:]
	return true
}

func (r *Reader) drop() {
	if r.current != nil {
		r.current.Release()
		r.current = nil
	}
}

// advance takes in one message, or makes a broken call again.
func (r *Reader) advance() {
	batches, err := r.receive()
	if err == nil {
		r.waiting = batches
		if r.session.summary != nil {
			r.cancel() // nothing follows; what holds the call is given back
		}
		return
	}
	r.stream = nil
	if hopeless := r.session.attempts.again(r.ctx, errorOf(r.ctx, err)); hopeless != nil {
		r.err = hopeless
		r.cancel()
	}
}

func (r *Reader) receive() ([]arrow.RecordBatch, error) {
	if r.stream == nil {
		stream, err := r.client.openRead(r.ctx, r.session.next())
		if err != nil {
			return nil, err
		}
		r.stream = stream
	}
	var message frame
	if err := r.stream.RecvMsg(&message); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, r.session.cut()
		}
		return nil, err
	}
	return r.session.receive(&message)
}

func (c *Client) openRead(ctx context.Context, request *historyv1.ReadRangeRequest) (grpc.ClientStream, error) {
	description := &grpc.StreamDesc{StreamName: "ReadRange", ServerStreams: true}
	stream, err := c.conn.NewStream(ctx, description, historyv1.HistoryService_ReadRange_FullMethodName, grpc.ForceCodecV2(frameCodec{}))
	if err != nil {
		return nil, err
	}
	if err := stream.SendMsg(request); err != nil && !errors.Is(err, io.EOF) { // EOF: RecvMsg tells the error
		return nil, err
	}
	return stream, stream.CloseSend()
}
