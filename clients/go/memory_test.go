package markethistory

import (
	"bytes"
	"context"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"google.golang.org/grpc"

	"github.com/markethistory/markethistory/clients/go/historyv1"
)

func TestMemoryIsUsedAgainOnceNothingPointsIntoIt(t *testing.T) {
	const size = 7 * blockStep // no other test's
	mark := []byte(time.Now().String())
	marked := make([][]byte, 8)
	for i := range marked {
		marked[i] = memoryOf(size)
		copy(marked[i], mark) // fresh memory is clear
	}
	var held [][]byte // so that none of them comes twice
	again := func() bool {
		runtime.GC()
		for range 8 {
			held = append(held, memoryOf(size))
		}
		return slices.ContainsFunc(held, func(block []byte) bool { return bytes.HasPrefix(block, mark) })
	}
	for range 5 {
		if again() {
			t.Fatal("memory that is in use was given out")
		}
	}
	runtime.KeepAlive(marked)
	for range 50 {
		if again() {
			return
		}
	}
	t.Fatal("memory that nothing points into was not used again")
}

func TestMemoryIsAsLargeAsItWasAskedFor(t *testing.T) {
	for _, size := range []int{0, 1, blockStep - 1, blockStep, blockStep + 1, largestBlock, largestBlock + 1, 2 * largestBlock} {
		if block := memoryOf(size); len(block) != size || cap(block) != size {
			t.Errorf("%d bytes, at most %d, for %d", len(block), cap(block), size)
		}
	}
}

func TestBlocksAreBoundedAndLetGo(t *testing.T) {
	held := make([][]byte, 2*mostInBlocks/largestBlock)
	for i := range held {
		held[i] = memoryOf(largestBlock)
		if len(held[i]) != largestBlock || inBlocks.Load() > mostInBlocks {
			t.Fatalf("%d bytes in blocks, at most %d", inBlocks.Load(), mostInBlocks)
		}
	}
	runtime.KeepAlive(held)
	for range 50 {
		if runtime.GC(); inBlocks.Load() == 0 {
			return
		}
	}
	t.Fatalf("%d bytes are still in blocks", inBlocks.Load())
}

func TestValuesThatAreKeptStayWhatTheyAreAfterARelease(t *testing.T) {
	const rows = 10_000 // 160 kB
	calls := 0
	target := serve(t, fakeServer{read: func(_ *historyv1.ReadRangeRequest, stream grpc.ServerStreamingServer[historyv1.ReadRangeResponse]) error {
		answer := message(t, calls*rows, rows)
		answer.Summary = &historyv1.ReadSummary{RowCount: rows}
		calls++
		return stream.Send(answer)
	}})
	client := connect(t, target)
	read := func() []float64 {
		table, err := client.ReadTable(context.Background(), "ohlcv:x:A/B:1m", Range{}, ReadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer table.Release()
		return table.Column(1).Data().Chunk(0).(*array.Float64).Float64Values()
	}
	kept := read()
	before := slices.Clone(kept)
	for range 20 {
		runtime.GC()
		if read()[0] == before[0] {
			t.Fatal("the same rows came again")
		}
	}
	if !slices.Equal(kept, before) {
		t.Fatal("values changed when others were read")
	}
}
