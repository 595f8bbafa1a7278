package markethistory

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/markethistory/markethistory/clients/go/historyv1"
)

// What every client has to give for what a server may send is told by the golden cases of tests/clients. Here is what
// only Go has: contexts, options, the codec.

type fakeServer struct {
	historyv1.UnimplementedHistoryServiceServer
	read     func(*historyv1.ReadRangeRequest, grpc.ServerStreamingServer[historyv1.ReadRangeResponse]) error
	coverage func(context.Context) error
}

func (f fakeServer) ReadRange(request *historyv1.ReadRangeRequest, stream grpc.ServerStreamingServer[historyv1.ReadRangeResponse]) error {
	return f.read(request, stream)
}

func (f fakeServer) Coverage(ctx context.Context, _ *historyv1.CoverageRequest) (*historyv1.CoverageResponse, error) {
	return &historyv1.CoverageResponse{}, f.coverage(ctx)
}

func serve(t *testing.T, fake fakeServer, options ...grpc.ServerOption) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(options...)
	historyv1.RegisterHistoryServiceServer(server, fake)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return listener.Addr().String()
}

func connect(t *testing.T, target string, options ...Option) *Client {
	t.Helper()
	quick := WithRetry(RetryPolicy{Attempts: 3, Backoff: time.Millisecond})
	client, err := Connect(target, append([]Option{quick}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

var barTime = arrow.FixedWidthTypes.Timestamp_us

// message is one frame of count bars that begin at minute first, with the schema if it is the stream's first.
func message(t *testing.T, first, count int) *historyv1.ReadRangeResponse {
	t.Helper()
	schema := arrow.NewSchema([]arrow.Field{{Name: "ts", Type: barTime}, {Name: "close", Type: arrow.PrimitiveTypes.Float64, Nullable: true}}, nil)
	builder := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer builder.Release()
	for i := range count {
		builder.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp((first + i) * 60_000_000))
		builder.Field(1).(*array.Float64Builder).Append(float64(first + i))
	}
	batch := builder.NewRecordBatch()
	defer batch.Release()
	var encoded sink
	writer := ipc.NewWriter(&encoded, ipc.WithSchema(schema))
	if err := writer.Write(batch); err != nil {
		t.Fatal(err)
	}
	answer := &historyv1.ReadRangeResponse{RowCount: int64(count), ArrowIpc: encoded}
	answer.Range = Range{Start: time.Unix(0, 0), End: time.Unix(1<<40, 0)}.message()
	answer.LastKey = &historyv1.RowKey{Ts: timestamppb.New(time.UnixMicro(int64(first+count-1) * 60_000_000))}
	return answer
}

type sink []byte

func (s *sink) Write(data []byte) (int, error) {
	*s = append(*s, data...)
	return len(data), nil
}

// withoutSchema cuts the schema's message off, which ends where the next one begins.
func withoutSchema(data []byte) []byte {
	for i := 8; ; i += 8 {
		if string(data[i:i+4]) == "\xff\xff\xff\xff" {
			return data[i:]
		}
	}
}

func TestACancelledContextEndsTheReadOnBothSides(t *testing.T) {
	gone := make(chan struct{})
	first := message(t, 0, 2)
	target := serve(t, fakeServer{read: func(_ *historyv1.ReadRangeRequest, stream grpc.ServerStreamingServer[historyv1.ReadRangeResponse]) error {
		defer close(gone)
		_ = stream.Send(first)
		<-stream.Context().Done()
		return stream.Context().Err()
	}})
	ctx, cancel := context.WithCancel(context.Background())
	reader, err := connect(t, target).Read(ctx, "ohlcv:x:A/B:1m", Range{}, ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Release()
	if !reader.Next() {
		t.Fatal(reader.Err())
	}
	cancel()
	if reader.Next() || !errors.Is(reader.Err(), context.Canceled) || reader.Summary() != nil {
		t.Fatalf("after a cancel: %v, %v", reader.Err(), reader.Summary())
	}
	<-gone
}

func TestAReleasedReaderEndsTheCall(t *testing.T) {
	gone := make(chan struct{})
	first := message(t, 0, 2)
	target := serve(t, fakeServer{read: func(_ *historyv1.ReadRangeRequest, stream grpc.ServerStreamingServer[historyv1.ReadRangeResponse]) error {
		defer close(gone)
		_ = stream.Send(first)
		<-stream.Context().Done()
		return nil
	}})
	reader, err := connect(t, target).Read(context.Background(), "ohlcv:x:A/B:1m", Range{}, ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	reader.Release()
	<-gone
}

func TestAReaderThatPausesHoldsTheServerBack(t *testing.T) {
	const rows, messages = 65_000, 200 // 1 MiB each
	var sent atomic.Int64
	stalled := make(chan struct{})
	target := serve(t, fakeServer{read: func(_ *historyv1.ReadRangeRequest, stream grpc.ServerStreamingServer[historyv1.ReadRangeResponse]) error {
		for i := range messages {
			answer := message(t, i*rows, rows)
			if i > 0 {
				answer.ArrowIpc = withoutSchema(answer.ArrowIpc)
			}
			if i == messages-1 {
				answer.Summary = &historyv1.ReadSummary{RowCount: rows * messages}
			}
			timer := time.AfterFunc(time.Second, func() {
				if i < messages-1 && sent.Load() == int64(i) {
					close(stalled) // this Send waits for the reader
				}
			})
			if err := stream.Send(answer); err != nil {
				return err
			}
			timer.Stop()
			sent.Add(1)
		}
		return nil
	}})
	reader, err := connect(t, target).Read(context.Background(), "ohlcv:x:A/B:1m", Range{}, ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Release()
	<-stalled
	for reader.Next() { //nolint:revive // all of it
	}
	if reader.Err() != nil || reader.Summary().RowCount != rows*messages {
		t.Fatalf("%v, %v", reader.Err(), reader.Summary())
	}
}

func TestRowsThatWereNotCountedAreABadAnswer(t *testing.T) {
	var calls atomic.Int64
	wrong := message(t, 0, 3)
	wrong.RowCount = 4
	target := serve(t, fakeServer{read: func(_ *historyv1.ReadRangeRequest, stream grpc.ServerStreamingServer[historyv1.ReadRangeResponse]) error {
		calls.Add(1)
		return stream.Send(wrong)
	}})
	_, err := connect(t, target).ReadTable(context.Background(), "ohlcv:x:A/B:1m", Range{}, ReadOptions{})
	if !errors.Is(err, ErrBadAnswer) || calls.Load() != 1 {
		t.Fatalf("%v after %d calls", err, calls.Load())
	}
}

func TestAServerThatIsNotThereIsUnavailableSoon(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	target := listener.Addr().String()
	_ = listener.Close()
	_, err = connect(t, target).ReadTable(context.Background(), "ohlcv:x:A/B:1m", Range{}, ReadOptions{Last: 3})
	var failure *Error
	if !errors.As(err, &failure) || failure.Code != codes.Unavailable || failure.Reason != "" {
		t.Fatal(err)
	}
}

func TestATokenComesWithEachCallAndNeedsTLSBeyondThisMachine(t *testing.T) {
	if _, err := Connect("history.example:443", WithToken("secret")); err == nil {
		t.Fatal("a token without TLS was accepted")
	}
	check := func(ctx context.Context) error {
		told, _ := metadata.FromIncomingContext(ctx)
		if found := told.Get("authorization"); len(found) != 1 || found[0] != "Bearer secret" {
			return status.Errorf(codes.Unauthenticated, "%v", found)
		}
		return nil
	}
	plain := serve(t, fakeServer{coverage: check})
	certificate, roots := selfSigned(t)
	secure := serve(t, fakeServer{coverage: check}, grpc.Creds(credentials.NewServerTLSFromCert(&certificate)))
	clients := map[string]*Client{
		"plain": connect(t, plain, WithToken("secret")),
		"TLS":   connect(t, secure, WithToken("secret"), WithTLS(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})),
	}
	for name, client := range clients {
		if _, err := client.Coverage(context.Background(), "ohlcv:x:A/B:1m", Range{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := connect(t, secure, WithTLS(nil)).Coverage(context.Background(), "ohlcv:x:A/B:1m", Range{})
	var failure *Error
	if !errors.As(err, &failure) || failure.Code != codes.Unavailable {
		t.Errorf("a certificate that nobody vouches for: %v", err)
	}
}

func selfSigned(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(certificate)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}

func TestTheCodecReadsFieldsInAnyOrderAndOnesItDoesNotKnow(t *testing.T) {
	var data []byte
	data = protowire.AppendTag(data, 5, protowire.BytesType)
	data = protowire.AppendBytes(data, []byte("rows"))
	data = protowire.AppendTag(data, 100, protowire.Fixed64Type)
	data = protowire.AppendFixed64(data, 1)
	data = protowire.AppendTag(data, 101, protowire.Fixed32Type)
	data = protowire.AppendFixed32(data, 1)
	data = protowire.AppendTag(data, 2, protowire.VarintType)
	data = protowire.AppendVarint(data, 300)
	var found frame
	if err := (frameCodec{}).Unmarshal(mem.BufferSlice{mem.SliceBuffer(data[:3]), mem.SliceBuffer(data[3:])}, &found); err != nil || found.err != nil {
		t.Fatal(err, found.err)
	}
	if string(found.arrowIPC) != "rows" || found.envelope.GetRowCount() != 300 {
		t.Fatalf("%q, %v", found.arrowIPC, found.envelope.GetRowCount())
	}
	if err := (frameCodec{}).Unmarshal(mem.BufferSlice{mem.SliceBuffer(data[:5])}, &found); err != nil || found.err == nil {
		t.Fatal("a message that ends too early was read")
	}
	var same historyv1.ReadRangeResponse
	if err := proto.Unmarshal(data, &same); err != nil || same.GetRowCount() != 300 {
		t.Fatal("the message is none:", err)
	}
}
