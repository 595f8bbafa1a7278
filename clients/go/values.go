package markethistory

import (
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/markethistory/markethistory/clients/go/historyv1"
)

// Range of time, half-open: Start belongs to it, End does not. In requests a zero Start is 1970, a zero End is now,
// fixed by the server when the call begins. Microseconds count, anything finer is refused by the server.
type Range struct {
	Start, End time.Time
}

func (r Range) message() *historyv1.TimeRange {
	return &historyv1.TimeRange{Start: timestamp(r.Start), End: timestamp(r.End)}
}

func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func timeOf(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

func rangeOf(r *historyv1.TimeRange) Range {
	return Range{Start: timeOf(r.GetStart()), End: timeOf(r.GetEnd())}
}

// CoverageState is what is known about a span of a series.
type CoverageState int32

// The states; the contract's coverage.proto says what each means.
const (
	Covered     = CoverageState(historyv1.CoverageState_COVERAGE_STATE_COVERED)
	Pending     = CoverageState(historyv1.CoverageState_COVERAGE_STATE_PENDING)
	Unreachable = CoverageState(historyv1.CoverageState_COVERAGE_STATE_UNREACHABLE)
	Missing     = CoverageState(historyv1.CoverageState_COVERAGE_STATE_MISSING)
)

// String is the state's name in the contract, without its prefix.
func (s CoverageState) String() string {
	return strings.TrimPrefix(historyv1.CoverageState(s).String(), "COVERAGE_STATE_")
}

// CoverageSpan is a maximal span of one state.
type CoverageSpan struct {
	Range Range
	State CoverageState
	// RowCount is how many rows are stored in the span; Covered with 0 is confirmed empty.
	RowCount int64
	// CheckedAt is when the exchange was asked. Zero unless Covered.
	CheckedAt time.Time
	// Reason says why the span is Unreachable. Empty otherwise.
	Reason string
}

func spansOf(messages []*historyv1.CoverageSpan) []CoverageSpan {
	spans := make([]CoverageSpan, len(messages))
	for i, m := range messages {
		spans[i] = CoverageSpan{rangeOf(m.GetRange()), CoverageState(m.GetState()), m.GetRowCount(), timeOf(m.GetCheckedAt()), m.GetReason()}
	}
	return spans
}

// Summary tells how a read ended.
type Summary struct {
	// Range is the range that was read, as the server resolved it.
	Range Range
	// RowCount is how many rows were read.
	RowCount int64
	// ClosedThrough: all that closed before this instant has been settled; what is later is Pending.
	ClosedThrough time.Time
	// Uncovered are the spans of the range that are not covered, ascending.
	Uncovered []CoverageSpan
	// QuarantinedCount is how many rows of the range were set aside because they break a rule of their kind.
	QuarantinedCount int64
	// Complete says that the range holds all that the exchange can have: no span is Missing or Unreachable.
	Complete bool
}

func summaryOf(m *historyv1.ReadSummary, resolved *historyv1.TimeRange, rows int64) *Summary {
	return &Summary{
		Range:            rangeOf(resolved),
		RowCount:         rows,
		ClosedThrough:    timeOf(m.GetClosedThrough()),
		Uncovered:        spansOf(m.GetUncovered()),
		QuarantinedCount: m.GetQuarantinedCount(),
		Complete:         m.GetComplete(),
	}
}

// Compression of record batches on the wire.
type Compression int32

// The compressions: none is the fastest on one machine, LZ4 about halves the size, Zstd about thirds it and is slower.
const (
	Uncompressed = Compression(historyv1.Compression_COMPRESSION_UNSPECIFIED)
	LZ4          = Compression(historyv1.Compression_COMPRESSION_LZ4)
	Zstd         = Compression(historyv1.Compression_COMPRESSION_ZSTD)
)
