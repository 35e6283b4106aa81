package bowstring

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
)

// exchange keeps one call open: each batch of keys is answered by one batch of what was found.
type exchange struct {
	stream flight.FlightService_DoExchangeClient
	writer *flight.Writer
	reader *flight.Reader
}

// open begins an exchange; the answers' schema comes as soon as the command is there.
func open(ctx context.Context, client flight.Client, where *flight.FlightDescriptor) (*exchange, error) {
	stream, err := client.DoExchange(ctx)
	if err != nil {
		return nil, err
	}
	keys := arrow.NewSchema([]arrow.Field{{Name: "key", Type: arrow.BinaryTypes.String}}, nil)
	writer := flight.NewRecordWriter(stream, ipc.WithSchema(keys))
	writer.SetFlightDescriptor(where)
	return &exchange{stream: stream, writer: writer}, nil
}

func (e *exchange) send(keys ...string) error {
	column := texts(keys...)
	schema := arrow.NewSchema([]arrow.Field{{Name: "key", Type: column.DataType()}}, nil)
	return e.writer.Write(array.NewRecordBatch(schema, []arrow.Array{column}, int64(column.Len())))
}

// receive waits for the next answer; io.EOF where there are no more.
func (e *exchange) receive() (answer chunk, err error) {
	if e.reader == nil {
		// Reads the schema, which comes with the first message of ours: after something was sent.
		if e.reader, err = flight.NewRecordReader(e.stream); err != nil {
			return answer, err
		}
	}
	if !e.reader.Next() {
		if err := e.reader.Err(); err != nil {
			return answer, err
		}
		return answer, io.EOF
	}
	batch := e.reader.RecordBatch()
	batch.Retain()
	return chunk{batch, e.reader.LatestAppMetadata()}, nil
}

func (s *space) exchange(members object) *exchange {
	s.Helper()
	all := s.within(members)
	all["exchange"] = "get"
	e, err := open(s.Context(), s.client, command(all))
	s.must(err)
	return e
}

func (s *space) ask(e *exchange, keys ...string) chunk {
	s.Helper()
	s.must(e.send(keys...))
	answer, err := e.receive()
	s.must(err)
	return answer
}

func TestExchangeOneForOne(t *testing.T) {
	s, all := filled(t)
	e := s.exchange(object{"dtype": "float32", "shape": []int{2, 3}})
	for _, one := range []struct{ asked, found, missing []string }{
		{[]string{"c", "no", "a"}, []string{"c", "a"}, []string{"no"}},
		{[]string{"nor"}, nil, []string{"nor"}},
		{nil, nil, nil},
		{[]string{"d", "d"}, []string{"d", "d"}, nil},
	} {
		answer := s.ask(e, one.asked...)
		if got := keysOf([]chunk{answer}); !slices.Equal(got, one.found) {
			t.Errorf("%v: found %v", one.asked, got)
		}
		if missing, complete := missingOf([]chunk{answer}); !complete || !slices.Equal(missing, one.missing) {
			t.Errorf("%v: missing %v", one.asked, missing)
		}
		got := tensorsOf([]chunk{answer}, "float32", 2, 3)
		for row, key := range one.found {
			if !got.cell(row).same(all.cell(int(key[0] - 'a'))) {
				t.Errorf("%s: another tensor", key)
			}
		}
	}
	s.must(e.stream.CloseSend())
	if _, err := e.receive(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

func TestExchangeManyAhead(t *testing.T) {
	s := newSpace(t)
	keys := names("k", 1000)
	all := sample("int64", 1000, 2)
	s.bulk(nil, keyed(keys, all))
	e := s.exchange(object{"dtype": "int64", "shape": []int{2}})
	go func() {
		for _, key := range keys {
			if e.send(key) != nil {
				return
			}
		}
		_ = e.stream.CloseSend()
	}()
	for at, key := range keys {
		answer, err := e.receive()
		s.must(err)
		if got := keysOf([]chunk{answer}); !slices.Equal(got, []string{key}) {
			t.Fatalf("answer %d is of %v", at, got)
		}
		if got := tensorsOf([]chunk{answer}, "int64", 2); !got.cell(0).same(all.cell(at)) {
			t.Fatalf("%s: another tensor", key)
		}
	}
	if _, err := e.receive(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

func TestExchangeWithoutAShapeIsOpaque(t *testing.T) {
	s, all := filled(t)
	s.put("scalar", sample("float16"))
	answer := s.ask(s.exchange(nil), "b", "no", "scalar")
	if got := opaque(answer, 0); !got.same(all.cell(1)) {
		t.Errorf("%v", got.shape)
	}
	if got := opaque(answer, 1); !got.same(sample("float16")) {
		t.Errorf("%v", got.shape)
	}
	if string(answer.said) != `{"missing":["no"]}` {
		t.Errorf("%s", answer.said)
	}
}

func TestExchangeRefusals(t *testing.T) {
	s, _ := filled(t)
	for _, one := range []struct {
		members object
		key     string
		code    string
		says    string
	}{
		{object{"dtype": "int8", "shape": []int{2, 3}}, "a", "failed_precondition", "float32"},
		{object{"colour": 1}, "a", "invalid_argument", "colour"},
		{nil, "", "invalid_argument", "key"},
		{object{"exchange": "frobnicate"}, "a", "unimplemented", "exchange"},
	} {
		all := s.within(object{"exchange": "get"})
		for name, value := range one.members {
			all[name] = value
		}
		e, err := open(t.Context(), s.client, command(all))
		s.must(err)
		s.must(e.send(one.key))
		_, err = e.receive()
		s.refused(err, one.code, one.says)
	}
}

// An answer that was given stands when a later batch ends the stream.
func TestExchangeThatFailsLater(t *testing.T) {
	s, _ := filled(t)
	e := s.exchange(nil)
	s.ask(e, "a")
	s.must(e.send(""))
	_, err := e.receive()
	s.refused(err, "invalid_argument", "key")
}
