package markethistory

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	flatbuffers "github.com/google/flatbuffers/go"
)

// decoder turns the Arrow data of one call's frames into record batches, which point into that data.
type decoder struct {
	queue  queue
	reader *ipc.Reader
}

// batches decodes the whole encapsulated messages of one frame.
func (d *decoder) batches(data []byte) (found []arrow.RecordBatch, err error) {
	defer func() {
		if broken := recover(); broken != nil { // flatbuffers panic where their bytes make no sense
			err = fmt.Errorf("%v", broken)
		}
		if err != nil {
			release(found)
			found = nil
		}
	}()
	if err := d.queue.add(data); err != nil {
		return nil, err
	}
	if d.reader == nil && len(d.queue.messages) > 0 {
		if d.reader, err = ipc.NewReaderFromMessageReader(&d.queue); err != nil {
			return nil, err
		}
	}
	for len(d.queue.messages) > 0 {
		if !d.reader.Next() {
			return found, fmt.Errorf("a message that holds no rows: %w", d.reader.Err())
		}
		batch := d.reader.RecordBatch()
		batch.Retain()
		found = append(found, batch)
	}
	return found, nil
}

// schema of the rows; nil before it came.
func (d *decoder) schema() *arrow.Schema {
	if d.reader == nil {
		return nil
	}
	return d.reader.Schema()
}

func (d *decoder) release() {
	if d.reader != nil {
		d.reader.Release()
		d.reader = nil
	}
}

// queue holds encapsulated messages until the reader takes them. It is an [ipc.MessageReader].
type queue struct {
	messages []*ipc.Message
}

const bodyLengthField = 10 // of the table Message in Arrow's Message.fbs: the offset of bodyLength in its vtable

func (q *queue) add(data []byte) error {
	for len(data) >= 8 {
		if binary.LittleEndian.Uint32(data) != 0xFFFFFFFF {
			return fmt.Errorf("no message of Arrow begins with %x", data[:4])
		}
		size := int(binary.LittleEndian.Uint32(data[4:]))
		if size == 0 { // the end-of-stream marker
			return nil
		}
		data = data[8:]
		if size > len(data) {
			return io.ErrUnexpectedEOF
		}
		meta := data[:size]
		data = data[size:]
		table := flatbuffers.Table{Bytes: meta, Pos: flatbuffers.GetUOffsetT(meta)}
		body := int64(0)
		if offset := table.Offset(bodyLengthField); offset != 0 {
			body = table.GetInt64(table.Pos + flatbuffers.UOffsetT(offset))
		}
		if body < 0 || body > int64(len(data)) {
			return io.ErrUnexpectedEOF
		}
		q.messages = append(q.messages, ipc.NewMessage(memory.NewBufferBytes(meta), memory.NewBufferBytes(data[:body:body])))
		data = data[body:]
	}
	if len(data) > 0 {
		return io.ErrUnexpectedEOF
	}
	return nil
}

func (q *queue) Message() (*ipc.Message, error) {
	if len(q.messages) == 0 {
		return nil, io.EOF
	}
	next := q.messages[0]
	q.messages = q.messages[1:]
	return next, nil
}

func (q *queue) Retain()  {}
func (q *queue) Release() {}

func release(batches []arrow.RecordBatch) {
	for _, batch := range batches {
		batch.Release()
	}
}
