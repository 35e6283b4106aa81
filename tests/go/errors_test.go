package bowstring

import (
	"io"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
)

// The first bytes decide whose a ticket is; the rest is told by codes.
func TestTicketsThatAreRefused(t *testing.T) {
	s := newSpace(t)
	for ticket, code := range map[string]string{
		``:                                       "invalid_argument",
		`{`:                                      "invalid_argument",
		`{}`:                                     "invalid_argument",
		`{"key": "nobody has this"}`:             "not_found",
		`{"key": "a", "key": "b"}`:               "invalid_argument",
		`{"key": "a", "keys": ["b"]}`:            "invalid_argument",
		`{"key": "a", "colour": 1}`:              "invalid_argument",
		`{"namespace": "", "key": "a"}`:          "invalid_argument",
		`{"key": "` + "\xff" + `"}`:              "invalid_argument",
		`{"prefix": "", "dtype": "float32"}`:     "invalid_argument",
		`{"keys": ["a"], "missing": "maybe"}`:    "invalid_argument",
		`{"key": "a", "max_message_bytes": "0"}`: "invalid_argument",
		"\x0a\x05hello":                          "unimplemented",
		`hello`:                                  "invalid_argument",
	} {
		_, _, err := get(t.Context(), s.client, ticket)
		s.refused(err, code)
	}
}

func TestDescriptorsThatAreRefused(t *testing.T) {
	s := newSpace(t)
	for _, where := range []*flight.FlightDescriptor{
		path(), path(""), path("not legal", "k"), path("a", "b", "c"), command(object{}), command(object{"key": ""}),
		command(object{"key": "a", "colour": 1}), command(object{"key": "a", "mode": "overwrite"}),
	} {
		_, err := s.try(where, sample("int8", 2, 3))
		s.refused(err, "invalid_argument")
	}
}

// The code stands in the trailer, too; every answer says which version of the contract it speaks.
func TestHeadersAndTrailers(t *testing.T) {
	s := newSpace(t)
	s.put("a", sample("int8", 3))
	for key, code := range map[string]string{"a": "", "no": "not_found"} {
		stream, err := s.client.DoGet(t.Context(), &flight.Ticket{Ticket: encoded(s.within(object{"key": key}))})
		s.must(err)
		for err == nil {
			_, err = stream.Recv()
		}
		if (code == "") != (err == io.EOF) {
			t.Error(err)
		}
		header, err := stream.Header()
		s.must(err)
		all := metadata.Join(header, stream.Trailer())
		if wire := all.Get("bowstring-wire"); len(wire) == 0 || wire[0] != "1" {
			t.Errorf("%s: bowstring-wire is %v", key, wire)
		}
		if said := all.Get("bowstring-code"); (code == "") != (len(said) == 0) || code != "" && said[0] != code {
			t.Errorf("%s: bowstring-code is %v", key, said)
		}
	}
	var trailer metadata.MD
	_, err := s.client.GetFlightInfo(t.Context(), path(s.namespace, "no"), grpc.Trailer(&trailer))
	s.refused(err, "not_found")
	if said := trailer.Get("bowstring-code"); len(said) != 1 || said[0] != "not_found" {
		t.Errorf("bowstring-code is %v", said)
	}
}

func TestCompressionIsRefused(t *testing.T) {
	s := newSpace(t)
	one := sample("float32", 100, 10)
	stream, err := s.client.DoPut(t.Context(), grpc.UseCompressor("gzip"))
	s.must(err)
	writer := flight.NewRecordWriter(stream, ipc.WithSchema(one.schema()))
	writer.SetFlightDescriptor(path(s.namespace, "a"))
	if err := writer.Write(one.batch(one.schema())); err != io.EOF {
		s.must(err)
	}
	_, err = stream.Recv()
	s.refused(err, "unimplemented", "compress")

	stream, err = s.client.DoPut(t.Context())
	s.must(err)
	writer = flight.NewRecordWriter(stream, ipc.WithSchema(one.schema()), ipc.WithZstd())
	writer.SetFlightDescriptor(path(s.namespace, "a"))
	if err := writer.Write(one.batch(one.schema())); err != io.EOF {
		s.must(err)
	}
	s.must(stream.CloseSend())
	_, err = stream.Recv()
	s.refused(err, "unimplemented", "compress")
	_, _, err = s.tryGet(object{"key": "a"})
	s.refused(err, "not_found")
}

func TestAHandshakeIsNotBuilt(t *testing.T) {
	s := newSpace(t)
	_, err := s.client.AuthenticateBasicToken(t.Context(), "user", "password")
	s.refused(err, "unimplemented", "Handshake")
}
