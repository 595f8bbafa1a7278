package markethistory

import (
	"encoding/binary"
	"fmt"
	"io"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/markethistory/markethistory/clients/go/historyv1"
)

// frame is one message of a ReadRange stream. Its Arrow data lies apart, in memory of its own that starts at a multiple of
// eight, so that record batches can point into it. The generated code would copy that data once more.
type frame struct {
	envelope historyv1.ReadRangeResponse
	arrowIPC []byte
	err      error // that it cannot be read
}

const arrowIPCField = 5

// frameCodec is protobuf on the wire; it unmarshals frames.
type frameCodec struct{}

var _ encoding.CodecV2 = frameCodec{}

func (frameCodec) Name() string { return "proto" }

func (frameCodec) Marshal(v any) (mem.BufferSlice, error) {
	message, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("not a message: %T", v)
	}
	data, err := proto.Marshal(message)
	return mem.BufferSlice{mem.SliceBuffer(data)}, err
}

func (frameCodec) Unmarshal(data mem.BufferSlice, v any) error {
	found, ok := v.(*frame)
	if !ok {
		return fmt.Errorf("not a frame: %T", v)
	}
	*found = frame{}
	reader := data.Reader()
	defer reader.Close()
	// gRPC would take an error of the codec for a broken stream, which can be resumed; this one can not.
	found.err = found.read(reader)
	return nil
}

// read walks the fields of a ReadRangeResponse, which may come in any order.
func (f *frame) read(r *mem.Reader) error {
	var rest []byte
	for r.Remaining() > 0 {
		tag, err := binary.ReadUvarint(r)
		if err != nil {
			return err
		}
		number, kind := protowire.DecodeTag(tag)
		if kind != protowire.BytesType {
			if rest, err = appendScalar(protowire.AppendVarint(rest, tag), r, kind); err != nil {
				return err
			}
			continue
		}
		content, err := readBytes(r)
		if err != nil {
			return err
		}
		if number == arrowIPCField {
			f.arrowIPC = content
			continue
		}
		rest = protowire.AppendBytes(protowire.AppendVarint(rest, tag), content)
	}
	return proto.Unmarshal(rest, &f.envelope)
}

func readBytes(r *mem.Reader) ([]byte, error) {
	size, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, err
	}
	if size > uint64(r.Remaining()) {
		return nil, io.ErrUnexpectedEOF
	}
	content := memoryOf(int(size))
	_, err = io.ReadFull(r, content) // the one copy
	return content, err
}

func appendScalar(rest []byte, r *mem.Reader, kind protowire.Type) ([]byte, error) {
	var content [8]byte
	switch kind {
	case protowire.VarintType:
		value, err := binary.ReadUvarint(r)
		return protowire.AppendVarint(rest, value), err
	case protowire.Fixed32Type:
		_, err := io.ReadFull(r, content[:4])
		return append(rest, content[:4]...), err
	case protowire.Fixed64Type:
		_, err := io.ReadFull(r, content[:])
		return append(rest, content[:]...), err
	default:
		return nil, fmt.Errorf("wire type %d", kind)
	}
}
