// Command conformance runs the golden cases of tests/clients against a server: conformance TARGET CASES.
package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	markethistory "github.com/markethistory/markethistory/clients/go"
)

type testCase struct {
	Name, Series, Call, Compression string
	Start, End                      *time.Time
	Last                            int64
	Columns                         []string
}

type outcome struct {
	Case    string  `json:"case"`
	Rows    int64   `json:"rows"`
	Digest  *string `json:"digest"`
	Error   *string `json:"error"`
	Message string  `json:"message,omitempty"`
}

// access says what the environment says: whom to trust, and the token.
func access() []markethistory.Option {
	var options []markethistory.Option
	if file := os.Getenv("CONFORMANCE_CA"); file != "" {
		authority, err := os.ReadFile(file)
		if err != nil {
			log.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(authority)
		options = append(options, markethistory.WithTLS(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}))
	}
	if token := os.Getenv("CONFORMANCE_TOKEN"); token != "" {
		options = append(options, markethistory.WithToken(token))
	}
	return options
}

func main() {
	log.SetFlags(0)
	text, err := os.ReadFile(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	var cases []testCase
	if err := json.Unmarshal(text, &cases); err != nil {
		log.Fatal(err)
	}
	quick := markethistory.RetryPolicy{Attempts: 3, Backoff: 10 * time.Millisecond, Longest: 10 * time.Second}
	client, err := markethistory.Connect(os.Args[1], append(access(), markethistory.WithRetry(quick))...)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	for _, c := range cases {
		line, _ := json.Marshal(run(client, c))
		fmt.Println(string(line))
	}
}

func run(client *markethistory.Client, c testCase) outcome {
	calls := map[string]func(*markethistory.Client, testCase) (int64, string, error){
		"read": read, "last": last, "coverage": coverage, "ensure": ensure,
	}
	rows, digest, err := calls[c.Call](client, c)
	if err == nil {
		return outcome{Case: c.Name, Rows: rows, Digest: &digest}
	}
	reason, digest := told(err)
	found := outcome{Case: c.Name, Error: &reason, Message: err.Error()}
	if digest != "" {
		found.Digest = &digest
	}
	return found
}

// told gives the error's reason, and its digest if the server gave the reason.
func told(err error) (reason, digest string) {
	var failure *markethistory.Error
	switch {
	case errors.Is(err, markethistory.ErrStreamCut):
		return "STREAM_CUT", ""
	case errors.Is(err, markethistory.ErrBadAnswer):
		return "CONTRACT_BROKEN", ""
	case !errors.As(err, &failure):
		return err.Error(), ""
	case failure.Reason == "":
		return strings.ToUpper(failure.Code.String()), ""
	}
	lines := []string{failure.Reason}
	keys := make([]string, 0, len(failure.Metadata))
	for key := range failure.Metadata {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		lines = append(lines, key+"="+failure.Metadata[key])
	}
	pause := "-"
	if failure.MayRetry {
		pause = fmt.Sprint(failure.RetryAfter.Milliseconds())
	}
	return failure.Reason, digestOf([]byte(strings.Join(append(lines, "retry_after_ms="+pause), "\n") + "\n"))
}

func window(c testCase) markethistory.Range {
	var found markethistory.Range
	if c.Start != nil {
		found.Start = *c.Start
	}
	if c.End != nil {
		found.End = *c.End
	}
	return found
}

func options(c testCase) markethistory.ReadOptions {
	compressions := map[string]markethistory.Compression{"lz4": markethistory.LZ4, "zstd": markethistory.Zstd}
	return markethistory.ReadOptions{Last: c.Last, Columns: c.Columns, Compression: compressions[c.Compression], StoredOnly: true}
}

func read(client *markethistory.Client, c testCase) (int64, string, error) {
	reader, err := client.Read(context.Background(), c.Series, window(c), options(c))
	if err != nil {
		return 0, "", err
	}
	defer reader.Release()
	streamed := rowDigest{}
	for reader.Next() {
		streamed.add(reader.RecordBatch())
	}
	if reader.Err() != nil {
		return 0, "", reader.Err()
	}
	rows, digest, err := last(client, c)
	if err != nil || rows != reader.Summary().RowCount || digest != digestOf(streamed.bytes) {
		return 0, "", errors.Join(errors.New("TABLE_DIFFERS"), err)
	}
	return rows, digest, nil
}

func last(client *markethistory.Client, c testCase) (int64, string, error) {
	table, err := client.ReadTable(context.Background(), c.Series, window(c), options(c))
	if err != nil {
		return 0, "", err
	}
	defer table.Release()
	reader := array.NewTableReader(table, 0)
	defer reader.Release()
	digest := rowDigest{}
	for reader.Next() {
		digest.add(reader.RecordBatch())
	}
	return table.NumRows(), digestOf(digest.bytes), nil
}

func coverage(client *markethistory.Client, c testCase) (int64, string, error) {
	spans, err := client.Coverage(context.Background(), c.Series, window(c))
	if err != nil {
		return 0, "", err
	}
	rows := int64(0)
	for _, span := range spans {
		rows += span.RowCount
	}
	return rows, digestOf([]byte(spanLines(spans))), nil
}

func ensure(client *markethistory.Client, c testCase) (int64, string, error) {
	var lines strings.Builder
	result, err := client.EnsureRange(context.Background(), c.Series, window(c), markethistory.EnsureOptions{
		OnPlan: func(plan markethistory.EnsurePlan) {
			lines.WriteString(line(plan.Range, "PLAN", plan.PageCount))
		},
		OnProgress: func(progress markethistory.EnsureProgress) {
			page := markethistory.Range{Start: time.UnixMicro(0), End: time.UnixMicro(0)}
			if progress.Page != nil {
				page = *progress.Page
			}
			lines.WriteString(line(page, "PROGRESS", progress.RowsDone))
		},
	})
	if err != nil {
		return 0, "", err
	}
	lines.WriteString(line(result.Plan.Range, "RESULT", result.RowCount))
	lines.WriteString(spanLines(result.Uncovered))
	return result.RowCount, digestOf([]byte(lines.String())), nil
}

func line(r markethistory.Range, state string, rows int64) string {
	return fmt.Sprintf("%d %d %s %d\n", r.Start.UnixMicro(), r.End.UnixMicro(), state, rows)
}

func spanLines(spans []markethistory.CoverageSpan) string {
	var lines strings.Builder
	for _, span := range spans {
		lines.WriteString(line(span.Range, span.State.String(), span.RowCount))
	}
	return lines.String()
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// rowDigest collects the bytes of rows as tests/clients/README.md says.
type rowDigest struct {
	bytes []byte
}

func (d *rowDigest) add(batch arrow.RecordBatch) {
	for row := range int(batch.NumRows()) {
		for _, column := range batch.Columns() {
			d.value(column, row)
		}
	}
}

func (d *rowDigest) value(column arrow.Array, row int) {
	if column.IsNull(row) {
		d.bytes = append(d.bytes, 0)
		return
	}
	d.bytes = append(d.bytes, 1)
	little := binary.LittleEndian
	switch column := column.(type) {
	case *array.Timestamp:
		d.bytes = little.AppendUint64(d.bytes, uint64(column.Value(row)))
	case *array.Int32:
		d.bytes = little.AppendUint32(d.bytes, uint32(column.Value(row)))
	case *array.Float64:
		d.bytes = little.AppendUint64(d.bytes, math.Float64bits(column.Value(row)))
	case *array.String:
		d.bytes = little.AppendUint32(d.bytes, uint32(len(column.Value(row))))
		d.bytes = append(d.bytes, column.Value(row)...)
	default:
		log.Fatalf("a column of type %s", column.DataType())
	}
}
