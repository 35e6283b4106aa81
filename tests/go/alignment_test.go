package bowstring

import (
	"fmt"
	"testing"
	"unsafe"
)

// Go's protobuf copies each body into memory of its own, which Go's allocator places by its size: at a multiple of 8
// always, of 64 from 512 bytes on. Within a body the server begins every buffer at a multiple of 64.
func TestAlignment(t *testing.T) {
	s := newSpace(t)
	for _, dtype := range []string{"uint8", "float32", "complex128"} {
		for _, shape := range [][]int{{1}, {5}, {100}, {1000}, {3, 5}, {1, 70_000}, {700, 333}} {
			for _, key := range []string{"k", "kkkkkkkkkkkkk"} {
				key := fmt.Sprint(key, dtype, shape)
				s.put(key, sample(dtype, shape...))
				for _, layout := range []string{"rows", "flat"} {
					_, chunks := s.get(object{"key": key, "layout": layout, "max_message_bytes": 1 << 18})
					for _, chunk := range chunks {
						aligned(t, fmt.Sprint(key, " ", layout), values(chunk.Column(0).Data()))
					}
				}
			}
		}
	}
	for _, count := range []int{1, 2, 7, 100} {
		keys := names(fmt.Sprint("many", count, "/"), count)
		s.bulk(nil, keyed(keys, sample("float64", count, 3)))
		_, chunks := s.get(object{"keys": keys})
		for _, chunk := range chunks {
			aligned(t, fmt.Sprint(count, " keys"), values(chunk.Column(1).Data()))
		}
	}
}

func aligned(t *testing.T, what string, bytes []byte) {
	t.Helper()
	want := uintptr(8)
	if len(bytes) >= 512 {
		want = 64
	}
	if at := uintptr(unsafe.Pointer(unsafe.SliceData(bytes))); len(bytes) > 0 && at%want != 0 {
		t.Errorf("%s: %d bytes at %d modulo 64", what, len(bytes), at%64)
	}
}
