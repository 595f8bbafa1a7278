package markethistory

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"
)

// RetryPolicy says how often and how patiently a broken call is made again. Zero values stand for the defaults.
type RetryPolicy struct {
	// Attempts is how many calls in a row may fail without bringing anything new. 1: never resume. Default 6.
	Attempts int
	// Backoff is the longest pause before the second of them; it doubles with each further one. Default 200 ms.
	Backoff time.Duration
	// Longest is the longest pause at all. A server that asks for a longer one gets none: its error is returned.
	// Default 30 s.
	Longest time.Duration
}

func (p RetryPolicy) withDefaults() RetryPolicy {
	if p.Attempts <= 0 {
		p.Attempts = 6
	}
	if p.Backoff <= 0 {
		p.Backoff = 200 * time.Millisecond
	}
	if p.Longest <= 0 {
		p.Longest = 30 * time.Second
	}
	return p
}

// attempts counts the failures of one logical call.
type attempts struct {
	policy   RetryPolicy
	failures int
	heard    bool
}

// progressed notes that the server brought something new: failures count anew.
func (a *attempts) progressed() { a.heard, a.failures = true, 0 }

// again waits until the call may be made again. It returns the error itself if it should not.
func (a *attempts) again(ctx context.Context, failure *Error) error {
	a.failures++
	allowed := a.policy.Attempts
	if !a.heard && failure.Reason == "" {
		// A server that never answered is more likely down than restarting: say so soon.
		allowed = min(2, allowed)
	}
	if ctx.Err() != nil || a.failures >= allowed || !mayHelp(failure) || failure.RetryAfter > a.policy.Longest {
		return failure
	}
	backoff := min(a.policy.Backoff<<min(a.failures-1, 20), a.policy.Longest)
	pause := max(backoff/2+rand.N(backoff/2+1), failure.RetryAfter)
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < pause {
		return failure
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return errorOf(ctx, ctx.Err())
	case <-timer.C:
		return nil
	}
}

// mayHelp tells whether the server says that asking again may help or, if it said nothing, the call just broke. What the
// exchange refuses was tried again by the server already, as often as it is told to.
func mayHelp(failure *Error) bool {
	switch failure.Reason {
	case "":
	case "EXCHANGE_UNAVAILABLE", "BAD_ANSWER", "RATE_LIMITED":
		return false
	default:
		return failure.MayRetry
	}
	switch failure.Code {
	case codes.Unavailable, codes.Unknown, codes.Canceled:
		return true
	case codes.Internal: // what a reset HTTP/2 stream becomes
		return !errors.Is(failure, ErrBadAnswer)
	default:
		return false
	}
}
