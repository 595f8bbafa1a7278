package markethistory

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/markethistory/markethistory/clients/go/historyv1"
)

// DefaultTarget is where a server listens that was told nothing else.
const DefaultTarget = "127.0.0.1:50051"

// A read's messages are bounded by the contract to 3 MiB and an envelope; the answer to Coverage grows with its spans.
const maxMessageBytes = 64 << 20

// What the server may send of a stream before it is taken in. With less it waits for us again and again.
const streamWindowBytes = 16 << 20

// What is read of a connection at once. With gRPC's own 32 KiB a message of rows takes 25 system calls; with much more
// the data is no longer in the cache when it is taken apart.
const readBufferBytes = 128 << 10

// Client asks one server. Make it with [Connect], close it with [Client.Close].
type Client struct {
	conn    *grpc.ClientConn
	service historyv1.HistoryServiceClient
	retry   RetryPolicy
}

type settings struct {
	tls   *tls.Config
	token string
	retry RetryPolicy
	dial  []grpc.DialOption
}

// Option of [Connect].
type Option func(*settings)

// WithTLS encrypts the connection. Nil stands for the system's roots and the target's name.
func WithTLS(config *tls.Config) Option {
	if config == nil {
		config = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return func(s *settings) { s.tls = config }
}

// WithToken sends `authorization: Bearer TOKEN` with each call. Without TLS it is refused but for loopback targets.
func WithToken(token string) Option {
	return func(s *settings) { s.token = token }
}

// WithRetry says how broken calls are made again. Default: [RetryPolicy]'s defaults.
func WithRetry(policy RetryPolicy) Option {
	return func(s *settings) { s.retry = policy }
}

// WithDialOptions passes options to gRPC, such as interceptors, after those of this package.
func WithDialOptions(options ...grpc.DialOption) Option {
	return func(s *settings) { s.dial = append(s.dial, options...) }
}

// Connect returns a client of the server at target (host:port). Nothing is sent before the first call.
func Connect(target string, options ...Option) (*Client, error) {
	var s settings
	for _, option := range options {
		option(&s)
	}
	if s.token != "" && s.tls == nil && !isLoopback(target) {
		return nil, errors.New("markethistory: a token needs TLS, unless the server is on this machine")
	}
	transport := insecure.NewCredentials()
	if s.tls != nil {
		transport = credentials.NewTLS(s.tls)
	}
	dial := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageBytes)),
		// The server may be a few messages ahead: it makes the next ones while this one is taken in.
		grpc.WithReadBufferSize(readBufferBytes),
		grpc.WithInitialWindowSize(streamWindowBytes),
		grpc.WithInitialConnWindowSize(2 * streamWindowBytes),
		grpc.WithUserAgent("markethistory-go/" + Version),
		// A server that restarts is found soon.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
	}
	if s.token != "" {
		dial = append(dial, grpc.WithPerRPCCredentials(bearer{token: s.token, secure: s.tls != nil}))
	}
	conn, err := grpc.NewClient(target, append(dial, s.dial...)...)
	if err != nil {
		return nil, err
	}
	return &Client{conn: conn, service: historyv1.NewHistoryServiceClient(conn), retry: s.retry.withDefaults()}, nil
}

// Close closes the connection; calls under way fail.
func (c *Client) Close() error { return c.conn.Close() }

// Service is the generated stub on the same connection, for all that has no method here: ListSeries, ListMarkets, Quality.
// Its errors become an [*Error] by [AsError].
func (c *Client) Service() historyv1.HistoryServiceClient { return c.service }

type bearer struct {
	token  string
	secure bool
}

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + b.token}, nil
}

func (b bearer) RequireTransportSecurity() bool { return b.secure }

func isLoopback(target string) bool {
	host, _, err := net.SplitHostPort(target)
	if err != nil {
		host = target
	}
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}
