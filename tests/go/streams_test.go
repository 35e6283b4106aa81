package bowstring

import (
	"context"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// begin reads the first message of a tensor of 64 MiB, and no more.
func (s *space) begin(ctx context.Context) *flight.Reader {
	s.Helper()
	s.put("a", sample("float32", 4096, 4096))
	stream, err := s.client.DoGet(ctx, &flight.Ticket{Ticket: encoded(s.within(object{"key": "a"}))})
	s.must(err)
	reader, err := flight.NewRecordReader(stream)
	s.must(err)
	if !reader.Next() {
		s.Fatal(reader.Err())
	}
	return reader
}

// freed waits until nothing is held for anybody, and nothing stored.
func (s *space) freed() {
	s.Helper()
	for _, gauge := range []string{"readers_held_bytes", "reads_open", "puts_reserved_bytes", "arena_used_bytes"} {
		for s.server.gauge(s.T, gauge) > 0 {
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// A stream that is left half-way: the server goes on, and gives back what it held for it.
func TestAReaderThatGoesAway(t *testing.T) {
	s := spaceOf(t, fresh(t, "256MiB"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	reader := s.begin(ctx)
	s.act("delete", object{"keys": []string{"a"}})
	// What has not been sent is held for the reader, though the entry is gone.
	if held := s.server.gauge(t, "readers_held_bytes"); held < 32<<20 {
		t.Errorf("only %d bytes are held", held)
	}
	cancel()
	for reader.Next() {
	}
	if err := reader.Err(); status.Code(err) != codes.Canceled {
		t.Error(err)
	}
	s.freed()
	s.put("b", sample("int8", 3))
	if got := tensorOf(s.get(object{"key": "b"})); !got.same(sample("int8", 3)) {
		t.Error("another tensor")
	}
}

// The client's own deadline is the client's own error: it has a status, and no code of the server's.
func TestADeadlineWhileReading(t *testing.T) {
	s := spaceOf(t, fresh(t, "256MiB"))
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	reader := s.begin(ctx)
	s.act("delete", object{"keys": []string{"a"}})
	<-ctx.Done()
	for reader.Next() {
	}
	err := reader.Err()
	if code, _ := codeOf(err); status.Code(err) != codes.DeadlineExceeded || code != "" {
		t.Errorf("%q: %v", code, err)
	}
	s.freed()
}

// A put that is left half-way stores nothing, and gives back what it held.
func TestAPutIsCancelled(t *testing.T) {
	s := spaceOf(t, fresh(t, "256MiB"))
	one := sample("float32", 1024, 1024)
	schema := one.schema()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := s.client.DoPut(ctx)
	s.must(err)
	writer := flight.NewRecordWriter(stream, ipc.WithSchema(schema))
	writer.SetFlightDescriptor(path(s.namespace, "a"))
	for range 10 {
		s.must(writer.Write(one.batch(schema)))
	}
	for s.server.gauge(t, "arena_used_bytes") < 8<<20 {
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	if _, err := stream.Recv(); status.Code(err) != codes.Canceled {
		t.Error(err)
	}
	s.freed()
	if s.stat("entries") != 0 {
		t.Error("a put that was cancelled has stored something")
	}
}
