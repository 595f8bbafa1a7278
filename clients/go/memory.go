package markethistory

import (
	"reflect"
	"runtime"
	"sync"
	"sync/atomic"
)

// Blocks of memory for frames, which are used again once nothing points into them. A year of minutes is 25 MB; to take as
// much anew for each read, and to give it back, costs a fifth of the processor's time that a read takes.
//
// It is the garbage collector that finds a block unused, by the finalizer that each one has. So neither batches that are
// never released, nor values that are kept after a release, see other rows come in their place. A block that lay idle for
// two collections is let go.

const (
	blockStep    = 16 << 10
	largestBlock = 4 << 20
	// mostInBlocks bounds the bytes of all blocks, idle or not; what is read beyond that is used once. For the collector
	// idle blocks are in use, so without a bound the heap would grow and grow.
	mostInBlocks = 64 << 20
)

var (
	inBlocks atomic.Int64
	// idle blocks, by their size in steps.
	idle [largestBlock/blockStep + 1]sync.Pool
)

// memoryOf is size bytes that nobody else has; what they hold is not defined. If size is a multiple of eight, so is where
// they start.
func memoryOf(size int) []byte {
	if size < blockStep || size > largestBlock {
		return make([]byte, size)
	}
	whole := (size + blockStep - 1) / blockStep * blockStep
	block := idle[whole/blockStep].Get()
	switch {
	case block != nil:
		runtime.SetFinalizer(block, nil) // it had abandon
	case inBlocks.Add(int64(whole)) <= mostInBlocks:
		block = reflect.New(reflect.ArrayOf(whole, reflect.TypeFor[byte]())).Interface()
	default:
		inBlocks.Add(-int64(whole))
		return make([]byte, size)
	}
	runtime.SetFinalizer(block, shelve)
	return reflect.ValueOf(block).Elem().Bytes()[:size:size]
}

// shelve takes a block that nothing points into any more.
func shelve(block any) {
	runtime.SetFinalizer(block, abandon)
	idle[sizeOf(block)/blockStep].Put(block)
}

// abandon takes a block that is idle no more, because a collection let it go.
func abandon(block any) { inBlocks.Add(-int64(sizeOf(block))) }

func sizeOf(block any) int { return reflect.TypeOf(block).Elem().Len() }
