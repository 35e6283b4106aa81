package bowstring

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

func (s *space) info(where *flight.FlightDescriptor) *flight.FlightInfo {
	s.Helper()
	info, err := s.client.GetFlightInfo(s.Context(), where)
	s.must(err)
	return info
}

func schemaOf(t *testing.T, text []byte) *arrow.Schema {
	t.Helper()
	schema, err := flight.DeserializeSchema(text, memory.DefaultAllocator)
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// getAll reads every endpoint of what GetFlightInfo answered; its tickets are used as they are.
func getAll(ctx context.Context, client flight.Client, info *flight.FlightInfo) (all []chunk, err error) {
	for _, endpoint := range info.Endpoint {
		_, chunks, err := get(ctx, client, string(endpoint.Ticket.Ticket))
		if err != nil {
			return nil, err
		}
		all = append(all, chunks...)
	}
	return all, nil
}

func TestInfoByPath(t *testing.T) {
	s := newSpace(t)
	one := sample("bfloat16", 10, 3)
	version := s.putAs(object{"key": "a", "metadata": object{"model": "m1"}}, one).Version
	info := s.info(path(s.namespace, "a"))
	if info.TotalRecords != 10 || info.TotalBytes != 60 || len(info.Endpoint) != 1 || len(info.Endpoint[0].Location) != 0 {
		t.Errorf("%v", info)
	}
	var said struct {
		Dtype, Version, Tier string
		Shape                []int
		Metadata             map[string]string
	}
	s.must(json.Unmarshal(info.AppMetadata, &said))
	if said.Dtype != "bfloat16" || said.Version != version || said.Tier != "hot" || said.Metadata["model"] != "m1" || !slices.Equal(said.Shape, []int{10, 3}) {
		t.Errorf("%s", info.AppMetadata)
	}
	schema, chunks, err := get(t.Context(), s.client, string(info.Endpoint[0].Ticket.Ticket))
	s.must(err)
	if !schema.Equal(schemaOf(t, info.Schema)) || schema.Metadata().String() != schemaOf(t, info.Schema).Metadata().String() {
		t.Errorf("another schema than that of the info: %v", schema)
	}
	if got := tensorOf(schema, chunks); !got.same(one) {
		t.Error("another tensor")
	}
	result, err := s.client.GetSchema(t.Context(), path(s.namespace, "a"))
	s.must(err)
	if !slices.Equal(result.Schema, info.Schema) {
		t.Error("GetSchema says otherwise")
	}
}

func TestATicketHoldsItsVersion(t *testing.T) {
	s := newSpace(t)
	s.put("a", sample("int8", 3))
	info := s.info(path(s.namespace, "a"))
	s.putAs(object{"key": "a", "mode": "replace"}, sample("int8", 4))
	_, _, err := get(t.Context(), s.client, string(info.Endpoint[0].Ticket.Ticket))
	s.refused(err, "failed_precondition", "version")
}

func TestInfoOfMany(t *testing.T) {
	s, all := filled(t)
	info := s.info(command(s.within(object{"keys": []string{"c", "no", "a"}})))
	if info.TotalRecords != 2 || info.TotalBytes != 48 {
		t.Errorf("%d records of %d bytes", info.TotalRecords, info.TotalBytes)
	}
	// The ticket carries dtype and shape, so the schema holds even if the keys go.
	s.act("delete", object{"keys": []string{"a", "c"}})
	schema, chunks, err := get(t.Context(), s.client, string(info.Endpoint[0].Ticket.Ticket))
	s.must(err)
	if !schema.Equal(schemaOf(t, info.Schema)) {
		t.Errorf("%v", schema)
	}
	if missing, _ := missingOf(chunks); !slices.Equal(missing, []string{"c", "no", "a"}) {
		t.Errorf("%v", missing)
	}
	if got := tensorOf(s.get(object{"key": "d"})); !got.same(all.cell(3)) {
		t.Error("another tensor")
	}
}

func TestPartitions(t *testing.T) {
	s := newSpace(t)
	keys := names("k", 100)
	slices.Sort(keys)
	all := sample("float32", 100, 4)
	s.bulk(nil, keyed(keys, all))
	info := s.info(command(s.within(object{"prefix": "", "dtype": "float32", "shape": []int{4}, "partitions": 4})))
	if len(info.Endpoint) != 4 || info.Endpoint[0].ExpirationTime == nil {
		t.Errorf("%v", info.Endpoint)
	}
	// One snapshot: what is put afterwards is in none of the parts.
	s.put("k5.later", sample("float32", 4))
	chunks, err := getAll(t.Context(), s.client, info)
	s.must(err)
	if got := keysOf(chunks); !slices.Equal(got, keys) {
		t.Errorf("%v", got)
	}
	if got := tensorsOf(chunks, "float32", 4); !got.same(all) {
		t.Error("other tensors")
	}
}

func TestInfoRefusals(t *testing.T) {
	s := newSpace(t)
	_, err := s.client.GetFlightInfo(t.Context(), path(s.namespace, "no"))
	s.refused(err, "not_found", "no")
	_, err = s.client.GetSchema(t.Context(), path(s.namespace, "no"))
	s.refused(err, "not_found")
	_, err = s.client.GetFlightInfo(t.Context(), command(s.within(object{"key": "a", "colour": 1})))
	s.refused(err, "invalid_argument", "colour")
	_, err = s.client.PollFlightInfo(t.Context(), path(s.namespace, "a"))
	s.refused(err, "unimplemented", "PollFlightInfo")
}

// list gives the keys of ListFlights; the error of a server stream comes with its first message.
func (s *space) list(members object) (keys []string, err error) {
	stream, err := s.client.ListFlights(s.Context(), &flight.Criteria{Expression: encoded(s.within(members))})
	for err == nil {
		var info *flight.FlightInfo
		if info, err = stream.Recv(); err == nil {
			path := info.FlightDescriptor.Path
			if len(path) != 2 || path[0] != s.namespace {
				s.Errorf("%v", path)
			}
			keys = append(keys, path[1])
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return keys, err
}

func TestListPageByPage(t *testing.T) {
	s := newSpace(t)
	keys := names("k", 25)
	slices.Sort(keys)
	s.bulk(nil, keyed(append(slices.Clone(keys), "other"), sample("int8", 26, 2)))
	var listed []string
	for after := ""; ; {
		members := object{"prefix": "k", "limit": 10}
		if after != "" {
			members["after"] = after
		}
		page, err := s.list(members)
		s.must(err)
		if len(page) == 0 {
			break
		}
		listed, after = append(listed, page...), page[len(page)-1]
	}
	if !slices.Equal(listed, keys) {
		t.Errorf("%v", listed)
	}
	if everything, err := s.list(nil); err != nil || !slices.Equal(everything, append(keys, "other")) {
		t.Errorf("%v %v", everything, err)
	}
	_, err := s.list(object{"limit": 0})
	s.refused(err, "invalid_argument", "limit")
	_, err = s.list(object{"after": strings.Repeat("k", 2000)})
	s.refused(err, "invalid_argument", "after")
}

func TestListWithoutCriteria(t *testing.T) {
	s := newSpace(t)
	_, err := s.try(path("go.list"), sample("int8", 3))
	s.must(err)
	stream, err := s.client.ListFlights(t.Context(), &flight.Criteria{})
	s.must(err)
	first, err := stream.Recv()
	s.must(err)
	if first.FlightDescriptor.Path[0] != "default" || first.TotalRecords != 3 {
		t.Errorf("%v", first)
	}
}
