package markethistory

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/markethistory/markethistory/clients/go/historyv1"
)

// EnsureOptions say what can be chosen for [Client.EnsureRange].
type EnsureOptions struct {
	// Refresh asks the exchange again for what is covered already; its newest answer replaces the old one.
	Refresh bool
	// OnPlan is called first, once.
	OnPlan func(EnsurePlan)
	// OnProgress is called at least once a second while pages are fetched.
	OnProgress func(EnsureProgress)
}

// EnsurePlan tells what has to be done to cover a range.
type EnsurePlan struct {
	// Range to cover, as the server resolved it.
	Range Range
	// Missing are the spans that will be fetched, ascending.
	Missing []Range
	// PageCount and CallCount are the pages to fetch and the calls to the exchange that this takes at least.
	PageCount, CallCount int64
	// ByteCount estimates the bytes that will be stored.
	ByteCount int64
	// LeastDuration is the least time that the quota allows for these calls.
	LeastDuration time.Duration
}

// EnsureProgress tells how far an EnsureRange is. Counters never decrease, also where a broken stream was resumed.
type EnsureProgress struct {
	PagesDone, RowsDone, CallsDone int64
	// Remaining estimates the time that is left. Negative if that is not known yet.
	Remaining time.Duration
	// Page last completed. Nil if none was completed since the last time.
	Page *Range
	// Wait is what is waited for. Nil while calls are under way.
	Wait *EnsureWait
}

// EnsureWait tells why no call is under way at the moment.
type EnsureWait struct {
	// Cause is QUOTA, PENALTY (the exchange asked for a pause) or RETRY (the last call failed).
	Cause string
	// Until is when the wait is expected to end.
	Until time.Time
	// Detail is the key of the quota; for RETRY one sentence on the failure.
	Detail string
}

// EnsureResult tells what an EnsureRange did.
type EnsureResult struct {
	Plan EnsurePlan
	// RowCount, PageCount, CallCount are the rows stored, the pages fetched, the calls made for them.
	RowCount, PageCount, CallCount int64
	// Uncovered are the spans of the range that are not covered, ascending, with the reason.
	Uncovered []CoverageSpan
	// QuarantinedCount is how many rows were set aside because they break a rule of their kind.
	QuarantinedCount int64
}

// EnsureRange makes a range covered and tells what that took. It may be cancelled at any time and asked again: pages
// fetched are kept.
func (c *Client) EnsureRange(ctx context.Context, series string, window Range, options EnsureOptions) (*EnsureResult, error) {
	request := &historyv1.EnsureRangeRequest{Series: series, Range: window.message(), Refresh: options.Refresh}
	session := ensureSession{request: request, options: options, attempts: attempts{policy: c.retry}}
	if err := c.ensure(ctx, &session); err != nil {
		return nil, err
	}
	return session.result, nil
}

// PlanRange tells what EnsureRange would do. Nothing is fetched.
func (c *Client) PlanRange(ctx context.Context, series string, window Range, refresh bool) (*EnsurePlan, error) {
	request := &historyv1.EnsureRangeRequest{Series: series, Range: window.message(), Refresh: refresh, PlanOnly: true}
	session := ensureSession{request: request, attempts: attempts{policy: c.retry}}
	if err := c.ensure(ctx, &session); err != nil {
		return nil, err
	}
	return session.plan, nil
}

func (c *Client) ensure(ctx context.Context, session *ensureSession) error {
	for {
		err := c.ensureOnce(ctx, session)
		if err == nil {
			return nil
		}
		if hopeless := session.attempts.again(ctx, errorOf(ctx, err)); hopeless != nil {
			return hopeless
		}
	}
}

func (c *Client) ensureOnce(ctx context.Context, session *ensureSession) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	session.before = session.now
	stream, err := c.service.EnsureRange(ctx, session.request)
	if err != nil {
		return err
	}
	for !session.done() {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return streamCut(session.request.GetSeries(), "without its result")
		}
		if err != nil {
			return err
		}
		if err := session.receive(message); err != nil {
			return err
		}
	}
	return nil
}

// ensureSession is one logical ensure over as many calls as it takes. Progress and result add up over the calls.
type ensureSession struct {
	request  *historyv1.EnsureRangeRequest
	options  EnsureOptions
	attempts attempts
	plan     *EnsurePlan
	result   *EnsureResult

	before, now EnsureProgress
}

func (s *ensureSession) done() bool {
	return s.result != nil || (s.request.GetPlanOnly() && s.plan != nil)
}

func (s *ensureSession) receive(message *historyv1.EnsureRangeResponse) error {
	s.attempts.heard = true
	switch {
	case message.GetPlan() != nil && s.plan == nil:
		s.plan = planOf(message.GetPlan())
		s.request = proto.CloneOf(s.request)
		s.request.Range = message.GetPlan().GetRange() // a moving end is fixed by the first plan
		if s.options.OnPlan != nil {
			s.options.OnPlan(*s.plan)
		}
	case message.GetProgress() != nil:
		s.progress(progressOf(message.GetProgress()))
	case message.GetResult() != nil:
		if s.plan == nil {
			return badAnswer("the server sent a result without a plan")
		}
		s.result = s.resultOf(message.GetResult())
	}
	return nil
}

func (s *ensureSession) progress(told EnsureProgress) {
	if told.PagesDone > s.now.PagesDone-s.before.PagesDone {
		s.attempts.progressed()
	}
	told.PagesDone += s.before.PagesDone
	told.RowsDone += s.before.RowsDone
	told.CallsDone += s.before.CallsDone
	s.now = told
	if s.options.OnProgress != nil {
		s.options.OnProgress(told)
	}
}

func (s *ensureSession) resultOf(m *historyv1.EnsureResult) *EnsureResult {
	return &EnsureResult{
		Plan:             *s.plan,
		RowCount:         s.before.RowsDone + m.GetRowCount(),
		PageCount:        s.before.PagesDone + m.GetPageCount(),
		CallCount:        s.before.CallsDone + m.GetCallCount(),
		Uncovered:        spansOf(m.GetUncovered()),
		QuarantinedCount: m.GetQuarantinedCount(),
	}
}

func planOf(m *historyv1.EnsurePlan) *EnsurePlan {
	missing := make([]Range, len(m.GetMissing()))
	for i, window := range m.GetMissing() {
		missing[i] = rangeOf(window)
	}
	return &EnsurePlan{
		Range:         rangeOf(m.GetRange()),
		Missing:       missing,
		PageCount:     m.GetPageCount(),
		CallCount:     m.GetCallCount(),
		ByteCount:     m.GetByteCount(),
		LeastDuration: m.GetLeastDuration().AsDuration(),
	}
}

func progressOf(m *historyv1.EnsureProgress) EnsureProgress {
	told := EnsureProgress{PagesDone: m.GetPagesDone(), RowsDone: m.GetRowsDone(), CallsDone: m.GetCallsDone(), Remaining: -1}
	if m.GetRemaining() != nil {
		told.Remaining = m.GetRemaining().AsDuration()
	}
	if m.GetPage() != nil {
		page := rangeOf(m.GetPage())
		told.Page = &page
	}
	if wait := m.GetWait(); wait != nil {
		cause := strings.TrimPrefix(wait.GetCause().String(), "CAUSE_")
		told.Wait = &EnsureWait{Cause: cause, Until: timeOf(wait.GetUntil()), Detail: wait.GetDetail()}
	}
	return told
}
