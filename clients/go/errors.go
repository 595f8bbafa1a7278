package markethistory

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/markethistory/markethistory/clients/go/historyv1"
)

var (
	// ErrStreamCut says that a stream ended before its summary (or result), and resuming it did not help. What it
	// brought is incomplete.
	ErrStreamCut = errors.New("the stream ended before its summary")
	// ErrBadAnswer says that the server's answer breaks the contract: a defect, of the server or of this client.
	ErrBadAnswer = errors.New("the server's answer cannot be read")
)

// Error is what every call fails with. It wraps [ErrStreamCut], [ErrBadAnswer], or the context's error if that ended the
// call.
//
//	var failure *markethistory.Error
//	if errors.As(err, &failure) && failure.Reason == "UNKNOWN_SYMBOL" {
//		fmt.Println("did you mean", failure.Metadata["nearest"])
//	}
type Error struct {
	// Code is the gRPC status of the call.
	Code codes.Code
	// Reason is the name of the contract's ErrorReason without its prefix, such as UNKNOWN_SYMBOL. Empty if the server
	// did not answer itself.
	Reason string
	// Message is one sentence for a person.
	Message string
	// Metadata names what was wrong and with what value, by the names of the contract's error_reason.proto.
	Metadata map[string]string
	// MayRetry says that asking again may help, after RetryAfter.
	MayRetry bool
	// RetryAfter is the least pause before asking again. 0 unless MayRetry.
	RetryAfter time.Duration

	cause error
}

// Error tells the status, the reason if there is one, and the message.
func (e *Error) Error() string {
	if e.Reason != "" {
		return fmt.Sprintf("markethistory: %s (%s): %s", e.Reason, e.Code, e.Message)
	}
	return fmt.Sprintf("markethistory: %s: %s", e.Code, e.Message)
}

// Unwrap gives what ended the call: [ErrStreamCut], [ErrBadAnswer], the context's error, or gRPC's.
func (e *Error) Unwrap() error { return e.cause }

// ErrorReason is Reason as the contract's enum; UNSPECIFIED if there is none, or this client does not know it yet.
func (e *Error) ErrorReason() historyv1.ErrorReason {
	return historyv1.ErrorReason(historyv1.ErrorReason_value["ERROR_REASON_"+e.Reason])
}

// AsError makes an [*Error] of an error of [Client.Service]. Nil stays nil.
func AsError(err error) error {
	if err == nil {
		return nil
	}
	return errorOf(context.Background(), err)
}

func errorOf(ctx context.Context, err error) *Error {
	var ours *Error
	if errors.As(err, &ours) {
		return ours
	}
	told := status.Convert(err)
	found := &Error{Code: told.Code(), Message: told.Message(), cause: err}
	for _, detail := range told.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			found.Reason, found.Metadata = detail.GetReason(), detail.GetMetadata()
		case *errdetails.RetryInfo:
			found.MayRetry, found.RetryAfter = true, detail.GetRetryDelay().AsDuration()
		}
	}
	if ctx.Err() != nil && found.Reason == "" {
		found.cause = context.Cause(ctx)
	}
	return found
}

func streamCut(series string, what string) *Error {
	return &Error{Code: codes.Unavailable, Message: fmt.Sprintf("the stream of %s ended %s", series, what), cause: ErrStreamCut}
}

func badAnswer(format string, arguments ...any) *Error {
	return &Error{Code: codes.Internal, Message: fmt.Sprintf(format, arguments...), cause: ErrBadAnswer}
}
