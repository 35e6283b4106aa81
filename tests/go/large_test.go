package bowstring

import (
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// 64 MiB in rows of 4 KiB: no option has to be set for it, neither way.
func Test64MiB(t *testing.T) {
	s := spaceOf(t, fresh(t, "512MiB"))
	one := sample("float32", 16<<10, 1024)
	// One message of 64 MiB, then the same in 64 of 1 MiB.
	s.put("whole", one)
	parts := make([]tensor, 64)
	for at := range parts {
		parts[at] = one.rows(at<<8, (at+1)<<8)
	}
	_, err := s.try(path(s.namespace, "parts"), parts...)
	s.must(err)
	for _, key := range []string{"whole", "parts"} {
		schema, chunks := s.get(object{"key": key})
		if len(chunks) < 64/4 {
			t.Errorf("%d messages are too few for clients with a limit of 4 MiB", len(chunks))
		}
		if got := tensorOf(schema, chunks); !got.same(one) {
			t.Errorf("%s: another tensor", key)
		}
	}
}

// A row of 64 MiB is sent whole, which a client's default of 4 MiB a message refuses.
func TestARowOf64MiB(t *testing.T) {
	server := fresh(t, "512MiB")
	s := spaceOf(t, server)
	one := sample("float32", 1, 4096, 4096)
	s.put("a", one)
	_, _, err := s.tryGet(object{"key": "a"})
	if code, message := codeOf(err); status.Code(err) != codes.ResourceExhausted || code != "" {
		t.Errorf("%q: %s", code, message)
	}
	// One way is a larger limit.
	// snippet: large
	large := grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1 << 30))
	// snippet end
	if got := tensorOf(spaceOf(t, server, large).get(object{"key": "a"})); !got.same(one) {
		t.Error("another tensor")
	}
	// The other is a layout that can be cut anywhere.
	if got := tensorOf(s.get(object{"key": "a", "layout": "flat"})); !got.same(one) {
		t.Error("another tensor from the flat layout")
	}
}

// With a larger limit of its own a client can ask for larger messages.
func TestLargerMessages(t *testing.T) {
	s := spaceOf(t, fresh(t, "512MiB"), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	one := sample("float32", 16<<10, 1024)
	s.put("a", one)
	schema, chunks := s.get(object{"key": "a", "max_message_bytes": 32 << 20})
	if len(chunks) != 2 {
		t.Errorf("%d messages", len(chunks))
	}
	if got := tensorOf(schema, chunks); !got.same(one) {
		t.Error("another tensor")
	}
}

// What can never fit is refused at once, with the limit.
func TestMoreThanTheMemory(t *testing.T) {
	s := spaceOf(t, fresh(t, "64MiB"))
	_, err := s.try(path(s.namespace, "a"), sample("uint8", 100<<20))
	s.refused(err, "resource_exhausted")
}
