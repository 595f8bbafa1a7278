package markethistory

import (
	"fmt"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"google.golang.org/protobuf/proto"

	"github.com/markethistory/markethistory/clients/go/historyv1"
)

// readSession is one logical read over as many calls as it takes: what to ask next, what an answer means.
//
// The first message fixes the range; each message names the key of its last row. If a call breaks, the next one asks for
// the same range after that key, so that rows are neither doubled nor lost, and a moving end does not move. Only the
// summary ends a read.
type readSession struct {
	request  *historyv1.ReadRangeRequest
	attempts attempts
	schema   *arrow.Schema
	summary  *Summary

	resolved *historyv1.TimeRange
	lastKey  *historyv1.RowKey
	rows     int64

	decoder  *decoder // of the call under way
	callRows int64
}

// next is what to ask: all of it at first, later what is left.
func (s *readSession) next() *historyv1.ReadRangeRequest {
	s.release()
	s.decoder, s.callRows = &decoder{}, 0
	if s.resolved == nil {
		return s.request
	}
	rest := proto.CloneOf(s.request)
	rest.Range = s.resolved
	if s.lastKey != nil {
		rest.Last = 0 // the resolved range begins at the first of the last N
		rest.ResumeAfter = s.lastKey
	}
	return rest
}

// receive takes one message in and returns its rows.
func (s *readSession) receive(f *frame) ([]arrow.RecordBatch, error) {
	s.attempts.heard = true
	if f.err != nil {
		return nil, badAnswer("the server sent a message that cannot be read: %v", f.err)
	}
	batches, err := s.decoder.batches(f.arrowIPC)
	if err != nil {
		return nil, badAnswer("the server sent rows that cannot be read: %v", err)
	}
	if err := s.keep(&f.envelope, batches); err != nil {
		release(batches)
		return nil, err
	}
	return batches, nil
}

func (s *readSession) keep(envelope *historyv1.ReadRangeResponse, batches []arrow.RecordBatch) error {
	rows := int64(0)
	for _, batch := range batches {
		rows += batch.NumRows()
	}
	if rows != envelope.GetRowCount() {
		return badAnswer("the server sent %d rows in a message and counted %d", rows, envelope.GetRowCount())
	}
	if s.resolved == nil {
		if s.resolved = envelope.GetRange(); s.resolved == nil {
			return badAnswer("the server's first message does not state the range")
		}
	}
	if found := s.decoder.schema(); found != nil {
		if s.schema != nil && !s.schema.Equal(found) {
			return badAnswer("the server changed the schema of a resumed stream")
		}
		s.schema = found
	}
	if rows > 0 {
		if err := s.keepKey(envelope.GetLastKey(), batches[0]); err != nil {
			return err
		}
	}
	s.callRows += rows
	s.rows += rows
	if told := envelope.GetSummary(); told != nil {
		if told.GetRowCount() != s.callRows {
			return badAnswer("the server sent %d rows and counted %d", s.callRows, told.GetRowCount())
		}
		s.summary = summaryOf(told, s.resolved, s.rows)
	}
	return nil
}

func (s *readSession) keepKey(key *historyv1.RowKey, first arrow.RecordBatch) error {
	before := s.lastKey
	if key.GetTs() == nil {
		return badAnswer("the server sent rows without the key of the last one")
	}
	if before != nil && (!follows(key, before) || (s.callRows == 0 && !s.resumes(first, before))) {
		return badAnswer("the server sent rows that do not follow the rows before")
	}
	s.lastKey = key
	s.attempts.progressed()
	return nil
}

func follows(key, before *historyv1.RowKey) bool {
	a, b := key.GetTs().AsTime(), before.GetTs().AsTime()
	return a.After(b) || (a.Equal(b) && key.GetSeq() > before.GetSeq())
}

// resumes tells whether a resumed stream begins after a key; trades may share its time.
func (s *readSession) resumes(batch arrow.RecordBatch, key *historyv1.RowKey) bool {
	times, ok := batch.Column(0).(*array.Timestamp)
	if !ok || times.Len() == 0 {
		return false
	}
	first, last := int64(times.Value(0)), key.GetTs().AsTime().UnixMicro()
	return first > last || (first == last && !strings.HasPrefix(s.request.GetSeries(), "ohlcv:"))
}

// cut is the error of a call that ended well before the read did.
func (s *readSession) cut() *Error {
	return streamCut(s.request.GetSeries(), fmt.Sprintf("after %d rows without its summary", s.rows))
}

func (s *readSession) release() {
	if s.decoder != nil {
		s.decoder.release()
	}
}
