package markethistory

import (
	"reflect"
	"runtime"
	"sync"
)

// The memory of frames is used again once nothing points into it. A year of minutes is 25 MB; to get as much from the
// system for each read, and to give it back, takes a third of the time of reading.
//
// It is the garbage collector that finds a block to be unused, by the finalizer that each one has. So neither a batch
// that is never released, nor values that are kept after its release, see other rows come in their place. A block that is
// not taken again within two collections is free memory like any other.

const (
	blockStep    = 64 << 10
	largestBlock = 4 << 20
)

// shelves hold unused blocks; the one at n those of n steps.
var shelves [largestBlock/blockStep + 1]sync.Pool

// memoryOf is size bytes that nobody else has; what they hold is not defined. If size is a multiple of eight, so is where
// they start.
func memoryOf(size int) []byte {
	steps := (size + blockStep - 1) / blockStep
	if size < blockStep || steps >= len(shelves) {
		return make([]byte, size)
	}
	shelf := &shelves[steps]
	block := shelf.Get()
	if block == nil {
		block = reflect.New(reflect.ArrayOf(steps*blockStep, reflect.TypeFor[byte]())).Interface()
	}
	runtime.SetFinalizer(block, shelf.Put)
	return reflect.ValueOf(block).Elem().Bytes()[:size:size]
}
